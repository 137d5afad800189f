"""What a check of bars can find, as a closed set, and the report that holds it."""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Self

from backlane.errors import DataRefusedError


class Severity(StrEnum):
    """What follows from a finding: the bars are refused, the user is warned, or just told."""

    REFUSE = "refuse"
    WARN = "warn"
    INFO = "info"


class FindingCode(StrEnum):
    """Everything that a check can find. The values are stable: scripts match on them."""

    # The file cannot be understood.
    EMPTY = "empty"
    UNREADABLE_FILE = "unreadable_file"
    TRUNCATED_FILE = "truncated_file"
    MISSING_COLUMN = "missing_column"
    AMBIGUOUS_COLUMN = "ambiguous_column"
    BROKEN_ROW = "broken_row"
    NOT_A_NUMBER = "not_a_number"
    # The stamps cannot be placed in time.
    NOT_A_TIME = "not_a_time"
    MIXED_ZONES = "mixed_zones"
    AMBIGUOUS_LOCAL_TIME = "ambiguous_local_time"
    NONEXISTENT_LOCAL_TIME = "nonexistent_local_time"
    # The bars contradict themselves or each other.
    DUPLICATE = "duplicate"
    DISORDER = "disorder"
    WRONG_TIMEFRAME = "wrong_timeframe"
    PRICE_NOT_FINITE = "price_not_finite"
    PRICE_NOT_POSITIVE = "price_not_positive"
    HIGH_BELOW_LOW = "high_below_low"
    OPEN_CLOSE_OUTSIDE_RANGE = "open_close_outside_range"
    VOLUME_NOT_FINITE = "volume_not_finite"
    NEGATIVE_VOLUME = "negative_volume"
    # Worth a look; never blocks.
    GAP = "gap"
    OFF_GRID = "off_grid"
    CLOCK_SHIFT = "clock_shift"
    NAIVE_STAMPS = "naive_stamps"
    TIMEZONE_UNUSED = "timezone_unused"
    FUTURE_STAMP = "future_stamp"
    ZERO_VOLUME = "zero_volume"
    NO_VOLUME = "no_volume"
    RANGE_ROUNDING = "range_rounding"
    PRICES_IN_POINTS = "prices_in_points"
    # Good to know.
    WEEKEND_GAP = "weekend_gap"
    SESSION_GAP = "session_gap"
    GRID_OFFSET = "grid_offset"
    TICK_VOLUME = "tick_volume"

    @property
    def severity(self) -> Severity:
        """What follows from a finding of this code; the same for every file."""
        if self in _WARNINGS:
            return Severity.WARN
        return Severity.INFO if self in _REMARKS else Severity.REFUSE


_WARNINGS = frozenset(
    {
        FindingCode.GAP,
        FindingCode.OFF_GRID,
        FindingCode.CLOCK_SHIFT,
        FindingCode.NAIVE_STAMPS,
        FindingCode.TIMEZONE_UNUSED,
        FindingCode.FUTURE_STAMP,
        FindingCode.ZERO_VOLUME,
        FindingCode.NO_VOLUME,
        FindingCode.RANGE_ROUNDING,
        FindingCode.PRICES_IN_POINTS,
    }
)
_REMARKS = frozenset(
    {
        FindingCode.WEEKEND_GAP,
        FindingCode.SESSION_GAP,
        FindingCode.GRID_OFFSET,
        FindingCode.TICK_VOLUME,
    }
)
_RANK = {Severity.REFUSE: 0, Severity.WARN: 1, Severity.INFO: 2}


@dataclass(frozen=True, slots=True)
class Finding:
    """One kind of thing that was found, how often, and where first.

    `count` is in rows, steps between bars, or files, as the message says; `first_example` points
    at one of them; `message` says what it means and what to do; `subject` is the column that it is
    about, where it is about one.
    """

    code: FindingCode
    count: int
    first_example: str
    message: str
    subject: str = ""

    @property
    def severity(self) -> Severity:
        """What follows from it."""
        return self.code.severity

    def __str__(self) -> str:
        example = f" (first: {self.first_example})" if self.first_example else ""
        return f"{self.code}: {self.count}{example}. {self.message}"


@dataclass(frozen=True, slots=True)
class QualityReport:
    """Everything found in bars, the gravest first. `bar_count` is how many rows were looked at."""

    bar_count: int
    findings: tuple[Finding, ...]

    @classmethod
    def of(cls, bar_count: int, findings: Iterable[Finding]) -> Self:
        """Returns the report with its findings in order: refusals, warnings, remarks."""
        return cls(bar_count, tuple(sorted(findings, key=lambda found: _RANK[found.severity])))

    @property
    def refusals(self) -> tuple[Finding, ...]:
        """The findings that would make a backtest a lie."""
        return tuple(found for found in self.findings if found.severity is Severity.REFUSE)

    @property
    def is_refused(self) -> bool:
        """Whether bars with this report may not be used."""
        return bool(self.refusals)

    def finding(self, code: FindingCode) -> Finding | None:
        """Returns the finding of this code, or None when there is none."""
        return next((found for found in self.findings if found.code is code), None)

    def raise_if_refused(self, source: str) -> None:
        """Raises DataRefusedError naming every refusing finding of the bars that `source` names."""
        refusals = self.refusals
        if not refusals:
            return
        listed = "".join(f"\n- {found}" for found in refusals)
        told = f" {refusals[0]}" if len(refusals) == 1 else listed
        raise DataRefusedError(
            f"{source} is refused, because a backtest on it would be a lie:{told}",
            metadata={
                "source": source,
                **{str(found.code): str(found.count) for found in refusals},
            },
        )
