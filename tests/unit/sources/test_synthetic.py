from datetime import UTC, datetime, timedelta, timezone

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backlane.errors import InvalidRequestError, LimitExceededError
from backlane.market.digest import bars_digest
from backlane.market.finding import FindingCode
from backlane.market.quality import check_bars
from backlane.market.timeframe import Timeframe
from backlane.sources.synthetic import (
    MAX_SYNTHETIC_BARS,
    SYNTHETIC_SYMBOL,
    aggregate,
    synthetic_bars,
)
from tests.unit.market.bars import bars_at, every, ns

FIVE = Timeframe.parse("5m")
HOUR = Timeframe.parse("1h")
MONDAY = datetime(2024, 1, 1, tzinfo=UTC)
COLUMNS = ("open_time_ns", "open", "high", "low", "close", "volume")


def test_the_same_seed_gives_the_same_bars_and_another_seed_others():
    first = synthetic_bars(1, MONDAY, 500, FIVE)

    assert bars_digest(synthetic_bars(1, MONDAY, 500, FIVE)) == bars_digest(first)
    assert bars_digest(synthetic_bars(2, MONDAY, 500, FIVE)) != bars_digest(first)


def test_a_shorter_series_is_the_beginning_of_a_longer_one():
    long, short = (synthetic_bars(3, MONDAY, count, HOUR) for count in (1000, 333))

    assert bars_digest(long.rows(0, 333)) == bars_digest(short)


@settings(deadline=None, derandomize=True, max_examples=30)
@given(
    seed=st.integers(0, 2**32),
    start_minute=st.integers(-16_000_000, 18_000_000),
    timeframe=st.sampled_from(["1m", "5m", "15m", "1h", "4h", "1d"]),
)
def test_synthetic_bars_have_no_defect_and_no_gap_but_weekends(seed, start_minute, timeframe):
    start = MONDAY + timedelta(minutes=start_minute)
    bars = synthetic_bars(seed, start, 700, Timeframe.parse(timeframe))

    report = check_bars(bars)

    assert {found.code for found in report.findings} <= {FindingCode.WEEKEND_GAP}
    assert len(bars) == 700
    assert bars.symbol == SYNTHETIC_SYMBOL


def test_the_first_bar_opens_at_or_after_the_start():
    def first(moment):
        return int(synthetic_bars(1, moment, 1, HOUR).open_time_ns[0])

    assert first(datetime(2024, 1, 2, 10, 0, tzinfo=UTC)) == ns("2024-01-02 10:00")
    assert first(datetime(2024, 1, 2, 10, 1, tzinfo=UTC)) == ns("2024-01-02 11:00")
    assert first(datetime(2024, 1, 6, 12, 0, tzinfo=UTC)) == ns("2024-01-08 00:00")
    athens = timezone(timedelta(hours=2))
    assert first(datetime(2024, 1, 2, 10, 0, tzinfo=athens)) == ns("2024-01-02 08:00")


def test_arguments_without_sense_are_named():
    for start, count, timeframe, field in (
        (MONDAY.replace(tzinfo=None), 10, FIVE, "start"),
        (MONDAY, 0, FIVE, "bar_count"),
        (MONDAY, 10, Timeframe.parse("7m"), "timeframe"),
    ):
        with pytest.raises(InvalidRequestError) as refused:
            synthetic_bars(1, start, count, timeframe)
        assert refused.value.violations[0].field == field
    with pytest.raises(LimitExceededError):
        synthetic_bars(1, MONDAY, MAX_SYNTHETIC_BARS + 1, FIVE)


def test_an_hour_is_made_of_its_bars():
    times = every("2024-01-02 00:00", 1800, 4)
    halves = bars_at(
        times,
        "30m",
        open=[1.0, 2.0, 3.0, 4.0],
        high=[2.5, 2.2, 3.3, 5.0],
        low=[0.9, 1.9, 2.0, 3.9],
        close=[2.0, 2.1, 3.2, 4.5],
        volume=[10.0, 20.0, 30.0, 5.0],
    )

    hours = aggregate(halves, HOUR)

    assert hours.timeframe == HOUR
    assert hours.open_time_ns.tolist() == every("2024-01-02 00:00", 3600, 2)
    assert hours.open.tolist() == [1.0, 3.0]
    assert hours.high.tolist() == [2.5, 5.0]
    assert hours.low.tolist() == [0.9, 2.0]
    assert hours.close.tolist() == [2.1, 4.5]
    assert hours.volume.tolist() == [30.0, 35.0]


def test_a_span_without_bars_gives_no_bar():
    times = [ns("2024-01-02 00:30"), ns("2024-01-02 05:00")]

    hours = aggregate(bars_at(times, "30m"), HOUR)

    assert hours.open_time_ns.tolist() == [ns("2024-01-02 00:00"), ns("2024-01-02 05:00")]


def test_a_week_begins_on_monday():
    days = synthetic_bars(1, datetime(2024, 1, 3, tzinfo=UTC), 10, Timeframe.parse("1d"))

    weeks = aggregate(days, Timeframe.parse("1w"))

    assert weeks.open_time_ns.tolist() == [ns(f"2024-01-{day}") for day in ("01", "08", "15")]


@settings(deadline=None, derandomize=True, max_examples=30)
@given(seed=st.integers(0, 1000), count=st.integers(1, 2000))
def test_aggregating_in_two_steps_is_aggregating_in_one(seed, count):
    bars = synthetic_bars(seed, MONDAY, count, FIVE)
    four_hours = Timeframe.parse("4h")

    at_once = aggregate(bars, four_hours)
    in_steps = aggregate(aggregate(bars, HOUR), four_hours)

    for name in COLUMNS:
        assert np.array_equal(getattr(at_once, name), getattr(in_steps, name)), name
    assert at_once.volume.sum() == bars.volume.sum()
    assert not check_bars(at_once).is_refused


def test_a_timeframe_that_is_no_multiple_is_refused():
    with pytest.raises(InvalidRequestError):
        aggregate(synthetic_bars(1, MONDAY, 10, HOUR), Timeframe.parse("90m"))
