"""When a trade is left: every exit by an example, every rule with an effect."""

import dataclasses

import numpy as np
import pytest

from backlane.cycle.trigger_exits import (
    HOUR_NS,
    ExitRules,
    OpenTrade,
    TriggerExit,
    at_review,
    exit_of,
)
from backlane.errors import InvalidRequestError

TRADE = OpenTrade("A", 0, 100.0, 94.0, 112.0, 48.0)
STEADY = [10.0] * 6
FALLING = [10.0, 10.0, 10.0, 7.0, 6.9, 7.0]  # 20.9 is below 0.7 x 30


def _exit(close, hours, volume=STEADY, rules=ExitRules(), trade=TRADE):  # noqa: B008 - frozen
    return exit_of(trade, np.array(close), np.array(volume), int(hours * HOUR_NS), rules)


def _to(last, change):
    """Six closes that end at `last`, after a change of a fraction."""
    return [last / (1 + change)] * 5 + [last]


CASES = {
    TriggerExit.STOP_LOSS: ([*[100.0] * 5, 94.0], 1, STEADY),
    TriggerExit.TAKE_PROFIT: ([*[100.0] * 5, 112.0], 1, STEADY),
    TriggerExit.MOMENTUM_CHECK: (_to(97.4, -0.031), 12, STEADY),  # -2.6 %, and -3.1 % in six bars
    TriggerExit.NO_RECOVERY: (_to(96.9, -0.011), 24, STEADY),
    TriggerExit.VOLUME_DECLINE: (_to(97.9, -0.001), 24, FALLING),
    TriggerExit.WEAK_MOMENTUM: (_to(97.9, -0.016), 36, STEADY),
    TriggerExit.STALLED: (_to(101.4, 0.004), 36, FALLING),
    TriggerExit.MAX_HOLD: (_to(101.0, 0.0), 48, STEADY),
}


@pytest.mark.parametrize("reason", CASES)
def test_each_exit_by_its_example(reason):
    close, hours, volume = CASES[reason]
    assert _exit(close, hours, volume) is reason


@pytest.mark.parametrize(
    ("close", "hours", "volume"),
    [
        (_to(97.6, -0.031), 12, STEADY),  # not far enough below the entry
        (_to(97.4, -0.029), 12, STEADY),  # not fast enough
        (_to(97.4, -0.031), 11.9, STEADY),
        (_to(97.4, -0.031), 13, STEADY),  # the review is over
        (_to(97.9, -0.001), 24, STEADY),  # the volume does not fall
        (_to(97.9, 0.001), 24, FALLING),  # the price does not
        (_to(101.6, 0.004), 36, FALLING),
        (_to(101.4, 0.006), 36, FALLING),
        ([97.4], 12, [1.0]),  # too few bars to look back over
    ],
)
def test_a_trade_is_held_otherwise(close, hours, volume):
    assert _exit(close, hours, volume) is None


def test_levels_and_time_are_those_of_the_trade():
    bare = OpenTrade("A", 0, 100.0)
    assert _exit([50.0], 1, [1.0], trade=bare) is None
    assert _exit([100.0], 119, [1.0], trade=bare) is None
    assert _exit([100.0], 120, [1.0], trade=bare) is TriggerExit.MAX_HOLD


def test_the_last_bars_matter_at_reviews_alone():
    times = [hours for hours in range(60) if at_review(TRADE, hours * HOUR_NS, ExitRules())]
    assert times == [12, 24, 36]


OTHER = {
    "watches_levels": (False, TriggerExit.STOP_LOSS),
    "review_hours": (0.0, TriggerExit.MOMENTUM_CHECK),
    "first_hours": (6.0, TriggerExit.MOMENTUM_CHECK),
    "first_return": (-0.05, TriggerExit.MOMENTUM_CHECK),
    "first_change": (-0.05, TriggerExit.MOMENTUM_CHECK),
    "second_hours": (20.0, TriggerExit.NO_RECOVERY),
    "second_return": (-0.05, TriggerExit.NO_RECOVERY),
    "second_change": (-0.05, TriggerExit.NO_RECOVERY),
    "decline_return": (-0.05, TriggerExit.VOLUME_DECLINE),
    "third_hours": (40.0, TriggerExit.WEAK_MOMENTUM),
    "third_return": (-0.05, TriggerExit.WEAK_MOMENTUM),
    "third_change": (-0.05, TriggerExit.WEAK_MOMENTUM),
    "stalled_return": (0.001, TriggerExit.STALLED),
    "stalled_change": (0.001, TriggerExit.STALLED),
    "falling_volume": (0.5, TriggerExit.STALLED),
}


@pytest.mark.parametrize("name", OTHER)
def test_every_rule_of_the_exits_is_live(name):
    value, reason = OTHER[name]
    close, hours, volume = CASES[reason]
    assert _exit(close, hours, volume, ExitRules(**{name: value})) is not reason


def test_no_rule_was_forgotten():
    elsewhere = {"hold_hours_max", "decides_at_entry"}  # above, and in test_trigger_rules.py
    assert {item.name for item in dataclasses.fields(ExitRules)} == OTHER.keys() | elsewhere


def test_every_mistake_is_listed():
    with pytest.raises(InvalidRequestError) as caught:
        ExitRules(first_hours=-1.0, stalled_return=2.0, hold_hours_max=float("nan"))
    fields = {violation.field for violation in caught.value.violations}
    assert fields == {"first_hours", "stalled_return", "hold_hours_max"}
    with pytest.raises(InvalidRequestError, match="second_hours"):
        ExitRules(second_hours=40.0)
