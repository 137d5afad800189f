"""Transaction cost analysis: what the fills of a day in an instrument cost together."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_DAY_NS = 86_400_000_000_000


@dataclass(frozen=True, slots=True, eq=False)
class CostReport:
    """One entry for each day and instrument with fills, by day, then instrument; arrays (entries,).

    `day_ns` is midnight UTC; money is summed; `gross` is what the fills brought in before costs,
    negative for purchases; `cost_bps` is the total cost in basis points of the notional, NaN where
    that is 0.
    """

    day_ns: NDArray[np.int64]
    symbol: NDArray[np.int64]
    notional: NDArray[np.float64]
    commission: NDArray[np.float64]
    half_spread: NDArray[np.float64]
    impact: NDArray[np.float64]
    total: NDArray[np.float64]
    fill_count: NDArray[np.int64]
    cost_bps: NDArray[np.float64]
    gross: NDArray[np.float64]


def cost_report(
    time_ns: NDArray[np.int64],
    symbol: NDArray[np.int64],
    notional: NDArray[np.float64],
    commission: NDArray[np.float64],
    half_spread: NDArray[np.float64],
    impact: NDArray[np.float64],
    *,
    gross: NDArray[np.float64] | None = None,
) -> CostReport:
    """Returns the report of fills, every argument (fills,), money >= 0 but for `gross`.

    Two fills of 1,000 on a day that cost 1 and 3 together cost 20 bps of 2,000.
    """
    days = time_ns // _DAY_NS
    keys = np.stack([days, symbol], axis=1)
    unique, group = np.unique(keys, axis=0, return_inverse=True)
    group = group.reshape(-1)

    def summed(values: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.bincount(group, weights=values, minlength=len(unique)).astype(np.float64)

    parts = [summed(values) for values in (notional, commission, half_spread, impact)]
    total = parts[1] + parts[2] + parts[3]
    known = np.where(parts[0] > 0, parts[0], np.nan)
    return CostReport(
        unique[:, 0] * _DAY_NS,
        unique[:, 1],
        parts[0],
        parts[1],
        parts[2],
        parts[3],
        total,
        np.bincount(group, minlength=len(unique)).astype(np.int64),
        total / known * 1e4,
        summed(np.zeros(len(notional)) if gross is None else gross),
    )
