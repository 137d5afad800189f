"""Orders for an amount of money, whose units are counted at the open that fills them."""

import math

import numpy as np
import pytest

from backlane.backtest.portfolio_run import parse_portfolio_config
from backlane.errors import InvalidRequestError
from backlane.execution.cost_model import CostModel
from backlane.execution.target_orders import BookOrderOutcome
from backlane.portfolio.book_rules import VolumeRules
from backlane.portfolio.portfolio_book import PortfolioBook
from tests.unit.portfolio.books import book_of, flat, outcome, step


def _units(book: PortfolioBook) -> list[float]:
    return [float(each) for each in book.fills["quantity"]]


def _weigh(book: PortfolioBook, weight: float) -> None:
    book.place_weights(book.next_bar - 1, np.array([weight]))


def test_what_is_added_keeps_its_money() -> None:
    book = book_of(sized_at_open=True)
    step(book, flat(50.0))
    _weigh(book, 0.5)  # 500 at 50: 10 units
    step(book, flat(40.0))
    assert _units(book) == [12.5]  # 500 / 40
    assert book.cash == 500.0


def test_lots_are_those_of_the_open() -> None:
    book = book_of(sized_at_open=True, lot_size=4.0)
    step(book, flat(50.0))
    _weigh(book, 0.5)  # 10 units; 8 in lots of 4, which are not counted yet
    step(book, flat(40.0))
    assert _units(book) == [12.0]  # 500 / 40 = 12.5


def test_less_than_a_lot_is_denied() -> None:
    book = book_of(sized_at_open=True, lot_size=10.0)
    step(book, flat(50.0))
    _weigh(book, 0.5)  # 10 units: one lot at the close
    step(book, flat(60.0))  # 500 / 60 = 8.3
    assert outcome(book) is BookOrderOutcome.DENIED_LOT
    assert _units(book) == []


def test_a_short_keeps_its_money_and_an_exit_its_units() -> None:
    book = book_of(sized_at_open=True)
    step(book, flat(50.0))
    _weigh(book, -0.5)
    step(book, flat(40.0))
    _weigh(book, 0.0)
    step(book, flat(80.0))
    assert _units(book) == [-12.5, 12.5]


def test_what_reduces_a_position_keeps_its_units() -> None:
    book = book_of(sized_at_open=True)
    step(book, flat(50.0))
    _weigh(book, 1.0)
    step(book, flat(50.0))  # 20 units
    _weigh(book, 0.5)  # 10 too many
    step(book, flat(80.0))
    assert _units(book) == [20.0, -10.0]


def test_an_order_that_waits_is_sized_once() -> None:
    # At most a tenth of the volume: 40 of it are 4 units a bar.
    book = book_of(sized_at_open=True, volume=VolumeRules(0.1), expires_bars=0)
    step(book, flat(50.0, 40.0))
    _weigh(book, 0.5)
    step(book, flat(40.0, 40.0))  # 12.5 units from now on
    step(book, flat(20.0, 40.0))
    step(book, flat(80.0, 40.0))
    step(book, flat(10.0, 40.0))
    assert _units(book) == pytest.approx([4.0, 4.0, 4.0, 0.5])


def test_an_order_waits_for_a_bar_with_the_money_of_its_decision() -> None:
    book = book_of(sized_at_open=True, expires_bars=0)
    step(book, flat(50.0))
    _weigh(book, 0.5)
    step(book, flat(math.nan))
    step(book, flat(25.0))
    assert _units(book) == [20.0]


def test_costs_come_on_top_and_a_margin_cuts() -> None:
    book = book_of(sized_at_open=True, costs=CostModel.linear(100.0), leverage=1.0, lot_size=1.0)
    step(book, flat(50.0))
    _weigh(book, 1.0)
    step(book, flat(40.0))  # 1,000 / 40 = 25; 24 * 40 * 1.01 = 969.60 fit, 25 do not
    assert _units(book) == [24.0]


def test_a_close_that_fills_cannot_be_waited_for() -> None:
    content = {
        "strategy": {"name": "trend_baseline"},
        "data": {"panel": "panel.csv"},
        "fill": "this_close",
        "execution": {"sized_at": "open"},
    }
    with pytest.raises(InvalidRequestError, match="needs fill next_open"):
        parse_portfolio_config(content)
