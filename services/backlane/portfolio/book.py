"""The book of many instruments: one cash, a signed quantity of each, the last price known."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from backlane.jit import kernel


@dataclass(frozen=True, slots=True, eq=False)
class Book:
    """Cash and positions, changed in place by `apply_book_fill` alone.

    `cash` has shape (1,), money, below 0 when borrowed; `quantity` (symbols,) signed units;
    `last_close` (symbols,) the last close known, NaN before the first bar of the instrument.
    """

    cash: NDArray[np.float64]
    quantity: NDArray[np.float64]
    last_close: NDArray[np.float64]

    @classmethod
    def new(cls, symbol_count: int, initial_cash: float) -> "Book":
        """Returns a book that holds nothing but cash."""
        return cls(np.array([initial_cash]), np.zeros(symbol_count), np.full(symbol_count, np.nan))


@kernel
def apply_book_fill(
    cash: NDArray[np.float64],
    quantity: NDArray[np.float64],
    symbol: int,
    signed_quantity: float,
    price: float,
    cost: float,
) -> None:
    """Books a fill: cash -= signed quantity * price + cost. The only place where money moves.

    A buy has a positive quantity. 10 units at 20 with a cost of 0.5 take 200.5 out of the cash;
    selling them at 22 with the same cost gives 219.5 back.
    """
    cash[0] -= signed_quantity * price
    cash[0] -= cost
    quantity[symbol] += signed_quantity


@kernel
def note_closes(last_close: NDArray[np.float64], closes: NDArray[np.float64]) -> None:
    """Takes over the closes of a bar; an instrument without one keeps its last (SPEC C2, Q14)."""
    for symbol in range(len(closes)):
        if closes[symbol] == closes[symbol]:  # not NaN
            last_close[symbol] = closes[symbol]


@kernel
def book_equity(
    cash: NDArray[np.float64], quantity: NDArray[np.float64], last_close: NDArray[np.float64]
) -> float:
    """Returns cash + sum(quantity * last close known), money."""
    equity: float = cash[0]
    for symbol in range(len(quantity)):
        if quantity[symbol] != 0.0:
            equity += quantity[symbol] * last_close[symbol]
    return equity
