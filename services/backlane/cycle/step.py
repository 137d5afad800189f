"""One trading cycle on one bar: fill what is pending, decide, order, mark.

The order of acts is the meaning of a backtest (docs/fill-assumptions.md):

1. an order decided on the bar before fills at this bar's open;
2. the decision at this bar's close sees the position after that fill;
3. under `this_close`, what was decided fills at this very close;
4. the position is marked at this close: that is the bar's equity.

The batch loop calls `step` compiled; a session that is fed bar by bar calls the same function.
"""

import math

import numpy as np
from numpy.typing import NDArray

from backlane.decisions.decision import Decision, DecisionReason
from backlane.decisions.policy import decide
from backlane.execution.fill_price import fill_price
from backlane.execution.order import OrderOutcome
from backlane.jit import Record, compiled
from backlane.portfolio.account import apply_fill, mark_to_market, unrealized_pnl
from backlane.portfolio.position import ExitReason, PositionSide
from backlane.risk.sizing import size

_HOLD, _BUY = int(Decision.HOLD), int(Decision.BUY)
_FLAT, _SHORT = int(PositionSide.FLAT), int(PositionSide.SHORT)
_NO_FEATURES = int(DecisionReason.NO_FEATURES)
_MODEL_HOLD = int(DecisionReason.MODEL_HOLD)
_FILLED = int(OrderOutcome.FILLED)
_QUANTITY_ZERO = int(OrderOutcome.DENIED_QUANTITY_ZERO)
_POSITION_OPEN = int(OrderOutcome.DENIED_POSITION_OPEN)
_SHORTS_OFF = int(OrderOutcome.DENIED_SHORTS_OFF)
_DECISION = int(ExitReason.DECISION)
_NS_PER_S = 1_000_000_000
_S_PER_H = 3600.0


@compiled
def include_price(state: Record, price: float) -> None:
    """Widens the excursions of the open position to its unrealized profit at `price`."""
    pnl = unrealized_pnl(state.side, state.quantity, state.entry_price, price)
    if pnl > state.mfe:
        state.mfe = pnl
    if pnl < state.mae:
        state.mae = pnl


@compiled
def _record_fill(
    state: Record,
    fill: Record,
    bar_index: int,
    time_ns: int,
    is_buy: bool,
    is_entry: int,
    quantity: float,
    reference_price: float,
    price: float,
    commission: float,
) -> None:
    fill.bar_index = bar_index
    fill.time_ns = time_ns
    fill.is_buy = is_buy
    fill.is_entry = is_entry
    fill.quantity = quantity
    fill.reference_price = reference_price
    fill.price = price
    fill.commission = commission
    fill.cash_after = state.cash
    state.fill_count += 1


@compiled
def open_position(
    state: Record,
    rules: Record,
    fills: NDArray[np.void],
    bar_index: int,
    time_ns: int,
    is_buy: bool,
    reference_price: float,
) -> int:
    """Sizes and fills an entry; returns the OrderOutcome."""
    price = fill_price(reference_price, is_buy, rules.slippage_rate)
    quantity = size(
        state.cash, rules.sizing_fraction, reference_price, price, rules.commission_rate
    )
    if quantity <= 0.0:
        return _QUANTITY_ZERO
    commission = price * quantity * rules.commission_rate
    apply_fill(state, is_buy, quantity, price, commission)
    state.entry_commission = commission
    state.entry_slippage = abs(price - reference_price) * quantity
    state.entry_time_ns = time_ns
    state.entry_index = bar_index
    state.last_mark_ns = time_ns
    state.mae = 0.0
    state.mfe = 0.0
    fill = fills[state.fill_count]
    _record_fill(
        state, fill, bar_index, time_ns, is_buy, 1, quantity, reference_price, price, commission
    )
    return _FILLED


@compiled
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
    """Fills the exit of the whole position and records the trade."""
    is_buy = state.side == _SHORT
    price = fill_price(reference_price, is_buy, rules.slippage_rate)
    if rules.extreme_excursions:
        include_price(state, price)
    quantity = state.quantity
    commission = price * quantity * rules.commission_rate
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
    trade.gross_pnl = apply_fill(state, is_buy, quantity, price, commission)
    if rules.exit_leg_costs:
        trade.commission = commission
        trade.slippage = slippage
    else:
        trade.commission = state.entry_commission + commission
        trade.slippage = state.entry_slippage + slippage
    trade.net_pnl = trade.gross_pnl - trade.commission
    state.trade_count += 1
    fill = fills[state.fill_count]
    _record_fill(
        state, fill, bar_index, time_ns, is_buy, 0, quantity, reference_price, price, commission
    )


@compiled
def execute(
    state: Record,
    rules: Record,
    fills: NDArray[np.void],
    trades: NDArray[np.void],
    bar_index: int,
    time_ns: int,
    decision: int,
    reference_price: float,
) -> None:
    """Executes an order at a reference price, or counts why it was denied.

    FLAT: BUY opens a LONG, SELL a SHORT. Otherwise the opposite order closes, and never reverses.
    A denied order does not touch the separation clock.
    """
    is_buy = decision == _BUY
    if state.side == _FLAT:
        if not is_buy and not rules.shorts:
            outcome = _SHORTS_OFF
        else:
            outcome = open_position(
                state, rules, fills, bar_index, time_ns, is_buy, reference_price
            )
    elif is_buy == (state.side == _SHORT):
        close_position(state, rules, fills, trades, bar_index, time_ns, reference_price, _DECISION)
        outcome = _FILLED
    else:
        outcome = _POSITION_OPEN
    state.outcome_counts[outcome] += 1
    if outcome == _FILLED:
        state.last_fill_ns = time_ns
        state.has_filled = 1


@compiled
def hours_since_fill(state: Record, time_ns: int) -> float:
    """Returns hours between the bar stamps of the last fill and now; infinite before any fill."""
    if not state.has_filled:
        return math.inf
    hours: float = (time_ns - state.last_fill_ns) / _NS_PER_S / _S_PER_H
    return hours


@compiled
def step(
    state: Record,
    rules: Record,
    fills: NDArray[np.void],
    trades: NDArray[np.void],
    bar_index: int,
    time_ns: int,
    open_price: float,
    high: float,
    low: float,
    close: float,
    raw_decision: int,
    confidence: float,
    score_reason: int,
) -> tuple[int, int, float]:
    """Runs one cycle on one bar; returns (decision, reason, equity at the close).

    The equity is NaN for a bar without features (reason NO_FEATURES), which is not marked.
    `score_reason` says why the raw decision is HOLD when the model itself did not say so.
    """
    if state.pending != _HOLD:
        execute(state, rules, fills, trades, bar_index, time_ns, state.pending, open_price)
        state.pending = _HOLD
    if score_reason == _NO_FEATURES:
        state.reason_counts[_NO_FEATURES] += 1
        return _HOLD, _NO_FEATURES, math.nan

    decision, reason = decide(
        raw_decision,
        confidence,
        state.side,
        hours_since_fill(state, time_ns),
        rules.confidence_threshold,
        rules.min_separation_hours,
        rules.position_awareness != 0,
        rules.allow_short_from_flat != 0,
    )
    if reason == _MODEL_HOLD:
        reason = score_reason
    state.reason_counts[reason] += 1

    held_through_bar = state.side != _FLAT
    if held_through_bar and rules.extreme_excursions:
        include_price(state, high)
        include_price(state, low)
    if decision != _HOLD:
        state.order_count += 1
        if rules.fill_this_close:
            execute(state, rules, fills, trades, bar_index, time_ns, decision, close)
        else:
            state.pending = decision

    if state.side != _FLAT:
        if not (held_through_bar and rules.extreme_excursions):
            include_price(state, close)
        state.last_mark_ns = time_ns
    equity = mark_to_market(state, close)
    if rules.short_equity_with_commission and state.side == _SHORT:
        equity += state.entry_commission
    state.equity = equity
    return decision, reason, equity
