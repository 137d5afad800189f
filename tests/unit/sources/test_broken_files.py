"""Files that must not become bars, and what each is told."""

import gzip
from datetime import UTC, datetime, timedelta

import pyarrow as pa
import pyarrow.parquet
import pytest

from backlane.errors import DataRefusedError, LimitExceededError
from backlane.market.finding import FindingCode as Code
from backlane.market.timeframe import Timeframe
from backlane.sources import tables
from backlane.sources.files import read_bars
from tests.unit.sources.vendor_files import (
    HEADER,
    ROWS,
    codes,
    gzipped,
    inspect,
    text_of,
    write,
)

A, B, C, D = ROWS
LOCAL = "Europe/Athens"


def with_values(row: str, *values: str) -> str:
    return ",".join([row.partition(",")[0], *values])


BROKEN = {
    "empty": (b"", Code.EMPTY, "The file is empty"),
    "header_alone": (HEADER + "\n", Code.EMPTY, "There are no bars"),
    "empty_gzip": (gzipped(""), Code.EMPTY, "gzip file holds nothing"),
    "blank_first_line": ("\n\n" + text_of(*ROWS), Code.UNREADABLE_FILE, "first line is blank"),
    "zero_bytes": (bytes(range(256)) * 8, Code.UNREADABLE_FILE, "neither CSV nor Parquet"),
    "binary_junk": (b"\x93\xfa\xce" * 500, Code.UNREADABLE_FILE, "neither CSV nor Parquet"),
    "web_page": ("<html>\n<body>Not found</body>\n", Code.MISSING_COLUMN, "no column for time"),
    "truncated_gzip": (gzipped(text_of(*ROWS))[:-20], Code.TRUNCATED_FILE, "breaks off"),
    "gzip_without_its_end": (gzipped(text_of(*ROWS))[:-4], Code.TRUNCATED_FILE, "breaks off"),
    "damaged_gzip": (
        gzipped(text_of(*ROWS))[:-8] + b"\0" * 8,
        Code.UNREADABLE_FILE,
        "gzip file is damaged",
    ),
    "truncated_parquet": (b"PAR1" + b"x" * 100, Code.UNREADABLE_FILE, "Parquet file is damaged"),
    "wrong_delimiter": (text_of(*ROWS).replace(",", "^"), Code.MISSING_COLUMN, "no column for"),
    "no_header": ("\n".join(ROWS), Code.MISSING_COLUMN, "put a header row above"),
    "missing_close": (
        text_of(*ROWS, header="timestamp,open,high,low,last,volume"),
        Code.MISSING_COLUMN,
        "no column for close; the file has: 'timestamp', 'open'",
    ),
    "two_opens": (
        text_of(*ROWS, header="timestamp,open,Open,low,close,volume"),
        Code.AMBIGUOUS_COLUMN,
        "2 columns could be the open: 'open', 'Open'",
    ),
    "short_row": (
        text_of(A, "2024-01-02T01:00:00Z,1.11,1.13", C),
        Code.BROKEN_ROW,
        "more or fewer",
    ),
    "long_row": (text_of(A, B + ",9", C), Code.BROKEN_ROW, "more or fewer values"),
    "text_in_a_price": (
        text_of(A, with_values(B, "1.11", "n.a.", "1.10", "1.12", "1"), C),
        Code.NOT_A_NUMBER,
        "high holds text that is no number",
    ),
    "thousands_separator": (
        text_of(A, with_values(B, '"1,111.5"', "1.13", "1.10", "1.12", "1")),
        Code.NOT_A_NUMBER,
        "open holds text",
    ),
    "text_in_the_volume": (
        text_of(A, with_values(B, "1.11", "1.13", "1.10", "1.12", "12K")),
        Code.NOT_A_NUMBER,
        "volume holds text",
    ),
    "unsorted": (text_of(A, C, B, D), Code.DISORDER, "sort the file by time"),
    "newest_first": (text_of(D, C, B, A), Code.DISORDER, "newest bar first"),
    "duplicated": (text_of(A, B, B, C), Code.DUPLICATE, "repeat an open time"),
    "nan_close": (
        text_of(A, with_values(B, "1.11", "1.13", "1.10", "NaN", "1"), C),
        Code.PRICE_NOT_FINITE,
        "empty, NaN or infinite",
    ),
    "empty_close": (
        text_of(A, with_values(B, "1.11", "1.13", "1.10", "", "1"), C),
        Code.PRICE_NOT_FINITE,
        "empty, NaN or infinite",
    ),
    "infinite_price": (
        text_of(A, with_values(B, "1.11", "inf", "1.10", "1.12", "1"), C),
        Code.PRICE_NOT_FINITE,
        "empty, NaN or infinite",
    ),
    "negative_price": (
        text_of(A, with_values(B, "1.11", "1.13", "-1.10", "1.12", "1"), C),
        Code.PRICE_NOT_POSITIVE,
        "zero or less",
    ),
    "zero_price": (
        text_of(A, with_values(B, "0", "0", "0", "0", "1"), C),
        Code.PRICE_NOT_POSITIVE,
        "zero or less",
    ),
    "high_below_low": (
        text_of(A, with_values(B, "1.11", "1.10", "1.13", "1.12", "1"), C),
        Code.HIGH_BELOW_LOW,
        "high below their low",
    ),
    "close_above_high": (
        text_of(A, with_values(B, "1.11", "1.13", "1.10", "1.14", "1"), C),
        Code.OPEN_CLOSE_OUTSIDE_RANGE,
        "outside low..high",
    ),
    "negative_volume": (
        text_of(A, with_values(B, "1.11", "1.13", "1.10", "1.12", "-1"), C),
        Code.NEGATIVE_VOLUME,
        "volume below zero",
    ),
    "empty_volume": (
        text_of(A, with_values(B, "1.11", "1.13", "1.10", "1.12", ""), C),
        Code.VOLUME_NOT_FINITE,
        "volume that is empty",
    ),
    "half_hours_as_hours": (
        text_of(A, B.replace("01:00", "00:30"), C.replace("02:00", "01:00")),
        Code.WRONG_TIMEFRAME,
        "most common step is 30m",
    ),
    "days_as_hours": (
        text_of(A, B.replace("02T01", "03T00"), C.replace("02T02", "04T00")),
        Code.WRONG_TIMEFRAME,
        "most common step is 1d",
    ),
    "half_without_zone": (text_of(A, B, C.replace("Z", ""), D), Code.MIXED_ZONES, "some do not"),
    "two_zones": (
        text_of(A, B.replace("Z", "+02:00"), C.replace("Z", "-05:00")),
        Code.MIXED_ZONES,
        "different time zones",
    ),
    "empty_stamp": (text_of(A, B[20:], C), Code.NOT_A_TIME, "Rows have no time"),
    "no_such_day": (text_of(A, B.replace("01-02", "02-30")), Code.NOT_A_TIME, "cannot be read"),
    "slashes": (
        text_of(A.replace("2024-01-02T", "01/02/2024 "), B.replace("2024-01-02T", "01/02/2024 ")),
        Code.NOT_A_TIME,
        "Nothing says whether the day or the month comes first",
    ),
    "far_future": (text_of(A.replace("2024", "9999")), Code.NOT_A_TIME, "cannot be read"),
    "clock_alone": (text_of(A[11:], B[11:]), Code.NOT_A_TIME, "cannot be read as times"),
    "text_among_epochs": (
        text_of("1704153600,1,1,1,1,1", "yesterday,1,1,1,1,1"),
        Code.NOT_A_TIME,
        "no numbers, as the others are",
    ),
    "enormous_epoch": (text_of(f"{10**30},1,1,1,1,1"), Code.NOT_A_TIME, "too large for a time"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_file_is_refused_with_a_clear_reason(tmp_path, case):
    content, code, words = BROKEN[case]
    path = write(tmp_path, content)

    with pytest.raises(DataRefusedError) as refused:
        read_bars(path, "TEST", Timeframe.parse("1h"))

    assert f"{path} is refused" in refused.value.message
    assert f"- {code}: " in refused.value.message
    assert words in refused.value.message
    assert str(code) in refused.value.metadata


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
