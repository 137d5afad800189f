import json
import os
import stat

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest

from backlane.clock import ManualClock
from backlane.errors import (
    DataRefusedError,
    DatasetChangedError,
    DatasetCorruptError,
    DatasetExistsError,
    DatasetNotFoundError,
    InvalidRequestError,
    StoreUnavailableError,
)
from backlane.market.bars import BarSeries
from backlane.market.digest import bars_digest
from backlane.market.timeframe import Timeframe
from backlane.sources.catalog import Catalog
from tests.unit.market.bars import bars_at, every, ns

HOUR = Timeframe.parse("1h")
HOURS = every("2024-01-02 00:00", 3600, 50)
COLUMNS = ("open_time_ns", "open", "high", "low", "close", "volume")


@pytest.fixture
def clock():
    return ManualClock(ns("2024-06-01 12:00"))


@pytest.fixture
def catalog(tmp_path, clock):
    return Catalog(tmp_path, clock)


def other_bars():
    return bars_at(HOURS, close=np.full(len(HOURS), 10.25))


def files_under(folder) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_imported_bars_are_loaded_to_the_bit(catalog):
    bars = bars_at(HOURS, close=np.linspace(9.1, 10.9, len(HOURS)))
    catalog.import_bars(bars, "a test")

    loaded = catalog.load("TEST", HOUR)

    assert (loaded.symbol, loaded.timeframe) == ("TEST", HOUR)
    for name in COLUMNS:
        assert getattr(loaded, name).tobytes() == getattr(bars, name).tobytes()
        assert getattr(loaded, name).flags.carray, name


def test_the_dataset_says_what_was_imported(catalog, tmp_path):
    bars = bars_at(HOURS)

    dataset = catalog.import_bars(bars, "x.csv, price scale 1")

    assert dataset.digest == bars_digest(bars)
    assert dataset.bar_count == 50
    assert dataset.first_open_time_ns == HOURS[0]
    assert dataset.last_open_time_ns == HOURS[-1]
    assert dataset.provenance == "x.csv, price scale 1"
    assert dataset.imported_at == ns("2024-06-01 12:00")
    assert dataset.path == tmp_path / "data" / "TEST" / "1h.parquet"
    assert catalog.get("TEST", HOUR) == dataset
    assert catalog.list() == (dataset,)


def test_the_file_is_plain_parquet_that_other_tools_read(catalog):
    dataset = catalog.import_bars(bars_at(HOURS), "a test")

    table = pyarrow.parquet.read_table(dataset.path)

    assert table.column_names == ["open_time", "open", "high", "low", "close", "volume"]
    assert str(table.schema.field("open_time").type) == "timestamp[ns, tz=UTC]"
    assert json.loads(table.schema.metadata[b"backlane.dataset"])["symbol"] == "TEST"


def test_importing_the_same_bars_again_changes_nothing(catalog, clock):
    first = catalog.import_bars(bars_at(HOURS), "first")
    written = first.path.stat()
    clock.advance(60)

    again = catalog.import_bars(bars_at(HOURS), "second")

    assert again == first
    assert first.path.stat().st_ino == written.st_ino


def test_other_bars_are_not_overwritten_unless_told(catalog):
    first = catalog.import_bars(bars_at(HOURS), "first")

    with pytest.raises(DatasetExistsError, match="--replace") as refused:
        catalog.import_bars(other_bars(), "second")
    assert refused.value.metadata["digest"] == first.digest
    assert catalog.get("TEST", HOUR) == first

    replaced = catalog.import_bars(other_bars(), "second", replace=True)
    assert catalog.get("TEST", HOUR) == replaced
    assert catalog.load("TEST", HOUR).close[0] == 10.25


def test_the_catalog_refuses_bars_that_the_checks_refuse(catalog, tmp_path):
    with pytest.raises(DataRefusedError, match="duplicate"):
        catalog.import_bars(bars_at([HOURS[0], HOURS[0]]), "broken")

    assert files_under(tmp_path) == []


def test_a_missing_dataset_says_what_is_there_and_what_to_run(catalog):
    with pytest.raises(DatasetNotFoundError, match="it is empty"):
        catalog.get("EURUSD", HOUR)
    catalog.import_bars(bars_at(HOURS), "a test")

    with pytest.raises(DatasetNotFoundError) as missing:
        catalog.load("EURUSD", HOUR)

    assert "it holds TEST 1h." in missing.value.message
    assert "backlane data import FILE --symbol EURUSD --timeframe 1h" in missing.value.message


def test_other_bars_than_asked_for_are_named(catalog):
    dataset = catalog.import_bars(bars_at(HOURS), "a test")
    assert len(catalog.load("TEST", HOUR, expected_digest=dataset.digest)) == 50
    replaced = catalog.import_bars(other_bars(), "other", replace=True)

    with pytest.raises(DatasetChangedError) as changed:
        catalog.load("TEST", HOUR, expected_digest=dataset.digest)

    assert changed.value.metadata["digest"] == replaced.digest
    assert changed.value.metadata["expected_digest"] == dataset.digest


def test_a_damaged_file_is_never_taken_for_bars(catalog):
    dataset = catalog.import_bars(bars_at(HOURS, close=np.linspace(9.1, 10.9, 50)), "a test")
    whole = dataset.path.read_bytes()
    before = catalog.load("TEST", HOUR)

    noticed = 0
    for at in range(0, len(whole), 41):
        damaged = bytearray(whole)
        damaged[at] ^= 0xFF
        dataset.path.write_bytes(damaged)
        try:
            loaded = catalog.load("TEST", HOUR)
        except DatasetCorruptError:
            noticed += 1
        else:
            # Some bytes of a Parquet file mean nothing (statistics, names of writers).
            assert bars_digest(loaded) == bars_digest(before)
    assert noticed > 20


@pytest.mark.parametrize("length", [0, 3, 100])
def test_a_file_cut_off_is_damaged_and_does_not_hide_the_others(catalog, length):
    dataset = catalog.import_bars(bars_at(HOURS), "a test")
    other = catalog.import_bars(bars_at(every("2024-01-02 00:00", 300, 9), "5m"), "a test")
    dataset.path.write_bytes(dataset.path.read_bytes()[:length])

    with pytest.raises(DatasetCorruptError, match="Import the bars again with --replace"):
        catalog.load("TEST", HOUR)
    assert catalog.list() == (other,)
    assert catalog.damaged() == (dataset.path,)


def test_a_damaged_dataset_can_be_replaced(catalog):
    dataset = catalog.import_bars(bars_at(HOURS), "a test")
    dataset.path.write_bytes(b"PAR1")

    catalog.import_bars(bars_at(HOURS), "again", replace=True)

    assert len(catalog.load("TEST", HOUR)) == 50


def test_importing_the_same_bars_heals_damaged_ones(catalog):
    dataset = catalog.import_bars(bars_at(HOURS, close=np.linspace(9.1, 10.9, 50)), "a test")
    content = bytearray(dataset.path.read_bytes())
    # The first column's pages begin right after the four bytes of the magic.
    content[60:70] = bytes(10)
    dataset.path.write_bytes(content)
    with pytest.raises(DatasetCorruptError):
        catalog.load("TEST", HOUR)

    catalog.import_bars(bars_at(HOURS, close=np.linspace(9.1, 10.9, 50)), "again")

    assert len(catalog.load("TEST", HOUR)) == 50


def test_a_file_under_another_name_is_no_dataset_of_that_name(catalog):
    dataset = catalog.import_bars(bars_at(HOURS), "a test")
    moved = dataset.path.parent.parent / "OTHER" / "1h.parquet"
    moved.parent.mkdir()
    dataset.path.rename(moved)

    with pytest.raises(DatasetCorruptError, match="bars of TEST 1h"):
        catalog.load("OTHER", HOUR)


def test_a_failed_write_leaves_everything_as_it_was(catalog, tmp_path, monkeypatch):
    first = catalog.import_bars(bars_at(HOURS), "first")
    before = files_under(tmp_path)

    def disk_is_full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", disk_is_full)
    with pytest.raises(StoreUnavailableError, match="No space left on device"):
        catalog.import_bars(other_bars(), "second", replace=True)

    assert files_under(tmp_path) == before
    assert catalog.get("TEST", HOUR) == first


def test_what_a_killed_import_left_is_ignored_and_then_overwritten(catalog, tmp_path):
    left = tmp_path / "data" / "TEST" / ".1h.parquet.partial"
    left.parent.mkdir(parents=True)
    left.write_bytes(b"half a file")
    assert catalog.list() == ()
    assert catalog.damaged() == ()

    catalog.import_bars(bars_at(HOURS), "a test")

    assert files_under(tmp_path) == ["data/.lock", "data/TEST/1h.parquet"]


def test_a_home_that_cannot_be_made_is_said(tmp_path):
    (tmp_path / "data").write_text("in the way")

    with pytest.raises(StoreUnavailableError, match="cannot write"):
        Catalog(tmp_path).import_bars(bars_at(HOURS), "a test")


def test_datasets_are_listed_by_symbol_and_then_by_length(catalog):
    for symbol, timeframe, step_s in (("B", "1h", 3600), ("B", "5m", 300), ("A", "1d", 86400)):
        bars = bars_at(every("2024-01-02 00:00", step_s, 3), timeframe)
        columns = [getattr(bars, name) for name in COLUMNS]
        catalog.import_bars(BarSeries(symbol, bars.timeframe, *columns), "a test")

    held = [(dataset.symbol, dataset.timeframe.label) for dataset in catalog.list()]

    assert held == [("A", "1d"), ("B", "5m"), ("B", "1h")]


def test_a_symbol_cannot_leave_the_catalog(catalog):
    with pytest.raises(InvalidRequestError):
        catalog.load("../../etc", HOUR)


def test_a_machine_without_memory_is_no_damage_of_a_dataset(catalog, monkeypatch):
    catalog.import_bars(bars_at(HOURS), "a test")

    def no_memory(*_arguments, **_options):
        raise pa.ArrowMemoryError("malloc of size 64 failed")

    # What Arrow raises where there is no memory, which a test cannot bring about elsewise.
    monkeypatch.setattr(pyarrow.parquet, "ParquetFile", no_memory)
    with pytest.raises(MemoryError):
        catalog.load("TEST", HOUR)
    with pytest.raises(MemoryError):
        catalog.list()


def test_a_dataset_that_cannot_be_opened_is_not_called_damaged(catalog):
    path = catalog.import_bars(bars_at(HOURS), "a test").path
    path.unlink()
    # A socket: it is there, and nobody can open it as a file, not even root.
    os.mknod(path, stat.S_IFSOCK | 0o600)
    with pytest.raises(StoreUnavailableError, match="cannot be read: No such device"):
        catalog.load("TEST", HOUR)
