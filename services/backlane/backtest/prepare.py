"""Everything that comes before the loop: what does not depend on the position."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from backlane.backtest.checkpoint import Checkpoint
from backlane.backtest.checkpointing import CheckpointTaker, predict
from backlane.backtest.observer import RunObserver, raise_if_cancelled
from backlane.backtest.request import BacktestRequest
from backlane.backtest.rules import DecisionRules, decision_rules, rules_record
from backlane.backtest.sizing import cash_fractions
from backlane.backtest.switches import NanFeatures, Switches
from backlane.backtest.window import Window, cut_window, first_simulated_index
from backlane.cycle.loop import Inputs
from backlane.decisions.decision import DecisionReason
from backlane.decisions.scores import Scores, classification_scores, regression_scores
from backlane.errors import NanFeaturesError
from backlane.features.build import build_features
from backlane.features.matrix import FeatureMatrix
from backlane.inference.model_info import ModelHead, ModelInfo
from backlane.inference.predictor import Predictor
from backlane.market.bars import BarSeries


@dataclass(frozen=True, slots=True, eq=False)
class Prepared:
    """Everything that the loop needs, before it starts."""

    model: ModelInfo
    switches: Switches
    window: Window
    features: FeatureMatrix
    raw_scores: NDArray[np.float32]
    scores: Scores
    decisions: DecisionRules
    rules: NDArray[np.void]
    first_index: int
    inputs: Inputs


def prepare(
    request: BacktestRequest,
    predictor: Predictor,
    bars: Mapping[str, BarSeries],
    observer: RunObserver,
    slot: NDArray[np.float64],
    *,
    resume: Checkpoint | None = None,
    checkpoints: CheckpointTaker | None = None,
) -> Prepared:
    """Computes everything that does not depend on the position: features, scores, rules."""
    info, switches = predictor.info, request.resolved_switches()
    decisions = decision_rules(request, info, switches)
    window = cut_window(request, info.strategy, bars, switches)
    observer.entered("features", len(window.base))
    features = build_features(
        info.strategy,
        window.bars,
        names=info.features,
        rules=switches.feature_rules,
        normalization=info.normalization,
    )
    observer.entered("inference", len(window.base))

    def on_progress(done: int) -> None:
        raise_if_cancelled(slot)
        observer.advanced(done)

    raw = predict(predictor, features, on_progress, resume, checkpoints)
    scores = _scores(raw, info.head, decisions, switches)
    first = first_simulated_index(window, features, info.sequence_length, switches)
    reason = _score_reasons(features, scores, info.sequence_length)
    if switches.nan_features is NanFeatures.ABORT:
        _refuse_nan(window.base, features, reason, first)
    base = window.base
    inputs = Inputs(
        base.open_time_ns,
        base.open,
        base.high,
        base.low,
        base.close,
        scores.raw_decision,
        scores.confidence,
        reason,
        cash_fractions(request.sizing, base),
    )
    rules = rules_record(request, decisions, switches)
    return Prepared(info, switches, window, features, raw, scores, decisions, rules, first, inputs)


def _scores(
    raw: NDArray[np.float32], head: ModelHead, decisions: DecisionRules, switches: Switches
) -> Scores:
    if head is ModelHead.REGRESSION:
        return regression_scores(raw, edge=decisions.edge)
    return classification_scores(raw, sum_one_is_probability=switches.logits_sum_one)


def _score_reasons(
    features: FeatureMatrix, scores: Scores, sequence_length: int
) -> NDArray[np.int8]:
    """Refines "the model answered NaN" to what is behind it."""
    reason = scores.reason.copy()
    reason[np.isnan(features.values).any(axis=1)] = DecisionReason.FEATURE_NAN
    reason[: sequence_length - 1] = DecisionReason.NO_FEATURES
    return reason


def _refuse_nan(
    base: BarSeries, features: FeatureMatrix, reason: NDArray[np.int8], first: int
) -> None:
    unknown = np.flatnonzero(reason[first:] == DecisionReason.FEATURE_NAN)
    if len(unknown) == 0:
        return
    index = first + int(unknown[0])
    column = features.names[int(np.argmax(np.isnan(features.values[index])))]
    when = str(np.datetime64(int(base.open_time_ns[index]), "ns"))
    message = (
        f"Feature {column} is NaN at the simulated bar {when}Z, and nan_features is abort. "
        "Start later, or set the switch nan_features to hold."
    )
    raise NanFeaturesError(message, metadata={"feature": column, "time": when})
