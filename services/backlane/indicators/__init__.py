"""Reads bars of one timeframe and the parameters of an indicator.

Produces its outputs, float64, one value for each bar, NaN while there are too few bars.
Never looks at a later bar, at another timeframe, or at what the values are used for.
"""
