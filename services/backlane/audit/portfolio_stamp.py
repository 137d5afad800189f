"""The stamp of an audit of a portfolio: what was checked, and what differed, by instrument.

It loads nothing but the records of `audit.stamp`, so that a report and a client can read one.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from backlane.audit.stamp import AuditKind, Verdict, iso_time

PORTFOLIO_STAMP_FORMAT = "backlane.portfolio-audit.v1"
FINDINGS_MAX = 1000
"""Findings that a stamp keeps; of more, the earliest, and a note says how many there were."""

FEATURES, SIGNALS, TARGETS, ORDERS, FILLS, ACCOUNT = (
    "features",
    "signals",
    "targets",
    "orders",
    "fills",
    "account",
)
RUN = "run"
STAGES = (RUN, FEATURES, SIGNALS, TARGETS, ORDERS, FILLS, ACCOUNT)
"""What is compared, in the order in which one follows from another.

`run` is the run itself: that it can be made at all.
"""
ACTED_ON = frozenset({RUN, TARGETS, ORDERS, FILLS, ACCOUNT})


@dataclass(frozen=True, slots=True)
class PortfolioFinding:
    """One column of one instrument that differs; `instrument` is empty for the account.

    `first_ns` is the earliest bar at which it does (UTC nanoseconds), `size` the largest difference
    there, None where a value was there in one of the two alone, or is no number. `replays` says in
    how many replays of each kind it differed. Of a warm-up, `bars_loaded` is how many bars there
    were before the first one compared, and `bars_needed` how many it takes, at least.
    """

    stage: str
    column: str
    instrument: str
    first_ns: int
    size: float | None
    replays: Mapping[str, int]
    cause: str
    bars_loaded: int | None = None
    bars_needed: int | None = None


@dataclass(frozen=True, slots=True)
class PortfolioStamp:
    """What was checked and the verdict. Digests are `sha256:<hex>`; times UTC nanoseconds.

    `checked_ns` are the bars at which the data was cut (look-ahead), or the start dates (warm-up).
    `columns` has, by stage, what was compared. `notes` says what could not be checked, and why.
    """

    kind: AuditKind
    verdict: Verdict
    seed: int
    bar_count: int
    instrument_count: int
    replay_count: int
    checked_ns: tuple[int, ...]
    columns: Mapping[str, tuple[str, ...]]
    findings: tuple[PortfolioFinding, ...]
    notes: tuple[str, ...]
    strategies: tuple[str, ...]
    config_digest: str
    dataset_digests: Mapping[str, str]
    versions: Mapping[str, str]

    @property
    def is_passed(self) -> bool:
        """Whether the audit gives no reason to distrust the decisions.

        Any look-ahead is one; of a warm-up, what changes a decision.
        """
        if self.kind is AuditKind.LOOKAHEAD:
            return self.verdict is Verdict.CLEAN
        return self.verdict is not Verdict.DECISIONS_DIFFER

    def to_document(self) -> dict[str, Any]:
        """Returns the stamp as plain data for JSON; times are ISO 8601."""
        document = asdict(self)
        document["columns"] = {stage: list(names) for stage, names in self.columns.items()}
        for name in ("notes", "strategies"):
            document[name] = list(document[name])
        document["checked"] = [iso_time(time_ns) for time_ns in document.pop("checked_ns")]
        document["findings"] = [_finding_document(each) for each in self.findings]
        return {"format": PORTFOLIO_STAMP_FORMAT, "is_passed": self.is_passed} | document


def verdict_on(
    findings: tuple[PortfolioFinding, ...], acted_on: frozenset[str] = ACTED_ON
) -> Verdict:
    """Returns the worst that the findings say; a stage in `acted_on` holds decisions."""
    if any(finding.stage in acted_on for finding in findings):
        return Verdict.DECISIONS_DIFFER
    return Verdict.COLUMNS_DIFFER if findings else Verdict.CLEAN


def _finding_document(finding: PortfolioFinding) -> dict[str, Any]:
    document = asdict(finding)
    document["first_bar"] = iso_time(document.pop("first_ns"))
    return document
