"""Files that vendors write, each read to the very same bars."""

from datetime import date, time

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet
import pytest

from backlane.errors import InvalidRequestError
from backlane.market.finding import FindingCode
from tests.unit.sources.vendor_files import (
    FIRST_NS,
    HOUR_NS,
    ROWS,
    codes,
    gzipped,
    inspect,
    text_of,
    write,
)

TIMES = [FIRST_NS + at * HOUR_NS for at in range(4)]
PRICES = [(1.10, 1.12, 1.09, 1.11), (1.11, 1.13, 1.10, 1.12), (1.12, 1.14, 1.11, 1.13)]
PRICES += [(1.13, 1.15, 1.12, 1.14)]
VOLUMES = [100.0, 110.0, 120.0, 130.0]


def assert_the_bars(series, volumes=VOLUMES):
    assert series is not None
    assert series.open_time_ns.tolist() == TIMES
    rows = zip(series.open, series.high, series.low, series.close, strict=True)
    assert [tuple(map(float, row)) for row in rows] == PRICES
    assert series.volume.tolist() == volumes


def vendor_text(stamps, header, delimiter=",", volumes=("100", "110", "120", "130"), tail=""):
    lines = [header]
    for stamp, prices, volume in zip(stamps, PRICES, volumes, strict=True):
        lines.append(delimiter.join([stamp, *(f"{price:.2f}" for price in prices), volume]) + tail)
    return "\n".join(lines) + "\n"


def hours(pattern: str) -> list[str]:
    return [pattern.format(hour) for hour in range(4)]


NEW_YORK_HOURS = ((19, "-05:00"), (20, "-05:00"), (21, "-05:00"), (22, "-0500"))
SHAPES = {
    "iso_z": vendor_text(hours("2024-01-02T{:02d}:00:00Z"), "timestamp,open,high,low,close,volume"),
    "iso_offset": vendor_text(
        hours("2024-01-02 {:02d}:00:00+00:00"), "Datetime,Open,High,Low,Close,Volume"
    ),
    "iso_other_offset": vendor_text(
        [f"2024-01-01T{hour}:00:00{offset}" for hour, offset in NEW_YORK_HOURS],
        "time,open,high,low,close,volume",
    ),
    "naive_upper_case": vendor_text(
        hours("2024-01-02 {:02d}:00"), "DATE,OPEN,HIGH,LOW,CLOSE,VOLUME"
    ),
    "yahoo_adjusted": vendor_text(
        hours("2024-01-02 {:02d}:00:00"), "Date,Open,High,Low,Close,Volume,Adj Close", tail=",9.9"
    ),
    "metatrader_tabs": vendor_text(
        hours("2024.01.02\t{:02d}:00:00"),
        "<DATE>\t<TIME>\t<OPEN>\t<HIGH>\t<LOW>\t<CLOSE>\t<TICKVOL>\t<VOL>\t<SPREAD>",
        delimiter="\t",
        tail="\t0\t7",
    ),
    "metatrader_one_column": vendor_text(
        hours("2024.01.02 {:02d}:00"), "Time,Open,High,Low,Close,Volume"
    ),
    "dukascopy": vendor_text(
        hours("02.01.2024 {:02d}:00:00.000"), "Gmt time,Open,High,Low,Close,Volume"
    ),
    "dukascopy_local": vendor_text(
        [f"02.01.2024 0{hour}:00:00.000 GMT+0200" for hour in range(2, 6)],
        "Local time,Open,High,Low,Close,Volume",
    ),
    "stooq": vendor_text(
        hours("EURUSD,60,20240102,{:02d}0000"),
        "<TICKER>,<PER>,<DATE>,<TIME>,<OPEN>,<HIGH>,<LOW>,<CLOSE>,<VOL>",
    ),
    "compact_semicolon": vendor_text(
        hours("20240102 {:02d}0000"), "Date;Open;High;Low;Close;Volume", delimiter=";"
    ),
    "compact_digits": vendor_text(hours("20240102{:02d}0000"), "date,open,high,low,close,volume"),
    "interactive_brokers": vendor_text(
        hours("20240102  {:02d}:00:00"), "date,open,high,low,close,volume"
    ),
    "epoch_s": vendor_text([str(at // 10**9) for at in TIMES], "time,open,high,low,close,Volume"),
    "epoch_ms": vendor_text(
        [str(at // 10**6) for at in TIMES], "open_time,open,high,low,close,volume"
    ),
    "epoch_us": vendor_text([str(at // 10**3) for at in TIMES], "unix,o,h,l,c,v"),
    "epoch_ns": vendor_text([str(at) for at in TIMES], "window_start,open,high,low,close,volume"),
    "epoch_s_float": vendor_text(
        [f"{at // 10**9}.0" for at in TIMES], "timestamp,open,high,low,close,volume"
    ),
    "pipes": vendor_text(
        hours("2024/01/02 {:02d}:00:00"), "date|open|high|low|close|volume", delimiter="|"
    ),
    "pandas_index": vendor_text(hours("2024-01-02 {:02d}:00:00"), ",open,high,low,close,volume"),
    "quoted": vendor_text(
        hours('"2024-01-02 {:02d}:00:00"'), '"Date","Open","High","Low","Close","Volume"'
    ),
    "windows_lines": vendor_text(
        hours("2024-01-02 {:02d}:00:00"), "Date,Open,High,Low,Close,Volume"
    ).replace("\n", "\r\n"),
    "byte_order_mark": "\ufeff"
    + vendor_text(hours("2024-01-02 {:02d}:00:00"), "Date,Open,High,Low,Close,Volume"),
    "blanks": vendor_text(
        hours(" 2024-01-02 {:02d}:00:00 "), "Date, Open, High, Low, Close, Volume", delimiter=", "
    ),
    "decimal_comma": vendor_text(
        hours("2024-01-02 {:02d}:00:00"), "Date;Open;High;Low;Close;Volume", delimiter=";"
    ).replace("1.", "1,"),
}


@pytest.mark.parametrize("shape", SHAPES)
def test_every_shape_of_csv_gives_the_same_bars(tmp_path, shape):
    series, report = inspect(write(tmp_path, SHAPES[shape]))

    assert not report.is_refused, report.findings
    assert_the_bars(series)


def test_utf_16_is_read(tmp_path):
    series, _ = inspect(write(tmp_path, SHAPES["metatrader_tabs"].encode("utf-16")))

    assert_the_bars(series)


def test_gzip_is_known_by_its_content_not_by_its_name(tmp_path):
    series, _ = inspect(write(tmp_path, gzipped(text_of(*ROWS)), name="bars.csv"))

    assert_the_bars(series)


def frame(index) -> pd.DataFrame:
    return pd.DataFrame(
        [(*prices, volume) for prices, volume in zip(PRICES, VOLUMES, strict=True)],
        columns=["Open", "High", "Low", "Close", "Volume"],
        index=index,
    )


ZONED = pd.DatetimeIndex(pd.to_datetime(TIMES, unit="ns", utc=True))
PARQUETS = {
    "utc_index": frame(ZONED),
    "named_index": frame(ZONED.rename("date")),
    "athens_index": frame(ZONED.tz_convert("Europe/Athens")),
    "naive_index": frame(ZONED.tz_localize(None)),
    "epoch_column": frame([at // 10**9 for at in TIMES]).reset_index(names="time"),
    "text_column": frame([f"2024-01-02 {h:02d}:00:00" for h in range(4)]).reset_index(names="Date"),
    "date_and_time": frame([time(hour) for hour in range(4)])
    .reset_index(names="time")
    .assign(date=date(2024, 1, 2)),
}


@pytest.mark.parametrize("shape", PARQUETS)
@pytest.mark.parametrize("row_group_size", [1, 1000])
def test_every_shape_of_parquet_gives_the_same_bars(tmp_path, shape, row_group_size):
    path = tmp_path / "bars.parquet"
    PARQUETS[shape].to_parquet(path, row_group_size=row_group_size)

    series, report = inspect(path)

    assert not report.is_refused, report.findings
    assert_the_bars(series)


def test_parquet_prices_may_be_decimals_or_text(tmp_path):
    table = pa.table(
        {
            "timestamp": pa.array(TIMES, pa.timestamp("ns", "UTC")),
            "open": pa.array([row[0] for row in PRICES]).cast(pa.decimal128(10, 4)),
            "high": pa.array([f"{row[1]:.2f}" for row in PRICES]),
            "low": [row[2] for row in PRICES],
            "close": [row[3] for row in PRICES],
            "volume": pa.array([100, 110, 120, 130], pa.int32()),
        }
    )
    path = tmp_path / "bars.parquet"
    pyarrow.parquet.write_table(table, path)

    assert_the_bars(inspect(path)[0])


def test_prices_are_divided_by_the_scale_in_float64(tmp_path):
    text = text_of("2012-11-16 05:00:00,130583.99999999999,130600.0,130500.5,130584.0,1")

    series, _ = inspect(write(tmp_path, text), price_scale=100_000)

    assert series.open.tolist() == [130583.99999999999 / 100_000]
    assert series.low.tolist() == [130500.5 / 100_000]


def test_a_column_can_be_named(tmp_path):
    text = text_of(*ROWS, header="when,first,high,low,last,units")

    series, _ = inspect(
        write(tmp_path, text),
        columns={"time": "when", "open": "FIRST", "close": "last", "volume": "units"},
    )

    assert_the_bars(series)


def test_tick_volume_is_recognised_and_said(tmp_path):
    text = text_of(*ROWS, header="timestamp,open,high,low,close,tick_volume")

    series, report = inspect(write(tmp_path, text))

    assert_the_bars(series)
    assert codes(report) == {FindingCode.TICK_VOLUME}


def test_a_missing_volume_is_zero_only_when_it_was_said(tmp_path):
    path = write(tmp_path, "\n".join(line.rsplit(",", 1)[0] for line in text_of(*ROWS).split("\n")))

    refused, report = inspect(path)
    assert refused is None
    assert codes(report) == {FindingCode.MISSING_COLUMN}
    assert "--column volume=none" in report.findings[0].message

    series, report = inspect(path, columns={"volume": "none"})
    assert_the_bars(series, volumes=[0.0] * 4)
    assert codes(report) == {FindingCode.NO_VOLUME}


def test_naive_stamps_are_taken_in_the_zone_that_is_named(tmp_path):
    # Athens is 2 hours ahead of UTC in January.
    text = vendor_text(
        ["2024-01-02 02:00", "2024-01-02 03:00", "2024-01-02 04:00", "2024-01-02 05:00"],
        "time,open,high,low,close,volume",
    )

    for zone in ("Europe/Athens", "+02:00", "Etc/GMT-2"):
        series, report = inspect(write(tmp_path, text), timezone=zone)
        assert_the_bars(series)
        naive = report.finding(FindingCode.NAIVE_STAMPS)
        assert naive is not None
        assert f"taken as {zone}" in naive.message


def test_naive_stamps_without_a_zone_are_utc_and_warned_about(tmp_path):
    series, report = inspect(write(tmp_path, SHAPES["naive_upper_case"]))

    assert_the_bars(series)
    assert codes(report) == {FindingCode.NAIVE_STAMPS}


def test_a_zone_that_was_not_needed_is_said(tmp_path):
    series, report = inspect(write(tmp_path, text_of(*ROWS)), timezone="Europe/Athens")

    assert_the_bars(series)
    assert codes(report) == {FindingCode.TIMEZONE_UNUSED}


def test_offsets_that_follow_daylight_saving_are_one_zone(tmp_path):
    # New York changes its clock on Sunday 2024-03-10, so that Friday to Monday are 71 hours.
    text = text_of(
        "2024-03-08 00:00:00-05:00,1,1,1,1,1",
        "2024-03-11 00:00:00-04:00,1,1,1,1,1",
        "2024-03-12 00:00:00-04:00,1,1,1,1,1",
    )

    series, report = inspect(write(tmp_path, text), "1d")

    assert not report.is_refused
    assert np.diff(series.open_time_ns).tolist() == [71 * HOUR_NS, 24 * HOUR_NS]


def test_the_columns_are_writable_and_contiguous(tmp_path):
    series, _ = inspect(write(tmp_path, text_of(*ROWS)))

    for name in ("open_time_ns", "open", "high", "low", "close", "volume"):
        assert getattr(series, name).flags.carray, name


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"columns": {"volume": "no_such"}}, "column"),
        ({"columns": {"spread": "open"}}, "column"),
        ({"columns": {"open": "none"}}, "column"),
        ({"price_scale": 0.0}, "price_scale"),
        ({"price_scale": float("nan")}, "price_scale"),
        ({"price_scale": -100.0}, "price_scale"),
        ({"timezone": "Mars/Olympus"}, "timezone"),
        ({"timezone": "+99:00"}, "timezone"),
        ({"timezone": "../../etc/passwd"}, "timezone"),
    ],
)
def test_arguments_without_sense_are_named(tmp_path, options, field):
    with pytest.raises(InvalidRequestError) as refused:
        inspect(write(tmp_path, text_of(*ROWS)), **options)

    assert [violation.field for violation in refused.value.violations] == [field]


def test_a_file_that_is_not_there_is_said(tmp_path):
    with pytest.raises(InvalidRequestError, match="There is no file"):
        inspect(tmp_path / "nothing.csv")
