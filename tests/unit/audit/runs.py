"""Requests, predictors and strategies that the audits are tried on; some of them cheat."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from backlane.backtest.request import BacktestRequest, parse_request
from backlane.market.bars import BarSeries
from backlane.market.timeframe import Timeframe
from tests.builders import RSI_STRATEGY, LinearPredictor, make_model

MTF_STRATEGY = replace(RSI_STRATEGY, name="mtf_test", timeframes=("15m", "1h"))
SEQUENCE_LENGTH = 4


def ask(**fields: object) -> BacktestRequest:
    return parse_request({"model": {"name": "test"}, "symbol": "TEST"} | fields)


def coarser(base: BarSeries, label: str) -> BarSeries:
    """Bars of a longer timeframe, made of those of a shorter one."""
    timeframe = Timeframe.parse(label)
    opens = base.open_time_ns // timeframe.length_ns * timeframe.length_ns
    times, first = np.unique(opens, return_index=True)
    last = np.append(first[1:], len(base)) - 1
    return BarSeries(
        base.symbol,
        timeframe,
        times,
        base.open[first],
        np.maximum.reduceat(base.high, first),
        np.minimum.reduceat(base.low, first),
        base.close[last],
        np.add.reduceat(base.volume, first),
    )


class PeekingPredictor(LinearPredictor):
    """Looks at the features of the next row, as a badly cut training window would."""

    def predict(
        self,
        features: NDArray[np.float32],
        on_progress: Callable[[int], None] | None = None,
    ) -> NDArray[np.float32]:
        ahead = np.concatenate([features[1:], features[-1:]])
        return super().predict(np.ascontiguousarray(ahead), on_progress)


class WindowPredictor(LinearPredictor):
    """Honest, over windows: the sum of the outputs of the last SEQUENCE_LENGTH rows."""

    def __init__(self) -> None:
        super().__init__(replace(make_model(), sequence_length=SEQUENCE_LENGTH))
        self.row_count = 0

    def predict(
        self,
        features: NDArray[np.float32],
        on_progress: Callable[[int], None] | None = None,
    ) -> NDArray[np.float32]:
        self.row_count += len(features)
        rows = super().predict(features, on_progress)
        outputs = np.full_like(rows, np.nan)
        last = SEQUENCE_LENGTH - 1
        if len(rows) > last:
            outputs[last:] = sum(rows[age : len(rows) - last + age] for age in range(last + 1))
        return outputs


class CountingPredictor(LinearPredictor):
    """Counts the rows that it is asked."""

    row_count = 0

    def predict(
        self,
        features: NDArray[np.float32],
        on_progress: Callable[[int], None] | None = None,
    ) -> NDArray[np.float32]:
        self.row_count += len(features)
        return super().predict(features, on_progress)
