"""The stamps of audits on the page."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from backlane.audit.stamp import AuditFinding, AuditKind, AuditStamp, Verdict
from backlane.backtest.result import BacktestRun
from backlane.errors import InvalidRequestError, ResultNotFoundError
from backlane.report.audits import AUDIT_FINDINGS_MAX
from backlane.report.frames import ResultFrames
from backlane.report.page import render_report
from backlane.report.tables import read_stamp

FINDING = AuditFinding("features", "1h_rsi_low", 1_672_531_200_000_000_000, 0.25, 3, "the <future>")


@pytest.fixture
def stamp(run: BacktestRun) -> AuditStamp:
    provenance = run.provenance
    return AuditStamp(
        kind=AuditKind.LOOKAHEAD,
        verdict=Verdict.CLEAN,
        seed=7,
        bar_count=1500,
        replay_count=20,
        checked_ns=(1_672_531_200_000_000_000,),
        columns={"features": ("a", "b")},
        findings=(),
        notes=("scores of the first bar could not be compared",),
        symbol="TEST",
        profile="default",
        model="test",
        model_digest=provenance.model_digest,
        dataset_digests=provenance.dataset_digests,
        config_digest=provenance.config_digest,
        versions={},
    )


def test_a_page_without_stamps_has_no_audits(run: BacktestRun):
    assert 'id="audits"' not in render_report(ResultFrames.from_run(run))


def test_a_clean_stamp_says_what_was_compared(run: BacktestRun, stamp: AuditStamp):
    page = render_report(ResultFrames.from_run(run), [stamp])
    assert "Passed: nothing differs." in page
    assert "columns compared" in page
    assert "scores of the first bar could not be compared" in page
    assert "is of another run" not in page


def test_findings_are_listed_up_to_a_named_limit(run: BacktestRun, stamp: AuditStamp):
    found = replace(
        stamp, verdict=Verdict.DECISIONS_DIFFER, findings=(FINDING,) * (AUDIT_FINDINGS_MAX + 2)
    )
    page = render_report(ResultFrames.from_run(run), [found])
    assert "Failed: decisions differ." in page
    assert page.count("features: 1h_rsi_low") == AUDIT_FINDINGS_MAX
    assert "the &lt;future&gt;" in page
    assert "2023-01-01 00:00" in page
    assert "2 further findings are in the stamp (AUDIT_FINDINGS_MAX)" in page


def test_a_stamp_of_another_run_is_told_apart(run: BacktestRun, stamp: AuditStamp):
    other = replace(stamp, model_digest="sha256:other", dataset_digests={})
    page = render_report(ResultFrames.from_run(run), [other])
    assert "This audit is of another run; what differs: model, bars." in page


def test_a_stamp_is_read_back(stamp: AuditStamp, tmp_path: Path):
    path = tmp_path / "stamp.json"
    path.write_text(json.dumps(stamp.to_document()))
    assert read_stamp(path) == stamp


def test_a_file_that_is_no_stamp_is_refused(tmp_path: Path):
    path = tmp_path / "stamp.json"
    with pytest.raises(ResultNotFoundError, match="There is no"):
        read_stamp(path)
    path.write_text("{}")
    with pytest.raises(InvalidRequestError, match=r"stamp\.json cannot be read"):
        read_stamp(path)
