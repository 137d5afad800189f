"""Random lists of account operations: every state after every one, as the reference has it.

To the last bit, but for excursions: the reference subtracts notionals, we multiply a difference.
"""

import math
from typing import Any

import numpy as np
import pytest

from backlane.backtest.request import parse_request
from backlane.cycle.positions import close_position, include_price
from backlane.cycle.state import new_rules, new_state
from backlane.cycle.step import execute
from backlane.errors import InvalidRequestError
from backlane.execution.order import ExitReason, OrderOutcome
from backlane.portfolio.account import mark_to_market, unrealized_pnl
from backlane.portfolio.trade import FILL_DTYPE, TRADE_DTYPE
from tests.golden.vectors import CODES, SIDES, cases, stamps
from tests.shared import needs_shared

READS = ("components/position_manager/*",)

pytestmark = needs_shared

REFERENCE_FRACTION = 0.25
NS_PER_HOUR = 3.6e12
RECORDS = 1000


class Account:
    """Our account under the rules of the reference, or under ours, driven by hand."""

    def __init__(self, sequence: dict[str, Any], *, is_reference: bool = True) -> None:
        self.state = new_state(0, float(sequence["initial_capital"]))
        self.rules = new_rules()
        self.rules["commission_rate"] = sequence["commission"]
        self.rules["slippage_rate"] = sequence["slippage"]
        self.rules["short_equity_with_commission"] = is_reference
        self.rules["exit_leg_costs"] = is_reference
        self.rules["holding_until_last_mark"] = is_reference
        self.fills, self.trades = np.zeros(RECORDS, FILL_DTYPE), np.zeros(RECORDS, TRADE_DTYPE)

        self.seen_price = math.nan
        """The price of the reference's unrealized profit: asking for a value sets it, too."""

    @property
    def now(self) -> Any:
        """The state, by name."""
        return self.state[0]

    def act(self, operation: dict[str, Any]) -> bool:
        """Does what an operation asks; returns whether an order was filled."""
        time_ns, price = int(stamps([operation["timestamp"]])[0]), float(operation["price"])
        now, rules, word = self.now, self.rules[0], operation["op"]
        if word in ("BUY", "SELL"):
            before = int(now.outcome_counts[OrderOutcome.FILLED])
            execute(
                now, rules, self.fills, self.trades, operation["n"], time_ns, CODES[word],
                int(ExitReason.DECISION), REFERENCE_FRACTION, price,
            )  # fmt: skip
            is_filled = bool(now.outcome_counts[OrderOutcome.FILLED] > before)
            if is_filled:
                self.seen_price = now.entry_price
            return is_filled
        if word == "force_close" and now.side:
            close_position(
                now, rules, self.fills, self.trades, operation["n"], time_ns, price,
                int(ExitReason.END_OF_DATA),
            )  # fmt: skip
            return True
        if word in ("update", "value"):
            self.seen_price = price
        if word == "update" and now.side:
            include_price(now, price)
            now.last_mark_ns, now.last_mark_price = time_ns, price
        return False

    def equity(self, price: float) -> float:
        """Returns what the account is worth."""
        addition = self.now.entry_commission if self.rules[0].short_equity_with_commission else 0.0
        return mark_to_market(self.now, price, addition)


SEQUENCES = [*cases("components", "position_manager", "sequences.json", key="")]


def served(sequence: dict[str, Any]) -> list[dict[str, Any]]:
    """Returns the operations, up to the first that would sell below zero.

    The reference takes a slippage of 1 and more, sells at negative prices, and is paid a negative
    commission for it. A request cannot ask for that here.
    """
    operations: list[dict[str, Any]] = sequence["ops"]
    if sequence["slippage"] < 1:
        return operations
    with pytest.raises(InvalidRequestError, match="slippage_rate"):
        parse_request(
            {"model": {"path": "x"}, "symbol": "T", "slippage_rate": sequence["slippage"]}
        )
    sells = (
        number
        for number, operation in enumerate(operations)
        if operation["returned_trade"] and operation["returned_trade"]["side"] != "BUY_ENTRY"
    )
    return operations[: next(sells, len(operations))]


@pytest.mark.parametrize("sequence", SEQUENCES)
def test_every_operation_leaves_the_state_of_the_reference(sequence: dict[str, Any]) -> None:
    account = Account(sequence)
    for operation in served(sequence):
        filled, after = account.act(operation), operation["after"]
        now = account.now
        assert filled is (operation["returned_trade"] is not None), operation
        assert now.cash == after["cash"]
        assert now.side == SIDES[after["status"]]
        assert now.trade_count == after["n_closed_trades"]
        if after["portfolio_value_at_price"] is not None:
            assert account.equity(float(operation["price"])) == after["portfolio_value_at_price"]
        if after["position"]:
            check_position(account, after["position"])
        if operation["returned_trade"]:
            check_trade(account, operation["returned_trade"])


def check_position(account: Account, expected: dict[str, Any]) -> None:
    now = account.now
    assert (now.quantity, now.entry_price) == (expected["quantity"], expected["entry_price"])
    assert now.last_mark_price == expected["current_price"]
    pnl = unrealized_pnl(now.side, now.quantity, now.entry_price, account.seen_price)
    assert pnl == pytest.approx(expected["unrealized_pnl"], rel=1e-9, abs=1e-9)
    assert now.mfe == pytest.approx(expected["mfe"], rel=1e-9, abs=1e-9)
    assert now.mae == pytest.approx(expected["mae"], rel=1e-9, abs=1e-9)
    assert (now.last_mark_ns - now.entry_time_ns) / NS_PER_HOUR == expected["holding_hours"]


def check_trade(account: Account, expected: dict[str, Any]) -> None:
    """Compares an entry with the fill that it is here, and an exit with the trade."""
    if expected["side"].endswith("_ENTRY"):
        fill = account.fills[int(account.now.fill_count) - 1]
        assert fill["price"] == expected["entry_price"]
        assert fill["quantity"] == expected["quantity"]
        assert fill["commission"] == expected["commission"]
        cost = abs(fill["price"] - fill["reference_price"]) * fill["quantity"]
        assert cost == expected["slippage"]
        return
    trade = account.trades[int(account.now.trade_count) - 1]
    assert trade["number"] == expected["trade_id"]
    assert trade["side"] == SIDES[expected["side"]]
    for ours in ("entry_price", "exit_price", "quantity", "gross_pnl", "commission", "net_pnl"):
        assert trade[ours] == expected[ours], ours
    assert trade["slippage"] == expected["slippage"]
    assert trade["mfe"] == pytest.approx(expected["max_favorable_excursion"], rel=1e-9, abs=1e-9)
    assert trade["mae"] == pytest.approx(expected["max_adverse_excursion"], rel=1e-9, abs=1e-9)
    for name in ("entry_time", "exit_time"):
        assert trade[f"{name}_ns"] == stamps([expected[name]])[0]
    hours = (trade["holding_end_ns"] - trade["entry_time_ns"]) / NS_PER_HOUR
    assert hours == expected["holding_period_hours"]
    value = trade["entry_price"] * trade["quantity"]
    percent = 100.0 * trade["net_pnl"] / value
    assert percent == pytest.approx(expected["return_pct"], rel=1e-12)


@pytest.mark.parametrize("sequence", SEQUENCES)
def test_our_rules_account_for_every_cent_of_the_same_operations(sequence: dict[str, Any]) -> None:
    """SPEC §9, three mistakes: entry costs in no trade, in a short's equity, a bar too few held."""
    reference, ours = Account(sequence), Account(sequence, is_reference=False)
    for operation in served(sequence):
        assert reference.act(operation) is ours.act(operation)
        assert ours.now.cash == reference.now.cash
        price = float(operation["price"])
        held_back = ours.now.entry_commission if ours.now.side < 0 else 0.0
        expected = reference.equity(price) - held_back
        assert ours.equity(price) == pytest.approx(expected, rel=1e-12, abs=1e-9)
    count = int(ours.now.trade_count)
    trades, theirs = ours.trades[:count], reference.trades[:count]
    if ours.now.side:
        return  # the list was cut short, and a position is open
    gained = ours.now.cash - sequence["initial_capital"]
    entry_costs = ours.fills[: int(ours.now.fill_count)]
    entry_costs = entry_costs["commission"][entry_costs["is_entry"] == 1].sum()
    assert math.isclose(trades["net_pnl"].sum(), gained, rel_tol=1e-9, abs_tol=1e-9)
    assert math.isclose(theirs["net_pnl"].sum() - entry_costs, gained, rel_tol=1e-9, abs_tol=1e-9)
    np.testing.assert_array_equal(trades["holding_end_ns"], trades["exit_time_ns"])
    assert (theirs["holding_end_ns"] <= theirs["exit_time_ns"]).all()
