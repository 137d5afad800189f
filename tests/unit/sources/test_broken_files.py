"""Files that must not become bars, and what each is told."""

import gzip
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet
import pytest

from backlane.errors import LimitExceededError
from backlane.market.finding import FindingCode as Code
from backlane.market.finding import Severity
from backlane.sources import tables
from backlane.testing.broken_files import (
    BROKEN_FILES,
    ODD_FILES,
    BrokenFile,
    OddFile,
    refusal,
    report_on,
    with_values,
)
from tests.unit.sources.peak_memory import peak_memory_bytes
from tests.unit.sources.vendor_files import (
    ROWS,
    codes,
    gzipped,
    inspect,
    text_of,
    write,
)

A, B, C, D = ROWS
LOCAL = "Europe/Athens"


@pytest.mark.parametrize("case", BROKEN_FILES, ids=lambda case: case.name)
def test_a_broken_file_is_refused_with_a_clear_reason(tmp_path: Path, case: BrokenFile):
    refused = refusal(case, tmp_path)

    assert type(refused) is case.error
    assert case.says in refused.message
    assert "bars." in refused.message
    assert "\n" not in refused.message
    assert refused.message.isprintable()
    if case.code is None:
        assert [violation.field for violation in refused.violations] == ["path"]
    else:
        assert set(refused.metadata) == {"source", str(case.code)}


@pytest.mark.parametrize("case", ODD_FILES, ids=lambda case: case.name)
def test_a_file_that_only_looks_broken_is_read(tmp_path: Path, case: OddFile):
    report = report_on(case, tmp_path)
    assert codes(report) == case.codes
    assert not report.is_refused


def test_there_are_thirty_broken_files_and_more_each_by_a_name_of_its_own():
    assert len(BROKEN_FILES) >= 30
    assert len({case.name for case in BROKEN_FILES}) == len(BROKEN_FILES)
    assert {case.code for case in BROKEN_FILES if case.code} == {
        code for code in Code if code.severity is Severity.REFUSE
    }


@pytest.mark.slow
def test_no_broken_file_takes_more_memory_than_a_sound_one_might(tmp_path: Path):
    # Unpacked, the bombs among them take 80 MiB and 200 GB; 250 MB is what Python and Arrow take.
    assert peak_memory_bytes("broken_files", "BROKEN_FILES", tmp_path) < 500_000_000


@pytest.mark.parametrize("pack", [str.encode, gzipped, lambda text: text.encode("utf-16")])
def test_text_among_numbers_is_counted_however_the_file_is_packed(tmp_path, pack):
    text = text_of(A, with_values(B, "x", "1.13", "1.10", "1.12", "1"), C, D.replace("1.14", "y"))

    _, report = inspect(write(tmp_path, pack(text)))

    found = [finding for finding in report.findings if finding.code is Code.NOT_A_NUMBER]
    assert [(one.count, one.first_example) for one in found] == [
        (1, "row 2: open 'x'"),
        (1, "row 4: close 'y'"),
    ]


def test_every_defect_of_a_file_is_named_at_once(tmp_path):
    text = text_of(A, with_values(B, "1.11", "1.10", "1.13", "1.12", "-1"), B, D, C)

    _, report = inspect(write(tmp_path, text))

    assert codes(report) == {
        Code.HIGH_BELOW_LOW,
        Code.NEGATIVE_VOLUME,
        Code.DUPLICATE,
        Code.DISORDER,
    }


@pytest.mark.parametrize(
    ("stamp", "code"),
    [
        # Athens goes from 03:00 to 04:00 on 2024-03-31, and from 04:00 back to 03:00 on 2024-10-27.
        ("2024-03-31 03:30:00", Code.NONEXISTENT_LOCAL_TIME),
        ("2024-10-27 03:30:00", Code.AMBIGUOUS_LOCAL_TIME),
    ],
)
def test_a_local_time_that_is_no_single_moment_is_refused(tmp_path, stamp, code):
    path = write(tmp_path, text_of(f"{stamp},1,1,1,1,1"))

    _, report = inspect(path, timezone=LOCAL)

    [found] = report.findings
    assert (found.code, found.count) == (code, 1)
    assert found.first_example == f"row 1: {stamp.replace(' ', 'T')}"
    assert LOCAL in found.message


def test_stamps_of_the_future_warn_and_do_not_block(tmp_path):
    tomorrow = datetime.now(UTC).replace(minute=0, second=0, microsecond=0) + timedelta(days=1)
    path = write(tmp_path, text_of(f"{tomorrow:%Y-%m-%dT%H:%M:%SZ},1,1,1,1,1"))

    _, report = inspect(path, now_ns=int((tomorrow - timedelta(days=1)).timestamp()) * 10**9)

    assert codes(report) == {Code.FUTURE_STAMP}
    assert not report.is_refused


def test_a_parquet_column_of_the_wrong_kind_is_refused(tmp_path):
    path = tmp_path / "bars.parquet"
    rows = {"timestamp": [[1]], "open": [1.0], "high": [1.0], "low": [1.0], "close": [1.0]}
    pyarrow.parquet.write_table(pa.table({**rows, "volume": [1.0]}), path)
    assert codes(inspect(path)[1]) == {Code.NOT_A_TIME}

    rows = {**rows, "timestamp": [1704153600], "open": [[1.0]]}
    pyarrow.parquet.write_table(pa.table({**rows, "volume": [1.0]}), path)
    assert Code.NOT_A_NUMBER in codes(inspect(path)[1])


def test_a_parquet_file_cut_off_anywhere_is_refused(tmp_path):
    whole = tmp_path / "whole.parquet"
    times = pa.array([1704153600 * 10**9], pa.timestamp("ns", "UTC"))
    names = ("open", "high", "low", "close", "volume")
    pyarrow.parquet.write_table(pa.table({"date": times, **{name: [1.0] for name in names}}), whole)
    content = whole.read_bytes()

    for length in range(4, len(content), 97):
        _, report = inspect(write(tmp_path, content[:length], "cut.parquet"))
        assert codes(report) == {Code.UNREADABLE_FILE}, length


def test_a_file_beyond_a_limit_is_named_with_it(tmp_path, monkeypatch):
    path = write(tmp_path, gzip.compress(text_of(*ROWS).encode()))

    for limit, value in (("MAX_FILE_BYTES", 10), ("MAX_TEXT_BYTES", 50), ("MAX_BARS", 3)):
        with monkeypatch.context() as patched:
            patched.setattr(tables, limit, value)
            with pytest.raises(LimitExceededError) as refused:
                inspect(path)
        assert refused.value.metadata["limit"] == limit
