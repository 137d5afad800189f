"""`backlane data …` from a file to the catalog, on invented and on real bars."""

import gzip
import json
import subprocess
import sys

import numpy as np
import pytest
from typer.testing import CliRunner

from backlane.cli.data import app
from backlane.errors import (
    DataRefusedError,
    DatasetExistsError,
    DatasetNotFoundError,
    InvalidRequestError,
)
from backlane.market.finding import FindingCode
from backlane.market.timeframe import Timeframe
from backlane.sources.catalog import Catalog
from backlane.sources.files import read_bars
from backlane.sources.synthetic import aggregate
from tests.shared import KTRDR, MARKET_DATA, needs_shared

HEADER = "Date,open,high,low,close,tick_volume"
ROWS = [f"2024-01-02 {hour:02d}:00:00,110000.0,110200.0,109900.0,110100.0,7" for hour in range(5)]
HOUR = Timeframe.parse("1h")


@pytest.fixture
def home(tmp_path):
    return tmp_path / "home"


@pytest.fixture
def vendor_file(tmp_path):
    path = tmp_path / "EURUSD.csv"
    path.write_text("\n".join([HEADER, *ROWS]) + "\n")
    return path


def run(*arguments, expect: int = 0) -> str:
    """Runs `backlane data …` and returns what it prints; errors of Backlane come out as raised."""
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == expect, result.output
    return result.stdout


def import_eurusd(path, home, *more) -> str:
    named = ("--symbol", "EURUSD", "--timeframe", "1h", "--price-scale", "100000")
    return run("import", path, *named, "--home", home, *more)


def test_a_file_is_imported_checked_listed_and_shown(vendor_file, home):
    imported = json.loads(import_eurusd(vendor_file, home, "--json"))
    assert imported["outcome"] == "imported"
    assert imported["dataset"]["bar_count"] == 5
    assert [found["code"] for found in imported["report"]["findings"]] == [
        "naive_stamps",
        "tick_volume",
    ]

    listed = json.loads(run("list", "--home", home, "--json"))
    assert listed == {"datasets": [imported["dataset"]], "damaged": []}
    assert "EURUSD  1h  5 bars" in run("list", "--home", home)

    named = ("--symbol", "EURUSD", "--timeframe", "1h", "--home", home)
    shown = json.loads(run("show", *named, "--bars", "1", "--json"))
    assert shown["digest"] == imported["dataset"]["digest"]
    assert shown["first_bars"] == [
        {
            "open_time": "2024-01-02T00:00:00Z",
            "open": 1.1,
            "high": 1.102,
            "low": 1.099,
            "close": 1.101,
            "volume": 7.0,
        }
    ]
    assert [bar["open_time"] for bar in shown["last_bars"]] == ["2024-01-02T04:00:00Z"]
    assert "2024-01-02T04:00:00Z" in run("show", *named)
    assert "Fit for a backtest." in run("check", *named)


def test_a_small_dataset_shows_no_bar_twice(vendor_file, home):
    import_eurusd(vendor_file, home)

    named = ("--symbol", "EURUSD", "--timeframe", "1h", "--home", home)
    shown = json.loads(run("show", *named, "--bars", "4", "--json"))

    assert (len(shown["first_bars"]), len(shown["last_bars"])) == (4, 1)


def test_importing_twice_says_that_nothing_changed(vendor_file, home):
    assert "Imported 5 bars" in import_eurusd(vendor_file, home)
    assert "Already there, unchanged" in import_eurusd(vendor_file, home)


def test_other_bars_need_replace(vendor_file, home):
    import_eurusd(vendor_file, home)
    vendor_file.write_text("\n".join([HEADER, *ROWS[:4]]) + "\n")

    with pytest.raises(DatasetExistsError):
        import_eurusd(vendor_file, home)
    assert "Imported 4 bars" in import_eurusd(vendor_file, home, "--replace")


def test_a_refused_file_is_reported_by_check_and_not_imported(vendor_file, home):
    vendor_file.write_text("\n".join([HEADER, ROWS[0], ROWS[0], ROWS[1]]) + "\n")

    text = run("check", vendor_file, "--timeframe", "1h", expect=1)
    assert "duplicate: 1, first row 2, 2024-01-02T00:00:00Z" in text
    assert "Refused." in text
    report = json.loads(run("check", vendor_file, "-t", "1h", "--json", expect=1))
    assert report["is_refused"] is True

    with pytest.raises(DataRefusedError, match="duplicate"):
        import_eurusd(vendor_file, home)
    assert Catalog(home).list() == ()


def test_the_home_comes_from_the_environment(vendor_file, home, monkeypatch):
    monkeypatch.setenv("BACKLANE_HOME", str(home))

    run("import", vendor_file, "-s", "EURUSD", "-t", "1h", "--column", "volume=tick_volume")

    assert Catalog(home).get("EURUSD", HOUR).bar_count == 5


@pytest.mark.parametrize(
    "arguments",
    [
        ("check",),
        ("check", "x.csv"),
        ("import", "x.csv", "-s", "EURUSD", "-t", "hourly"),
        ("import", "x.csv", "-s", "../x", "-t", "1h"),
        ("import", "x.csv", "-s", "EURUSD", "-t", "1h", "--column", "volume"),
    ],
)
def test_arguments_without_sense_are_refused(arguments):
    with pytest.raises(InvalidRequestError):
        run(*arguments)


def test_what_is_not_there_is_said(home):
    assert "The catalog is empty" in run("list", "--home", home)
    with pytest.raises(DatasetNotFoundError):
        run("show", "-s", "EURUSD", "-t", "1h", "--home", home)


def test_the_sample_is_synthetic_by_name_and_its_hours_are_made_of_its_minutes(home):
    sampled = json.loads(run("sample", "--years", "1", "--home", home, "--json"))
    catalog = Catalog(home)
    short = catalog.load("SYNTHETIC_EURUSD", Timeframe.parse("5m"))
    long = catalog.load("SYNTHETIC_EURUSD", HOUR)

    assert [one["outcome"] for one in sampled["imported"]] == ["imported", "imported"]
    # 52 weeks of 5 days of 288 and 24 bars.
    assert (len(short), len(long)) == (52 * 5 * 288, 52 * 5 * 24)
    assert catalog.get("SYNTHETIC_EURUSD", HOUR).provenance.startswith("synthetic, seed 7")
    made = aggregate(short, HOUR)
    for name in ("open_time_ns", "open", "high", "low", "close", "volume"):
        assert np.array_equal(getattr(long, name), getattr(made, name)), name
    again = json.loads(run("sample", "--years", "1", "--home", home, "--json"))
    assert [one["outcome"] for one in again["imported"]] == ["unchanged", "unchanged"]


def test_the_commands_load_nothing_heavy_before_they_run():
    script = (
        "import sys, backlane.cli.data;"
        "heavy = {'numpy', 'pandas', 'pyarrow', 'numba', 'torch'} & set(sys.modules);"
        "sys.exit(str(heavy) if heavy else 0)"
    )
    loaded = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)

    assert loaded.returncode == 0, loaded.stderr


@needs_shared
def test_ten_years_of_real_hours_import_with_one_command_and_nothing_false_is_found(home):
    path = MARKET_DATA / "GBPUSD_1h.csv.gz"
    named = ("--symbol", "GBPUSD", "--timeframe", "1h", "--price-scale", "100000")

    imported = json.loads(run("import", path, *named, "--home", home, "--json"))

    found = {one["code"]: one for one in imported["report"]["findings"]}
    # Counted apart from the code under test, by the weekday and hour on both sides of every step
    # that is not one hour: 368, 103 and 6 from Friday 23:00, 22:00 and 21:00 to Monday 00:00, and
    # 23 others: 19 around Christmas and New Year, and four holes of an hour or two on weekdays.
    assert {code: one["count"] for code, one in found.items()} == {
        "naive_stamps": 57600,
        "tick_volume": 57600,
        "weekend_gap": 368 + 103 + 6,
        "gap": 23,
    }
    assert "19 of them touch Christmas or New Year" in found["gap"]["message"]
    assert imported["dataset"]["bar_count"] == 57600
    assert imported["dataset"]["last_open_time"] == "2022-03-04T23:00:00Z"
    assert Catalog(home).load("GBPUSD", HOUR).open[0] == 158611.0 / 100_000


@needs_shared
@pytest.mark.parametrize(
    ("name", "timeframe", "scale", "expected"),
    [
        ("USDJPY_1h.csv.gz", "1h", 1e3, {"weekend_gap": 477, "gap": 23}),
        ("GBPUSD_4h.csv.gz", "4h", 1e5, {"weekend_gap": 476, "gap": 17}),
        ("EURUSD_4h.csv.gz", "4h", 1e5, {"weekend_gap": 476, "gap": 17}),
        # Weekends are the normal spacing of days; 14 gaps are Christmas and New Year.
        ("EURUSD_1d.csv.gz", "1d", 1e5, {"gap": 14}),
    ],
)
def test_the_other_real_files_hold_weekends_and_holidays(name, timeframe, scale, expected):
    read = read_bars(MARKET_DATA / name, "REAL", Timeframe.parse(timeframe), price_scale=scale)

    counts = {str(found.code): found.count for found in read.report.findings}
    assert {code: counts[code] for code in counts.keys() & {"weekend_gap", "gap"}} == expected
    assert counts.keys() - expected.keys() == {"naive_stamps", "tick_volume"}


@needs_shared
@pytest.mark.parametrize("name", ["AAPL_1d", "EURUSD_1h", "EURUSD_4h", "EURUSD_5m"])
def test_a_reference_file_has_one_digest_as_csv_and_as_parquet(name):
    folder = KTRDR / "data"
    timeframe = Timeframe.parse(name.split("_")[1])
    text = folder / (f"{name}.csv.gz" if name == "EURUSD_5m" else f"{name}.csv")

    series = [
        read_bars(path, "REFERENCE", timeframe).series
        for path in (text, folder / f"{name}.parquet")
    ]

    for column in ("open_time_ns", "open", "high", "low", "close", "volume"):
        left, right = (getattr(one, column) for one in series)
        assert left.tobytes() == right.tobytes(), column


@needs_shared
def test_a_real_file_cut_off_is_refused(tmp_path):
    path = tmp_path / "cut.csv.gz"
    path.write_bytes((MARKET_DATA / "GBPUSD_1h.csv.gz").read_bytes()[:100_000])

    with pytest.raises(DataRefusedError, match=FindingCode.TRUNCATED_FILE):
        read_bars(path, "GBPUSD", HOUR, price_scale=1e5)


@needs_shared
def test_real_bars_under_another_timeframe_are_refused(tmp_path):
    path = tmp_path / "renamed.csv.gz"
    path.write_bytes(
        gzip.compress(gzip.decompress((MARKET_DATA / "GBPUSD_4h.csv.gz").read_bytes()))
    )

    with pytest.raises(DataRefusedError, match="most common step is 4h"):
        read_bars(path, "GBPUSD", HOUR, price_scale=1e5)
