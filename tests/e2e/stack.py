"""The three services as three real processes on free ports, over one home in a temporary folder."""

import os
import signal
import socket
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path

import psutil

from backlane.backtest.request import BacktestRequest, parse_request
from backlane.client.backlane_client import AsyncClient, Client
from backlane.client.connection import Addresses
from backlane.market.bars import BarSeries
from backlane.market.timeframe import Timeframe
from backlane.sources.catalog import Catalog
from backlane.sources.synthetic import SYNTHETIC_SYMBOL, synthetic_bars
from backlane.testing.servers import ServiceProcess, wait_until
from backtest_service.child import BUSY
from tests.bundle_maker import BundleMaker

MODEL, SHORT_BARS, LONG_BARS = "traded", 3_000, 1_000_000
LONG_TIMEFRAME = "1m"
START = datetime(2015, 1, 5, tzinfo=UTC)


def free_ports(count: int) -> list[int]:
    """Ports that nobody uses now: a service that is restarted must be found where it was."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


def short_bars() -> BarSeries:
    return synthetic_bars(7, START, SHORT_BARS, Timeframe.parse("1h"))


def fill_home(home: Path) -> None:
    """Puts bars of 1h (a run of a moment) and of 1m (a run of a while) into the catalog."""
    long_bars = synthetic_bars(7, START, LONG_BARS, Timeframe.parse(LONG_TIMEFRAME))
    for bars in (short_bars(), long_bars):
        Catalog(home).import_bars(bars, "synthetic")


def fill_models(folder: Path) -> None:
    """Writes an MLP for 1h bars, version 1, and the same for 1m bars, version 2."""
    maker = BundleMaker(seed=10)
    maker.write(folder / MODEL / "1")
    features = [name.replace("1h", LONG_TIMEFRAME) for name in maker.feature_names]
    BundleMaker(
        seed=10,
        metadata={"training_timeframes": [LONG_TIMEFRAME], "resolved_features": features},
    ).write(folder / MODEL / "2")
    for version in ("1", "2"):
        maker.write(folder / "newest" / version)
    BundleMaker(output_type="regime_classification").write(folder / "regime" / "1")


def short_request(**more: object) -> BacktestRequest:
    content = {"model": {"name": MODEL, "version": 1}, "symbol": SYNTHETIC_SYMBOL}
    decisions = {
        "confidence_threshold": 0,
        "allow_short_from_flat": True,
        "filters": {"min_signal_separation": 0},
    }
    return parse_request({**content, "decisions": decisions, **more})


def long_request(**more: object) -> BacktestRequest:
    return short_request(model={"name": MODEL, "version": 2}, **more)


class Stack:
    """Three processes; each can be killed, stopped and started again."""

    def __init__(
        self, home: Path, models_dir: Path, folder: Path, env: Mapping[str, str] | None = None
    ) -> None:
        ports = free_ports(3)
        self.home = home
        self.addresses = Addresses(*(f"127.0.0.1:{port}" for port in ports))
        everywhere = {"BACKLANE_HOME": str(home)}
        own = {
            "BACKLANE_OPERATIONS_PORT": str(ports[0]),
            "BACKLANE_OPERATIONS_DATA_DIR": str(folder / "registry"),
            "BACKLANE_MODELS_PORT": str(ports[1]),
            "BACKLANE_MODELS_MODELS_DIR": str(models_dir),
            "BACKLANE_BACKTESTS_PORT": str(ports[2]),
            "BACKLANE_BACKTESTS_OPERATIONS_ADDRESS": self.addresses.operations,
            "BACKLANE_BACKTESTS_MODELS_ADDRESS": self.addresses.models,
            "BACKLANE_BACKTESTS_WORKERS": "1",
            "BACKLANE_BACKTESTS_SPARE_WORKERS": "0",
            "BACKLANE_BACKTESTS_PROBE_INTERVAL_S": "0.2",
        }
        self.operations, self.models, self.backtests = (
            ServiceProcess(
                module, env_prefix=prefix, folder=folder, env={**everywhere, **own, **(env or {})}
            )
            for module, prefix in (
                ("operations_service", "BACKLANE_OPERATIONS_"),
                ("model_service", "BACKLANE_MODELS_"),
                ("backtest_service", "BACKLANE_BACKTESTS_"),
            )
        )

    def client(self) -> Client:
        return Client(self.addresses)

    def async_client(self) -> AsyncClient:
        return AsyncClient(self.addresses)

    def worker_pid(self) -> int:
        """The process id of the worker that runs something, or of the only one that waits."""
        return wait_until(self._find_worker, 30.0)

    def worker_pids(self) -> list[int]:
        """The process ids of all workers of backtest_service, those that wait among them."""
        return [child.pid for child in psutil.Process(self.backtests.pid).children()]

    def _find_worker(self) -> int:
        children = psutil.Process(self.backtests.pid).children()
        busy = [child.pid for child in children if child.name() == BUSY]
        found = busy or [child.pid for child in children]
        return found[0] if len(found) == 1 else 0

    def signal_worker(self, number: signal.Signals) -> int:
        pid = self.worker_pid()
        os.kill(pid, number)
        return pid

    def running(self) -> Iterator["Stack"]:
        """Starts all three, yields, and ends them in the order in which they depend."""
        with self.operations, self.models, self.backtests:
            yield self
