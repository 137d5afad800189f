"""What is drawn: drawdown, monthly returns, and curves with fewer points but all their extremes."""

import numpy as np
import pandas as pd
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Indices = NDArray[np.intp]


def drawdown(equity: Floats, initial_cash: float | None) -> Floats:
    """Returns equity / (highest equity so far) - 1, <= 0; NaN where no peak is above 0.

    The initial cash is the first peak; None leaves that to the first equity.
    """
    start = -np.inf if initial_cash is None else initial_cash
    peak = np.maximum(np.maximum.accumulate(equity), start) if len(equity) else equity
    below = np.full(len(equity), np.nan)
    np.divide(equity, peak, out=below, where=peak > 0)
    fallen: Floats = below - 1.0
    return fallen


def monthly_returns(equity: "pd.Series[float]", initial_cash: float | None) -> pd.DataFrame:
    """Returns one row a year: columns 1 to 12, and "year"; NaN where there are no bars.

    A month's return is its last equity over the last equity before it, minus 1; before the first
    bar that is the initial cash. A bar belongs to the month in which it opens.
    """
    index = pd.DatetimeIndex(equity.index)
    first = float(equity.iloc[0]) if initial_cash is None and len(equity) else initial_cash or 0.0
    months = _changes(equity, index.year * 12 + index.month - 1, first)
    table = pd.DataFrame(index=sorted({month // 12 for month in months}), columns=range(1, 13))
    table = table.astype(float)
    for month, change in months.items():
        table.loc[month // 12, month % 12 + 1] = change
    table["year"] = pd.Series(_changes(equity, index.year, first), dtype=float)
    table.index.name = "year"
    return table


def _changes(equity: "pd.Series[float]", period: "pd.Index[int]", first: float) -> dict[int, float]:
    last = equity.groupby(np.asarray(period)).last()
    before = np.concatenate(([first], last.to_numpy()[:-1]))
    changes = np.full(len(last), np.nan)
    np.divide(last.to_numpy(), before, out=changes, where=before > 0)
    return {int(key): float(change) - 1 for key, change in zip(last.index, changes, strict=True)}


def extreme_indices(values: Floats, points_max: int) -> Indices:
    """Returns the indices of at most `points_max` (>= 4) points that draw the same picture.

    Fewer values are all kept. Else the values are cut into stretches of one length, and the lowest
    and highest of each are kept, and the first and the last: no peak or trough is lost.
    """
    count = len(values)
    if count <= points_max:
        return np.arange(count)
    width = _stretch_length(count, (points_max - 2) // 2)
    stretches = -(-count // width)
    padded = np.full(stretches * width, np.nan)
    padded[:count] = values
    grid = padded.reshape(stretches, width)
    starts = np.arange(stretches) * width
    lowest = starts + np.argmin(np.where(np.isnan(grid), np.inf, grid), axis=1)
    highest = starts + np.argmax(np.where(np.isnan(grid), -np.inf, grid), axis=1)
    return np.unique(np.concatenate(([0], lowest, highest, [count - 1])))


def range_stretches(low: Floats, high: Floats, points_max: int) -> tuple[Indices, Floats, Floats]:
    """Returns where each of at most `points_max` stretches begins, its lowest low, highest high."""
    starts = np.arange(0, len(low), _stretch_length(len(low), points_max))
    if len(starts) == 0:
        return starts, low, high
    return starts, np.minimum.reduceat(low, starts), np.maximum.reduceat(high, starts)


def _stretch_length(count: int, stretches_max: int) -> int:
    return max(1, -(-count // stretches_max))
