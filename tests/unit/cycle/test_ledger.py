"""The facts that a ledger fills in, on a book small enough to follow by hand."""

import json

import numpy as np
import pytest

from backlane.cycle.context import BookFacts, HeldTrade
from backlane.cycle.ledger import Ledger
from backlane.portfolio.book_rules import BookRules
from backlane.portfolio.portfolio_book import PortfolioBook
from backlane.risk.limits import RiskLimits

HOUR_NS = 3_600_000_000_000
DAY_NS = 24 * HOUR_NS
MINUTE_NS = HOUR_NS // 60
START_NS = 4 * DAY_NS  # 1970-01-05, a Monday
LIMITS = RiskLimits(cooldown_win_minutes=10.0, cooldown_loss_minutes=60.0)


class Story:
    """A book of two instruments, bar after bar; each bar opens and closes at the same price."""

    def __init__(self, compounds: bool = True) -> None:
        self.book = PortfolioBook.new(2, 1_000.0, BookRules())
        self.ledger = Ledger(("A", "B"), 1_000.0, compounds, LIMITS)
        self.bar = 0

    def goes_on(self, hours: float, prices: tuple[float, float], orders=(0.0, 0.0)) -> BookFacts:
        row = np.array(prices)
        self.book.open_bar(self.bar, row, row, row)
        self.book.mark_bar(self.bar, row)
        facts = self.ledger.observe(self.book, START_NS + round(hours * HOUR_NS))
        if any(orders):
            self.book.place(self.bar, np.array(orders))
        self.bar += 1
        return facts


def test_returns_are_those_since_the_last_mark_before_the_day_and_the_week():
    story = Story()
    first = story.goes_on(1, (10.0, 5.0), (50.0, 0.0))  # 500 in A
    assert (first.daily_return, first.weekly_return) == (0.0, 0.0)
    assert first.pending_quantity.tolist() == [0.0, 0.0]
    # bought at 10, now 11: 1,050
    assert story.goes_on(2, (10.0, 5.0)).equity == 1_000.0
    second = story.goes_on(23, (11.0, 5.0))
    assert second.daily_return == pytest.approx(0.05)
    third = story.goes_on(30, (9.0, 5.0))  # Tuesday: 950 after 1,050
    assert third.daily_return == pytest.approx(950 / 1050 - 1)
    assert third.weekly_return == pytest.approx(-0.05)
    assert third.peak_equity == 1_050.0
    assert third.drawdown == pytest.approx(950 / 1050 - 1)
    fourth = story.goes_on(7 * 24, (10.0, 5.0))  # Monday: 1,000 after 950
    assert fourth.weekly_return == pytest.approx(1000 / 950 - 1)
    assert fourth.daily_return == pytest.approx(1000 / 950 - 1)


def test_entries_are_the_trades_of_a_day_and_of_an_hour():
    story = Story()
    story.goes_on(0, (10.0, 5.0), (10.0, 0.0))
    facts = story.goes_on(1, (10.0, 5.0), (5.0, -20.0))
    assert (facts.trades_today, facts.trades_this_hour) == (1, 1)
    assert facts.times.last_trade_ns == START_NS + HOUR_NS
    facts = story.goes_on(1.5, (10.0, 5.0), (-15.0, 0.0))
    assert (facts.trades_today, facts.trades_this_hour) == (3, 3)
    at_ns = START_NS + round(1.5 * HOUR_NS)  # 5 more of A, and B
    assert facts.times.last_trade_ns_by_symbol == {"A-USD": at_ns, "B-USD": at_ns}
    facts = story.goes_on(2, (10.0, 5.0))  # the first is an hour ago; an exit is no entry
    assert (facts.trades_today, facts.trades_this_hour) == (3, 2)
    facts = story.goes_on(25, (10.0, 5.0))
    assert (facts.trades_today, facts.trades_this_hour) == (0, 0)


def test_a_trade_that_ends_rests_and_counts_in_the_streak():
    story = Story()
    story.goes_on(0, (10.0, 5.0), (10.0, 10.0))
    held = story.goes_on(1, (10.0, 5.0), (-4.0, 0.0))
    entered_ns = START_NS + HOUR_NS
    assert held.open_trades == {"A": HeldTrade(entered_ns, 10.0), "B": HeldTrade(entered_ns, 5.0)}
    part = story.goes_on(2, (12.0, 5.0), (-6.0, -10.0))  # 4 sold at 12: +8; A is still open
    assert (part.consecutive_losses, set(part.open_trades)) == (0, {"A", "B"})
    ended = story.goes_on(3, (8.0, 4.0))  # 6 at 8: -12, in all -4; B -10
    ended_ns = START_NS + 3 * HOUR_NS
    assert ended.consecutive_losses == 2
    assert ended.times.last_loss_ns == ended_ns
    assert set(ended.times.cooldown_until_ns_by_symbol.values()) == {ended_ns + 60 * MINUTE_NS}
    assert ended.open_trades == {}
    story.goes_on(4, (8.0, 4.0), (10.0, 0.0))
    story.goes_on(5, (8.0, 4.0), (-10.0, 0.0))
    won = story.goes_on(6, (9.0, 4.0))
    assert won.consecutive_losses == 0
    until_ns = START_NS + 6 * HOUR_NS + 10 * MINUTE_NS
    assert until_ns in won.times.cooldown_until_ns_by_symbol.values()


def test_an_order_that_turns_a_position_ends_one_trade_and_begins_another():
    story = Story()
    story.goes_on(0, (10.0, 5.0), (10.0, 0.0))
    story.goes_on(1, (10.0, 5.0), (-25.0, 0.0))
    turned = story.goes_on(2, (9.0, 5.0))
    assert turned.consecutive_losses == 1
    assert turned.open_trades == {"A": HeldTrade(START_NS + 2 * HOUR_NS, 9.0)}
    assert turned.quantity.tolist() == [-15.0, 0.0]


@pytest.mark.parametrize("compounds", [True, False])
def test_capital_is_the_equity_or_what_the_run_began_with(compounds: bool):
    story = Story(compounds)
    story.goes_on(0, (10.0, 5.0), (50.0, 0.0))
    story.goes_on(1, (10.0, 5.0))
    facts = story.goes_on(2, (12.0, 5.0))
    assert facts.capital == (1_100.0 if compounds else 1_000.0)
    assert (facts.equity, facts.cash) == (1_100.0, 500.0)


def test_a_ledger_goes_on_from_its_state():
    whole, cut = Story(), Story()
    prices = [(10.0, 5.0), (10.0, 5.0), (12.0, 4.0), (8.0, 6.0), (9.0, 5.0), (9.5, 5.5)]
    orders = [(10.0, 10.0), (-4.0, 0.0), (-16.0, -10.0), (0.0, 5.0), (10.0, 0.0), (0.0, 0.0)]
    for bar, (price, order) in enumerate(zip(prices, orders, strict=True)):
        if bar == 3:
            state = json.loads(json.dumps(cut.ledger.state()))
            cut.ledger = Ledger(("A", "B"), 1_000.0, True, LIMITS)
            cut.ledger.restore(state)
        one, other = whole.goes_on(9 * bar, price, order), cut.goes_on(9 * bar, price, order)
        for name in ("times", "open_trades", "daily_return", "weekly_return", "trades_today"):
            assert getattr(one, name) == getattr(other, name), name
        assert one.consecutive_losses == other.consecutive_losses
    assert whole.ledger.state() == cut.ledger.state()
