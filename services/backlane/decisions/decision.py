"""Decisions and the closed set of reasons for them."""

from enum import IntEnum


class Decision(IntEnum):
    """What we intend; the value is the direction."""

    SELL = -1
    HOLD = 0
    BUY = 1


class DecisionReason(IntEnum):
    """Why the decision at a bar is what it is. Numbers are stored in results: never reuse one."""

    NOT_SIMULATED = 0  # before the first simulated bar
    NO_FEATURES = 1  # the window of a sequence model reaches before the first bar
    FEATURE_NAN = 2  # a feature of the bar is not known
    SCORE_NAN = 3  # the model answered NaN
    MODEL_HOLD = 4  # the model says HOLD
    BELOW_CONFIDENCE = 5  # confidence < confidence_threshold
    MIN_SEPARATION = 6  # too soon after the last fill
    ALREADY_LONG = 7  # BUY while LONG
    ALREADY_SHORT = 8  # SELL while SHORT
    SHORT_NOT_ALLOWED = 9  # SELL while FLAT, and shorts are not allowed
    ACCEPTED = 10  # the decision of the model stands
