"""Opening and closing a position: size, price, money, and the record of it."""

import numpy as np
from numpy.typing import NDArray

from backlane.execution.fill_price import fill_price
from backlane.execution.order import ExitReason, OrderOutcome
from backlane.jit import Record, kernel
from backlane.portfolio.account import accrue_financing, apply_fill, unrealized_pnl
from backlane.portfolio.position import PositionSide
from backlane.risk.sizing import size

_SHORT = int(PositionSide.SHORT)
_FILLED = int(OrderOutcome.FILLED)
_QUANTITY_ZERO = int(OrderOutcome.DENIED_QUANTITY_ZERO)
_TAKE_PROFIT = int(ExitReason.TAKE_PROFIT)
_DAY_NS = 86_400_000_000_000


@kernel
def include_price(state: Record, price: float) -> None:
    """Widens the excursions of the open position to its unrealized profit at `price`."""
    pnl = unrealized_pnl(state.side, state.quantity, state.entry_price, price)
    if pnl > state.mfe:
        state.mfe = pnl
    if pnl < state.mae:
        state.mae = pnl


@kernel
def charge_holding(state: Record, rules: Record, time_ns: int) -> None:
    """Charges the open position for the time since it was last charged; see accrue_financing."""
    if rules.borrow_rate == 0.0 and (
        rules.overnight_rate_long == 0.0 and rules.overnight_rate_short == 0.0
    ):
        return
    since_ns = state.charged_until_ns
    nights = time_ns // _DAY_NS - since_ns // _DAY_NS
    accrue_financing(
        state,
        state.last_mark_price,
        time_ns - since_ns,
        nights,
        rules.borrow_rate,
        rules.overnight_rate_long,
        rules.overnight_rate_short,
    )
    state.charged_until_ns = time_ns


@kernel
def _record_fill(
    state: Record,
    fill: Record,
    bar_index: int,
    time_ns: int,
    is_buy: bool,
    exit_reason: int,
    quantity: float,
    reference_price: float,
    price: float,
    commission: float,
) -> None:
    fill.bar_index = bar_index
    fill.time_ns = time_ns
    fill.is_buy = is_buy
    fill.is_entry = exit_reason == 0
    fill.exit_reason = exit_reason
    fill.quantity = quantity
    fill.reference_price = reference_price
    fill.price = price
    fill.commission = commission
    fill.cash_after = state.cash
    state.fill_count += 1
    state.last_fill_ns = time_ns
    state.has_filled = 1


@kernel
def open_position(
    state: Record,
    rules: Record,
    fills: NDArray[np.void],
    bar_index: int,
    time_ns: int,
    is_buy: bool,
    reference_price: float,
    fraction: float,
) -> int:
    """Sizes and fills an entry; returns the OrderOutcome."""
    price = fill_price(reference_price, is_buy, rules.slippage_rate, rules.spread_rate)
    quantity = size(
        state.cash,
        fraction,
        rules.units,
        reference_price,
        price,
        rules.commission_rate,
        rules.minimum_commission,
        rules.leverage,
        rules.lot_size,
    )
    if quantity <= 0.0:
        return _QUANTITY_ZERO
    commission = max(price * quantity * rules.commission_rate, rules.minimum_commission)
    apply_fill(state, is_buy, quantity, price, commission, rules.leverage)
    state.entry_commission = commission
    state.entry_slippage = abs(price - reference_price) * quantity
    state.entry_time_ns = time_ns
    state.entry_index = bar_index
    state.last_mark_ns = time_ns
    state.charged_until_ns = time_ns
    state.last_mark_price = price
    state.best_price = price
    state.mae = 0.0
    state.mfe = 0.0
    fill = fills[state.fill_count]
    _record_fill(
        state, fill, bar_index, time_ns, is_buy, 0, quantity, reference_price, price, commission
    )
    return _FILLED


@kernel
def close_position(
    state: Record,
    rules: Record,
    fills: NDArray[np.void],
    trades: NDArray[np.void],
    bar_index: int,
    time_ns: int,
    reference_price: float,
    exit_reason: int,
) -> None:
    """Fills the exit of the whole position and records the trade.

    A take-profit is a limit order and fills at its reference price; all else is a market order.
    """
    is_buy = state.side == _SHORT
    price = reference_price
    if exit_reason != _TAKE_PROFIT:
        price = fill_price(reference_price, is_buy, rules.slippage_rate, rules.spread_rate)
    if rules.extreme_excursions:
        include_price(state, price)
    quantity = state.quantity
    commission = max(price * quantity * rules.commission_rate, rules.minimum_commission)
    slippage = abs(price - reference_price) * quantity
    trade = trades[state.trade_count]
    trade.number = state.trade_count + 1
    trade.entry_time_ns = state.entry_time_ns
    trade.exit_time_ns = time_ns
    trade.holding_end_ns = state.last_mark_ns if rules.holding_until_last_mark else time_ns
    trade.entry_index = state.entry_index
    trade.exit_index = bar_index
    trade.side = state.side
    trade.exit_reason = exit_reason
    trade.quantity = quantity
    trade.entry_price = state.entry_price
    trade.exit_price = price
    trade.mae = state.mae
    trade.mfe = state.mfe
    trade.financing = state.financing
    trade.gross_pnl = apply_fill(state, is_buy, quantity, price, commission, rules.leverage)
    if rules.exit_leg_costs:
        trade.commission = commission
        trade.slippage = slippage
    else:
        trade.commission = state.entry_commission + commission
        trade.slippage = state.entry_slippage + slippage
    trade.net_pnl = trade.gross_pnl - trade.commission - trade.financing
    state.trade_count += 1
    fill = fills[state.fill_count]
    _record_fill(
        state,
        fill,
        bar_index,
        time_ns,
        is_buy,
        exit_reason,
        quantity,
        reference_price,
        price,
        commission,
    )
