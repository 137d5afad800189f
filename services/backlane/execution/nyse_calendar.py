"""Sessions of the New York Stock Exchange: days, holidays, half days, in UTC.

Sources: NYSE Rules 7.1 and 7.2 and the exchange's published holiday calendars; New York's clock as
the Energy Policy Act of 2005 has it, and the Uniform Time Act before 2007.
"""

from datetime import date, timedelta
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

FIRST_YEAR = 1987
"""The first year whose daylight saving time these rules give."""
CLOSE_TOLERANCE_S = 60
"""Seconds around the close within which a daily bar counts as stamped at it."""
_OPEN_S, _CLOSE_S, _EARLY_CLOSE_S = 9 * 3600 + 1800, 16 * 3600, 13 * 3600
_STANDARD_OFFSET_S, _DAYLIGHT_OFFSET_S = -5 * 3600, -4 * 3600
_NS_PER_S = 10**9
_DAY_S = 86_400
_EPOCH = date(1970, 1, 1)
_MONDAY, _THURSDAY, _SATURDAY, _SUNDAY = 0, 3, 5, 6
_FULL_CLOSURES = frozenset(
    {
        *(date(2001, 9, day) for day in (11, 12, 13, 14)),
        date(2004, 6, 11),  # President Reagan
        date(2007, 1, 2),  # President Ford
        date(2012, 10, 29),  # hurricane Sandy
        date(2012, 10, 30),
        date(2018, 12, 5),  # President G. H. W. Bush
        date(2025, 1, 9),  # President Carter
    }
)
"""Days without a session that no rule gives, since 2001."""


def is_in_session(time_ns: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Says which UTC stamps (times,) lie within a session, its open and its close included."""
    return np.array([_is_inside(int(each) // _NS_PER_S) for each in time_ns], dtype=bool)


def has_session(time_ns: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Says which UTC stamps (times,) lie on a day with a session."""
    days = (int(each) // _NS_PER_S // _DAY_S for each in time_ns)
    return np.array(
        [session_utc_s(_EPOCH + timedelta(days=day)) is not None for day in days], dtype=bool
    )


def is_at_close(time_ns: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Says which UTC stamps (times,) lie within CLOSE_TOLERANCE_S of a session's close."""
    return np.array([_is_close(int(each) // _NS_PER_S) for each in time_ns], dtype=bool)


def session_utc_s(day: date) -> tuple[int, int] | None:
    """Returns open and close of a day's session in UTC seconds since 1970; None without one."""
    if day.weekday() >= _SATURDAY or day in _FULL_CLOSURES or day in _holidays(day.year):
        return None
    close_s = _EARLY_CLOSE_S if day in _half_days(day.year) else _CLOSE_S
    midnight_s = (day - _EPOCH).days * _DAY_S - _offset_s(day)
    return midnight_s + _OPEN_S, midnight_s + close_s


def _is_inside(time_s: int) -> bool:
    session = session_utc_s(_EPOCH + timedelta(days=time_s // _DAY_S))
    return session is not None and session[0] <= time_s <= session[1]


def _is_close(time_s: int) -> bool:
    session = session_utc_s(_EPOCH + timedelta(days=time_s // _DAY_S))
    return session is not None and abs(time_s - session[1]) <= CLOSE_TOLERANCE_S


def _offset_s(day: date) -> int:
    """Returns New York's seconds ahead of UTC at the session of a day."""
    if day.year >= 2007:
        first, end = _nth(day.year, 3, _SUNDAY, 2), _nth(day.year, 11, _SUNDAY, 1)
    else:
        first, end = _nth(day.year, 4, _SUNDAY, 1), _last(day.year, 10, _SUNDAY)
    return _DAYLIGHT_OFFSET_S if first <= day < end else _STANDARD_OFFSET_S


@lru_cache(maxsize=256)
def _holidays(year: int) -> frozenset[date]:
    fixed = [date(year, 7, 4), date(year, 12, 25)]
    if year >= 2022:
        fixed.append(date(year, 6, 19))
    observed = {_observed(day) for day in fixed}
    new_year = date(year, 1, 1)
    # A New Year's Day on a Saturday is not kept on the Friday, the last day of the fiscal year.
    if new_year.weekday() != _SATURDAY:
        observed.add(_observed(new_year))
    if year >= 1998:
        observed.add(_nth(year, 1, _MONDAY, 3))  # Martin Luther King
    observed.add(_nth(year, 2, _MONDAY, 3))  # Presidents
    observed.add(_easter(year) - timedelta(days=2))
    observed.add(_last(year, 5, _MONDAY))  # Memorial Day
    observed.add(_nth(year, 9, _MONDAY, 1))  # Labor Day
    observed.add(_nth(year, 11, _THURSDAY, 4))  # Thanksgiving
    return frozenset(observed)


@lru_cache(maxsize=256)
def _half_days(year: int) -> frozenset[date]:
    """The sessions that end at 13:00, as since 2013; none of them is a holiday."""
    days = {_nth(year, 11, _THURSDAY, 4) + timedelta(days=1), date(year, 7, 3), date(year, 12, 24)}
    return frozenset(days - _holidays(year))


def _observed(day: date) -> date:
    shift = {_SATURDAY: -1, _SUNDAY: 1}.get(day.weekday(), 0)
    return day + timedelta(days=shift)


def _nth(year: int, month: int, weekday: int, count: int) -> date:
    first = date(year, month, 1)
    return first + timedelta(days=(weekday - first.weekday()) % 7 + 7 * (count - 1))


def _last(year: int, month: int, weekday: int) -> date:
    following = date(year, month, 28) + timedelta(days=4)
    end = following - timedelta(days=following.day)
    return end - timedelta(days=(end.weekday() - weekday) % 7)


def _easter(year: int) -> date:
    """Returns Easter Sunday (the anonymous Gregorian algorithm; Meeus, Astronomical Algorithms)."""
    golden, century, rest = year % 19, year // 100, year % 100
    corrected = (
        19 * golden + century - century // 4 - (century - (century + 8) // 25 + 1) // 3 + 15
    ) % 30
    weekday = (32 + 2 * (century % 4) + 2 * (rest // 4) - corrected - rest % 4) % 7
    late = (golden + 11 * corrected + 22 * weekday) // 451
    month, day = divmod(corrected + weekday - 7 * late + 114, 31)
    return date(year, month, day + 1)
