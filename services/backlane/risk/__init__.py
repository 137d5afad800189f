"""How much to trade.

Reads: the account and the reference price.
Produces: a quantity, zero when nothing can be bought.
Never: looks at bars or models.
"""
