"""Simulates a portfolio: weights decided at each close become orders, fills, cash and equity.

The reference semantics of SPEC B9. A decision at the close of a bar fills at that close
(`this_close`) or at the open of the next bar (`next_open`), where the instrument has that bar;
otherwise the order expires. Orders of at most 1e-6 units are none. There are no lots, no borrow
fees and no margin: cash may go below zero.
"""

from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from backlane.backtest.portfolio_bars import book_bars
from backlane.backtest.portfolio_result import PortfolioRun, Targets
from backlane.execution.cost_model import CostModel
from backlane.panel.panel import Panel
from backlane.portfolio.book import new_book
from backlane.portfolio.book_full_loop import BookBars
from backlane.portfolio.book_loop import replay_book
from backlane.portfolio.book_records import BOOK_FILL_DTYPE
from backlane.portfolio.book_rules import BookRules
from backlane.portfolio.portfolio_book import PortfolioBook
from backlane.portfolio.round_trips import round_trips

Curves = tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]
"""Money that weights are shares of, equity and cash at each close, (times,) each."""
NO_COSTS = CostModel()


class FillTime(StrEnum):
    """When the order of a decision fills."""

    NEXT_OPEN = "next_open"
    THIS_CLOSE = "this_close"


def simulate_portfolio(
    panel: Panel,
    targets: Targets,
    *,
    initial_cash: float,
    costs: CostModel = NO_COSTS,
    fill: FillTime = FillTime.NEXT_OPEN,
    compounding: bool = True,
    rules: BookRules | None = None,
    bars: BookBars | None = None,
) -> PortfolioRun:
    """Returns what following the weights of `targets` gave.

    The units of a target are weight * capital / close of the decision, where the capital is the
    equity at that close, or, without `compounding`, the initial cash. An instrument without a bar
    is not sized; an exit from it is ordered all the same. `rules` say more than `costs` and `fill`,
    and stand in their place; `bars` say more than the panel. Weights that are infinite, or of
    another shape than the panel, raise ValueError.
    """
    shape = (len(panel), len(panel.symbols))
    if targets.weights.shape != shape:
        raise ValueError(f"weights have shape {targets.weights.shape}, the panel {shape}")
    if np.isinf(targets.weights).any():
        raise ValueError("weights are infinite: give a share of the capital, 0 or NaN")
    told = rules or BookRules(costs, fill is FillTime.THIS_CLOSE)
    book = PortfolioBook.new(shape[1], initial_cash, told)
    curves = (np.empty(shape[0]), np.empty(shape[0]), np.empty(shape[0]))
    weights = np.require(targets.weights, np.float64, ["C", "W"])
    base = None if compounding else initial_cash
    book.advance(bars or book_bars(panel, told), weights, curves, shape[0], base)
    book.end_of_data()
    return run_of_book(panel, targets, initial_cash, book, curves)


def run_of_book(
    panel: Panel,
    targets: Targets | None,
    initial_cash: float,
    book: PortfolioBook,
    curves: Curves,
) -> PortfolioRun:
    """Returns what a book gave at the end of its run; `curves` are (base, equity, cash)."""
    trades = round_trips(
        book.fills, book.last_close, len(panel) - 1, borrow=book.fill_parts["borrow"],
        unpaid_borrow=book.unpaid_borrow,
    )  # fmt: skip
    return PortfolioRun(
        panel, targets, initial_cash, book.rules, *curves, book.orders.copy(), book.fills.copy(),
        trades, book.quantity.copy(), book.last_close.copy(), book.terms.copy(),
        book.fill_parts.copy(), book.interest, book.is_delisted.copy(),
    )  # fmt: skip


def replay_orders(
    panel: Panel,
    orders: NDArray[np.void],
    *,
    initial_cash: float,
    costs: CostModel = NO_COSTS,
) -> PortfolioRun:
    """Returns what recorded orders gave, each filled whole at its own price and its own bar.

    `orders` are BOOK_ORDER_DTYPE, sorted by `time_index`; their outcome is overwritten in a copy.
    """
    shape = (len(panel), len(panel.symbols))
    arrays = new_book(shape[1], initial_cash, 0)._replace(
        orders=orders.copy(), fills=np.zeros(len(orders), BOOK_FILL_DTYPE)
    )
    arrays.totals["order_count"] = len(orders)
    equity, cash = np.empty(shape[0]), np.empty(shape[0])
    closes = np.array(panel.close, dtype=np.float64, order="C")
    replay_book(arrays, closes, costs.linear_rate, equity, cash)
    curves = (np.full(shape[0], initial_cash), equity, cash)
    book = PortfolioBook(arrays, None, BookRules(costs))
    return run_of_book(panel, None, initial_cash, book, curves)
