"""From an order and a bar to a price.

Reads: the reference price of a fill, the side, the slippage rate.
Produces: the price paid or received.
Never: moves money; that is `portfolio`'s.
"""
