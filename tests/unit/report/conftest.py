"""One small real run, in memory and as a result directory."""

from pathlib import Path

import pytest

from backlane.backtest.engine import run_backtest
from backlane.backtest.request import parse_request
from backlane.backtest.result import BacktestRun
from backlane.sources.results import write_result
from tests.builders import LinearPredictor, make_model, random_bars


def run_sample(bar_count: int = 1500, **fields: object) -> BacktestRun:
    """A run over a seeded random walk of 1h bars."""
    request = parse_request({"model": {"name": "test"}, "symbol": "TEST"} | fields)
    bars = {"1h": random_bars(11, bar_count)}
    return run_backtest(
        request,
        LinearPredictor(make_model()),
        bars,
        dataset_digests={"1h": "sha256:" + "1" * 64},
        versions={"backlane": "0.2.0", "numpy": "2.3"},
    )


@pytest.fixture(scope="session")
def run() -> BacktestRun:
    return run_sample()


@pytest.fixture(scope="session")
def written(run: BacktestRun, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The result directory of `run`; tests leave it as it is."""
    directory = tmp_path_factory.mktemp("report") / "result"
    write_result(run, directory)
    return directory
