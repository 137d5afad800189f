"""What the figures of a run are called, how they are computed, and when they are undefined.

Reads: equity, trades, the calendar of the bars.
Produces: metrics with a formula, a source and a basis, each defined once.
Never: turns an undefined figure into a number.
"""
