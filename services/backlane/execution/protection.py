"""Exits that rest in the market while a position is open: stop-loss, take-profit, trailing stop.

What a bar does not tell, we assume against ourselves:
- when a stop and the take-profit lie within the same bar, the stop was hit first;
- a price that opens beyond a stop fills at the open, not at the stop;
- a trailing stop follows the best price of the bars before this one: within a bar, the fall is
  assumed to come before the rise.
In our favour: a take-profit whose price is passed by the open fills at the open.
"""

import math

from backlane.execution.order import ExitReason
from backlane.jit import kernel

NO_EXIT = 0
_STOP_LOSS = int(ExitReason.STOP_LOSS)
_TAKE_PROFIT = int(ExitReason.TAKE_PROFIT)
_TRAILING_STOP = int(ExitReason.TRAILING_STOP)
_MARGIN_CALL = int(ExitReason.MARGIN_CALL)


@kernel
def stop_level(
    side: int,
    entry_price: float,
    best_price: float,
    stop_loss: float,
    trailing_stop: float,
    liquidation: float,
) -> tuple[int, float]:
    """Returns (reason, price) of the stop that is nearest to the market; NaN when there is none.

    All three are fractions of a price, 0 for none: `stop_loss` and `liquidation` of the entry
    price, `trailing_stop` of the best price since. Of equal levels the stop-loss is named.
    """
    reason, level = NO_EXIT, math.nan
    if stop_loss > 0.0:
        reason, level = _STOP_LOSS, entry_price * (1.0 - side * stop_loss)
    if trailing_stop > 0.0:
        trail = best_price * (1.0 - side * trailing_stop)
        if math.isnan(level) or side * (trail - level) > 0.0:
            reason, level = _TRAILING_STOP, trail
    if liquidation > 0.0:
        call = entry_price * (1.0 - side * liquidation)
        if math.isnan(level) or side * (call - level) > 0.0:
            reason, level = _MARGIN_CALL, call
    return reason, level


@kernel
def protective_exit(
    side: int,
    open_price: float,
    high: float,
    low: float,
    stop_reason: int,
    stop: float,
    take_profit: float,
    spread_rate: float,
) -> tuple[int, float]:
    """Returns (reason, reference price) of the exit in this bar, (NO_EXIT, NaN) for none.

    `stop` and `take_profit` are prices, NaN for none. A take-profit is a limit order: it fills at
    its price once the side of the spread that it trades on has reached it.
    """
    worst, best = (low, high) if side > 0 else (high, low)
    reachable = 1.0 - side * spread_rate / 2.0
    if side * (open_price - stop) <= 0.0:
        return stop_reason, open_price
    if side * (open_price * reachable - take_profit) >= 0.0:
        return _TAKE_PROFIT, open_price * reachable
    if side * (worst - stop) <= 0.0:
        return stop_reason, stop
    if side * (best * reachable - take_profit) >= 0.0:
        return _TAKE_PROFIT, take_profit
    return NO_EXIT, math.nan
