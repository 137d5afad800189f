"""One trading cycle on one bar: fill what is pending, protect, decide, order, mark.

The order of acts is the meaning of a backtest (docs/fill-assumptions.md):

1. an order decided on the bar before fills at this bar's open;
2. stops and take-profits are hit, or not, between this bar's open and close;
3. the decision at this bar's close sees the position after that;
4. under `this_close`, what was decided fills at this very close;
5. the position is marked at this close: that is the bar's equity.

The batch loop calls `step` compiled; a session that is fed bar by bar calls the same function.
"""

import math

import numpy as np
from numpy.typing import NDArray

from backlane.cycle.positions import (
    charge_holding,
    close_position,
    include_price,
    open_position,
)
from backlane.decisions.decision import Decision, DecisionReason
from backlane.decisions.policy import decide
from backlane.execution.order import ExitReason, OrderOutcome
from backlane.execution.protection import NO_EXIT, protective_exit, stop_level
from backlane.jit import Record, kernel
from backlane.portfolio.account import mark_to_market
from backlane.portfolio.position import PositionSide

_HOLD, _BUY = int(Decision.HOLD), int(Decision.BUY)
_FLAT, _SHORT = int(PositionSide.FLAT), int(PositionSide.SHORT)
_NO_FEATURES = int(DecisionReason.NO_FEATURES)
_FILLED = int(OrderOutcome.FILLED)
_POSITION_OPEN = int(OrderOutcome.DENIED_POSITION_OPEN)
_SHORTS_OFF = int(OrderOutcome.DENIED_SHORTS_OFF)
_DECISION = int(ExitReason.DECISION)
_TIME_EXIT = int(ExitReason.TIME_EXIT)
_NS_PER_S = 1_000_000_000
_S_PER_H = 3600.0


@kernel
def execute(
    state: Record,
    rules: Record,
    fills: NDArray[np.void],
    trades: NDArray[np.void],
    bar_index: int,
    time_ns: int,
    decision: int,
    exit_reason: int,
    fraction: float,
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
                state, rules, fills, bar_index, time_ns, is_buy, reference_price, fraction
            )
    elif is_buy == (state.side == _SHORT):
        close_position(
            state, rules, fills, trades, bar_index, time_ns, reference_price, exit_reason
        )
        outcome = _FILLED
    else:
        outcome = _POSITION_OPEN
    state.outcome_counts[outcome] += 1


@kernel
def protect(
    state: Record,
    rules: Record,
    fills: NDArray[np.void],
    trades: NDArray[np.void],
    bar_index: int,
    time_ns: int,
    open_price: float,
    high: float,
    low: float,
) -> None:
    """Closes the open position where a stop or its take-profit was hit within the bar."""
    stop_reason, stop = stop_level(
        state.side,
        state.entry_price,
        state.best_price,
        rules.stop_loss,
        rules.trailing_stop,
        rules.liquidation,
    )
    target = math.nan
    if rules.take_profit > 0.0:
        target = state.entry_price * (1.0 + state.side * rules.take_profit)
    reason, price = protective_exit(
        state.side, open_price, high, low, stop_reason, stop, target, rules.spread_rate
    )
    if reason != NO_EXIT:
        close_position(state, rules, fills, trades, bar_index, time_ns, price, reason)
        return
    best = high if state.side > 0 else low
    if state.side * (best - state.best_price) > 0.0:
        state.best_price = best


@kernel
def hours_since_fill(state: Record, time_ns: int) -> float:
    """Returns hours between the bar stamps of the last fill and now; infinite before any fill."""
    if not state.has_filled:
        return math.inf
    hours: float = (time_ns - state.last_fill_ns) / _NS_PER_S / _S_PER_H
    return hours


@kernel
def _order(
    state: Record,
    rules: Record,
    fills: NDArray[np.void],
    trades: NDArray[np.void],
    bar_index: int,
    time_ns: int,
    decision: int,
    fraction: float,
    close: float,
) -> None:
    """Orders what was decided; and, when the time of the position is up, its exit."""
    order, reason = decision, _DECISION
    # A fill at the open holds through its own bar; one at the close begins with the next.
    held_bars = bar_index - state.entry_index + (0 if rules.fill_this_close else 1)
    is_time_up = state.side != _FLAT and 0 < rules.max_holding_bars <= held_bars
    if is_time_up and decision != -state.side:
        order, reason = -state.side, _TIME_EXIT
    if order == _HOLD:
        return
    state.order_count += 1
    if rules.fill_this_close:
        execute(state, rules, fills, trades, bar_index, time_ns, order, reason, fraction, close)
    else:
        state.pending = order
        state.pending_reason = reason
        state.pending_fraction = fraction


@kernel
def _mark(state: Record, rules: Record, time_ns: int, close: float, was_held: bool) -> float:
    if state.side != _FLAT:
        if not (was_held and rules.extreme_excursions):
            include_price(state, close)
        state.last_mark_ns = time_ns
        state.last_mark_price = close
    addition = state.entry_commission if rules.short_equity_with_commission else 0.0
    equity = mark_to_market(state, close, addition)
    state.equity = equity
    return equity


@kernel
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
    fraction: float,
) -> tuple[int, int, float]:
    """Runs one cycle on one bar; returns (decision, reason, equity at the close).

    The equity is NaN for a bar without features (reason NO_FEATURES), which is not marked.
    `score_reason` says why the raw decision is HOLD when the model itself did not say so;
    `fraction` of the cash is what an entry decided on this bar may take.
    """
    if state.side != _FLAT:
        charge_holding(state, rules, time_ns)
    if state.pending != _HOLD:
        execute(
            state,
            rules,
            fills,
            trades,
            bar_index,
            time_ns,
            state.pending,
            state.pending_reason,
            state.pending_fraction,
            open_price,
        )
        state.pending = _HOLD
    if state.side != _FLAT:
        protect(state, rules, fills, trades, bar_index, time_ns, open_price, high, low)
    if score_reason == _NO_FEATURES:
        state.reason_counts[_NO_FEATURES] += 1
        return _HOLD, _NO_FEATURES, math.nan

    decision, reason = _HOLD, score_reason
    if raw_decision != _HOLD:  # else no filter has anything to say: most bars end here
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
    state.reason_counts[reason] += 1

    was_held = state.side != _FLAT
    if was_held and rules.extreme_excursions:
        include_price(state, high)
        include_price(state, low)
    _order(state, rules, fills, trades, bar_index, time_ns, decision, fraction, close)
    return decision, reason, _mark(state, rules, time_ns, close, was_held)
