"""A stamp survives JSON, and says whether it is passed."""

import json
from dataclasses import replace

import pytest

from backlane.audit.stamp import (
    AuditFinding,
    AuditKind,
    AuditStamp,
    Verdict,
    iso_time,
    parse_stamp,
    time_ns_of,
    verdict_of,
)

FINDING = AuditFinding("features", "1h_x", 1_672_531_200_000_000_001, 0.25, 3, "why", 4, 9)
STAMP = AuditStamp(
    kind=AuditKind.LOOKAHEAD,
    verdict=Verdict.COLUMNS_DIFFER,
    seed=1,
    bar_count=10,
    replay_count=4,
    checked_ns=(1_672_531_200_000_000_000,),
    columns={"features": ("1h_x",)},
    findings=(FINDING, replace(FINDING, size=None, bars_needed=None)),
    notes=("a note",),
    symbol="TEST",
    profile="default",
    model="models/test/versions/1",
    model_digest="sha256:m",
    dataset_digests={"1h": "sha256:x"},
    config_digest="sha256:c",
    versions={"numpy": "2"},
)


def test_json_gives_it_back():
    document = json.loads(json.dumps(STAMP.to_document(), allow_nan=False))
    assert parse_stamp(document) == STAMP
    assert document["checked"] == ["2023-01-01T00:00:00Z"]
    assert document["findings"][0]["first_bar"] == "2023-01-01T00:00:00.000000001Z"


@pytest.mark.parametrize("document", [{}, {"format": "x"}, {"format": "backlane.audit.v1"}])
def test_anything_else_is_refused(document):
    with pytest.raises(ValueError, match=r"format|stamp"):
        parse_stamp(document)


@pytest.mark.parametrize(
    ("kind", "verdict", "is_passed"),
    [
        (AuditKind.LOOKAHEAD, Verdict.CLEAN, True),
        (AuditKind.LOOKAHEAD, Verdict.COLUMNS_DIFFER, False),
        (AuditKind.WARMUP, Verdict.COLUMNS_DIFFER, True),
        (AuditKind.WARMUP, Verdict.DECISIONS_DIFFER, False),
    ],
)
def test_any_look_ahead_fails_and_a_warm_up_that_changes_decisions(kind, verdict, is_passed):
    assert replace(STAMP, kind=kind, verdict=verdict).is_passed is is_passed


def test_the_worst_finding_is_the_verdict():
    assert verdict_of(()) is Verdict.CLEAN
    assert verdict_of((FINDING,)) is Verdict.COLUMNS_DIFFER
    assert verdict_of((FINDING, replace(FINDING, stage="orders"))) is Verdict.DECISIONS_DIFFER


def test_times_read_back():
    for time_ns in (0, 1_672_531_200_000_000_000, 1_672_531_200_123_456_789):
        assert time_ns_of(iso_time(time_ns)) == time_ns
