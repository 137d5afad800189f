"""A stage of a cycle that trusts signals as far as a meta-model does."""

from dataclasses import dataclass, replace

import numpy as np

from backlane.cycle.context import Context
from backlane.cycle.cycle_result import CycleUniverse, StrategySignals
from backlane.cycle.stages import SignalStage
from backlane.cycle.strategy import Features, Targets
from backlane.signals.meta_model import (
    ConfidenceModel,
    Grid,
    MetaModelRules,
    MetaModelUse,
    weigh_signals,
    weigh_triggers,
)
from backlane.signals.signal import Direction, Signals
from backlane.signals.triggers import TriggerSignal


@dataclass(frozen=True, slots=True, eq=False)
class ConfidentSignals:
    """Wraps the stage of the signals: what strategies say is filtered, or scaled.

    A LONG that is filtered out is FLAT, with a weight of 0; scaling multiplies the weights of longs
    as it does scores. Shorts and what is not decided stay. Features are read by the names of the
    model, with or without the label of a strategy before them. An instrument of which nothing is
    known is not entered. Raises ValueError for a feature that is not there, which fails the cycle.
    """

    signals: SignalStage
    model: ConfidenceModel
    rules: MetaModelRules

    def __call__(
        self, context: Context, universe: CycleUniverse, features: Features
    ) -> tuple[StrategySignals, ...]:
        """Returns what each strategy says, as far as it is trusted."""
        said = self.signals(context, universe, features)
        rows = self.model.history_rows
        known = {name.rpartition(".")[2]: values[-rows:] for name, values in features.items()}
        known |= {name: values[-rows:] for name, values in features.items()}
        confidence = self.model.confidence(known)[-1]
        return tuple(self._trusted(context, each, confidence) for each in said)

    def _trusted(
        self, context: Context, said: StrategySignals, confidence: Grid
    ) -> StrategySignals:
        by_symbol = dict(zip(context.symbols, confidence.tolist(), strict=True))
        triggers = [each for each in said.triggers if isinstance(each, TriggerSignal)]
        if triggers:
            said = replace(said, triggers=weigh_triggers(triggers, by_symbol, self.rules))
        if said.direction is None or said.score is None or said.weights is None:
            return said
        said_targets = Targets(said.direction, said.score, said.weights)
        weighed = weigh_targets(said_targets, confidence, self.rules)
        standing = said.standing
        if standing is not None:
            standing = np.where(np.isnan(weighed.weights), standing, weighed.weights)
        return replace(
            said,
            direction=weighed.direction,
            score=weighed.score,
            weights=weighed.weights,
            standing=standing,
        )


def weigh_targets(targets: Targets, confidence: Grid, rules: MetaModelRules) -> Targets:
    """Returns targets as the confidences leave them; grids or rows of one shape.

    A LONG that is filtered out is FLAT, with a weight of 0; scaling multiplies the weights of longs
    as it does scores. Shorts and what is not decided (NaN) stay. Where nothing is known a LONG has
    a weight of 0.
    """
    weighed = weigh_signals(Signals(targets.direction, targets.score), confidence, rules)
    is_long = targets.direction == Direction.LONG
    trust = np.minimum(confidence, rules.max_confidence)
    if rules.use is MetaModelUse.FILTER:
        trust = (weighed.direction == Direction.LONG).astype(np.float64)
    weights = np.where(is_long, targets.weights * np.nan_to_num(trust), targets.weights)
    return Targets(weighed.direction, weighed.score, weights)
