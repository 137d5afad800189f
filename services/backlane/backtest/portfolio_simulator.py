"""Simulates a portfolio: weights decided at each close become orders, fills, cash and equity.

The reference semantics of SPEC B9. A decision at the close of a bar fills at that close
(`this_close`) or at the open of the next bar (`next_open`), where the instrument has that bar;
otherwise the order expires. Orders of at most 1e-6 units are none. There are no lots, no borrow
fees and no margin: cash may go below zero.
"""

from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from backlane.backtest.portfolio_result import LinearCosts, PortfolioRun, Targets
from backlane.panel.panel import Panel
from backlane.portfolio.book import Book
from backlane.portfolio.book_loop import NO_ORDER, replay_book, run_book
from backlane.portfolio.book_records import BOOK_FILL_DTYPE, BOOK_ORDER_DTYPE
from backlane.portfolio.round_trips import round_trips

FIRST_RECORDS = 1024
"""Orders that a run has room for at first, at least; the room doubles when it is full."""
NO_COSTS = LinearCosts()


class FillTime(StrEnum):
    """When the order of a decision fills."""

    NEXT_OPEN = "next_open"
    THIS_CLOSE = "this_close"


def simulate_portfolio(
    panel: Panel,
    targets: Targets,
    *,
    initial_cash: float,
    costs: LinearCosts = NO_COSTS,
    fill: FillTime = FillTime.NEXT_OPEN,
    compounding: bool = True,
) -> PortfolioRun:
    """Returns what following the weights of `targets` gave.

    The units of a target are weight * capital / close of the decision, where the capital is the
    equity at that close, or, without `compounding`, the initial cash. An instrument without a bar
    is not sized; an exit from it is ordered all the same. Weights that are infinite, or of another
    shape than the panel, raise ValueError.
    """
    shape = (len(panel), len(panel.symbols))
    if targets.weights.shape != shape:
        raise ValueError(f"weights have shape {targets.weights.shape}, the panel {shape}")
    if np.isinf(targets.weights).any():
        raise ValueError("weights are infinite: give a share of the capital, 0 or NaN")
    book = Book.new(shape[1], initial_cash)
    pending = np.full(shape[1], NO_ORDER, np.int64)
    bases, equity, cash = (np.empty(shape[0]) for _ in range(3))
    room = max(FIRST_RECORDS, 2 * shape[1])
    orders = np.zeros(room, BOOK_ORDER_DTYPE)
    fills = np.zeros(room, BOOK_FILL_DTYPE)
    progress = np.zeros(3, np.int64)
    opens, closes, weights = (_rows(each) for each in (panel.open, panel.close, targets.weights))
    base = np.nan if compounding else initial_cash
    is_close = fill is FillTime.THIS_CLOSE
    while run_book(
        book.cash, book.quantity, book.last_close, pending, opens, closes, weights,
        base, costs.rate, is_close, bases, equity, cash, orders, fills, progress,
    ):  # fmt: skip
        orders = np.concatenate([orders, np.zeros_like(orders)])
        fills = np.concatenate([fills, np.zeros_like(fills)])
    return _run(
        panel, targets, initial_cash, costs, book, (bases, equity, cash),
        orders[: progress[1]].copy(), fills[: progress[2]].copy(),
    )  # fmt: skip


def replay_orders(
    panel: Panel,
    orders: NDArray[np.void],
    *,
    initial_cash: float,
    costs: LinearCosts = NO_COSTS,
) -> PortfolioRun:
    """Returns what recorded orders gave, each filled whole at its own price and its own bar.

    `orders` are BOOK_ORDER_DTYPE, sorted by `time_index`; their outcome is overwritten in a copy.
    """
    shape = (len(panel), len(panel.symbols))
    book = Book.new(shape[1], initial_cash)
    equity, cash = np.empty(shape[0]), np.empty(shape[0])
    kept, fills = orders.copy(), np.zeros(len(orders), BOOK_FILL_DTYPE)
    count = replay_book(
        book.cash, book.quantity, book.last_close, _rows(panel.close),
        costs.rate, equity, cash, kept, fills,
    )  # fmt: skip
    curves = (np.full(shape[0], initial_cash), equity, cash)
    return _run(panel, None, initial_cash, costs, book, curves, kept, fills[:count])


def _rows(values: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.array(values, dtype=np.float64, order="C")


def _run(
    panel: Panel,
    targets: Targets | None,
    initial_cash: float,
    costs: LinearCosts,
    book: Book,
    curves: tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]],
    orders: NDArray[np.void],
    fills: NDArray[np.void],
) -> PortfolioRun:
    trades = round_trips(fills, book.last_close, len(panel) - 1)
    return PortfolioRun(
        panel, targets, initial_cash, costs, *curves, orders, fills, trades,
        book.quantity, book.last_close,
    )  # fmt: skip
