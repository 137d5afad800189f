"""Indicators against TA-Lib, where the definitions coincide.

TA-Lib is an independent implementation in C. It updates running sums, which keeps some 1e-12 of
their size. Where it begins a recursive mean otherwise, the two are compared once both have
forgotten it.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from backlane.indicators.fields import read_parameters
from backlane.indicators.indicator import Memory
from backlane.indicators.registry import find_indicator
from backlane.market.bars import BarSeries
from tests.unit.indicators.bars import bars_of

Values = NDArray[np.float64]

BAR_COUNT = 1500


def random_walk() -> BarSeries:
    rng = np.random.default_rng(11)
    close = 100.0 * np.exp(np.cumsum(0.01 * rng.standard_normal(BAR_COUNT)))
    open_ = np.concatenate([close[:1], close[:-1]])
    high = np.maximum(open_, close) * (1 + 0.01 * rng.random(BAR_COUNT))
    low = np.minimum(open_, close) * (1 - 0.01 * rng.random(BAR_COUNT))
    volume = rng.integers(1, 1000, BAR_COUNT).astype(np.float64)
    return bars_of(close, open_=open_, high=high, low=low, volume=volume)


BARS = random_walk()


def wide_bands(talib: Any, b: BarSeries) -> tuple[Values, ...]:
    """Returns TA-Lib's Bollinger bands for a sample deviation: it divides by n, not n - 1."""
    wider = 2.0 * (20 / 19) ** 0.5
    return tuple(talib.BBANDS(b.close, 20, wider, wider))


def obv_from_zero(talib: Any, b: BarSeries) -> tuple[Values, ...]:
    """Returns TA-Lib's OBV less the volume of its first bar."""
    return (talib.OBV(b.close, b.volume) - b.volume[0],)


CASES: list[tuple[str, dict[str, Any], Callable[[Any, BarSeries], Any]]] = [
    ("rsi", {}, lambda t, b: t.RSI(b.close, 14)),
    ("sma", {}, lambda t, b: t.SMA(b.close, 20)),
    ("ema", {"adjust": False}, lambda t, b: t.EMA(b.close, 20)),
    ("wma", {"period": 7}, lambda t, b: t.WMA(b.close, 7)),
    ("macd", {}, lambda t, b: t.MACD(b.close, 12, 26, 9)),
    ("bollingerbands", {}, wide_bands),
    ("atr", {}, lambda t, b: t.SMA(t.TRANGE(b.high, b.low, b.close)[1:], 14)),
    ("adx", {}, lambda t, b: [
        f(b.high, b.low, b.close, 14) for f in (t.ADX, t.PLUS_DI, t.MINUS_DI)
    ]),
    ("stochastic", {}, lambda t, b: t.STOCH(b.high, b.low, b.close, 14, 3, 0, 3, 0)),
    ("williamsr", {}, lambda t, b: t.WILLR(b.high, b.low, b.close, 14)),
    ("cci", {}, lambda t, b: t.CCI(b.high, b.low, b.close, 20)),
    ("roc", {}, lambda t, b: t.ROC(b.close, 10)),
    ("momentum", {}, lambda t, b: t.MOM(b.close, 10)),
    ("donchianchannels", {}, lambda t, b: (
        t.MAX(b.high, 20), (t.MAX(b.high, 20) + t.MIN(b.low, 20)) / 2, t.MIN(b.low, 20)
    )),
    ("mfi", {}, lambda t, b: t.MFI(b.high, b.low, b.close, b.volume, 14)),
    ("obv", {}, obv_from_zero),
    ("adline", {}, lambda t, b: t.AD(b.high, b.low, b.close, b.volume)),
]  # fmt: skip


@pytest.mark.parametrize(("name", "given", "oracle"), CASES, ids=[case[0] for case in CASES])
def test_an_indicator_equals_that_of_talib(
    name: str, given: dict[str, Any], oracle: Callable[[Any, BarSeries], Any]
):
    talib = pytest.importorskip("talib", reason="TA-Lib comes with the extra `dev`")
    kind = find_indicator(name)
    parameters, _ = read_parameters(kind.parameters, given, path="p")
    expected = oracle(talib, BARS)
    expected = [expected] if isinstance(expected, np.ndarray) else list(expected)
    first = kind.lookback_bars(parameters) if kind.memory is Memory.FADING else 0
    # Recursive means are compared where 2^-24 of their past is left, others at once.
    tolerance = 1e-6 if kind.memory is Memory.FADING else 1e-10
    for values, wanted in zip(kind.outputs_of(BARS, parameters), expected, strict=False):
        first_known = max(first, BAR_COUNT - len(wanted) + int(np.isnan(wanted).sum()))
        settled, oracle_settled = values[first_known:], wanted[first_known - BAR_COUNT :]
        assert len(settled) > BAR_COUNT // 2
        assert not np.isnan(settled).any()
        scale = float(np.abs(oracle_settled).max())
        np.testing.assert_allclose(settled, oracle_settled, rtol=0, atol=tolerance * scale)
