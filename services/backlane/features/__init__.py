"""Reads a strategy, the bars of its timeframes and the names that the model was trained on.

Produces the feature matrix: one row for each base bar, one column for each input of the model.
Never looks past the close of the row's bar, unless a compatibility rule says so by name.
"""
