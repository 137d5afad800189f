"""What the simulation of a portfolio gave."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from backlane.cycle.cycle_counts import CycleCounts
from backlane.cycle.strategy import Targets
from backlane.execution.cost_model import CostModel
from backlane.panel.panel import Panel
from backlane.portfolio.book_rules import BookRules

__all__ = ["PortfolioRun", "Targets"]


@dataclass(frozen=True, slots=True, eq=False)
class PortfolioRun:
    """The account at each close (times,), and the records of orders, fills and trades.

    `base` (times,) is the money that weights were shares of at each close. Records are arrays of
    BOOK_ORDER_DTYPE, BOOK_FILL_DTYPE and BOOK_TRADE_DTYPE; `quantity` and `last_close` (symbols,)
    are the book at the end, `is_delisted` what is no longer traded then. `terms`
    (ORDER_TERMS_DTYPE) and `fill_parts` (FILL_PARTS_DTYPE) belong to orders and fills, and are
    empty for a book whose rules are plain; `interest` is what borrowed cash cost in all. `cycles`
    counts the cycles of a run that was driven bar by bar, None for the compiled path.
    """

    panel: Panel
    targets: Targets | None
    initial_cash: float
    rules: BookRules
    base: NDArray[np.float64]
    equity: NDArray[np.float64]
    cash: NDArray[np.float64]
    orders: NDArray[np.void]
    fills: NDArray[np.void]
    trades: NDArray[np.void]
    quantity: NDArray[np.float64]
    last_close: NDArray[np.float64]
    terms: NDArray[np.void]
    fill_parts: NDArray[np.void]
    interest: float
    is_delisted: NDArray[np.bool_]
    cycles: CycleCounts | None = None

    @property
    def costs(self) -> CostModel:
        """The model by which fills were charged."""
        return self.rules.costs

    @property
    def final_equity(self) -> float:
        """Money at the last close; the initial cash where there is no bar."""
        return float(self.equity[-1]) if len(self.equity) else self.initial_cash

    @property
    def total_cost(self) -> float:
        """Money that all fills together cost."""
        return float(np.sum(self.fills["cost"]))

    def cost_parts(self) -> tuple[NDArray[np.float64], ...]:
        """Returns (commission, half spread, impact) of each fill, money, arrays (fills,)."""
        if len(self.fill_parts):
            names = ("commission", "half_spread", "impact")
            return tuple(np.ascontiguousarray(self.fill_parts[name]) for name in names)
        notional = np.abs(self.fills["quantity"]) * self.fills["price"]
        costs = self.costs
        half_spread_bps = costs.spread.fallback_bps * costs.spread.share
        rates = (costs.commission.bps, half_spread_bps, costs.impact.fallback_bps)
        return tuple(notional * (bps / 1e4) for bps in rates)

    def delisted_symbols(self) -> tuple[str, ...]:
        """Returns the instruments still held that are no longer traded, at their last close."""
        held = self.is_delisted & (self.quantity != 0.0)
        return tuple(np.array(self.panel.symbols, dtype=object)[held])

    def stale_symbols(self) -> tuple[str, ...]:
        """Returns the instruments still held whose last bar is not the last of the panel.

        They may be delisted or suspended; they are valued at their last close.
        """
        if len(self.panel) == 0:
            return ()
        stale = (self.quantity != 0.0) & np.isnan(self.panel.close[-1])
        return tuple(np.array(self.panel.symbols, dtype=object)[stale])
