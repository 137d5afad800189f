"""What the simulation of a portfolio gave."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from backlane.panel.panel import Panel


@dataclass(frozen=True, slots=True)
class LinearCosts:
    """Costs in basis points of the notional of a fill, each charged once (SPEC B9).

    A buy of 10,000 at 1.0 + 2.5 + 5.0 bps costs 1 + 2.5 + 5 = 8.50, on top of its price.
    """

    commission_bps: float = 0.0
    half_spread_bps: float = 0.0
    impact_bps: float = 0.0

    @property
    def rate(self) -> float:
        """All of them as a fraction of the notional."""
        return (self.commission_bps + self.half_spread_bps + self.impact_bps) / 1e4


@dataclass(frozen=True, slots=True, eq=False)
class Targets:
    """What a strategy decided: arrays of shape (times, symbols).

    `weights` are signed shares of the capital: NaN is no decision, 0 is flat. `direction` is +1
    long, 0 flat, -1 short; `score` is the strategy's own strength, NaN where it has none.
    """

    direction: NDArray[np.int8]
    score: NDArray[np.float64]
    weights: NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class PortfolioRun:
    """The account at each close (times,), and the records of orders, fills and trades.

    `base` (times,) is the money that weights were shares of at each close. Records are arrays of
    BOOK_ORDER_DTYPE, BOOK_FILL_DTYPE and BOOK_TRADE_DTYPE; `quantity` and `last_close` (symbols,)
    are the book at the end.
    """

    panel: Panel
    targets: Targets | None
    initial_cash: float
    costs: LinearCosts
    base: NDArray[np.float64]
    equity: NDArray[np.float64]
    cash: NDArray[np.float64]
    orders: NDArray[np.void]
    fills: NDArray[np.void]
    trades: NDArray[np.void]
    quantity: NDArray[np.float64]
    last_close: NDArray[np.float64]

    @property
    def final_equity(self) -> float:
        """Money at the last close; the initial cash where there is no bar."""
        return float(self.equity[-1]) if len(self.equity) else self.initial_cash

    @property
    def total_cost(self) -> float:
        """Money that all fills together cost."""
        return float(np.sum(self.fills["cost"]))

    def stale_symbols(self) -> tuple[str, ...]:
        """Returns the instruments still held whose last bar is not the last of the panel.

        They may be delisted or suspended; they are valued at their last close.
        """
        if len(self.panel) == 0:
            return ()
        stale = (self.quantity != 0.0) & np.isnan(self.panel.close[-1])
        return tuple(np.array(self.panel.symbols, dtype=object)[stale])
