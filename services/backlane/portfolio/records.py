"""Trades and points of the equity curve, one by one: light, for those who read results."""

from dataclasses import dataclass

from backlane.execution.order import ExitReason
from backlane.portfolio.position import PositionSide


@dataclass(frozen=True, slots=True)
class TradeRecord:
    """One closed round trip. Money is in the quote currency, times are UTC nanoseconds.

    `number` counts 1, 2, 3, ... in order of exit. Times are the open times of the bars whose price
    filled the entry and the exit. `quantity` > 0; `mae` <= 0 <= `mfe`.
    """

    number: int
    entry_time_ns: int
    exit_time_ns: int
    side: PositionSide
    quantity: float
    entry_price: float
    exit_price: float
    gross_pnl: float
    net_pnl: float
    commission: float
    slippage: float
    exit_reason: ExitReason
    mae: float
    mfe: float
    financing: float = 0.0


@dataclass(frozen=True, slots=True)
class EquityPoint:
    """The account at the close of the bar that opened at `time_ns` (UTC).

    `position` is in signed units; the collateral of a short position is not in `cash`.
    """

    time_ns: int
    equity: float
    cash: float
    position: float
