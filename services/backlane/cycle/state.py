"""The state of a running simulation, flat: copying it is a checkpoint.

Everything that the loop remembers from one bar to the next is in one `STATE_DTYPE` record; what it
is told once is in one `RULES_DTYPE` record. Both are numpy records, so the compiled loop and plain
Python read and write the same bytes.
"""

import numpy as np
from numpy.typing import NDArray

from backlane.decisions.decision import DecisionReason
from backlane.execution.order import OrderOutcome

STATE_DTYPE = np.dtype(
    (
        np.record,
        [
            ("next_index", "<i8"),  # the bar to simulate next
            ("trade_count", "<i8"),
            ("fill_count", "<i8"),
            # account
            ("cash", "<f8"),
            ("collateral", "<f8"),
            ("financing", "<f8"),
            ("quantity", "<f8"),
            ("entry_price", "<f8"),
            ("entry_commission", "<f8"),
            ("entry_slippage", "<f8"),
            ("mae", "<f8"),
            ("mfe", "<f8"),
            ("entry_time_ns", "<i8"),
            ("entry_index", "<i8"),
            ("last_mark_ns", "<i8"),
            ("last_mark_price", "<f8"),
            ("charged_until_ns", "<i8"),
            ("best_price", "<f8"),
            ("side", "<i8"),  # sign of the position
            # orders
            ("pending", "<i8"),  # Decision to fill at the next open, HOLD for none
            ("pending_reason", "<i8"),  # ExitReason, should it close a position
            ("pending_fraction", "<f8"),
            ("last_fill_ns", "<i8"),
            ("has_filled", "<i8"),
            # the latest equity, for whoever looks on
            ("equity", "<f8"),
            # how often each reason and outcome occurred
            ("reason_counts", "<i8", (len(DecisionReason),)),
            ("outcome_counts", "<i8", (len(OrderOutcome),)),
            ("order_count", "<i8"),
        ],
    )
)

RULES_DTYPE = np.dtype(
    (
        np.record,
        [
            ("confidence_threshold", "<f8"),
            ("min_separation_hours", "<f8"),
            ("commission_rate", "<f8"),
            ("slippage_rate", "<f8"),
            ("spread_rate", "<f8"),
            ("minimum_commission", "<f8"),
            ("borrow_rate", "<f8"),
            ("overnight_rate_long", "<f8"),
            ("overnight_rate_short", "<f8"),
            ("units", "<f8"),
            ("lot_size", "<f8"),
            ("leverage", "<f8"),
            ("stop_loss", "<f8"),
            ("take_profit", "<f8"),
            ("trailing_stop", "<f8"),
            ("liquidation", "<f8"),
            ("max_holding_bars", "<i8"),
            ("position_awareness", "<i8"),
            ("allow_short_from_flat", "<i8"),
            ("shorts", "<i8"),
            ("fill_this_close", "<i8"),
            ("exit_leg_costs", "<i8"),
            ("short_equity_with_commission", "<i8"),
            ("holding_until_last_mark", "<i8"),
            ("extreme_excursions", "<i8"),
        ],
    )
)


def new_state(first_index: int, initial_cash: float) -> NDArray[np.void]:
    """Returns a record array of length 1: no position, all cash, next bar `first_index`."""
    state = np.zeros(1, dtype=STATE_DTYPE)
    state["next_index"] = first_index
    state["cash"] = initial_cash
    state["equity"] = initial_cash
    return state


def new_rules() -> NDArray[np.void]:
    """Returns rules of length 1 in which nothing costs anything and nothing is limited."""
    rules = np.zeros(1, dtype=RULES_DTYPE)
    rules["leverage"] = 1.0
    rules["lot_size"] = 1.0
    rules["shorts"] = 1
    return rules
