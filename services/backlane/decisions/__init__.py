"""From what a model says to what we intend: BUY, SELL or HOLD, always with a reason.

Reads: the outputs of the model, the position, the time since the last fill.
Produces: one decision and one reason for every bar.
Never: knows prices, cash or orders.
"""
