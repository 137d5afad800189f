"""One trading cycle, and the compiled loop over many.

Reads: bars and scores, one bar at a time.
Produces: decisions, fills, trades and equity, in a flat state record that can be copied and
resumed. Never: allocates, or asks a model.
"""
