"""The price of a fill."""

from backlane.jit import kernel


@kernel
def fill_price(
    reference_price: float, is_buy: bool, slippage_rate: float, spread_rate: float
) -> float:
    """Returns the price paid or received for a market order.

    A buyer pays reference x (1 + slippage + spread / 2), a seller gets reference x (1 - slippage -
    spread / 2): the bars' prices are taken for the middle between bid and ask. We assume that any
    quantity fills at once at that price: no bar tells how much could really be had.
    """
    worsening = slippage_rate + spread_rate / 2.0
    if is_buy:
        return reference_price * (1.0 + worsening)
    return reference_price * (1.0 - worsening)
