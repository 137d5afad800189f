"""One simulated run over history, from a request to a result.

Reads: a request, bars, a predictor.
Produces: decisions, fills, trades, equity, metrics, the funnel and their digests.
Never: reads files, opens connections or knows who is watching.
"""
