"""Scaling of raw inputs with the numbers that were fitted in training."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from backlane.errors import FieldViolation
from backlane.features.mistakes import invalid_strategy
from backlane.features.names import Feature

Values = NDArray[np.float64]
NormalizationParameters = Mapping[str, Mapping[str, float | str]]

_OFFSET_AND_SCALE = {"zscore": ("mean", "std"), "minmax": ("min", "max")}


def normalize(values: Values, feature: Feature, fitted: NormalizationParameters) -> Values:
    """Returns raw values scaled as in training, without clipping.

    minmax is (x - min) / (max - min), zscore is (x - mean) / std; a range or std of 0 gives 0. The
    method is the entry's own `method`, else the strategy's. Without an entry the raw scale stays:
    that is what a model without fitted numbers was trained on. Raises InvalidStrategyError for an
    entry that lacks a number.
    """
    entry = fitted.get(feature.name)
    if entry is None:
        return values
    method = entry.get("method", feature.normalization)
    if method == "none":
        return values
    first, second = _fitted_pair(str(method), entry, feature.name)
    scale = second if method == "zscore" else second - first
    return np.where(np.isnan(values), np.nan, 0.0) if scale == 0 else (values - first) / scale


def _fitted_pair(method: str, entry: Mapping[str, float | str], name: str) -> tuple[float, float]:
    keys = _OFFSET_AND_SCALE.get(method, ())
    numbers = [entry.get(key) for key in keys]
    if not keys or not all(
        isinstance(value, int | float) and np.isfinite(value) for value in numbers
    ):
        known = "zscore with mean and std, minmax with min and max, or none"
        description = f"= {dict(entry)} cannot be used: write {known}"
        violation = FieldViolation(f"normalization_params.{name}", description)
        raise invalid_strategy("The bundle's normalization", (violation,))
    first, second = numbers
    return float(first or 0.0), float(second or 0.0)
