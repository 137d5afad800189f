"""The result directory: every number to the bit, every time as text, all of it or nothing."""

import csv
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from backlane.backtest.engine import run_backtest
from backlane.backtest.result import BacktestRun
from backlane.sources import results
from backlane.sources.results import RESULT_FILES, iso_time, iso_times, write_result
from tests.builders import LinearPredictor, make_model, random_bars
from tests.unit.audit.runs import ask

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
LAST_S = 2**63 // 10**9 - 1


@pytest.fixture(scope="module")
def run() -> BacktestRun:
    bars = {"1h": random_bars(8, 500)}
    predictor = LinearPredictor(make_model(), 22)
    return run_backtest(ask(), predictor, bars, dataset_digests={"1h": "sha256:x"})


@given(st.lists(st.integers(-LAST_S, LAST_S), max_size=20))
def test_times_are_written_as_the_standard_library_writes_them(seconds: list[int]):
    texts = iso_times(np.array(seconds, dtype=np.int64) * 10**9).to_pylist()
    assert texts == [
        f"{(EPOCH + timedelta(seconds=each)).replace(tzinfo=None).isoformat()}Z" for each in seconds
    ]


def test_fractions_of_a_second_are_kept():
    times = np.array([-1, 1_700_000_000_123_456_789], dtype=np.int64)
    assert iso_times(times).to_pylist() == [
        "1969-12-31T23:59:59.999999999Z",
        "2023-11-14T22:13:20.123456789Z",
    ]


def test_csv_reads_back_to_the_same_bits(run: BacktestRun, tmp_path: Path):
    write_result(run, tmp_path / "out")
    with (tmp_path / "out" / "equity.csv").open() as file:
        rows = list(csv.DictReader(file))
    for name in ("equity", "cash", "position"):
        assert [float(row[name]) for row in rows] == getattr(run, name).tolist()
    assert [row["time"] for row in rows] == [iso_time(int(t)) for t in run.bars.open_time_ns]
    with (tmp_path / "out" / "trades.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(run.trades) > 0
    for name in ("quantity", "entry_price", "net_pnl", "mae", "mfe"):
        assert [float(row[name]) for row in rows] == run.trades[name].tolist()


def test_parquet_reads_back_to_the_same_bits(run: BacktestRun, tmp_path: Path):
    write_result(run, tmp_path / "out")
    bars = pq.read_table(tmp_path / "out" / "bars.parquet")
    assert bars["time"].cast("int64").to_numpy().tolist() == run.bars.open_time_ns.tolist()
    assert bars["close"].to_numpy().tobytes() == run.bars.close.tobytes()
    features = pq.read_table(tmp_path / "out" / "features.parquet")
    for index, name in enumerate(run.features.names):
        assert features[name].to_numpy().tobytes() == run.features.values[:, index].tobytes()
    decisions = pq.read_table(tmp_path / "out" / "decisions.parquet")
    assert decisions["confidence"].to_numpy().tobytes() == run.scores.confidence.tobytes()


def test_the_document_says_how_long_each_phase_took(run: BacktestRun, tmp_path: Path):
    write_result(run.timed({"load": 0.25, "features": 1.5}), tmp_path / "out")
    document = json.loads((tmp_path / "out" / "result.json").read_text())
    assert document["timings"] == {"load": 0.25, "features": 1.5}


@pytest.mark.parametrize("name", RESULT_FILES)
def test_a_file_that_cannot_be_written_leaves_the_earlier_result(
    run: BacktestRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
):
    write_result(run, tmp_path / "out")
    before = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}

    def fail(path: Path, run: BacktestRun) -> None:
        path.write_bytes(b"half")
        raise OSError(28, "No space left on device", str(path))

    monkeypatch.setattr(results, "_WRITERS", {**results._WRITERS, name: fail})
    with pytest.raises(OSError, match="No space left"):
        write_result(run.timed({"load": 1.0}), tmp_path / "out")
    assert {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()} == before
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_every_file_has_a_writer():
    assert set(results._WRITERS) == set(RESULT_FILES)
