"""The strategy `model`: a bundle decides about every instrument of a universe.

Features, scores and filters are those of the backtest of one instrument: `prepare` computes them
for each, and the compiled cycle of `backlane.cycle` walks through the decisions with one unit and
without costs, so that position awareness and separation see the fills that the decisions lead to.
What comes out are targets: a share of the capital at an entry, 0 at an exit, no decision between.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BeforeValidator, Field

from backlane.backtest.observer import SilentObserver
from backlane.backtest.portfolio_simulator import FillTime
from backlane.backtest.prepare import prepare
from backlane.backtest.request import BacktestRequest, DecisionChoice, ModelChoice, SizingChoice
from backlane.backtest.rules import decision_rules, rules_record
from backlane.cycle.config_record import ConfigRecord, not_valid, plain_number
from backlane.cycle.loop import Inputs, Outputs, new_slot, run_until
from backlane.cycle.state import new_state
from backlane.cycle.strategy import (
    Features,
    Registry,
    Strategy,
    StrategyInput,
    Targets,
    TargetStrategy,
)
from backlane.cycle.strategy_stages import last_decided
from backlane.decisions.decision import Decision
from backlane.errors import (
    DataRangeEmptyError,
    FieldViolation,
    InvalidRequestError,
    NotEnoughBarsError,
)
from backlane.inference.predictor import Predictor
from backlane.market.bars import BarSeries
from backlane.market.timeframe import Timeframe
from backlane.panel.events import Events
from backlane.panel.panel import Panel

Predictors = Callable[[ModelChoice], Predictor]
"""The port to models: the predictor of a choice, in process or behind model_service."""
Grid = NDArray[np.float64]

MODEL_STRATEGY = "model"
"""The name by which a configuration asks for it."""
SPACING_BARS_MIN = 50
"""From so many bars on, a panel whose bars are longer than those of the model is refused."""
_ANY_SYMBOL = "ANY"
_ENDLESS_CASH = 1e15
_NOTHING_COSTS: dict[str, float] = {"commission_rate": 0.0, "slippage_rate": 0.0}


def model_choice(value: object) -> object:
    """Reads `rsi_bb`, `rsi_bb/1` as a name and a version; anything else is left as it is."""
    if not isinstance(value, str):
        return value
    name, _, version = value.partition("/")
    return {"name": name, "version": version}


class ModelConfig(ConfigRecord):
    """Parameters of the strategy `model`.

    `fraction` is the share of the capital that an entry takes. `decisions` are those of a backtest
    request, by default what the bundle says. Without `shorts` a SELL only closes. `fill` is when
    orders fill, by default as in the run: separation counts from there.
    """

    model: Annotated[ModelChoice, BeforeValidator(model_choice)]
    fraction: Annotated[float, BeforeValidator(plain_number), Field(gt=0, le=1)] = 0.25
    decisions: DecisionChoice = DecisionChoice()
    shorts: Annotated[bool, Field(strict=True)] = True
    fill: FillTime | None = None

    def filled_as(self, fill: FillTime) -> "ModelConfig":
        """Returns the same for a run whose orders fill so."""
        return self if self.fill is not None else self.model_copy(update={"fill": fill})

    def request(self) -> BacktestRequest:
        """Returns the backtest of one instrument, of one unit at no cost, with these decisions."""
        return BacktestRequest(
            model=self.model,
            symbol=_ANY_SYMBOL,
            sizing=SizingChoice(units=1.0),
            switches={
                "fill": (self.fill or FillTime.NEXT_OPEN).value,
                "shorts": self.shorts,
            },
            decisions=self.decisions,
            **_NOTHING_COSTS,  # type: ignore[arg-type]
        )


@dataclass(frozen=True, slots=True)
class ModelScores:
    """What a bundle says of every instrument: grids (times, symbols), NaN where it says nothing.

    `decision` is the raw one, before any filter: 1 BUY, 0 HOLD, -1 SELL. `outputs` has one grid for
    each output of the model, such as `p_buy`.
    """

    decision: Grid
    confidence: Grid
    outputs: Mapping[str, Grid]

    def output(self, name: str) -> Grid:
        """Returns one output; NaN everywhere where no instrument had enough bars."""
        return self.outputs.get(name, np.full(self.confidence.shape, np.nan))


def model_scores(
    predictor: Predictor,
    panel: Panel,
    request: BacktestRequest,
    field: str = "strategy.parameters.model",
) -> ModelScores:
    """Returns what a bundle says at every bar of a panel, each instrument by itself.

    An instrument with too few bars for the indicators has no score. Raises InvalidRequestError for
    a bundle of several timeframes, or of another one than the panel: `field` named it.
    """
    timeframe = _only_timeframe(predictor, panel, field)
    shape = (len(panel), len(panel.symbols))
    decision, confidence = np.full(shape, np.nan), np.full(shape, np.nan)
    outputs: dict[str, Grid] = {}
    for column in range(shape[1]):
        rows, series = _series(panel, column, timeframe)
        try:
            prepared = prepare(
                request, predictor, {timeframe.label: series}, SilentObserver(), new_slot()
            )
        except (NotEnoughBarsError, DataRangeEmptyError):
            continue
        scores = prepared.scores
        is_known = ~np.isnan(scores.confidence)
        decision[rows, column] = np.where(is_known, scores.raw_decision, np.nan)
        confidence[rows, column] = scores.confidence
        for place, name in enumerate(scores.names):
            outputs.setdefault(name, np.full(shape, np.nan))[rows, column] = scores.values[:, place]
    return ModelScores(decision, confidence, outputs)


def model_strategy(predictors: Predictors) -> TargetStrategy:
    """Returns the strategy `model`, whose bundles come through a port."""
    asked = _Asked(predictors)
    return TargetStrategy(ModelConfig, asked.decide, features=asked.features)


@dataclass(frozen=True, slots=True)
class _Asked:
    predictors: Predictors

    def features(self, panel: Panel, _: Mapping[str, Events], parameters: ModelConfig) -> Features:
        """Returns the grids `decision` (raw) and `confidence`."""
        predictor = self.predictors(parameters.model)
        scores = model_scores(predictor, panel, parameters.request())
        return {"decision": scores.decision, "confidence": scores.confidence}

    def decide(self, data: StrategyInput, parameters: ModelConfig) -> Targets:
        """Returns the targets that the filtered decisions lead to."""
        predictor, request = self.predictors(parameters.model), parameters.request()
        switches = request.resolved_switches()
        rules = rules_record(request, decision_rules(request, predictor.info, switches), switches)
        timeframe = Timeframe.parse(predictor.info.strategy.timeframes[0])
        weights = np.full(data.panel.close.shape, np.nan)
        for column in range(len(data.panel.symbols)):
            rows, series = _series(data.panel, column, timeframe)
            if len(series) == 0:
                continue
            raw = data.features["decision"][rows, column]
            confidence = data.features["confidence"][rows, column]
            inputs = _inputs(series, raw, confidence)
            weights[rows, column] = _decided(inputs, rules, parameters.fraction)
        direction = np.sign(last_decided(weights)).astype(np.int8)
        return Targets(direction, data.features["confidence"], weights)


def _inputs(series: BarSeries, raw: Grid, confidence: Grid) -> Inputs:
    count = len(series)
    decision = np.nan_to_num(raw).astype(np.int8)
    no_reason = np.zeros(count, np.int8)
    return Inputs(
        series.open_time_ns,
        series.open,
        series.high,
        series.low,
        series.close,
        decision,
        np.ascontiguousarray(confidence),
        no_reason,
        np.ones(count),
    )


def _decided(inputs: Inputs, rules: NDArray[np.void], fraction: float) -> Grid:
    """Returns the target of one instrument at each of its bars, NaN where nothing changes.

    With BUY filled and then SELL: fraction, NaN, 0. What would enlarge or repeat a position is
    denied by the cycle, and no target.
    """
    count = len(inputs.time_ns)
    outputs = Outputs.empty(count)
    run_until(new_state(0, _ENDLESS_CASH), rules, inputs, outputs, new_slot(), count)
    side = np.sign(outputs.position)
    if rules["fill_this_close"][0]:  # then the position of a bar is that after its decision
        side = np.concatenate([[0.0], side[:-1]])
    decision = outputs.decision.astype(np.float64)
    may_enter = (decision == Decision.BUY) | bool(rules["shorts"][0])
    weights = np.where((side == 0.0) & (decision != 0.0) & may_enter, decision * fraction, np.nan)
    return np.where((side != 0.0) & (decision == -side), 0.0, weights)


def _series(panel: Panel, column: int, timeframe: Timeframe) -> tuple[NDArray[np.int64], BarSeries]:
    """Returns the rows at which an instrument has a bar, and its bars, stamped with their opens."""
    rows = np.flatnonzero(~np.isnan(panel.close[:, column]))
    opens, highs, lows, closes = (
        np.ascontiguousarray(values[rows, column])
        for values in (panel.open, panel.high, panel.low, panel.close)
    )
    volume = np.zeros(len(rows))
    if panel.volume is not None:
        volume = np.nan_to_num(panel.volume[rows, column])
    opened_ns = panel.known_ns[rows] - np.int64(timeframe.length_ns)
    series = BarSeries(
        panel.symbols[column], timeframe, opened_ns, opens, highs, lows, closes, volume
    )
    return rows, series


def _only_timeframe(predictor: Predictor, panel: Panel, field: str) -> Timeframe:
    """Returns the timeframe of a bundle; raises InvalidRequestError where the panel has others."""
    labels = predictor.info.strategy.timeframes
    if len(labels) > 1:
        said = f"reads {', '.join(labels)} bars: a panel has one timeframe"
        raise _refused(predictor, said, field)
    timeframe = Timeframe.parse(labels[0])
    if len(panel) < 2:
        return timeframe
    shortest_ns = int(np.diff(panel.known_ns).min())
    is_longer = shortest_ns > timeframe.length_ns and len(panel) >= SPACING_BARS_MIN
    if shortest_ns < timeframe.length_ns or is_longer:
        said = f"reads {labels[0]} bars; those of the panel are {shortest_ns / 1e9:,.0f} s apart"
        raise _refused(predictor, said, field)
    return timeframe


def _refused(predictor: Predictor, said: str, field: str) -> InvalidRequestError:
    violation = FieldViolation(field, f"{predictor.info.name} {said}")
    return not_valid((violation,))


class ModelRegistry(Mapping[str, Strategy]):
    """A registry with `model` in it, and the port through which models are asked.

    Looks a strategy up when it is asked for: the packages of others stay unimported.
    """

    def __init__(self, strategies: Registry, predictors: Predictors) -> None:
        """Adds `model` to the strategies of a registry."""
        self.predictors = predictors
        self._strategies = strategies
        self._model = model_strategy(predictors)

    def __getitem__(self, name: str) -> Strategy:
        return self._model if name == MODEL_STRATEGY else self._strategies[name]

    def __contains__(self, name: object) -> bool:
        """Answers without importing anything."""
        return name == MODEL_STRATEGY or name in self._strategies

    def __iter__(self) -> Iterator[str]:
        return iter(dict.fromkeys((*self._strategies, MODEL_STRATEGY)))

    def __len__(self) -> int:
        return len({*self._strategies, MODEL_STRATEGY})


def parameters_for(parameters: Any, fill: FillTime) -> Any:
    """Returns the parameters of a strategy for a run whose orders fill so."""
    return parameters.filled_as(fill) if isinstance(parameters, ModelConfig) else parameters
