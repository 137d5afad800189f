"""Alignment: which bar of another timeframe is visible at each bar of the base timeframe."""

import numpy as np
from numpy.typing import NDArray

from backlane.features.rules import Alignment
from backlane.jit import compiled
from backlane.market.bars import BarSeries

Values = NDArray[np.float64]
Rows = NDArray[np.int64]


def visible_rows(base: BarSeries, other: BarSeries, alignment: Alignment) -> Rows:
    """Returns, for each base bar, the index of the bar of `other` that is seen there; -1 for none.

    KNOWN_AT_CLOSE: the last one that has closed when the base bar closes; a bar that closes at the
    same moment counts. STAMP_FORWARD_FILL: the last one that has opened when the base bar opens,
    which shows a longer bar before it is over. EXACT_STAMP: the one that opens together with it.
    """
    if alignment is Alignment.KNOWN_AT_CLOSE:
        found = np.searchsorted(other.close_time_ns, base.close_time_ns, "right") - 1
        return found.astype(np.int64, copy=False)
    found = np.searchsorted(other.open_time_ns, base.open_time_ns, "right") - 1
    if alignment is Alignment.EXACT_STAMP:
        opens = np.append(other.open_time_ns, np.int64(-1))  # a row to look up -1 in
        found = np.where((found >= 0) & (opens[found] == base.open_time_ns), found, -1)
    return found.astype(np.int64, copy=False)


def align(values: Values, rows: Rows, alignment: Alignment) -> Values:
    """Returns one value for each base bar; NaN where none is visible.

    Under STAMP_FORWARD_FILL, NaN are then filled with the next value, else the last one, else 0: as
    ktrdr does, which shows later values during warm-up.
    """
    aligned: Values = _gather(values, rows)
    if alignment is Alignment.STAMP_FORWARD_FILL:
        _fill_gaps(aligned)
    return aligned


@compiled
def _gather(values: Values, rows: Rows) -> Values:
    aligned = np.full(len(rows), np.nan)
    for bar in range(len(rows)):
        if rows[bar] >= 0:
            aligned[bar] = values[rows[bar]]
    return aligned


@compiled
def _fill_gaps(values: Values) -> None:
    following = np.nan
    for bar in range(len(values) - 1, -1, -1):
        if np.isnan(values[bar]):
            values[bar] = following
        following = values[bar]
    last = 0.0
    for bar in range(len(values)):
        if np.isnan(values[bar]):
            values[bar] = last
        last = values[bar]
