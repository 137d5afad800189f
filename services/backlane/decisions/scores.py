"""What a model says, before any filter: outputs to scores, a raw decision and a confidence.

None of this depends on the position, so it is done for all bars at once, before the loop.
"""

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from backlane.decisions.decision import Decision, DecisionReason

_CLASSES = (
    (Decision.BUY, "p_buy"),
    (Decision.HOLD, "p_hold"),
    (Decision.SELL, "p_sell"),
    (Decision.HOLD, "p_fourth_class"),
)
_SUM_TOLERANCE = 1e-6  # within this, the reference takes logits for probabilities


@dataclass(frozen=True, slots=True, eq=False)
class Scores:
    """What the model says at each bar.

    `values` is float32 of shape (bars, columns) with one column for each name in `names`: class
    probabilities, or the predicted return. `raw_decision` is int8 of shape (bars,), `confidence`
    float64 in [0, 1], NaN where there is no score. `reason` is int8: SCORE_NAN where the outputs
    were NaN, MODEL_HOLD elsewhere; the loop reads it only where the raw decision is HOLD.
    """

    names: tuple[str, ...]
    values: NDArray[np.float32]
    raw_decision: NDArray[np.int8]
    confidence: NDArray[np.float64]
    reason: NDArray[np.int8]

    def after(self, first_index: int) -> Self:
        """Returns the scores from a bar on, as views."""
        return type(self)(
            self.names,
            self.values[first_index:],
            self.raw_decision[first_index:],
            self.confidence[first_index:],
            self.reason[first_index:],
        )


def classification_scores(
    logits: NDArray[np.float32], *, sum_one_is_probability: bool = False
) -> Scores:
    """Returns the scores of logits for BUY, HOLD and SELL, float32 of shape (bars, 3).

    A fourth class, which only a compatibility profile lets through, is read as HOLD.

    Softmax in float32; the raw decision is the class of the highest probability, the first of ties;
    the confidence is that probability, widened. `sum_one_is_probability` takes logits whose sum
    happens to be 1 for probabilities, as the reference does.
    """
    shifted = logits - logits.max(axis=1, keepdims=True)
    powers = np.exp(shifted)
    probabilities = powers / powers.sum(axis=1, keepdims=True)
    if sum_one_is_probability:
        is_sum_one = np.abs(logits.sum(axis=1) - np.float32(1)) < _SUM_TOLERANCE
        probabilities = np.where(is_sum_one[:, None], logits, probabilities)
    known = ~np.isnan(probabilities).any(axis=1)
    best = np.argmax(np.where(known[:, None], probabilities, np.float32(0)), axis=1)
    decisions = np.array([item for item, _ in _CLASSES], dtype=np.int8)
    confidence = np.take_along_axis(probabilities, best[:, None], axis=1)[:, 0]
    return Scores(
        tuple(name for _, name in _CLASSES[: logits.shape[1]]),
        probabilities,
        np.where(known, decisions[best], np.int8(Decision.HOLD)).astype(np.int8),
        np.where(known, confidence, np.float32(np.nan)).astype(np.float64),
        _reason(known),
    )


def regression_scores(predicted_return: NDArray[np.float32], *, edge: float) -> Scores:
    """Returns the scores of predicted returns, float32 of shape (bars, 1), against an edge > 0.

    BUY above `edge`, SELL below `-edge`, both strictly; `edge` is the cost of a round trip times
    the multiple that a prediction must reach. The confidence is min(|r| / (3 edge), 1).
    """
    value = predicted_return[:, 0].astype(np.float64)
    known = ~np.isnan(value)
    raw = np.where(
        value > edge, Decision.BUY, np.where(value < -edge, Decision.SELL, Decision.HOLD)
    )
    confidence = np.minimum(np.abs(value) / (3 * edge), 1.0)
    return Scores(
        ("predicted_return",), predicted_return, raw.astype(np.int8), confidence, _reason(known)
    )


def _reason(known: NDArray[np.bool_]) -> NDArray[np.int8]:
    codes = np.where(known, DecisionReason.MODEL_HOLD, DecisionReason.SCORE_NAN)
    return codes.astype(np.int8)
