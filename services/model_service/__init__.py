"""Immutable model bundles, and what they predict.

Reads: bundles under the models folder, and matrices of features from callers. Produces: what a
backtest must know of a model, and the bare outputs of its network.
Never: computes a feature, or makes a decision of an output.
"""
