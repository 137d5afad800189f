"""Trades out of fills: a trade lasts from flat to flat, whatever is added or taken off between."""

import numpy as np
from numpy.typing import NDArray

from backlane.jit import Record, kernel
from backlane.portfolio.book_records import BOOK_TRADE_DTYPE


def round_trips(
    fills: NDArray[np.void],
    last_close: NDArray[np.float64],
    last_index: int,
    *,
    borrow: NDArray[np.float64] | None = None,
    unpaid_borrow: NDArray[np.float64] | None = None,
) -> NDArray[np.void]:
    """Returns the trades of a book, BOOK_TRADE_DTYPE, in the order of their exits; open ones last.

    `fills` are BOOK_FILL_DTYPE in the order of time; `last_close` (symbols,) values what is still
    open at bar `last_index`. A fill that turns a position around ends one trade and begins the
    next, its cost shared by quantity. So the money adds up: final equity = initial cash + the sum
    of `net_pnl`, and `net_pnl` = `gross_pnl` - `cost`.

    `borrow` (fills,) is what a short was charged from the fill before on, and belongs to the trade
    that was open then; `unpaid_borrow` (symbols,) is what came after the last fill.
    """
    # Each fill ends at most one trade, and each instrument has at most one open.
    trades = np.zeros(len(fills) + len(last_close), BOOK_TRADE_DTYPE)
    current = np.zeros(len(last_close), BOOK_TRADE_DTYPE)
    carried = np.zeros(len(fills)) if borrow is None or not len(borrow) else np.array(borrow)
    owed = np.zeros(len(last_close)) if unpaid_borrow is None else unpaid_borrow
    sums = np.zeros((len(last_close), 3))
    count = _collect(fills, sums, current, trades, last_close, last_index, carried, owed)
    return trades[:count]


@kernel
def _enter(trade: Record, sums: NDArray[np.float64], units: float, price: float) -> None:
    trade.quantity += units
    sums[0] += units
    sums[1] += units * price


@kernel
def _exit(sums: NDArray[np.float64], units: float, price: float) -> None:
    sums[0] -= units
    sums[2] += units * price


@kernel
def _conclude(trade: Record, sums: NDArray[np.float64], exit_index: int, is_open: int) -> None:
    trade.exit_index = exit_index
    trade.is_open = is_open
    trade.entry_price = sums[1] / trade.quantity
    trade.exit_price = sums[2] / trade.quantity
    trade.gross_pnl = trade.side * (sums[2] - sums[1])
    trade.net_pnl = trade.gross_pnl - trade.cost


@kernel
def _copy(target: Record, source: Record) -> None:
    target.symbol, target.side = source.symbol, source.side
    target.entry_index, target.exit_index = source.entry_index, source.exit_index
    target.is_open, target.quantity = source.is_open, source.quantity
    target.entry_price, target.exit_price = source.entry_price, source.exit_price
    target.gross_pnl, target.cost, target.net_pnl = source.gross_pnl, source.cost, source.net_pnl


@kernel
def _collect(
    fills: NDArray[np.void],
    sums: NDArray[np.float64],
    current: NDArray[np.void],
    trades: NDArray[np.void],
    last_close: NDArray[np.float64],
    last_index: int,
    borrow: NDArray[np.float64],
    unpaid_borrow: NDArray[np.float64],
) -> int:
    """Fills `trades`; `sums` holds (units held, money of the entries, of the exits) each."""
    count = 0
    for index in range(len(fills)):
        fill = fills[index]
        symbol = fill.symbol
        trade, sum_of = current[symbol], sums[symbol]
        side = 1 if fill.quantity > 0.0 else -1
        units = abs(fill.quantity)
        rest = units
        if sum_of[0] > 0.0:
            trade.cost += borrow[index]
        if sum_of[0] > 0.0 and side != trade.side:
            closing = min(units, sum_of[0])
            rest = units - closing
            _exit(sum_of, closing, fill.price)
            trade.cost += fill.cost * closing / units
            if sum_of[0] == 0.0:
                _conclude(trade, sum_of, fill.time_index, 0)
                _copy(trades[count], trade)
                count += 1
        if rest > 0.0:
            if sum_of[0] == 0.0:
                trade.symbol, trade.side, trade.entry_index = symbol, side, fill.time_index
                trade.quantity, trade.cost = 0.0, 0.0
                sum_of[1], sum_of[2] = 0.0, 0.0
            _enter(trade, sum_of, rest, fill.price)
            trade.cost += fill.cost * rest / units
    for symbol in range(len(last_close)):
        if sums[symbol][0] > 0.0:
            current[symbol].cost += unpaid_borrow[symbol]
            _exit(sums[symbol], sums[symbol][0], last_close[symbol])
            _conclude(current[symbol], sums[symbol], last_index, 1)
            _copy(trades[count], current[symbol])
            count += 1
    return count
