"""Bars of many instruments on one time grid, and events, with when each became known.

Reads: arrays of bars and events. Produces: a Panel, Events, and what was known at a time.
Never: serves what became known later than it was asked for.
"""
