"""The account: the only place where money moves.

Every position is collateralised: its entry sets the value of the position, divided by the leverage,
aside out of the cash, and the exit gives it back with the profit or loss. Without leverage, cash
never holds borrowed money.
"""

from backlane.jit import Record, kernel
from backlane.portfolio.position import PositionSide

_FLAT, _LONG, _SHORT = int(PositionSide.FLAT), int(PositionSide.LONG), int(PositionSide.SHORT)


@kernel
def apply_fill(
    account: Record,
    is_buy: bool,
    quantity: float,
    price: float,
    commission: float,
    leverage: float,
) -> float:
    """Books a fill: opens a position when FLAT, else closes all of it. Returns the gross profit.

    `account` is a record with cash, collateral, financing, side, quantity and entry_price (see
    `cycle.state`), changed in place. With e = entry price, x = exit price, q = quantity:

    - entry: collateral = q e / leverage;  cash -= collateral + commission
    - exit:  gross = side (q x - q e);  cash += value at x - commission - financing

    The value of a position is its collateral and its profit; see `long_value`. The sums are in
    the reference's order, so that cash is the reference's to the last bit.

    The caller guarantees that an order on the side of the position never comes here.
    """
    if account.side == _FLAT:
        collateral = price * quantity / leverage
        account.cash -= collateral + commission
        account.collateral = collateral
        account.financing = 0.0
        account.side = _LONG if is_buy else _SHORT
        account.quantity = quantity
        account.entry_price = price
        return 0.0
    gross: float = account.side * (quantity * price - quantity * account.entry_price)
    if account.side == _SHORT:
        account.cash += account.collateral + (gross - commission - account.financing)
    else:
        value = long_value(quantity, account.entry_price, account.collateral, price)
        account.cash += value - commission - account.financing
    account.collateral = 0.0
    account.side = _FLAT
    account.quantity = 0.0
    account.entry_price = 0.0
    return gross


@kernel
def unrealized_pnl(side: int, quantity: float, entry_price: float, price: float) -> float:
    """Returns the profit of the open position at `price`, before any cost; 0 when FLAT."""
    return side * quantity * (price - entry_price)


@kernel
def long_value(quantity: float, entry_price: float, collateral: float, price: float) -> float:
    """Returns what closing a LONG at `price` gives back: its collateral and its profit.

    It is worth q p less what was borrowed for it, q e - collateral. Written so that without
    leverage it is exactly q p, with nothing to round.
    """
    return quantity * price - (quantity * entry_price - collateral)


@kernel
def mark_to_market(account: Record, price: float, short_addition: float) -> float:
    """Returns the equity at `price`: cash + value of the position.

    The value of a SHORT is its collateral and its profit. The financing that a position owes is
    taken off its value. `short_addition` is money that a profile counts into the value of a SHORT,
    0 for none. The order of these sums is the reference's, so that equity is to the last bit, too.
    """
    equity: float = account.cash
    if account.side > 0:
        value = long_value(account.quantity, account.entry_price, account.collateral, price)
        equity = account.cash + (value - account.financing)
    elif account.side < 0:
        pnl = unrealized_pnl(account.side, account.quantity, account.entry_price, price)
        equity = account.cash + account.collateral + short_addition + pnl - account.financing
    return equity


@kernel
def accrue_financing(
    account: Record,
    price: float,
    elapsed_ns: int,
    nights: int,
    borrow_rate: float,
    overnight_rate_long: float,
    overnight_rate_short: float,
) -> None:
    """Adds what holding the position has cost since it was last marked, owed until the exit.

    `price` is the last mark. A SHORT pays `borrow_rate` a year of 365 days on its value, by the
    time elapsed; every position pays its overnight rate, a 365th of it for each midnight (UTC)
    that it is held over. Negative overnight rates are a credit.
    """
    value = account.quantity * price
    if account.side == _SHORT:
        years = elapsed_ns / 86_400_000_000_000.0 / 365.0
        account.financing += value * borrow_rate * years
        account.financing += value * overnight_rate_short / 365.0 * nights
    else:
        account.financing += value * overnight_rate_long / 365.0 * nights
