"""Small real things for tests: bars, rules, a predictor, a strategy."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from backlane.cycle.loop import Inputs
from backlane.cycle.state import new_rules
from backlane.decisions.decision import DecisionReason
from backlane.features.names import feature_names
from backlane.features.strategy import (
    FuzzySetSpec,
    IndicatorSpec,
    MembershipSpec,
    NetworkInputSpec,
    Strategy,
)
from backlane.inference.model_info import BundleDecisions, ModelHead, ModelInfo
from backlane.market.bars import BarSeries
from backlane.market.timeframe import Timeframe

HOUR_NS = 3_600_000_000_000
START_NS = 1_672_531_200_000_000_000  # 2023-01-01T00:00:00Z


def make_bars(
    closes: list[float],
    *,
    opens: list[float] | None = None,
    highs: list[float] | None = None,
    lows: list[float] | None = None,
    timeframe: str = "1h",
) -> BarSeries:
    """Bars one after the other; each opens at the close before unless told otherwise."""
    close = np.array(closes, dtype=np.float64)
    open_ = np.array(opens, dtype=np.float64) if opens else np.concatenate((close[:1], close[:-1]))
    high = np.array(highs, dtype=np.float64) if highs else np.maximum(open_, close)
    low = np.array(lows, dtype=np.float64) if lows else np.minimum(open_, close)
    parsed = Timeframe.parse(timeframe)
    times = START_NS + np.arange(len(close), dtype=np.int64) * parsed.length_ns
    return BarSeries("TEST", parsed, times, open_, high, low, close, np.ones(len(close)))


def random_bars(seed: int, bar_count: int, *, timeframe: str = "1h") -> BarSeries:
    """A seeded random walk around 1.1, with gaps in time as a week has them."""
    rng = np.random.default_rng(seed)
    close = 1.1 * np.exp(np.cumsum(rng.normal(0, 0.002, bar_count)))
    open_ = np.concatenate((close[:1], close[:-1])) * np.exp(rng.normal(0, 2e-4, bar_count))
    high = np.maximum(open_, close) * np.exp(np.abs(rng.normal(0, 5e-4, bar_count)))
    low = np.minimum(open_, close) * np.exp(-np.abs(rng.normal(0, 5e-4, bar_count)))
    parsed = Timeframe.parse(timeframe)
    steps = np.where(rng.random(bar_count) < 0.01, 49, 1).cumsum()
    times = START_NS + steps.astype(np.int64) * parsed.length_ns
    return BarSeries("TEST", parsed, times, open_, high, low, close, rng.uniform(1, 9, bar_count))


def make_rules(**values: float) -> NDArray[np.void]:
    """Rules without costs or filters, in which everything is allowed; `values` override."""
    rules = new_rules()
    defaults: dict[str, float] = {
        "position_awareness": 1,
        "allow_short_from_flat": 1,
        "extreme_excursions": 1,
    }
    for name, value in (defaults | values).items():
        rules[name] = value
    return rules


def make_inputs(
    bars: BarSeries,
    raw_decision: list[int] | NDArray[np.int8],
    confidence: float = 1.0,
    fraction: float = 0.25,
) -> Inputs:
    """Inputs of the loop with given raw decisions."""
    count = len(bars)
    return Inputs(
        bars.open_time_ns,
        bars.open,
        bars.high,
        bars.low,
        bars.close,
        np.array(raw_decision, dtype=np.int8),
        np.full(count, confidence),
        np.full(count, DecisionReason.MODEL_HOLD, dtype=np.int8),
        np.full(count, fraction),
    )


RSI_STRATEGY = Strategy(
    name="rsi_test",
    version="3.0",
    symbols=("TEST",),
    timeframes=("1h",),
    indicators=(
        IndicatorSpec("rsi_5", "rsi", {"period": 5}),
        IndicatorSpec("sma_8", "sma", {"period": 8}),
    ),
    fuzzy_sets=(
        FuzzySetSpec(
            "momentum",
            "rsi_5",
            (
                MembershipSpec("low", "trapezoidal", (0, 0, 30, 50)),
                MembershipSpec("high", "trapezoidal", (50, 70, 100, 100)),
            ),
        ),
        FuzzySetSpec("level", "sma_8", (MembershipSpec("near", "gaussian", (1.1, 0.05)),)),
    ),
    nn_inputs=(NetworkInputSpec(fuzzy_set="momentum"), NetworkInputSpec(fuzzy_set="level")),
)


def make_model(
    strategy: Strategy = RSI_STRATEGY, head: ModelHead = ModelHead.CLASSIFICATION
) -> ModelInfo:
    """A description of a model over a strategy."""
    return ModelInfo(
        model="test",
        version="1",
        digest="sha256:" + "0" * 64,
        architecture="mlp",
        head=head,
        features=feature_names(strategy),
        sequence_length=1,
        strategy=strategy,
        decisions=BundleDecisions(),
        runtime={},
    )


class LinearPredictor:
    """A real predictor without torch: outputs are weighted sums, added column by column.

    The order of additions is the same for every row, so the bits of a row never depend on others.
    """

    def __init__(self, info: ModelInfo, seed: int = 22) -> None:
        rng = np.random.default_rng(seed)
        self._info = info
        shape = (len(info.features), info.head.output_count)
        self._weights = rng.normal(0, 3, shape).astype(np.float32)

    @property
    def info(self) -> ModelInfo:
        return self._info

    def predict(
        self, features: NDArray[np.float32], on_progress: Callable[[int], None] | None = None
    ) -> NDArray[np.float32]:
        outputs = np.zeros((len(features), self._info.head.output_count), dtype=np.float32)
        for column in range(features.shape[1]):
            outputs += (features[:, column : column + 1] - np.float32(0.5)) * self._weights[column]
        if on_progress is not None:
            on_progress(len(features))
        return outputs


def with_head(info: ModelInfo, head: ModelHead) -> ModelInfo:
    """The same model with another head."""
    return replace(info, head=head)
