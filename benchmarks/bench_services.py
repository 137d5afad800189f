"""The same run through the three services, against in process: the price of the services."""

import os
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Self

from backlane.backtest.engine import run_backtest
from backlane.backtest.request import parse_request
from backlane.client.backlane_client import Client
from backlane.client.connection import Addresses
from backlane.market.timeframe import Timeframe
from backlane.sources.bundle import load_predictor, read_bundle
from backlane.sources.catalog import Catalog
from backlane.sources.results import write_result
from backlane.sources.synthetic import synthetic_bars
from backlane.testing.servers import ServiceProcess
from benchmarks.timing import Row, paired_medians

MODELS = Path(__file__).resolve().parents[1] / "models"
START = datetime(2010, 1, 1, tzinfo=UTC)
SIZES = {"10k": 10_000, "1M": 1_000_000}
PATIENCE_S = 120.0


def run() -> list[Row]:
    """Returns whole runs of both sizes, in process and through the services."""
    with tempfile.TemporaryDirectory() as folder:
        return [row for label, bars in SIZES.items() for row in compare(Path(folder), label, bars)]


def compare(folder: Path, label: str, bar_count: int) -> list[Row]:
    """Returns one size: load, features, inference, loop, metrics, result written; both ways."""
    home = folder / label
    catalog = Catalog(home)
    series = synthetic_bars(1, START, bar_count, Timeframe.parse("1h"))
    digest = catalog.import_bars(series, "synthetic").digest
    request = parse_request({"model": {"name": "rsi_bb", "version": 1}, "symbol": series.symbol})
    predictor = load_predictor(read_bundle(MODELS / "rsi_bb" / "1"))

    def in_process() -> None:
        bars = {"1h": catalog.load(series.symbol, series.timeframe)}
        result = run_backtest(request, predictor, bars, dataset_digests={"1h": digest})
        write_result(result, home / "result")

    with Services(home) as services, Client(services.addresses) as client:

        def through_services() -> None:
            operation = client.backtests.run(request)
            deadline = time.monotonic() + PATIENCE_S
            while not client.operations.wait(operation.name, timeout_s=30).state.is_terminal:
                if time.monotonic() > deadline:
                    raise TimeoutError(operation.name)

        found = paired_medians({"in process": in_process, "services": through_services}, 1)
    return [
        Row(f"whole run, {label} bars, result written", found["in process"], unit="run"),
        Row(
            f"the same through three services, {label} bars",
            found["services"],
            "in process",
            found["services"] / found["in process"],
            "run",
        ),
    ]


class Services:
    """The three services over one home, as processes, on free ports."""

    def __init__(self, home: Path) -> None:
        everywhere = {**os.environ, "BACKLANE_HOME": str(home)}
        own = {
            "BACKLANE_OPERATIONS_DATA_DIR": str(home / "registry"),
            "BACKLANE_MODELS_MODELS_DIR": str(MODELS),
            "BACKLANE_BACKTESTS_WORKERS": "1",
        }
        self._env = {**everywhere, **own}
        self._folder = home
        self._started: list[ServiceProcess] = []

    def __enter__(self) -> Self:
        operations = self._start("operations_service", "BACKLANE_OPERATIONS_")
        models = self._start("model_service", "BACKLANE_MODELS_")
        self._env["BACKLANE_BACKTESTS_OPERATIONS_ADDRESS"] = operations
        self._env["BACKLANE_BACKTESTS_MODELS_ADDRESS"] = models
        backtests = self._start("backtest_service", "BACKLANE_BACKTESTS_")
        self.addresses = Addresses(operations, models, backtests)
        return self

    def _start(self, module: str, prefix: str) -> str:
        process = ServiceProcess(
            module, env_prefix=prefix, folder=self._folder, env={**self._env, f"{prefix}PORT": "0"}
        )
        process.__enter__()
        self._started.append(process)
        return process.address

    def __exit__(self, *_: object) -> None:
        for process in reversed(self._started):
            process.__exit__(None, None, None)
