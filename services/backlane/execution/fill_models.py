"""Which part of an order fills, and at what price: by limit, by volume, by session (SPEC B5).

Each model takes the orders of one bar or of many, arrays of shape (orders,), and says what it lets
through; the next one gets what is left. What is rejected moves no position (SPEC C2, Q15).
"""

from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from backlane.execution.order_prices import fillable_units, limit_price_in_bar


class FillStatus(StrEnum):
    """How much of an order was filled."""

    FILLED = "filled"
    PARTIAL = "partial"
    REJECTED = "rejected"


@dataclass(frozen=True, slots=True, eq=False)
class ModelledFills:
    """What fills of each order: `quantity` units at `price`, and what `remaining` is left."""

    quantity: NDArray[np.float64]
    price: NDArray[np.float64]
    remaining: NDArray[np.float64]

    def statuses(self) -> list[FillStatus]:
        """Returns the status of each order."""
        return [
            FillStatus.REJECTED
            if filled <= 0
            else (FillStatus.FILLED if left <= 0 else FillStatus.PARTIAL)
            for filled, left in zip(self.quantity.tolist(), self.remaining.tolist(), strict=True)
        ]


@dataclass(frozen=True, slots=True)
class VolumeLimit:
    """At most `participation_max` of the average daily volume fills.

    Less than `min_quantity` units are not worth a fill. Where the volume is not known,
    `fallback_fraction` of the order fills.
    """

    participation_max: float
    min_quantity: float
    fallback_fraction: float


def limit_fills(
    is_buy: NDArray[np.bool_],
    quantity: NDArray[np.float64],
    price: NDArray[np.float64],
    limit_price: NDArray[np.float64],
    is_limit: NDArray[np.bool_],
    low: NDArray[np.float64],
    high: NDArray[np.float64],
) -> ModelledFills:
    """Returns what fills within a bar: a market order whole at `price`, a limit order at its limit.

    A buy fills when the bar's low is at or below its limit, a sell when the high is at or above;
    never better than the limit, even where the bar opened beyond it. A limit order without a limit
    price (NaN) is rejected.
    """
    at_limit = np.array(
        [
            limit_price_in_bar(1 if buys else -1, limit, np.nan, top, bottom)
            for buys, limit, top, bottom in zip(is_buy, limit_price, high, low, strict=True)
        ]
    )
    fills = ~is_limit | ~np.isnan(at_limit)
    filled = np.where(fills, quantity, 0.0)
    return ModelledFills(filled, np.where(is_limit & fills, at_limit, price), quantity - filled)


def volume_fills(
    quantity: NDArray[np.float64],
    price: NDArray[np.float64],
    daily_volume: NDArray[np.float64],
    limit: VolumeLimit,
) -> ModelledFills:
    """Returns what the market takes: at most participation_max * daily volume / price units.

    `daily_volume` is the average in money, NaN where it is not known. 5 % of 1e6 a day at 50 is
    1,000 units: of an order for 1,500, 500 remain.
    """
    is_known = daily_volume > 0
    most = np.where(
        is_known,
        limit.participation_max * daily_volume / price,
        limit.fallback_fraction * quantity,
    )
    filled = np.array(
        [
            fillable_units(wanted, available, limit.min_quantity)
            for wanted, available in zip(quantity, most, strict=True)
        ]
    )
    return ModelledFills(filled, price.copy(), quantity - filled)


def session_fills(
    is_open: NDArray[np.bool_], quantity: NDArray[np.float64], price: NDArray[np.float64]
) -> ModelledFills:
    """Returns the orders that arrive while the exchange is open; the others are rejected."""
    filled = np.where(is_open, quantity, 0.0)
    return ModelledFills(filled, price.copy(), quantity - filled)
