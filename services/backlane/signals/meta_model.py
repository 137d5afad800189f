"""A second model that says how much a signal is to be trusted: filters signals, or scales them."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from backlane.signals.signal import Direction, Signals

Grid = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class LogisticTerm:
    """One feature of a logistic model: it adds coefficient * (x - center) / scale."""

    feature: str
    coefficient: float
    center: float = 0.0
    scale: float = 1.0


@dataclass(frozen=True, slots=True)
class LogisticModel:
    """A logistic model: confidence = 1 / (1 + exp(-(intercept + sum of the terms)))."""

    intercept: float
    terms: tuple[LogisticTerm, ...]

    def confidence(self, features: Mapping[str, Grid]) -> Grid:
        """Returns the confidence in (0, 1), in the shape of the features.

        A feature without a value counts as 0, before it is centred (SPEC B5). Intercept 0.1 and one
        term 1.2 (x - 50) / 25 at x = 75: 1 / (1 + exp(-1.3)) = 0.7858. Raises ValueError for a
        feature that is not there.
        """
        missing = [term.feature for term in self.terms if term.feature not in features]
        if missing:
            raise ValueError(f"feature {missing[0]} of the meta-model is not there")
        total: Grid = np.float64(self.intercept)  # type: ignore[assignment]
        for term in self.terms:
            values = features[term.feature]
            filled = np.where(np.isnan(values), 0.0, values)
            total = total + term.coefficient * (filled - term.center) / term.scale
        return np.asarray(1.0 / (1.0 + np.exp(-total)))


def filter_signals(signals: Signals, confidence: Grid, min_confidence: float) -> Signals:
    """Returns the signals with LONG of less than `min_confidence` made FLAT; SHORT stays.

    The score stays what it was: it tells what the strategy saw.
    """
    with np.errstate(invalid="ignore"):
        is_kept = (signals.direction != Direction.LONG) | (confidence >= min_confidence)
    return Signals(np.where(is_kept, signals.direction, np.int8(Direction.FLAT)), signals.score)


def scale_signals(signals: Signals, confidence: Grid, max_confidence: float = 1.0) -> Signals:
    """Returns the signals with score * min(confidence, max_confidence); directions stay."""
    return Signals(signals.direction, signals.score * np.minimum(confidence, max_confidence))
