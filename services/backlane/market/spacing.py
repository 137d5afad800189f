"""The steps between bars: which gaps a closed market explains, and which nothing does.

**Weekend.** Foreign exchange closes on Friday 17:00 New York time for 48 hours. A file may be
stamped in New York time, in UTC or in a server's time up to UTC+4, so the closure begins between
Friday 16:00 and Saturday 02:00 and ends between Sunday 16:00 and Monday 02:00. It may last
50 hours: a server that changes its clock on other days than New York loses an hour in those weeks,
and many stop an hour early on Fridays. A gap inside these bounds is a weekend gap; a longer one,
as over Christmas, is a gap, because something besides the weekend is missing.

**Session.** A market that closes every day leaves a gap between the same two times of day; one
that is seen on at least a fifth of all days is a session gap, and the same closure two days longer
over a Saturday is a weekend gap.

**Daily and longer bars.** Saturday and Sunday without a bar are their normal spacing.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from backlane.market.finding import Finding, FindingCode
from backlane.market.timeframe import Timeframe

Times = NDArray[np.int64]
Mask = NDArray[np.bool_]

_MINUTE_NS = 60 * 10**9
_HOUR_NS = 3600 * 10**9
_DAY_NS = 24 * _HOUR_NS
_WEEK_NS = 7 * _DAY_NS
# 1970-01-01 was a Thursday; weeks are counted from Monday 1970-01-05.
_FIRST_MONDAY_NS = 4 * _DAY_NS
_FRIDAY_NS, _SATURDAY_NS, _SUNDAY_NS = 4 * _DAY_NS, 5 * _DAY_NS, 6 * _DAY_NS

EARLIEST_WEEKEND_START_NS = _FRIDAY_NS + 16 * _HOUR_NS
LATEST_WEEKEND_START_NS = _SATURDAY_NS + 2 * _HOUR_NS
EARLIEST_WEEKEND_END_NS = _SUNDAY_NS + 16 * _HOUR_NS
LATEST_WEEKEND_END_NS = _WEEK_NS + 2 * _HOUR_NS
LONGEST_WEEKEND_NS = 50 * _HOUR_NS
SESSION_SHARE = 0.2
# Fewer steps of one timeframe than this, and the file holds bars of another one.
REGULAR_STEP_SHARE = 0.25
# A clock that follows daylight saving moves by this much.
CLOCK_CHANGE_NS = _HOUR_NS


def stamp_text(time_ns: np.int64 | int) -> str:
    """Returns the UTC time as `2012-11-16T05:00:00Z`; below a second, only what is there."""
    text = str(np.datetime_as_string(np.datetime64(int(time_ns), "ns"), unit="ns"))
    return text.rstrip("0").rstrip(".") + "Z" if int(time_ns) % 10**9 else f"{text[:19]}Z"


@dataclass(frozen=True, slots=True)
class Gaps:
    """The steps longer than a bar, as masks of shape (steps,); each gap is in exactly one of them.

    `missing` counts the whole bars that would fit into each step, 0 for a step without a gap.
    """

    missing: NDArray[np.int64]
    weekend: Mask
    session: Mask
    unexplained: Mask


def check_spacing(times: Times, timeframe: Timeframe) -> list[Finding]:
    """Returns what is remarkable about the steps between strictly increasing open times."""
    if len(times) < 2:
        return []
    gaps = classify_gaps(times, timeframe)
    if wrong := _wrong_timeframe(times, timeframe, gaps):
        # Measured in another timeframe's bars, gaps and grid would mean nothing.
        return [wrong]
    return [
        *_gap_findings(times, timeframe, gaps),
        *_check_grid(times, timeframe),
        *_check_clock(times, timeframe, gaps),
    ]


def classify_gaps(times: Times, timeframe: Timeframe) -> Gaps:
    """Says of each step between strictly increasing open times whether it is a gap, and why."""
    length = timeframe.length_ns
    closes, opens = times[:-1] + length, times[1:]
    # A day of local time may last 23 hours, and its bar is still one bar.
    slack = CLOCK_CHANGE_NS if length >= _DAY_NS else 0
    missing = np.maximum((opens - closes + slack) // length, 0)
    is_gap = missing > 0
    if length >= _DAY_NS:
        weekend = is_gap & _misses_only_weekend_days(closes, missing, length)
        session = np.zeros_like(is_gap)
    else:
        session, session_weekend = _session_gaps(times, closes, opens, is_gap)
        weekend = is_gap & _fits_weekend(closes, opens) & _is_closed_on_weekends(times, is_gap)
        weekend |= session_weekend
        session &= ~weekend
    return Gaps(missing, weekend, session, is_gap & ~weekend & ~session)


def _time_of_week(times: Times) -> Times:
    return (times - _FIRST_MONDAY_NS) % _WEEK_NS


def _distinct_count(ascending: Times) -> int:
    return int(np.count_nonzero(np.diff(ascending))) + min(len(ascending), 1)


def _fits_weekend(closes: Times, opens: Times) -> Mask:
    start = _time_of_week(closes)
    end = start + (opens - closes)
    return (
        (start >= EARLIEST_WEEKEND_START_NS)
        & (start <= LATEST_WEEKEND_START_NS)
        & (end >= EARLIEST_WEEKEND_END_NS)
        & (end <= LATEST_WEEKEND_END_NS)
        & (opens - closes <= LONGEST_WEEKEND_NS)
    )


def _is_closed_on_weekends(times: Times, is_gap: Mask) -> bool:
    """Says whether the market rests on weekends: more Saturdays without bars than with."""
    of_week = _time_of_week(times)
    inside = (of_week >= LATEST_WEEKEND_START_NS) & (of_week < EARLIEST_WEEKEND_END_NS)
    traded = _distinct_count((times[inside] - _FIRST_MONDAY_NS) // _WEEK_NS)
    over_saturday = is_gap & _contains_saturday_noon(times[:-1], times[1:])
    return int(over_saturday.sum()) > traded


def _contains_saturday_noon(starts: Times, ends: Times) -> Mask:
    noon = _FIRST_MONDAY_NS + _SATURDAY_NS + 12 * _HOUR_NS
    return (ends - noon) // _WEEK_NS > (starts - noon) // _WEEK_NS


def _session_gaps(times: Times, closes: Times, opens: Times, is_gap: Mask) -> tuple[Mask, Mask]:
    """Returns the gaps of a market's daily closure, and of the same closure over weekends."""
    close_minute = (closes % _DAY_NS) // _MINUTE_NS
    open_minute = (opens % _DAY_NS) // _MINUTE_NS
    within_a_day = is_gap & (opens - closes < _DAY_NS)
    pairs = close_minute * 1440 + open_minute
    seen, counts = np.unique(pairs[within_a_day], return_counts=True)
    day_count = _distinct_count(times // _DAY_NS)
    # Once is no habit: short files would otherwise explain every hole away.
    regular = seen[(counts >= SESSION_SHARE * day_count) & (counts >= 2)]
    session = within_a_day & np.isin(pairs, regular)
    night = opens - closes - 2 * _DAY_NS
    weekend = (
        is_gap
        & np.isin(close_minute, regular // 1440)
        & np.isin(open_minute, regular % 1440)
        & (night > 0)
        & (night < _DAY_NS)
        & _contains_saturday_noon(closes, opens)
    )
    return session, weekend


def _misses_only_weekend_days(closes: Times, missing: NDArray[np.int64], length: int) -> Mask:
    # The middle of a missing day names it, wherever in the world its midnight was.
    first = _time_of_week(closes + length // 2)
    last = first + (missing - 1) * length
    return (first >= _SATURDAY_NS) & (last < _WEEK_NS)


def _wrong_timeframe(times: Times, timeframe: Timeframe, gaps: Gaps) -> Finding | None:
    length = timeframe.length_ns
    steps = np.diff(times)
    slack = CLOCK_CHANGE_NS if length >= _DAY_NS else 0
    overlapping = steps < length - slack
    regular = ~overlapping & (gaps.missing == 0)
    expected = len(steps) - int(gaps.weekend.sum())
    if bool(overlapping.any()):
        wrong = overlapping
        meaning = f"Bars open before the {timeframe} bar ahead of them has closed"
    elif int(regular.sum()) < REGULAR_STEP_SHARE * expected:
        wrong = ~regular & ~gaps.weekend
        meaning = f"Hardly any bar follows the one before it by {timeframe}"
    else:
        return None
    lengths, counts = np.unique(steps, return_counts=True)
    common = int(lengths[counts.argmax()])
    first = int(wrong.argmax())
    return Finding(
        FindingCode.WRONG_TIMEFRAME,
        int(wrong.sum()),
        _step_text(times, first),
        f"{meaning}; the most common step is {_length_text(common)}: name the timeframe that "
        "the file really has, and split a file that mixes several.",
    )


def _gap_findings(times: Times, timeframe: Timeframe, gaps: Gaps) -> Iterator[Finding]:
    is_daily = timeframe.length_ns >= _DAY_NS
    if bool(gaps.weekend.any()) and not is_daily:
        yield _gap_finding(
            FindingCode.WEEKEND_GAP, times, gaps.weekend, "The market was closed for the weekend."
        )
    if bool(gaps.session.any()):
        yield _gap_finding(
            FindingCode.SESSION_GAP,
            times,
            gaps.session,
            "The market closes at these times of day on most days.",
        )
    if bool(gaps.unexplained.any()):
        missing = int(gaps.missing[gaps.unexplained].sum())
        holidays = _touches_year_end(times, timeframe, gaps.unexplained)
        yield _gap_finding(
            FindingCode.GAP,
            times,
            gaps.unexplained,
            f"No weekend explains these; {missing} bars of {timeframe} would fit into them, "
            f"Saturdays and Sundays included. {holidays} of them touch Christmas or New Year.",
        )


def _gap_finding(code: FindingCode, times: Times, mask: Mask, message: str) -> Finding:
    return Finding(code, int(mask.sum()), _step_text(times, int(mask.argmax())), message)


def _touches_year_end(times: Times, timeframe: Timeframe, gap: Mask) -> int:
    """Counts the gaps that reach into 24 to 26 December or 31 December to 2 January."""
    starts = times[:-1][gap] + timeframe.length_ns
    ends = times[1:][gap] - 1
    years = starts.astype("datetime64[ns]").astype("datetime64[Y]")
    touched = np.zeros(len(starts), dtype=np.bool_)
    for year in (years - 1, years, years + 1):
        january = year.astype("datetime64[D]")
        for first_day, last_day in ((-8, -5), (-1, 2)):
            first = (january + first_day).astype("datetime64[ns]").astype(np.int64)
            last = (january + last_day).astype("datetime64[ns]").astype(np.int64)
            touched |= (starts < last) & (ends >= first)
    return int(touched.sum())


def _check_grid(times: Times, timeframe: Timeframe) -> Iterator[Finding]:
    length = min(timeframe.length_ns, _DAY_NS)
    phases = times % length
    values, counts = np.unique(phases, return_counts=True)
    common = int(values[counts.argmax()])
    distance = np.abs(phases - common)
    distance = np.minimum(distance, length - distance)
    follows_clock = (length > _HOUR_NS) & (distance == CLOCK_CHANGE_NS)
    off = (distance != 0) & ~follows_clock
    if bool(off.any()):
        yield Finding(
            FindingCode.OFF_GRID,
            int(off.sum()),
            stamp_text(times[int(off.argmax())]),
            f"Bars open beside the grid of {timeframe} that the others keep.",
        )
    if common:
        moved = " or an hour beside it" if bool(follows_clock.any()) else ""
        yield Finding(
            FindingCode.GRID_OFFSET,
            len(times) - int(off.sum()),
            stamp_text(times[int((phases == common).argmax())]),
            f"Bars open {_length_text(common)} after a whole {timeframe} of UTC{moved}: "
            "the vendor counts from another midnight.",
        )


def _check_clock(times: Times, timeframe: Timeframe, gaps: Gaps) -> Iterator[Finding]:
    """Finds a lasting jump of the hour at which the weeks open: two clocks in one file."""
    openings = times[1:][gaps.weekend]
    if timeframe.length_ns >= _DAY_NS or len(openings) < 4:
        return
    opening_ns = _time_of_week(openings)
    jumps = np.abs(np.diff(opening_ns))
    jumps = np.minimum(jumps, _WEEK_NS - jumps)
    jumped = jumps > max(CLOCK_CHANGE_NS, timeframe.length_ns)
    # Two quiet weeks on either side: a late opening after a holiday is no other clock.
    lasting = jumped[1:-1] & ~jumped[:-2] & ~jumped[2:]
    if bool(lasting.any()):
        first = int(lasting.argmax()) + 2
        yield Finding(
            FindingCode.CLOCK_SHIFT,
            int(lasting.sum()),
            f"weeks open at {_clock_text(int(openings[first - 1]))}, "
            f"from {stamp_text(openings[first])} on at {_clock_text(int(openings[first]))}",
            "The hour at which the weeks open moves by more than daylight saving: the file was "
            "likely put together from two time zones.",
        )


def _clock_text(time_ns: int) -> str:
    day = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")[
        (time_ns - _FIRST_MONDAY_NS) % _WEEK_NS // _DAY_NS
    ]
    return f"{day} {stamp_text(time_ns)[11:16]}"


def _step_text(times: Times, step: int) -> str:
    before, after = times[step], times[step + 1]
    length = _length_text(int(after - before))
    return f"{stamp_text(before)} to {stamp_text(after)}, {length}"


def _length_text(length_ns: int) -> str:
    for unit_ns, unit in ((_DAY_NS, "d"), (_HOUR_NS, "h")):
        if length_ns % unit_ns == 0:
            return f"{length_ns // unit_ns}{unit}"
    hours, rest_ns = divmod(length_ns, _HOUR_NS)
    minutes, rest_ns = divmod(rest_ns, _MINUTE_NS)
    parts = (f"{hours}h" if hours else "", f"{minutes}m" if minutes else "")
    return "".join(parts) + (f"{rest_ns / 1e9:g}s" if rest_ns else "")
