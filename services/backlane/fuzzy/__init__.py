"""Reads values of an indicator and the shape of a term.

Produces membership degrees in [0, 1], float64, NaN where the value is NaN.
Never knows which indicator or timeframe the values come from.
"""
