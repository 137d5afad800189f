"""The stamps of audits, as the report carries them: the verdict, and whether it is of this run."""

from dataclasses import dataclass

from backlane.audit.stamp import AuditKind, AuditStamp, Verdict
from backlane.report.content import Fact
from backlane.report.document import ResultDocument
from backlane.report.formats import short, time_ns

AUDIT_FINDINGS_MAX = 50
"""Findings of an audit that the page shows; the rest are in its stamp."""

_TITLES = {AuditKind.LOOKAHEAD: "Look-ahead", AuditKind.WARMUP: "Warm-up"}
_VERDICTS = {
    Verdict.CLEAN: "nothing differs",
    Verdict.COLUMNS_DIFFER: "columns differ, no decision does",
    Verdict.DECISIONS_DIFFER: "decisions differ",
}


@dataclass(frozen=True, slots=True)
class FindingRow:
    """One column that differs, as text."""

    column: str
    first: str
    size: str
    cause: str


@dataclass(frozen=True, slots=True)
class AuditSection:
    """One audit; `strangers` names what it was made with that this result was not."""

    title: str
    verdict: str
    is_passed: bool
    strangers: str
    facts: list[Fact]
    findings: list[FindingRow]
    left_out: int


def audit_section(stamp: AuditStamp, document: ResultDocument) -> AuditSection:
    """Returns what the page says of one stamp."""
    facts = [
        Fact("seed", str(stamp.seed), "of the choice of what was checked"),
        Fact("replays", f"{stamp.replay_count:,}", f"over {stamp.bar_count:,} bars"),
        *(
            Fact(short(stage), f"{len(columns):,}", "columns compared")
            for stage, columns in stamp.columns.items()
        ),
        *(Fact("note", short(note)) for note in stamp.notes),
    ]
    return AuditSection(
        _TITLES[stamp.kind],
        _VERDICTS[stamp.verdict],
        stamp.is_passed,
        ", ".join(_strangers(stamp, document)),
        facts,
        [
            FindingRow(
                short(f"{found.stage}: {found.column}"),
                time_ns(found.first_ns),
                "" if found.size is None else f"{found.size:.3g}",
                short(found.cause),
            )
            for found in stamp.findings[:AUDIT_FINDINGS_MAX]
        ],
        max(0, len(stamp.findings) - AUDIT_FINDINGS_MAX),
    )


def _strangers(stamp: AuditStamp, document: ResultDocument) -> list[str]:
    """What the audit is not about: a stamp of another model or other bars says nothing here."""
    pairs = {
        "model": (stamp.model_digest, document.model.digest),
        "bars": (dict(stamp.dataset_digests), dict(document.datasets)),
        "configuration": (stamp.config_digest, document.config_digest),
    }
    return [name for name, (audited, own) in pairs.items() if audited != own]
