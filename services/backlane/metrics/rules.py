"""The switches of the metrics: light, so that requests can name them without numpy."""

from dataclasses import dataclass
from enum import Enum


class Annualization(Enum):
    """What a year is."""

    BAR_CALENDAR = "bar_calendar"  # as many periods as the bars' own calendar has in a year
    BARS_252 = "252_bars"  # ktrdr: 252 periods, whatever a bar is


class MaxDrawdownMoney(Enum):
    """The money of the maximum drawdown."""

    AT_TROUGH = "at_trough"
    FINAL_PEAK = "final_peak"  # ktrdr: the fraction times the last peak


class SortinoDeviation(Enum):
    """What the Sortino ratio divides by."""

    DOWNSIDE = "downside"
    STD_OF_NEGATIVES = "std_of_negatives"  # ktrdr: the spread among the negative returns


class UndefinedMetrics(Enum):
    """What stands for a metric that is not defined."""

    ABSENT = "absent"  # nothing, with the reason
    FILLERS = "fillers"  # ktrdr: 0, or 999999 for a profit factor without losses


@dataclass(frozen=True, slots=True)
class MetricRules:
    """How metrics are computed; the defaults are what we hold to be right."""

    annualization: Annualization = Annualization.BAR_CALENDAR
    max_drawdown_money: MaxDrawdownMoney = MaxDrawdownMoney.AT_TROUGH
    sortino_deviation: SortinoDeviation = SortinoDeviation.DOWNSIDE
    undefined_metrics: UndefinedMetrics = UndefinedMetrics.ABSENT
