"""The account: the only place where money moves.

A short position is fully collateralised: its entry sets the value of the position aside, out of
the cash, and the exit gives it back with the profit or loss. So cash never holds borrowed money.
"""

from backlane.jit import Record, compiled
from backlane.portfolio.position import PositionSide

_FLAT, _LONG, _SHORT = int(PositionSide.FLAT), int(PositionSide.LONG), int(PositionSide.SHORT)


@compiled
def apply_fill(
    account: Record, is_buy: bool, quantity: float, price: float, commission: float
) -> float:
    """Books a fill: opens a position when FLAT, else closes all of it. Returns the gross profit.

    `account` is a record with cash, side, quantity and entry_price (see `cycle.state`), changed in
    place. With e = entry price, x = exit price, q = quantity, all at fill prices:

    - entry, either side: cash -= e q + commission
    - exit of a LONG:  gross = (x - e) q;  cash += x q - commission
    - exit of a SHORT: gross = (e - x) q;  cash += e q + gross - commission

    The caller guarantees that an order on the side of the position never comes here.
    """
    if account.side == _FLAT:
        account.cash -= price * quantity + commission
        account.side = _LONG if is_buy else _SHORT
        account.quantity = quantity
        account.entry_price = price
        return 0.0
    if account.side == _LONG:
        gross: float = (price - account.entry_price) * quantity
        account.cash += price * quantity - commission
    else:
        gross = (account.entry_price - price) * quantity
        account.cash += account.entry_price * quantity + gross - commission
    account.side = _FLAT
    account.quantity = 0.0
    account.entry_price = 0.0
    return gross


@compiled
def unrealized_pnl(side: int, quantity: float, entry_price: float, price: float) -> float:
    """Returns the profit of the open position at `price`, before any commission; 0 when FLAT."""
    return side * quantity * (price - entry_price)


@compiled
def mark_to_market(account: Record, price: float) -> float:
    """Returns the equity at `price`: cash + value of the position.

    A LONG is worth q p; a SHORT is worth its collateral and its profit, q e + q (e - p).
    """
    value: float = 0.0
    if account.side == _LONG:
        value = account.quantity * price
    elif account.side == _SHORT:
        collateral = account.quantity * account.entry_price
        value = collateral + account.quantity * (account.entry_price - price)
    equity: float = account.cash + value
    return equity
