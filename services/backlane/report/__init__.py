"""What a finished run looks like: frames and figures for a notebook, one HTML page for everyone.

Reads a result directory (`sources/results.py`), or a BacktestRun in memory.
Produces DataFrames, plotly figures, and a page that needs no network and is the same for a result.
Never computes a result anew, and never trusts a text that comes from a file.
"""
