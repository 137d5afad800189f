"""Reads a feature matrix and a trained network.

Produces the bare outputs of the network, row by row, with the same bits however rows are cut.
Never rounds, interprets or filters an output: that is what decisions are for.
"""
