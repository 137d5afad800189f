import numpy as np
import pytest

from backlane.market.finding import FindingCode
from backlane.market.spacing import check_spacing, classify_gaps, stamp_text
from backlane.market.timeframe import Timeframe
from tests.unit.market.bars import every, ns

HOUR = 3600
DAY = 24 * HOUR


def findings(times, timeframe: str) -> dict[str, int]:
    found = check_spacing(np.array(sorted(times), np.int64), Timeframe.parse(timeframe))
    return {str(finding.code): finding.count for finding in found}


def fx_weeks(count: int, *, first_open: str, hours: int = 120, step_s: int = HOUR) -> list[int]:
    """Returns open times of `count` weeks of trading without a hole, `hours` long each."""
    start = ns(first_open)
    return [
        start + week * 7 * DAY * 10**9 + at * 10**9
        for week in range(count)
        for at in range(0, hours * HOUR, step_s)
    ]


@pytest.mark.parametrize(
    ("first_open", "hours"),
    [
        ("2024-01-07 22:00", 120),  # UTC: Sunday 22:00 to Friday 22:00
        ("2024-01-07 17:00", 120),  # New York: Sunday 17:00 to Friday 17:00
        ("2024-01-08 00:00", 120),  # a server at UTC+2: Monday 00:00 to Saturday 00:00
        ("2024-01-08 00:00", 118),  # the same, stopping two hours early
        ("2024-01-08 02:00", 120),  # UTC+4
    ],
)
def test_the_closure_over_a_weekend_is_a_weekend_gap_in_any_usual_zone(first_open, hours):
    assert findings(fx_weeks(5, first_open=first_open, hours=hours), "1h") == {"weekend_gap": 4}


def test_a_weekend_longer_than_50_hours_is_a_gap():
    # 120 - 3 hours of trading leave 168 - 117 = 51 hours without a bar.
    times = fx_weeks(5, first_open="2024-01-08 00:00", hours=117)

    assert findings(times, "1h") == {"gap": 4}


def test_a_holiday_before_the_weekend_makes_it_a_gap():
    weeks = fx_weeks(4, first_open="2024-03-17 22:00")
    good_friday = [t for t in weeks if not ns("2024-03-28 22:00") <= t < ns("2024-03-29 22:00")]

    assert findings(good_friday, "1h") == {"weekend_gap": 2, "gap": 1}


def test_a_missing_hour_is_a_gap_with_its_place():
    times = every("2024-01-02 00:00", HOUR, 48)
    del times[5:7]

    [gap] = check_spacing(np.array(times, np.int64), Timeframe.parse("1h"))

    assert (gap.code, gap.count) == (FindingCode.GAP, 1)
    assert gap.first_example == "2024-01-02T04:00:00Z to 2024-01-02T07:00:00Z, 3h"
    assert "2 bars of 1h would fit" in gap.message


@pytest.mark.parametrize(
    ("start", "touching"),
    [
        ("2023-12-23 23:00", 1),  # the bar at 23:00 is there, three of 24 December are missing
        ("2023-12-22 10:00", 0),
        ("2023-12-26 23:00", 0),
        ("2023-12-25 10:00", 1),
        ("2023-12-31 21:00", 1),
        ("2024-01-02 20:00", 1),
        ("2024-01-03 00:00", 0),
    ],
)
def test_gaps_over_christmas_and_new_year_are_counted(start, touching):
    cut = ns(start)
    times = every("2023-12-20 00:00", HOUR, 24 * 18)
    missing = [t for t in times if not cut < t < cut + 4 * HOUR * 10**9]

    [gap] = check_spacing(np.array(missing, np.int64), Timeframe.parse("1h"))

    assert f"{touching} of them touch Christmas" in gap.message


def test_a_market_that_trades_on_saturdays_has_no_weekend_gaps():
    times = every("2024-01-01 00:00", HOUR, 24 * 28)
    outage = [t for t in times if not ns("2024-01-13 00:00") <= t < ns("2024-01-15 00:00")]

    assert findings(outage, "1h") == {"gap": 1}


def stock_days(first: str, days: int, *, open_at: str, bars: int, step_s: int) -> list[int]:
    day = np.datetime64(first)
    times = []
    for at in range(days):
        date = day + at
        if np.is_busday(date):
            times += every(f"{date} {open_at}", step_s, bars)
    return times


def test_the_nights_of_a_stock_exchange_are_session_gaps_and_its_weekends_weekend_gaps():
    # 13:30 to 20:00 UTC, 28 days from a Monday: 20 trading days, 3 weekends between them.
    times = stock_days("2024-06-03", 28, open_at="13:30", bars=78, step_s=300)

    assert findings(times, "5m") == {"session_gap": 16, "weekend_gap": 3}


def test_a_clock_change_of_a_stock_exchange_is_no_gap():
    winter = stock_days("2024-02-12", 26, open_at="14:30", bars=78, step_s=300)
    summer = stock_days("2024-03-11", 26, open_at="13:30", bars=78, step_s=300)

    assert set(findings(winter + summer, "5m")) == {"session_gap", "weekend_gap"}


def test_a_holiday_of_a_stock_exchange_is_a_gap():
    days = stock_days("2024-06-03", 28, open_at="13:30", bars=78, step_s=300)
    without = [t for t in days if not ns("2024-06-19 00:00") <= t < ns("2024-06-20 00:00")]

    assert findings(without, "5m") == {"session_gap": 14, "weekend_gap": 3, "gap": 1}


def test_daily_bars_need_no_saturday_and_sunday():
    assert findings(stock_days("2024-06-03", 60, open_at="00:00", bars=1, step_s=1), "1d") == {}


def test_a_missing_weekday_of_daily_bars_is_a_gap():
    days = stock_days("2024-06-03", 60, open_at="00:00", bars=1, step_s=1)
    without = [t for t in days if t not in (ns("2024-06-19 00:00"), ns("2024-07-01 00:00"))]

    assert findings(without, "1d") == {"gap": 2}


def test_daily_bars_at_local_midnight_follow_its_clock():
    # New York: 05:00 UTC in winter and 04:00 from Monday 2024-03-11 on.
    winter = stock_days("2024-02-12", 26, open_at="05:00", bars=1, step_s=1)
    summer = stock_days("2024-03-11", 21, open_at="04:00", bars=1, step_s=1)

    # All 20 + 15 days stand on the one grid, an hour moved or not.
    assert findings(winter + summer, "1d") == {"grid_offset": 35}


def test_weekly_bars_have_neither_gaps_nor_a_wrong_timeframe():
    assert findings(every("2024-01-01 00:00", 7 * DAY, 30), "1w").keys() <= {"grid_offset"}


@pytest.mark.parametrize("held", ["5m", "4h", "1d"])
def test_bars_of_another_timeframe_are_refused_alone(held):
    step_s = Timeframe.parse(held).length_ns // 10**9
    times = fx_weeks(3, first_open="2024-01-08 00:00", step_s=step_s)

    [wrong] = check_spacing(np.array(times, np.int64), Timeframe.parse("1h"))

    assert wrong.code is FindingCode.WRONG_TIMEFRAME
    assert f"most common step is {held}" in wrong.message


def test_two_daily_bars_over_a_weekend_are_daily_bars():
    assert findings([ns("2024-01-05 00:00"), ns("2024-01-08 00:00")], "1d") == {}


def test_a_bar_inside_another_is_refused():
    times = [*every("2024-01-02 00:00", HOUR, 10), ns("2024-01-02 03:20")]

    assert findings(times, "1h") == {"wrong_timeframe": 2}


def test_a_bar_beside_the_grid_is_named():
    times = every("2024-01-02 00:00", HOUR, 40)
    times[20:] = [t + 600 * 10**9 for t in times[20:]]
    times.append(times[-1] + HOUR * 10**9)

    assert findings(times, "1h") == {"off_grid": 20, "grid_offset": 21}


def test_a_grid_that_begins_beside_the_hour_is_a_remark():
    times = every("2024-01-02 03:45", HOUR, 6)

    assert findings(times, "1h") == {"grid_offset": 6}


def test_a_lasting_move_of_the_weekly_opening_is_a_clock_shift():
    utc = fx_weeks(4, first_open="2024-01-07 22:00")
    server = fx_weeks(4, first_open="2024-02-05 00:00")

    found = check_spacing(np.array(utc + server, np.int64), Timeframe.parse("1h"))

    shift = next(finding for finding in found if finding.code is FindingCode.CLOCK_SHIFT)
    assert shift.count == 1
    assert shift.first_example == (
        "weeks open at Sun 22:00, from 2024-02-05T00:00:00Z on at Mon 00:00"
    )


def test_daylight_saving_is_no_clock_shift():
    winter = fx_weeks(4, first_open="2024-02-11 22:00", hours=119)
    summer = fx_weeks(4, first_open="2024-03-10 21:00", hours=119)

    assert findings(winter + summer, "1h") == {"weekend_gap": 7}


def test_every_longer_step_is_in_exactly_one_class():
    weeks = fx_weeks(3, first_open="2024-01-07 22:00")
    times = np.array(sorted(set(weeks) - {weeks[7]}), np.int64)

    gaps = classify_gaps(times, Timeframe.parse("1h"))

    classes = gaps.weekend.astype(int) + gaps.session + gaps.unexplained
    assert classes.tolist() == (np.diff(times) > HOUR * 10**9).astype(int).tolist()


def test_a_stamp_is_written_in_utc_to_the_second_or_as_fine_as_it_is():
    assert stamp_text(ns("2012-11-16 05:00")) == "2012-11-16T05:00:00Z"
    assert stamp_text(ns("2012-11-16 05:00") + 250 * 10**6) == "2012-11-16T05:00:00.25Z"
