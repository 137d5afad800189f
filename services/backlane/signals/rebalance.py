"""When a portfolio is rebalanced: the first session of each period."""

from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

_MONDAY_OFFSET_DAYS = 3
"""1970-01-01, day 0, was a Thursday, the third day after its Monday."""


class Rebalance(StrEnum):
    """How often a portfolio is rebalanced, as files name it."""

    DAILY = "D"  # at every bar
    WEEKLY = "W"
    MONTHLY = "M"


class RebalanceRule(StrEnum):
    """Which bar of a week or a month is the one."""

    FIRST_SESSION = "first_session"
    CALENDAR_DAY = "calendar_day"  # Monday, or day 1: none where that is a holiday (SPEC Q13)


def rebalance_bars(
    time_ns: NDArray[np.int64],
    frequency: Rebalance,
    rule: RebalanceRule = RebalanceRule.FIRST_SESSION,
) -> NDArray[np.bool_]:
    """Marks the bars to rebalance at, shape (times,), by their date in UTC.

    The first bar of the data is the first session of its period: what lies before is not known.
    Bars of Friday 1, Monday 4 and Tuesday 5 January: weekly 1 and 4, monthly 1 alone.
    """
    if frequency is Rebalance.DAILY:
        return np.ones(len(time_ns), dtype=bool)
    days = time_ns.astype("datetime64[ns]").astype("datetime64[D]")
    months = days.astype("datetime64[M]")
    day_numbers = days.astype(np.int64) + _MONDAY_OFFSET_DAYS
    if rule is RebalanceRule.CALENDAR_DAY:
        if frequency is Rebalance.WEEKLY:
            return np.asarray(day_numbers % 7 == 0)
        return np.asarray(days == months.astype("datetime64[D]"))
    period = day_numbers // 7 if frequency is Rebalance.WEEKLY else months.astype(np.int64)
    is_first = np.ones(len(time_ns), dtype=bool)
    is_first[1:] = period[1:] != period[:-1]
    return is_first
