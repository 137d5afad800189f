"""What strategies and triggers see in a panel: features, factors, scores, directions, weights.

Reads: a Panel, Events and parameters. Produces: arrays of shape (times, symbols).
Never: looks at what was not known at the time of a row, unless a name says that it does.
"""
