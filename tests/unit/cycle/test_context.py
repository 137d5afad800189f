"""A context holds what was known at its time, and cannot be asked for more."""

from dataclasses import replace

import numpy as np
import pytest

from backlane.cycle.context import BookFacts, Context, Surroundings, context_at, last_bars
from backlane.errors import FutureDataError
from tests.unit.signals.panels import DAY_NS, daily_events, daily_panel

CLOSE = [[10.0, 20.0], [11.0, np.nan], [12.0, 22.0], [13.0, 23.0]]
CASH = 1_000.0


def at(day: float, **more) -> Context:
    panel = daily_panel(CLOSE, volume=np.ones((4, 2)))
    events = {"insider": daily_events(panel.symbols, [(0, 1, 2, 5.0), (1, 1, 3, 7.0)])}
    book = BookFacts.of_cash(2, CASH)
    return context_at(panel, events, round(day * DAY_NS), book=book, **more)


def test_bars_count_from_their_close_and_events_from_their_disclosure_inclusive():
    assert at(2).panel.close[:, 0].tolist() == [10.0, 11.0]
    assert at(2).events["insider"].values["net_shares"].tolist() == [5.0]
    assert len(at(2 - 1e-9).panel) == 1
    assert len(at(2 - 1e-9).events["insider"].known_ns) == 0
    assert len(at(0.5).panel) == 0


def test_asking_backwards_after_forwards_leaks_nothing():
    panel = daily_panel(CLOSE)
    book = BookFacts.of_cash(2, CASH)
    for day in (4, 2, 3, 1):
        context = context_at(panel, {}, day * DAY_NS, book=book)
        assert len(context.panel) == day
        assert context.until(DAY_NS).panel.close.tolist() == [[10.0, 20.0]]


def test_a_later_time_is_refused_by_name():
    with pytest.raises(FutureDataError) as refused:
        at(2).until(3 * DAY_NS)
    assert refused.value.metadata == {
        "as_of": "1970-01-03T00:00:00Z",
        "asked": "1970-01-04T00:00:00Z",
    }


@pytest.mark.parametrize("what", ["panel", "events"])
def test_a_context_cannot_be_made_of_what_came_later(what: str):
    with pytest.raises(FutureDataError) as refused:
        replace(at(2), **{what: getattr(at(4), what)})
    assert "1970-01-0" in refused.value.message


def test_what_is_read_cannot_be_changed():
    context = at(3)
    for values in (context.panel.close, context.panel.open, context.panel.volume):
        with pytest.raises(ValueError, match="read-only"):
            values[0, 0] = 1.0


def test_an_instrument_has_a_bar_only_at_the_last_time():
    assert at(2).has_bar.tolist() == [True, False]
    assert last_bars(at(2).panel).tolist() == [1, 0]
    assert at(3).has_bar.tolist() == [True, True]
    assert at(0.5).has_bar.tolist() == [False, False]
    assert last_bars(at(0.5).panel).tolist() == [-1, -1]


def test_drawdown_is_the_fall_from_the_peak():
    book = replace(BookFacts.of_cash(2, CASH), equity=900.0, peak_equity=1_200.0)
    assert book.drawdown == -0.25
    assert BookFacts.of_cash(2, CASH).drawdown == 0.0


def test_ids_and_chance_are_given():
    def around() -> Surroundings:
        return Surroundings(random=np.random.default_rng(7))

    first, second = at(2, around=around()).around, at(2, around=around()).around
    assert [first.ids(), first.ids(), second.ids()] == [1, 2, 1]
    assert first.random.integers(0, 1_000_000) == second.random.integers(0, 1_000_000)
