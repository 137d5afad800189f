import numpy as np
import pytest

from backlane.features.align import align, visible_rows
from backlane.features.rules import Alignment
from backlane.market.bars import BarSeries
from backlane.market.timeframe import Timeframe

MINUTE_NS = 60 * 10**9


def bars_at(label: str, *opens: str) -> BarSeries:
    """Returns bars that open at these times of one day, `HH:MM`."""
    minutes = [int(text[:2]) * 60 + int(text[3:]) for text in opens]
    times = np.array(minutes, dtype=np.int64) * MINUTE_NS
    ones = np.ones(len(times))
    return BarSeries("TEST", Timeframe.parse(label), times, ones, ones, ones, ones, ones)


HOURS = bars_at("1h", "09:00", "10:00", "11:00")
FIVE_MINUTES = bars_at("5m", "10:00", "10:50", "10:55", "11:00", "11:55")


@pytest.mark.parametrize(
    ("alignment", "expected"),
    [
        # closes 10:05 10:55 11:00 11:05 12:00; hours close 10:00 11:00 12:00
        (Alignment.KNOWN_AT_CLOSE, [0, 0, 1, 1, 2]),
        # the bar of 10:00 is shown from 10:00 on, an hour before it is over
        (Alignment.STAMP_FORWARD_FILL, [1, 1, 1, 2, 2]),
        (Alignment.EXACT_STAMP, [1, -1, -1, 2, -1]),
    ],
)
def test_a_longer_timeframe_seen_from_a_shorter_one(alignment: Alignment, expected: list[int]):
    assert visible_rows(FIVE_MINUTES, HOURS, alignment).tolist() == expected


@pytest.mark.parametrize(
    ("alignment", "expected"),
    [
        # hours close 10:00 11:00 12:00; before 10:05 none of the short bars is over
        (Alignment.KNOWN_AT_CLOSE, [-1, 2, 4]),
        # the bar of 10:00 stands for the whole hour, 55 minutes old at its close
        (Alignment.STAMP_FORWARD_FILL, [-1, 0, 3]),
        (Alignment.EXACT_STAMP, [-1, 0, 3]),
    ],
)
def test_a_shorter_timeframe_seen_from_a_longer_one(alignment: Alignment, expected: list[int]):
    assert visible_rows(HOURS, FIVE_MINUTES, alignment).tolist() == expected


@pytest.mark.parametrize("alignment", list(Alignment))
def test_no_bars_are_seen_where_there_are_none(alignment: Alignment):
    assert visible_rows(HOURS, bars_at("5m"), alignment).tolist() == [-1, -1, -1]
    assert visible_rows(bars_at("5m"), HOURS, alignment).tolist() == []


def test_what_is_not_known_stays_nan():
    values = np.array([np.nan, 5.0])
    rows = np.array([-1, 0, 1])
    for alignment in (Alignment.KNOWN_AT_CLOSE, Alignment.EXACT_STAMP):
        np.testing.assert_array_equal(align(values, rows, alignment), [np.nan, np.nan, 5.0])


def test_forward_fill_of_the_reference_fills_every_gap():
    rows = np.array([-1, 0, 1, 2, 3])
    values = np.array([np.nan, 5.0, np.nan, np.nan])
    # from the next value first, then from the last
    filled = align(values, rows, Alignment.STAMP_FORWARD_FILL)
    assert filled.tolist() == [5.0, 5.0, 5.0, 5.0, 5.0]
    nothing = align(np.full(4, np.nan), rows, Alignment.STAMP_FORWARD_FILL)
    assert nothing.tolist() == [0.0] * 5
