"""The numbers that every metric is computed from, gathered once."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from backlane.metrics.rules import Annualization, MaxDrawdownMoney, MetricRules

DAY_NS = 86_400_000_000_000
DAYS_PER_YEAR = 365.25
YEAR_NS = DAYS_PER_YEAR * DAY_NS
HOUR_NS = 3_600_000_000_000
MIN_ANNUALIZED_DAYS = 30
"""Shorter spans give no annualized return: a good day would make thousands of percent a year."""

ROUNDING = 8 * 2.0**-52
"""What the roundings in an equity can make of nothing, as a share of it: a few units in its last
place. A change or a fall that is no larger cannot be told from none."""


class UndefinedMetricError(Exception):
    """A metric has no value for this sample; the text says why.

    `reference_value` is what the reference engine reports in such a case, None for its usual 0.
    """

    def __init__(self, reason: str, reference_value: float | None = None) -> None:
        super().__init__(reason)
        self.reference_value = reference_value


@dataclass(frozen=True, eq=False)
class Sample:
    """One run, as metrics see it.

    `equity` is float64 of shape (points,), at the closes of the marked bars; `time_ns` are their
    open times. `net_pnl` and `holding_hours` have one value for each closed trade. `traded_value`
    is the sum of price x quantity over all fills. `first_ns` and `last_ns` bound the run: the open
    of the first bar and the close of the last, or, where a year is 252 bars, what was asked for
    (None when nothing was).
    """

    rules: MetricRules
    initial_cash: float
    time_ns: NDArray[np.int64]
    equity: NDArray[np.float64]
    position: NDArray[np.float64]
    net_pnl: NDArray[np.float64]
    holding_hours: NDArray[np.float64]
    commission: float
    slippage: float
    financing: float
    traded_value: float
    first_ns: int | None
    last_ns: int | None

    @cached_property
    def returns(self) -> NDArray[np.float64]:
        """Relative changes from point to point, only where the earlier equity is > 0."""
        earlier, later = self.equity[:-1], self.equity[1:]
        usable = earlier > 0
        return (later[usable] - earlier[usable]) / earlier[usable]

    @cached_property
    def returns_rounding(self) -> float:
        """The largest return that may be nothing but rounding."""
        return ROUNDING * (1.0 + float(np.max(np.abs(self.returns), initial=0.0)))

    @cached_property
    def years(self) -> float:
        """Length of the run in years of 365.25 days."""
        if self.first_ns is None or self.last_ns is None:
            return len(self.equity) / (252 * 6.5)  # the reference's guess: hourly bars of shares
        span_ns = self.last_ns - self.first_ns
        if self.rules.annualization is Annualization.BARS_252:
            return span_ns // DAY_NS / DAYS_PER_YEAR
        return span_ns / YEAR_NS

    @cached_property
    def periods_per_year(self) -> float:
        """Returns in a year: counted over the run itself, or 252."""
        if self.rules.annualization is Annualization.BARS_252:
            return 252.0
        if self.years <= 0:
            raise UndefinedMetricError("the run has no length")
        return len(self.equity) / self.years

    @cached_property
    def equity_from_start(self) -> NDArray[np.float64]:
        """The equity curve after the initial cash, so that a loss at once is a drawdown."""
        if self.rules.max_drawdown_money is MaxDrawdownMoney.FINAL_PEAK:
            return self.equity
        return np.concatenate(([self.initial_cash], self.equity))

    @cached_property
    def peak(self) -> NDArray[np.float64]:
        """Highest equity so far, at each point of `equity_from_start`."""
        return np.maximum.accumulate(self.equity_from_start)

    def final_equity(self) -> float:
        """Returns the last equity; the initial cash when no bar was marked."""
        return float(self.equity[-1]) if len(self.equity) else self.initial_cash
