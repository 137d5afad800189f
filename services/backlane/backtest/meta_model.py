"""The section `meta_model`: a bundle that says how far the strategies of a run are trusted.

Each strategy is wrapped: its confidences are a feature, and what it says is filtered or scaled by
them before anything else sees it. So a backtest, a cycle, a session and an audit all see the same.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from backlane.backtest.model_strategy import Predictors, model_choice, model_scores
from backlane.backtest.request import BacktestRequest, ModelChoice
from backlane.cycle.config_record import ConfigRecord, plain_number
from backlane.cycle.meta_model_stage import weigh_targets
from backlane.cycle.strategy import (
    Features,
    SignalRows,
    Strategy,
    StrategyInput,
    Targets,
    TargetStrategy,
)
from backlane.panel.events import Events
from backlane.panel.panel import Panel
from backlane.signals.meta_model import (
    Grid,
    MetaModelRules,
    MetaModelUse,
    PredictedConfidence,
    weigh_triggers,
)
from backlane.signals.triggers import TriggerSignal

META_FEATURE = "meta_confidence"
"""The feature of every strategy that holds the confidences, (times, symbols)."""
_ANY_SYMBOL = "ANY"
_Share = Annotated[float, BeforeValidator(plain_number), Field(ge=0, le=1)]


class MetaModelConfig(ConfigRecord):
    """Which bundle, and what its probability of BUY does to longs and triggers.

    `filter` makes those of less than `min_confidence` flat; `scale` multiplies weights and scores
    by it, up to `max_confidence`.
    """

    model: Annotated[ModelChoice, BeforeValidator(model_choice)]
    use: MetaModelUse = MetaModelUse.FILTER
    min_confidence: _Share = 0.5
    max_confidence: _Share = 1.0

    @property
    def rules(self) -> MetaModelRules:
        """The same for the signals."""
        return MetaModelRules(self.use, self.min_confidence, self.max_confidence)


def trusted_strategy(strategy: Strategy, config: MetaModelConfig, models: Predictors) -> Strategy:
    """Returns the same strategy, whose word counts as far as the meta-model trusts it.

    Its features raise TensorMismatchError for a bundle that is no classification, and what
    `model_scores` raises.
    """
    trusted = _Trusted(strategy, config, models)
    if isinstance(strategy, TargetStrategy):
        return replace(strategy, decide=trusted.decide, features=trusted.features)
    return replace(strategy, signals=trusted.signals, features=trusted.features)


@dataclass(frozen=True, slots=True)
class _Trusted:
    strategy: Strategy
    config: MetaModelConfig
    models: Predictors

    def features(self, panel: Panel, events: Mapping[str, Events], parameters: Any) -> Features:
        """Returns the features of the strategy, and the confidences."""
        predictor = self.models(self.config.model)
        PredictedConfidence(predictor)  # refuses what is no classification
        request = BacktestRequest(model=self.config.model, symbol=_ANY_SYMBOL)
        scores = model_scores(predictor, panel, request, "meta_model.model")
        own = self.strategy.features(panel, events, parameters)
        return {**own, META_FEATURE: scores.output("p_buy")}

    def decide(self, data: StrategyInput, parameters: Any) -> Targets:
        """Returns the targets of the strategy, as far as they are trusted."""
        own, confidence = _split(data)
        if not isinstance(self.strategy, TargetStrategy):
            raise TypeError("a strategy that proposes trades decides no targets")
        targets = self.strategy.decide(own, parameters)
        return weigh_targets(targets, confidence, self.config.rules)

    def signals(self, data: StrategyInput, parameters: Any) -> SignalRows:
        """Returns the triggers of the strategy, as far as they are trusted."""
        own, confidence = _split(data)
        if isinstance(self.strategy, TargetStrategy):
            raise TypeError("a strategy that decides targets has no signals")
        rows = self.strategy.signals(own, parameters)
        return _TrustedRows(rows, confidence, data.panel.symbols, self.config.rules)


def _split(data: StrategyInput) -> tuple[StrategyInput, Grid]:
    """Returns what the strategy itself asked for, and the confidences."""
    own = {name: values for name, values in data.features.items() if name != META_FEATURE}
    return replace(data, features=own), data.features[META_FEATURE]


@dataclass(frozen=True, slots=True, eq=False)
class _TrustedRows:
    rows: SignalRows
    confidence: Grid
    symbols: tuple[str, ...]
    rules: MetaModelRules

    def row(self, bar: int) -> Sequence[Any]:
        """Returns the triggers of a bar that are trusted; other signals pass."""
        said = self.rows.row(bar)
        triggers = [each for each in said if isinstance(each, TriggerSignal)]
        trust = dict(zip(self.symbols, self.confidence[bar].tolist(), strict=True))
        others = [each for each in said if not isinstance(each, TriggerSignal)]
        return (*weigh_triggers(triggers, trust, self.rules), *others)
