"""The decision filters, in their order: one leaf function, compiled or plain."""

from backlane.decisions.decision import Decision, DecisionReason
from backlane.jit import kernel

_SELL, _HOLD, _BUY = int(Decision.SELL), int(Decision.HOLD), int(Decision.BUY)
_MODEL_HOLD = int(DecisionReason.MODEL_HOLD)
_BELOW_CONFIDENCE = int(DecisionReason.BELOW_CONFIDENCE)
_MIN_SEPARATION = int(DecisionReason.MIN_SEPARATION)
_ALREADY_LONG = int(DecisionReason.ALREADY_LONG)
_ALREADY_SHORT = int(DecisionReason.ALREADY_SHORT)
_SHORT_NOT_ALLOWED = int(DecisionReason.SHORT_NOT_ALLOWED)
_ACCEPTED = int(DecisionReason.ACCEPTED)


@kernel
def decide(
    raw_decision: int,
    confidence: float,
    side: int,
    hours_since_fill: float,
    confidence_threshold: float,
    min_separation_hours: float,
    position_awareness: bool,
    allow_short_from_flat: bool,
) -> tuple[int, int]:
    """Returns (decision, reason) for what the model says at one bar.

    `side` is the sign of the position (1 LONG, 0 FLAT, -1 SHORT); `hours_since_fill` is infinite
    before the first fill. The filters apply in this order: confidence, separation, position. A
    separation of exactly `min_separation_hours`, like a confidence of exactly the threshold,
    passes. Separation also holds back exits: that is what the models were trained and tested with.
    """
    if raw_decision == _HOLD:
        return _HOLD, _MODEL_HOLD
    if confidence < confidence_threshold:
        return _HOLD, _BELOW_CONFIDENCE
    if hours_since_fill < min_separation_hours:
        return _HOLD, _MIN_SEPARATION
    if not position_awareness:
        return raw_decision, _ACCEPTED
    if raw_decision == _BUY and side > 0:
        return _HOLD, _ALREADY_LONG
    if raw_decision == _SELL and side < 0:
        return _HOLD, _ALREADY_SHORT
    if raw_decision == _SELL and side == 0 and not allow_short_from_flat:
        return _HOLD, _SHORT_NOT_ALLOWED
    return raw_decision, _ACCEPTED
