"""The stamp of an audit: what was checked, with which seed, and what came of it.

It loads nothing but this file, so that a report and a client can read one.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

STAMP_FORMAT = "backlane.audit.v1"

FEATURES, SCORES, DECISIONS, ORDERS, ACCOUNT = (
    "features",
    "scores",
    "decisions",
    "orders",
    "account",
)
BARS = "bars"
STAGES = (BARS, FEATURES, SCORES, DECISIONS, ORDERS, ACCOUNT)
"""The stages of a run, in the order in which one feeds the next."""

_ACTED_ON = (DECISIONS, ORDERS, ACCOUNT)


class AuditKind(StrEnum):
    """Which question was asked."""

    LOOKAHEAD = "lookahead"  # does anything before a bar depend on what came after it
    WARMUP = "warmup"  # does anything depend on how much history was loaded


class Verdict(StrEnum):
    """What came of it, from good to bad."""

    CLEAN = "clean"
    COLUMNS_DIFFER = "columns_differ"  # numbers differ, and no decision does
    DECISIONS_DIFFER = "decisions_differ"


@dataclass(frozen=True, slots=True)
class AuditFinding:
    """One column that differs.

    `first_ns` is the earliest bar at which it does (open time, UTC nanoseconds); `size` the largest
    difference there was, None when a value was there in one of the two alone, or is no number.
    `replay_count` says in how many replays it differed. Of a warm-up, `bars_loaded` is how many
    bars of the column's timeframe were there at the first decision, and `bars_needed` how many it
    would take, at least.
    """

    stage: str
    column: str
    first_ns: int
    size: float | None
    replay_count: int
    cause: str
    bars_loaded: int | None = None
    bars_needed: int | None = None


@dataclass(frozen=True, slots=True)
class AuditStamp:
    """What was checked and the verdict. Digests are `sha256:<hex>`; times UTC nanoseconds.

    `checked_ns` are the bars at which the data was cut (look-ahead), or the start dates (warm-up).
    `columns` has, by stage, what was compared. `notes` says what could not be checked, and why.
    """

    kind: AuditKind
    verdict: Verdict
    seed: int
    bar_count: int
    replay_count: int
    checked_ns: tuple[int, ...]
    columns: Mapping[str, tuple[str, ...]]
    findings: tuple[AuditFinding, ...]
    notes: tuple[str, ...]
    symbol: str
    profile: str
    model: str
    model_digest: str
    dataset_digests: Mapping[str, str]
    config_digest: str
    versions: Mapping[str, str]

    @property
    def is_passed(self) -> bool:
        """Whether the audit gives no reason to distrust the decisions.

        Any look-ahead is one; a column that is not fully warm is one only when a decision changes.
        """
        if self.kind is AuditKind.LOOKAHEAD:
            return self.verdict is Verdict.CLEAN
        return self.verdict is not Verdict.DECISIONS_DIFFER

    def to_document(self) -> dict[str, Any]:
        """Returns the stamp as plain data for JSON; times are ISO 8601."""
        document = asdict(self)
        document["columns"] = {stage: list(names) for stage, names in self.columns.items()}
        document["notes"] = list(self.notes)
        document["findings"] = [_finding_document(finding) for finding in self.findings]
        document["checked"] = [iso_time(time_ns) for time_ns in document.pop("checked_ns")]
        return {"format": STAMP_FORMAT, "is_passed": self.is_passed} | document


def verdict_of(findings: tuple[AuditFinding, ...]) -> Verdict:
    """Returns the worst that the findings say."""
    if any(finding.stage in _ACTED_ON for finding in findings):
        return Verdict.DECISIONS_DIFFER
    return Verdict.COLUMNS_DIFFER if findings else Verdict.CLEAN


def parse_stamp(document: Mapping[str, Any]) -> AuditStamp:
    """Reads what `to_document` gives; ValueError for anything else."""
    if document.get("format") != STAMP_FORMAT:
        raise ValueError(f"the format is {document.get('format')!r}, not {STAMP_FORMAT!r}")
    try:
        values = {name: document[name] for name in AuditStamp.__slots__ if name != "checked_ns"}
        return AuditStamp(
            **values
            | {
                "kind": AuditKind(values["kind"]),
                "verdict": Verdict(values["verdict"]),
                "checked_ns": tuple(time_ns_of(text) for text in document["checked"]),
                "columns": {name: tuple(each) for name, each in values["columns"].items()},
                "findings": tuple(_parse_finding(each) for each in values["findings"]),
                "notes": tuple(values["notes"]),
            }
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"it is no stamp of an audit: {error}") from error


def iso_time(time_ns: int) -> str:
    """Returns 2023-01-01T22:00:00Z; fractions of a second are kept where there are any."""
    whole = f"{datetime.fromtimestamp(time_ns // 10**9, UTC):%Y-%m-%dT%H:%M:%S}"
    fraction = time_ns % 10**9
    return f"{whole}.{fraction:09d}Z" if fraction else f"{whole}Z"


def time_ns_of(text: str) -> int:
    """Returns UTC nanoseconds of what `iso_time` wrote."""
    whole, _, fraction = text.removesuffix("Z").partition(".")
    seconds = int(datetime.fromisoformat(whole).replace(tzinfo=UTC).timestamp())
    return seconds * 10**9 + int(fraction or 0)


def _finding_document(finding: AuditFinding) -> dict[str, Any]:
    document = asdict(finding)
    document["first_bar"] = iso_time(document.pop("first_ns"))
    return document


def _parse_finding(document: Mapping[str, Any]) -> AuditFinding:
    values = {name: document[name] for name in AuditFinding.__slots__ if name != "first_ns"}
    return AuditFinding(**values, first_ns=time_ns_of(document["first_bar"]))
