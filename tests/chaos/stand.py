"""All the processes of one installation, each of which can be hit at any time.

On SQLite one operations_service; on PostgreSQL two replicas, whose connections to the database go
through a proxy. Clients reach operations_service through proxies, too; the workers do not.
"""

import os
import signal
import subprocess
import sys
import threading
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Self

import psutil
import psycopg
import sqlalchemy as sa

from backlane.client.connection import Addresses
from backlane.market.timeframe import Timeframe
from backlane.sources.catalog import Catalog
from backlane.sources.synthetic import synthetic_bars
from backlane.testing.servers import ServiceProcess
from backtest_service.child import BUSY
from tests.bundle_maker import BundleMaker
from tests.chaos.disk import SmallDisk
from tests.chaos.proxy import Proxy
from tests.e2e.stack import free_ports

MODEL, TIMEFRAME = "traded", "1m"
START = datetime(2015, 1, 5, tzinfo=UTC)
BARS = 30_000
LEASE_TTL_S = 3.0
SLICE_SLEEP_S = 0.1
"""Between two slices of a run, of at least 1,024 bars: a run lasts about a second, and computes
little of it."""

CHECKPOINT_INTERVAL_BARS = 2_048
REGISTRY_MIB, CHECKPOINTS_MIB = 384, 64
END_DEADLINE_S = 20.0


class WorkerProcess:
    """`backlane worker`, in a process group of its own."""

    def __init__(self, arguments: list[str], env: dict[str, str], log_file: Path) -> None:
        self._command = [sys.executable, "-m", "backlane.cli.main", "worker", *arguments]
        self._env = {**os.environ, **env}
        self._log_file = log_file
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """The process id, which is that of its group too."""
        if self._process is None:
            raise RuntimeError("the worker has not been started")
        return self._process.pid

    def start(self) -> None:
        """Starts it; it asks for work once it has imported what it needs."""
        with self._log_file.open("ab") as log:
            self._process = subprocess.Popen(
                self._command,
                env=self._env,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def terminate(self, deadline_s: float = END_DEADLINE_S) -> int:
        """Asks it to drain and waits; returns its exit code, or raises TimeoutExpired."""
        assert self._process is not None
        self._process.send_signal(signal.SIGTERM)
        return self._process.wait(deadline_s)

    def kill(self) -> None:
        """Ends it and all it has started."""
        if self._process is None:
            return
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def __enter__(self) -> Self:
        """Starts it."""
        self.start()
        return self

    def __exit__(self, *_error: object) -> None:
        """Drains it, then ends its group."""
        with suppress(subprocess.TimeoutExpired):
            self.terminate()
        self.kill()


Process = ServiceProcess | WorkerProcess


class Stand:
    """What runs, by name; `locks` lets one fault at a time touch a process."""

    def __init__(self, folder: Path, store_url: sa.URL | None) -> None:
        self.folder, self.home = folder, folder / "home"
        self.store_proxy = (
            Proxy(f"{store_url.host}:{store_url.port or 5432}") if store_url is not None else None
        )
        self.registry_disk = SmallDisk(folder / "registry", REGISTRY_MIB)
        self.checkpoints_disk = SmallDisk(self.home / "checkpoints", CHECKPOINTS_MIB)
        self._store_url = store_url
        self._stack = ExitStack()
        self.processes: dict[str, Process] = {}
        self.locks: dict[str, threading.Lock] = {}
        self.client_proxies: list[Proxy] = []

    @property
    def is_shared(self) -> bool:
        """Whether the registry is on PostgreSQL, with two replicas."""
        return self.store_proxy is not None

    def runners(self) -> list[str]:
        """The processes whose children run something."""
        return ["backtests", "worker"]

    def replicas(self) -> list[str]:
        """The processes of the registry."""
        return [name for name in self.processes if name.startswith("operations")]

    def children(self, *, is_busy: bool) -> list[int]:
        """Process ids of workers: those that run something, or all of them."""
        found: list[int] = []
        for name in self.runners():
            with suppress(psutil.NoSuchProcess, RuntimeError):
                children = psutil.Process(self.processes[name].pid).children()
                found += [c.pid for c in children if not is_busy or c.name() == BUSY]
        return found

    def addresses(self) -> Addresses:
        """Where clients find the services: the registry through the proxies."""
        operations = ",".join(proxy.address for proxy in self.client_proxies)
        return Addresses(operations, self._address("models"), self._address("backtests"))

    def _address(self, name: str) -> str:
        process = self.processes[name]
        assert isinstance(process, ServiceProcess)
        return process.address

    def __enter__(self) -> Self:
        """Starts everything."""
        with ExitStack() as stack:
            self.home.mkdir()
            stack.enter_context(self.checkpoints_disk)
            if self.store_proxy is None:
                stack.enter_context(self.registry_disk)
            else:
                stack.enter_context(self.store_proxy)
            _fill(self.home, self.folder / "bundles")
            self._start_all(stack)
            self._stack = stack.pop_all()
        return self

    def _start_all(self, stack: ExitStack) -> None:
        for number in range(2 if self.is_shared else 1):
            name = f"operations_{number + 1}"
            address = self._service(stack, name, "operations_service", self._registry_env())
            self.client_proxies.append(stack.enter_context(Proxy(address)))
        registry = ",".join(self._address(name) for name in self.replicas())
        models = {"BACKLANE_MODELS_MODELS_DIR": str(self.folder / "bundles")}
        models_address = self._service(stack, "models", "model_service", models)
        runs = {"OPERATIONS_ADDRESS": registry, "MODELS_ADDRESS": models_address}
        runs |= {"WORKERS": "1", "SPARE_WORKERS": "1", "STALL_TIMEOUT_S": "8"}
        runs |= {"CHECKPOINT_INTERVAL_BARS": str(CHECKPOINT_INTERVAL_BARS)}
        runs |= {"CANCEL_GRACE_S": "2", "DRAIN_GRACE_S": "2"}
        slowly = {"BACKLANE_FAILPOINTS": f"worker.slice_simulated=sleep:{SLICE_SLEEP_S}"}
        backtests = {f"BACKLANE_BACKTESTS_{name}": value for name, value in runs.items()}
        self._service(stack, "backtests", "backtest_service", backtests | slowly)
        env = {f"BACKLANE_WORKER_{name}": value for name, value in runs.items()}
        places = ["--operations", registry, "--models", models_address, "--home", str(self.home)]
        log_file = self.folder / "worker.log"
        worker = WorkerProcess(places, env | slowly | {"BACKLANE_WORKER_WORKERS": "1"}, log_file)
        self.processes["worker"] = stack.enter_context(worker)
        self.locks["worker"] = threading.Lock()

    def _registry_env(self) -> dict[str, str]:
        ours = {
            "LEASE_TTL_S": str(LEASE_TTL_S),
            "CANCEL_GRACE_S": "3",
            "CLIENT_CALLS_PER_S": "100000",
            "CLIENT_CALLS_BURST": "100000",
            "DRAIN_GRACE_S": "2",
        }
        if self._store_url is None or self.store_proxy is None:
            ours["DATA_DIR"] = str(self.registry_disk.folder)
        else:
            url = self._store_url.set(host="127.0.0.1", port=self.store_proxy.port)
            ours["STORE_URL"] = url.render_as_string(hide_password=False)
        return {f"BACKLANE_OPERATIONS_{name}": value for name, value in ours.items()}

    def _service(self, stack: ExitStack, name: str, module: str, env: dict[str, str]) -> str:
        """Starts it on a free port, which it has again whenever it is started again."""
        prefix = f"BACKLANE_{module.removesuffix('_service').rstrip('s').upper()}S_"
        folder = self.folder / name
        folder.mkdir()
        everywhere = {"BACKLANE_HOME": str(self.home), f"{prefix}LOG_LEVEL": "warning"}
        everywhere |= {f"{prefix}PORT": str(_free_port())}
        process = ServiceProcess(
            module, env_prefix=prefix, folder=folder, env={**everywhere, **env}
        )
        self.processes[name] = stack.enter_context(process)
        self.locks[name] = threading.Lock()
        return process.address

    def __exit__(self, *error: object) -> None:
        """Ends everything, in the order in which it depends."""
        self._stack.close()

    def logs(self) -> str:
        """The ends of all logs."""
        files = sorted(self.folder.glob("**/*.log"))
        return "\n".join(f"== {file}\n{file.read_text(errors='replace')[-3000:]}" for file in files)


def _free_port() -> int:
    return free_ports(1)[0]


def _fill(home: Path, models: Path) -> None:
    bars = synthetic_bars(7, START, BARS, Timeframe.parse(TIMEFRAME))
    Catalog(home).import_bars(bars, "synthetic")
    features = [name.replace("1h", TIMEFRAME) for name in BundleMaker(seed=10).feature_names]
    metadata = {"training_timeframes": [TIMEFRAME], "resolved_features": features}
    BundleMaker(seed=10, metadata=metadata).write(models / MODEL / "1")


@contextmanager
def postgres_schema(server: str) -> Iterator[sa.URL]:
    """A schema of its own on that server; raises psycopg.OperationalError where there is none."""
    admin = psycopg.connect(server, autocommit=True, connect_timeout=3)
    name = f"chaos_{uuid.uuid4().hex[:16]}"
    with admin:
        admin.execute(f"CREATE SCHEMA {name}")  # type: ignore[arg-type]
        url = sa.engine.make_url(server)
        try:
            yield url.update_query_dict({"options": f"-csearch_path={name}"})
        finally:
            admin.execute(f"DROP SCHEMA {name} CASCADE")  # type: ignore[arg-type]
