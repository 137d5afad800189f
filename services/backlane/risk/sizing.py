"""How many units an order is for."""

import math

from backlane.jit import compiled


@compiled
def size(
    cash: float,
    fraction: float,
    reference_price: float,
    price: float,
    commission_rate: float,
) -> float:
    """Returns whole units worth `fraction` of the cash, commission included; 0 when less than one.

    trunc(cash x fraction / (1 + commission_rate) / reference_price), as the slippage of the fill is
    not known when the order is made. If it then makes `price` so high that the cash does not pay
    for it, the quantity is what the whole cash buys at `price`. Never more than the cash can pay.
    """
    quantity = math.floor(cash * fraction / (1.0 + commission_rate) / reference_price)
    if quantity * price * (1.0 + commission_rate) > cash:
        quantity = math.floor(cash / (1.0 + commission_rate) / price)
        # Rounding can leave the division one unit too high; money must never be spent twice.
        while quantity > 0 and quantity * price * (1.0 + commission_rate) > cash:
            quantity -= 1
    return max(quantity, 0.0)
