"""A second model that says how much a signal is to be trusted: filters signals, or scales them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from backlane.errors import TensorMismatchError
from backlane.inference.model_info import ModelHead
from backlane.inference.predictor import Predictor
from backlane.signals.ranges import SHARE, range_mistakes, refuse
from backlane.signals.signal import Direction, Signals
from backlane.signals.triggers import TriggerSignal

Grid = NDArray[np.float64]


class ConfidenceModel(Protocol):
    """Tells how much signals are to be trusted, out of features."""

    @property
    def features(self) -> tuple[str, ...]:
        """The features that it reads, by name."""
        ...

    @property
    def history_rows(self) -> int:
        """How many rows, its own included, a confidence depends on at most."""
        ...

    def confidence(self, features: Mapping[str, Grid]) -> Grid:
        """Returns the confidence in [0, 1], (times, symbols) like the features; NaN is unknown."""
        ...


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

    @property
    def features(self) -> tuple[str, ...]:
        """The features of its terms."""
        return tuple(term.feature for term in self.terms)

    @property
    def history_rows(self) -> int:
        """A row depends on itself alone."""
        return 1

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


@dataclass(frozen=True, slots=True, eq=False)
class PredictedConfidence:
    """The probability of BUY that a served model gives each instrument, as a confidence.

    The columns of its features are grids of those names; each instrument is asked about by itself,
    rows oldest first. Raises TensorMismatchError for a model that is no classification.
    """

    predictor: Predictor

    def __post_init__(self) -> None:
        info = self.predictor.info
        if info.head is not ModelHead.CLASSIFICATION:
            raise TensorMismatchError(
                f"{info.name} gives {info.head.value}. A meta-model must be a classification: its "
                "probability of BUY is the confidence.",
                metadata={"expected": ModelHead.CLASSIFICATION.value, "got": info.head.value},
            )

    @property
    def features(self) -> tuple[str, ...]:
        """The columns of the model."""
        return self.predictor.info.features

    @property
    def history_rows(self) -> int:
        """The length of a sequence; 1 for an mlp."""
        return self.predictor.info.sequence_length

    def confidence(self, features: Mapping[str, Grid]) -> Grid:
        """Returns the softmax of BUY, NaN where the model has none.

        Raises ValueError for a feature that is not there.
        """
        missing = [name for name in self.features if name not in features]
        if missing:
            raise ValueError(f"feature {missing[0]} of the meta-model is not there")
        grids = np.stack([features[name] for name in self.features], axis=-1)
        found = np.empty(grids.shape[:2])
        for column in range(grids.shape[1]):
            rows = np.ascontiguousarray(grids[:, column], dtype=np.float32)
            logits = self.predictor.predict(rows).astype(np.float64)
            powers = np.exp(logits - logits.max(axis=1, keepdims=True))
            found[:, column] = powers[:, 0] / powers.sum(axis=1)
        return found


class MetaModelUse(StrEnum):
    """What is done with confidences."""

    FILTER = "filter"  # a LONG of too little confidence is FLAT
    SCALE = "scale"  # scores are multiplied


@dataclass(frozen=True, slots=True)
class MetaModelRules:
    """How confidences change signals; both bounds lie in [0, 1].

    `min_confidence` counts when filtering, `max_confidence` when scaling. Raises
    InvalidRequestError with every mistake.
    """

    use: MetaModelUse = MetaModelUse.FILTER
    min_confidence: float = 0.5
    max_confidence: float = 1.0

    def __post_init__(self) -> None:
        ranges = {"min_confidence": SHARE, "max_confidence": SHARE}
        refuse("rule(s) of the meta-model", range_mistakes(self, ranges))


def weigh_signals(signals: Signals, confidence: Grid, rules: MetaModelRules) -> Signals:
    """Returns the signals as the confidences leave them; grids or rows of one shape."""
    if rules.use is MetaModelUse.FILTER:
        return filter_signals(signals, confidence, rules.min_confidence)
    return scale_signals(signals, confidence, rules.max_confidence)


def weigh_triggers(
    signals: Sequence[TriggerSignal], confidence: Mapping[str, float], rules: MetaModelRules
) -> tuple[TriggerSignal, ...]:
    """Returns the triggers as the confidences (by symbol) leave them; all of them want to buy.

    Filtering drops those of too little confidence; scaling multiplies their own. One that nothing
    is known about is dropped either way.
    """
    kept = []
    for signal in signals:
        trust = confidence.get(signal.symbol, np.nan)
        if np.isnan(trust) or (rules.use is MetaModelUse.FILTER and trust < rules.min_confidence):
            continue
        if rules.use is MetaModelUse.SCALE:
            share = min(trust, rules.max_confidence)
            signal = replace(signal, confidence=signal.confidence * share)  # noqa: PLW2901
        kept.append(signal)
    return tuple(kept)


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
