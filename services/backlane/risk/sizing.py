"""How many units an order is for."""

import math

from backlane.jit import kernel

_ROUNDING = 1e-12


@kernel
def entry_cost(
    quantity: float,
    price: float,
    commission_rate: float,
    minimum_commission: float,
    leverage: float,
) -> float:
    """Returns the cash that an entry takes: its collateral and its commission."""
    value = quantity * price
    return value / leverage + max(value * commission_rate, minimum_commission)


@kernel
def _whole_lots(quantity: float, lot_size: float) -> float:
    lots = float(math.floor(quantity / lot_size))
    # 0.3 / 0.1 is 2.9999999999999996: a lot that is there but for rounding counts. Whole units have
    # no such rounding, and stay what the reference makes of them.
    if lot_size != 1.0 and (lots + 1.0) * lot_size <= quantity * (1.0 + _ROUNDING):
        lots += 1.0
    return lots * lot_size


@kernel
def size(
    cash: float,
    fraction: float,
    units: float,
    reference_price: float,
    price: float,
    commission_rate: float,
    minimum_commission: float,
    leverage: float,
    lot_size: float,
) -> float:
    """Returns the units of an entry, in whole lots; 0 when nothing can be had.

    `units` > 0 asks for so many, all or nothing. Otherwise the order takes `fraction` of the cash:
    cash x fraction / (1 / leverage + commission_rate) / reference_price, as the slippage of the
    fill is not known when the order is made. If the fill then makes `price` so high that the cash
    does not pay for it, the quantity is what the whole cash pays for. Never more than that.
    """
    if units > 0.0:
        wanted = _whole_lots(units, lot_size)
        cost = entry_cost(wanted, price, commission_rate, minimum_commission, leverage)
        return wanted if cost <= cash else 0.0
    rate = 1.0 / leverage + commission_rate
    quantity = _whole_lots(cash * fraction / rate / reference_price, lot_size)
    if entry_cost(quantity, price, commission_rate, minimum_commission, leverage) > cash:
        paid = min(cash / rate / price, (cash - minimum_commission) * leverage / price)
        quantity = _whole_lots(paid, lot_size)
        # Rounding can leave the division one lot too high; money must never be spent twice.
        while quantity > 0.0 and (
            entry_cost(quantity, price, commission_rate, minimum_commission, leverage) > cash
        ):
            quantity -= lot_size
    return max(quantity, 0.0)
