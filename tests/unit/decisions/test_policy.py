"""The filters in their order; each case is one row of DESIGN's list, checked by eye."""

import math

import pytest

from backlane.decisions.decision import Decision, DecisionReason
from backlane.decisions.policy import decide

BUY, HOLD, SELL = Decision.BUY, Decision.HOLD, Decision.SELL
R = DecisionReason


def ask(
    raw: int = BUY,
    *,
    confidence: float = 0.8,
    side: int = 0,
    hours: float = math.inf,
    threshold: float = 0.5,
    separation: float = 4.0,
    aware: bool = True,
    short: bool = False,
) -> tuple[int, int]:
    return decide(raw, confidence, side, hours, threshold, separation, aware, short)


@pytest.mark.parametrize(
    ("given", "decision", "reason"),
    [
        ({}, BUY, R.ACCEPTED),
        ({"raw": HOLD}, HOLD, R.MODEL_HOLD),
        ({"confidence": 0.4999}, HOLD, R.BELOW_CONFIDENCE),
        ({"confidence": 0.5}, BUY, R.ACCEPTED),
        ({"hours": 3.999}, HOLD, R.MIN_SEPARATION),
        ({"hours": 4.0}, BUY, R.ACCEPTED),
        ({"side": 1}, HOLD, R.ALREADY_LONG),
        ({"side": -1}, BUY, R.ACCEPTED),
        ({"raw": SELL, "side": 1}, SELL, R.ACCEPTED),
        ({"raw": SELL, "side": -1, "short": True}, HOLD, R.ALREADY_SHORT),
        ({"raw": SELL}, HOLD, R.SHORT_NOT_ALLOWED),
        ({"raw": SELL, "short": True}, SELL, R.ACCEPTED),
        ({"raw": SELL, "aware": False}, SELL, R.ACCEPTED),
        ({"side": 1, "aware": False}, BUY, R.ACCEPTED),
        # confidence comes before separation, and separation before the position
        ({"confidence": 0.1, "hours": 0.0, "side": 1}, HOLD, R.BELOW_CONFIDENCE),
        ({"hours": 0.0, "side": 1}, HOLD, R.MIN_SEPARATION),
        ({"hours": 0.0, "aware": False}, HOLD, R.MIN_SEPARATION),
    ],
)
def test_filters_apply_in_their_order(given, decision, reason) -> None:
    assert ask(**given) == (decision, reason)
