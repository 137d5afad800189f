"""The stages from shares of the capital to orders: sizing, and the orders themselves."""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from backlane.cycle.context import Context
from backlane.cycle.cycle_result import (
    CycleOrder,
    CycleOrders,
    CycleRefusal,
    CycleUniverse,
    Drafts,
    ProposalBook,
    Refusal,
    RiskVerdict,
)
from backlane.execution.target_orders import MIN_ORDER_QUANTITY
from backlane.risk.proposal import TradeProposal

Row = NDArray[np.float64]
LOT_ROUNDING = 1e-9
ROUNDING = 1e-9
"""An exit of all but this share of a position is one of the whole position."""


@dataclass(frozen=True, slots=True)
class CapitalSizing:
    """Units = share * capital / close of the bar (SPEC B9); the capital is that of the book.

    `lot_size` is in units, 0 for none: what does not close a position is rounded down to whole
    lots.
    """

    lot_size: float = 0.0

    def __call__(
        self, context: Context, universe: CycleUniverse, proposals: ProposalBook
    ) -> Drafts:
        """Returns the difference to what is held, or the units of trades."""
        if proposals.weights is not None:
            quantity = target_quantities(context, proposals.weights)
            return Drafts(self._in_lots(context, quantity), context.book.last_close)
        drafts = _trade_drafts(context, universe, proposals)
        return replace(drafts, quantity=self._in_lots(context, drafts.quantity))

    def _in_lots(self, context: Context, quantity: Row) -> Row:
        """Returns the signed units (symbols,) in whole lots, by the formula of `whole_lots`."""
        if self.lot_size <= 0.0:
            return quantity
        lots = np.floor(np.abs(quantity) / self.lot_size + LOT_ROUNDING)
        whole = np.sign(quantity) * lots * self.lot_size
        return np.where(quantity == -context.book.quantity, quantity, whole)


def target_quantities(context: Context, weights: Row) -> Row:
    """Returns the signed units to trade for target weights (symbols,).

    No decision is no order. An exit needs no price, so it is ordered even where the instrument has
    no bar; nothing else is. Differences of at most 1e-6 units are none. 30 % of 100,000 at 60, of
    which 100 are held: 400 units.
    """
    held, close = context.book.quantity, context.panel.close[-1]
    capital = context.book.capital
    nothing = np.where(np.isnan(close), np.nan, 0.0)
    target = weights * capital / close if capital > 0.0 else nothing
    target = np.where(weights == 0.0, 0.0, target)
    delta = np.where(np.isnan(weights) | np.isnan(target), 0.0, target - held)
    return np.where(np.abs(delta) > MIN_ORDER_QUANTITY, delta, 0.0)


def _trade_drafts(context: Context, universe: CycleUniverse, proposals: ProposalBook) -> Drafts:
    columns = {symbol: column for column, symbol in enumerate(context.symbols)}
    quantity = np.zeros(len(columns))
    kept, refusals = [], []
    for trade in proposals.trades:
        column = columns.get(trade.symbol, -1)
        code = _trade_refusal(context, universe, trade, column)
        if code is not None:
            refusals.append(Refusal(trade.symbol, (code,), trade.strategy))
            continue
        quantity[column] = _units(context, trade, column)
        kept.append(trade)
    return Drafts(quantity, context.book.last_close, tuple(kept), tuple(refusals))


def _trade_refusal(
    context: Context, universe: CycleUniverse, trade: TradeProposal, column: int
) -> CycleRefusal | None:
    """Returns why a trade is no draft: entries need a member with a bar, exits a position."""
    if column < 0:
        return CycleRefusal.NOT_IN_UNIVERSE
    if trade.is_exit:
        is_held = context.book.quantity[column] > 0.0
        return None if is_held else CycleRefusal.NOTHING_HELD
    if not context.has_bar[column]:
        return CycleRefusal.NO_BAR
    return None if universe.is_member[column] else CycleRefusal.NOT_IN_UNIVERSE


def _units(context: Context, trade: TradeProposal, column: int) -> float:
    price = float(context.book.last_close[column])
    units = trade.size * max(context.book.capital, 0.0) / price
    if not trade.is_exit:
        return units
    held = float(context.book.quantity[column])
    return -held if units >= held * (1.0 - ROUNDING) else -units


@dataclass(frozen=True, slots=True)
class MarketOrders:
    """One market order for each instrument that risk leaves something of."""

    def __call__(self, context: Context, drafts: Drafts, verdict: RiskVerdict) -> CycleOrders:
        """Returns the orders, numbered by the ids of the context, in the order of the panel."""
        proposals = {each.proposal.symbol: each.proposal for each in verdict.allocations}
        orders = tuple(
            CycleOrder(
                context.around.ids(),
                context.symbols[column],
                float(verdict.quantity[column]),
                float(drafts.price[column]),
                proposals.get(context.symbols[column]),
            )
            for column in np.flatnonzero(verdict.quantity)
        )
        return CycleOrders(verdict.quantity, orders)
