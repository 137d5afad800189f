"""Technical features of a panel (SPEC B2): means, true ranges, relative strength, returns.

Plain means with as many values as there are, other than the indicators of `backlane.indicators`:
the strategies over many instruments are defined with these. Every result has the shape of the
panel, (times, symbols), NaN where an instrument has no bar.
"""

import numpy as np

from backlane.panel.panel import Panel
from backlane.signals.windows import Values, each_symbol, earlier, rolling_mean


def simple_mean(panel: Panel, period: int) -> Values:
    """Returns the mean of the last `period` closes, or of those there are; in money."""
    return each_symbol(lambda close: rolling_mean(close, period, 1), panel.close)


def average_true_range(panel: Panel, period: int) -> Values:
    """Returns the plain mean of the last `period` true ranges, or of those there are; in money.

    TR = max(H - L, |H - C(-1)|, |L - C(-1)|), that of an instrument's first bar H - L. With bars
    H 11, L 9, C 10 and H 14, L 12, C 13 the ranges are 2 and 4, and their mean 3. Not Wilder's.
    """

    def one(close: Values, high: Values, low: Values) -> Values:
        return rolling_mean(_true_range(close, high, low), period, 1)

    return each_symbol(one, panel.close, panel.high, panel.low)


def _true_range(close: Values, high: Values, low: Values) -> Values:
    previous = earlier(close, 1)
    gaps: Values = np.fmax(np.abs(high - previous), np.abs(low - previous))
    ranges: Values = np.fmax(high - low, gaps)
    return ranges


def relative_strength(panel: Panel, period: int) -> Values:
    """Returns 100 - 100 / (1 + G / L), in [0, 100]; NaN for an instrument's first `period` bars.

    G and L are the plain means of the gains and of the losses of the last `period` changes. Without
    losses it is 100, without any change 50. Gains of 3 and 1, losses of 2: 100 - 100 / 3.
    """

    def one(close: Values) -> Values:
        change = close - earlier(close, 1)
        gain = rolling_mean(np.maximum(change, 0.0), period, period)
        loss = rolling_mean(np.maximum(-change, 0.0), period, period)
        with np.errstate(divide="ignore", invalid="ignore"):
            strength = 100.0 - 100.0 / (1.0 + gain / loss)
        return np.where((gain == 0.0) & (loss == 0.0), 50.0, strength)

    return each_symbol(one, panel.close)


def log_return(panel: Panel) -> Values:
    """Returns ln(C / C(-1)), C(-1) being the close of the instrument's bar before."""
    return each_symbol(lambda close: np.log(close / earlier(close, 1)), panel.close)
