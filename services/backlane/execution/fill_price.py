"""The price of a fill."""

from backlane.jit import compiled


@compiled
def fill_price(reference_price: float, is_buy: bool, slippage_rate: float) -> float:
    """Returns the price paid or received: the reference price, worsened by slippage.

    A buyer pays reference x (1 + rate), a seller gets reference x (1 - rate). We assume that any
    quantity fills at once at that price: no bar tells how much could really be had.
    """
    if is_buy:
        return reference_price * (1.0 + slippage_rate)
    return reference_price * (1.0 - slippage_rate)
