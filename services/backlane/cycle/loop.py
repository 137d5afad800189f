"""The compiled loop: many cycles, one after the other, with nothing allocated on the way."""

from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from backlane.cycle.positions import close_position
from backlane.cycle.state import new_rules, new_state
from backlane.cycle.step import step
from backlane.execution.order import ExitReason
from backlane.jit import kernel
from backlane.portfolio.trade import FILL_DTYPE, TRADE_DTYPE

_END_OF_DATA = int(ExitReason.END_OF_DATA)
FIRST_RECORDS = 1024
"""Trades and fills that a run has room for at first; the room doubles when it is full."""


class Slot(IntEnum):
    """Places in the progress slot, float64, that the loop writes after every bar."""

    NEXT_INDEX = 0
    EQUITY = 1
    TRADE_COUNT = 2
    CANCEL = 3  # the one that the loop reads: not 0 stops it before the next bar


SLOT_COUNT = len(Slot)
_NEXT_INDEX, _EQUITY = int(Slot.NEXT_INDEX), int(Slot.EQUITY)
_TRADE_COUNT, _CANCEL = int(Slot.TRADE_COUNT), int(Slot.CANCEL)


def new_slot() -> NDArray[np.float64]:
    """Returns a progress slot of this process; a shared one is any float64 buffer of SLOT_COUNT."""
    return np.zeros(SLOT_COUNT)


@dataclass(frozen=True, slots=True, eq=False)
class Inputs:
    """What the loop reads, one value for each bar: arrays of shape (bars,), contiguous."""

    time_ns: NDArray[np.int64]
    open: NDArray[np.float64]
    high: NDArray[np.float64]
    low: NDArray[np.float64]
    close: NDArray[np.float64]
    raw_decision: NDArray[np.int8]
    confidence: NDArray[np.float64]
    score_reason: NDArray[np.int8]
    fraction: NDArray[np.float64]


@dataclass(slots=True, eq=False)
class Outputs:
    """What the loop writes: a value for each bar, and the records of trades and fills so far.

    `equity` and `cash` are NaN where the account was not marked; `position` is in signed units.
    """

    decision: NDArray[np.int8]
    reason: NDArray[np.int8]
    equity: NDArray[np.float64]
    cash: NDArray[np.float64]
    position: NDArray[np.float64]
    trades: NDArray[np.void]
    fills: NDArray[np.void]

    @classmethod
    def empty(cls, bar_count: int, record_count: int = FIRST_RECORDS) -> "Outputs":
        """Returns room for so many bars."""
        return cls(
            np.zeros(bar_count, np.int8),
            np.zeros(bar_count, np.int8),
            np.full(bar_count, np.nan),
            np.full(bar_count, np.nan),
            np.zeros(bar_count),
            np.zeros(record_count, TRADE_DTYPE),
            np.zeros(record_count, FILL_DTYPE),
        )

    def grow_records(self) -> None:
        """Doubles the room for trades and fills."""
        self.trades = np.concatenate([self.trades, np.zeros_like(self.trades)])
        self.fills = np.concatenate([self.fills, np.zeros_like(self.fills)])


@kernel
def _loop(
    states: NDArray[np.void],
    all_rules: NDArray[np.void],
    time_ns: NDArray[np.int64],
    opens: NDArray[np.float64],
    highs: NDArray[np.float64],
    lows: NDArray[np.float64],
    closes: NDArray[np.float64],
    raw_decision: NDArray[np.int8],
    confidence: NDArray[np.float64],
    score_reason: NDArray[np.int8],
    fraction: NDArray[np.float64],
    decisions: NDArray[np.int8],
    reasons: NDArray[np.int8],
    equities: NDArray[np.float64],
    cashes: NDArray[np.float64],
    positions: NDArray[np.float64],
    trades: NDArray[np.void],
    fills: NDArray[np.void],
    slot: NDArray[np.float64],
    stop: int,
) -> bool:
    """Simulates until bar `stop`; returns whether it stopped for want of room for records."""
    state, rules = states[0], all_rules[0]
    # One bar makes at most three fills (one at the open, one within, one at the close), and with
    # them two trades.
    last_trade, last_fill = len(trades) - 3, len(fills) - 4
    index = state.next_index
    is_full = False
    while index < stop and slot[_CANCEL] == 0.0:
        if state.trade_count > last_trade or state.fill_count > last_fill:
            is_full = True
            break
        decision, reason, equity = step(
            state,
            rules,
            fills,
            trades,
            index,
            time_ns[index],
            opens[index],
            highs[index],
            lows[index],
            closes[index],
            raw_decision[index],
            confidence[index],
            score_reason[index],
            fraction[index],
        )
        decisions[index] = decision
        reasons[index] = reason
        if equity == equity:  # not NaN: the bar was marked
            equities[index] = equity
            cashes[index] = state.cash
        positions[index] = state.side * state.quantity
        index += 1
        state.next_index = index
        slot[_NEXT_INDEX] = index
        slot[_EQUITY] = state.equity
        slot[_TRADE_COUNT] = state.trade_count
    return is_full


@kernel
def _close_out(
    states: NDArray[np.void],
    all_rules: NDArray[np.void],
    fills: NDArray[np.void],
    trades: NDArray[np.void],
    bar_index: int,
    time_ns: int,
    close: float,
) -> None:
    close_position(states[0], all_rules[0], fills, trades, bar_index, time_ns, close, _END_OF_DATA)


def run_until(
    state: NDArray[np.void],
    rules: NDArray[np.void],
    inputs: Inputs,
    outputs: Outputs,
    slot: NDArray[np.float64],
    stop: int,
) -> bool:
    """Simulates from `state.next_index` up to bar `stop` (exclusive), or until it is cancelled.

    Returns whether `stop` was reached. Calling it in any number of parts, with copies of `state`
    and `outputs` in between, gives the same bits as one call.
    """
    while _loop(
        state,
        rules,
        inputs.time_ns,
        inputs.open,
        inputs.high,
        inputs.low,
        inputs.close,
        inputs.raw_decision,
        inputs.confidence,
        inputs.score_reason,
        inputs.fraction,
        outputs.decision,
        outputs.reason,
        outputs.equity,
        outputs.cash,
        outputs.position,
        outputs.trades,
        outputs.fills,
        slot,
        stop,
    ):
        outputs.grow_records()
    return bool(state["next_index"][0] >= stop)


def close_out(
    state: NDArray[np.void], rules: NDArray[np.void], inputs: Inputs, outputs: Outputs
) -> bool:
    """Closes an open position at the last close; returns whether there was one."""
    if state["side"][0] == 0:
        return False
    if len(outputs.trades) - 1 <= state["trade_count"][0] or (
        len(outputs.fills) - 1 <= state["fill_count"][0]
    ):
        outputs.grow_records()
    last = len(inputs.time_ns) - 1
    _close_out(
        state, rules, outputs.fills, outputs.trades, last, inputs.time_ns[last], inputs.close[last]
    )
    return True


def warm_up() -> None:
    """Compiles everything, or loads it compiled, before the first run has to wait for it."""
    state, rules = new_state(0, 1.0), new_rules()
    prices, codes = np.ones(2), np.zeros(2, np.int8)
    times = np.arange(2, dtype=np.int64)
    inputs = Inputs(times, prices, prices, prices, prices, codes, prices, codes, prices)
    outputs = Outputs.empty(2)
    run_until(state, rules, inputs, outputs, new_slot(), 2)
    state["side"] = 1
    close_out(state, rules, inputs, outputs)
