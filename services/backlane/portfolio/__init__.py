"""The account: cash, the position, what both are worth.

Reads: fills and prices.
Produces: cash, positions, trades, equity.
Never: decides anything; `apply_fill` is the only function in which money moves.
"""
