"""Stops and take-profits within one bar; prices are chosen so that every number is exact."""

import math

import pytest

from backlane.execution.order import ExitReason
from backlane.execution.protection import NO_EXIT, protective_exit, stop_level

STOP, TARGET = ExitReason.STOP_LOSS, ExitReason.TAKE_PROFIT


@pytest.mark.parametrize(
    ("side", "stops", "expected"),
    [
        # entry 100, best 120 (LONG) or 80 (SHORT); distances as fractions
        (1, (0.25, 0.0, 0.0), (ExitReason.STOP_LOSS, 75.0)),
        (1, (0.0, 0.25, 0.0), (ExitReason.TRAILING_STOP, 90.0)),
        (1, (0.25, 0.25, 0.0), (ExitReason.TRAILING_STOP, 90.0)),
        (1, (0.25, 0.5, 0.0), (ExitReason.STOP_LOSS, 75.0)),
        (1, (0.25, 0.0, 0.125), (ExitReason.MARGIN_CALL, 87.5)),
        (-1, (0.25, 0.0, 0.0), (ExitReason.STOP_LOSS, 125.0)),
        (-1, (0.5, 0.25, 0.0), (ExitReason.TRAILING_STOP, 100.0)),
        (-1, (0.25, 0.0, 0.25), (ExitReason.STOP_LOSS, 125.0)),
    ],
)
def test_the_nearest_stop_counts(side, stops, expected) -> None:
    best = 120.0 if side > 0 else 80.0
    assert stop_level(side, 100.0, best, *stops) == expected


def test_without_stops_there_is_no_level() -> None:
    reason, level = stop_level(1, 100.0, 100.0, 0.0, 0.0, 0.0)
    assert reason == NO_EXIT
    assert math.isnan(level)


@pytest.mark.parametrize(
    ("side", "bar", "expected"),
    [
        # LONG with a stop at 90 and a target at 110; bars are (open, high, low)
        (1, (100, 105, 95), (NO_EXIT, None)),
        (1, (100, 105, 90), (STOP, 90)),
        (1, (100, 110, 95), (TARGET, 110)),
        (1, (100, 115, 85), (STOP, 90)),  # both: the stop was hit first
        (1, (85, 88, 80), (STOP, 85)),  # a gap fills at the open
        (1, (112, 115, 111), (TARGET, 112)),  # so does a gap in our favour
        (1, (112, 115, 85), (TARGET, 112)),  # the open comes before the low
        # SHORT with a stop at 110 and a target at 90
        (-1, (100, 109, 91), (NO_EXIT, None)),
        (-1, (100, 110, 95), (STOP, 110)),
        (-1, (100, 105, 90), (TARGET, 90)),
        (-1, (100, 112, 85), (STOP, 110)),
        (-1, (115, 120, 112), (STOP, 115)),
        (-1, (88, 89, 80), (TARGET, 88)),
    ],
)
def test_what_happens_within_a_bar(side, bar, expected) -> None:
    stop, target = (90.0, 110.0) if side > 0 else (110.0, 90.0)
    reason, price = protective_exit(side, *map(float, bar), STOP, stop, target, 0.0)
    assert reason == expected[0]
    assert (None if math.isnan(price) else price) == expected[1]


def test_a_limit_needs_its_side_of_the_spread() -> None:
    # spread 2 %: the bid is 99 % of the bar's price, so that 110 is reached at 111.1...
    assert protective_exit(1, 100.0, 111.0, 99.0, STOP, math.nan, 110.0, 0.02)[0] == NO_EXIT
    assert protective_exit(1, 100.0, 112.0, 99.0, STOP, math.nan, 110.0, 0.02) == (TARGET, 110.0)
