"""What many fills cost, component by component, and the liquidity that they met (SPEC B5).

The formulas are those of `cost_model`, one fill after the other; arrays have shape (fills,).
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from backlane.execution.cost_model import (
    CostModel,
    fill_cost,
    impact_bps_of,
    quoted_spread_bps,
)
from backlane.jit import Record, kernel


class FillCosts(NamedTuple):
    """What fills cost, money, arrays of shape (fills,); and at which spread and impact, in bps."""

    total: NDArray[np.float64]
    commission: NDArray[np.float64]
    half_spread: NDArray[np.float64]
    impact: NDArray[np.float64]
    quoted_bps: NDArray[np.float64]
    impact_bps: NDArray[np.float64]


def fill_costs(
    model: CostModel,
    notional: NDArray[np.float64],
    units: NDArray[np.float64],
    average_volume: NDArray[np.float64] | None = None,
    volatility: NDArray[np.float64] | None = None,
    *,
    is_passive: bool = False,
) -> FillCosts:
    """Returns the costs of fills of `notional`, money >= 0, and `units` >= 0.

    `average_volume` is in money and `volatility` a fraction, both of a bar, NaN where not known.
    """
    unknown = np.full(len(notional), np.nan)
    columns = np.empty((4, len(notional)))
    for row, each in enumerate((notional, units, average_volume, volatility)):
        columns[row] = unknown if each is None else each
    out = np.empty((6, len(notional)))
    _each(columns, is_passive, model.record(), out)
    return FillCosts(*out)


@kernel
def _each(
    columns: NDArray[np.float64],
    is_passive: bool,
    costs: NDArray[np.void],
    out: NDArray[np.float64],
) -> None:
    model: Record = costs[0]
    for at in range(columns.shape[1]):
        notional, units = columns[0, at], columns[1, at]
        volume, deviation = columns[2, at], columns[3, at]
        total, commission, spread, impact = fill_cost(
            notional, units, volume, deviation, is_passive, model
        )
        out[0, at], out[1, at], out[2, at], out[3, at] = total, commission, spread, impact
        out[4, at] = quoted_spread_bps(volume, model)
        out[5, at] = impact_bps_of(notional, volume, deviation, model)


def average_volume(
    close: NDArray[np.float64], volume: NDArray[np.float64], window: int, *, with_today: bool
) -> NDArray[np.float64]:
    """Returns the mean of close * volume over `window` bars, money, shape (times, symbols).

    `with_today` includes the bar itself, as the reference does; without it the figure of a bar is
    known before the bar trades (SPEC C2, cost units). NaN until the window is full.
    """
    return _lagged(_windows(close * volume, window).mean(axis=-1), len(close), with_today)


def bar_volatility(
    close: NDArray[np.float64], window: int, *, with_today: bool
) -> NDArray[np.float64]:
    """Returns the sample deviation of `window` log returns, a fraction, (times, symbols)."""
    returns = np.full(close.shape, np.nan)
    returns[1:] = np.log(close[1:] / close[:-1])
    return _lagged(_windows(returns, window).std(axis=-1, ddof=1), len(close), with_today)


def _windows(values: NDArray[np.float64], window: int) -> NDArray[np.float64]:
    if len(values) < window:
        return np.empty((0, values.shape[1], window))
    return np.lib.stride_tricks.sliding_window_view(values, window, axis=0)


def _lagged(full: NDArray[np.float64], length: int, with_today: bool) -> NDArray[np.float64]:
    result = np.full((length, full.shape[1]), np.nan)
    kept = full if with_today else full[:-1]
    if len(kept):
        result[length - len(full) + (0 if with_today else 1) :] = kept
    return result
