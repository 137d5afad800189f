"""The three services together: started in order, watched, drained in the opposite order."""

import asyncio
import fcntl
import json
import os
import signal
from collections import deque
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from backlane.cli.exit_codes import ExitCode
from backlane.cli.service_process import LogLine, ServiceDiedError, ServiceProcess, ServiceSpec
from backlane.clock import Clock, SystemClock
from backlane.errors import BacklaneError

START_DEADLINE_S = 90.0
"""Seconds until all three must serve; torch alone takes many on a cold disk."""

DRAIN_S = 10.0
"""Seconds that running calls and runs get to end."""

RESTARTS_MAX = 5
"""Times that one service is started again within RESTART_WINDOW_S; one more death ends them all."""

RESTART_WINDOW_S = 60.0
RESTART_DELAY_S = 0.2
"""Pause before a service is started again the second time in a row; it doubles each time."""


class ServicesFailedError(BacklaneError):
    """The services cannot start, or one of them ended by itself."""

    reason = "SERVICES_FAILED"


@dataclass(frozen=True, slots=True)
class GroupSettings:
    """Where the services live; `first_port` 0 takes free ports.

    `store` is the URL of the registry's database, None for a file in the home. `workers` is how
    many runs go on at once, None for the service's own choice; 0 leaves them to `backlane worker`.
    """

    home: Path
    models_dir: Path
    first_port: int
    log_level: str
    store: str | None = None
    workers: int | None = None


Ready = Callable[[dict[str, ServiceProcess], dict[str, str]], None]


class Restarts:
    """How often one service was started again, and whether it may be once more."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._times_s: deque[float] = deque(maxlen=RESTARTS_MAX)

    def next_delay_s(self) -> float | None:
        """Notes a death; returns the pause before the next start, None when it is the last one."""
        now_s = self._clock.monotonic_s()
        while self._times_s and now_s - self._times_s[0] > RESTART_WINDOW_S:
            self._times_s.popleft()
        count = len(self._times_s)
        if count == RESTARTS_MAX:
            return None
        self._times_s.append(now_s)
        return 0.0 if count == 0 else RESTART_DELAY_S * 2 ** (count - 1)


class ServiceGroup:
    """Starts operations and models, then backtests, which needs both; watches and ends them.

    A service that dies is started again at its address, so that clients and the other services,
    who try again, go on.
    """

    def __init__(self, settings: GroupSettings, log: LogLine) -> None:
        self._settings = settings
        self._run_dir = settings.home / "run"
        self._log = log
        self._services: dict[str, ServiceProcess] = {}
        self._specs: dict[str, ServiceSpec] = {}
        self._stop = asyncio.Event()
        self._force = asyncio.Event()

    async def run(self, ready: Ready) -> ExitCode:
        """Serves until a signal; calls `ready` once with the processes and their addresses.

        Returns OK after a drain and INTERRUPTED after a second signal cut it short. Raises
        ServicesFailedError when a service cannot start, or ends by itself again and again.
        """
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self._on_signal)
        addresses: dict[str, str] | None = None
        addresses_file = self._run_dir / "addresses.json"
        try:
            addresses = await self._until_stopped(self._start_all(), START_DEADLINE_S)
            if addresses is not None:
                write_atomically(addresses_file, json.dumps(addresses, indent=2) + "\n")
                ready(self._services, addresses)
                await self._until_stopped(self._keep_alive(addresses))
        except ServiceDiedError as error:
            when = "while it started" if addresses is None else "again and again"
            raise ServicesFailedError(
                f"{error.name} ended by itself with exit code {error.returncode}, {when}; "
                "its last lines above say why. The other services were drained.",
                metadata={"service": error.name, "exit_code": str(error.returncode)},
            ) from error
        except TimeoutError as error:
            raise ServicesFailedError(
                f"The services did not all serve within {START_DEADLINE_S:.0f} s; "
                "--log-level info shows how far each one came."
            ) from error
        finally:
            addresses_file.unlink(missing_ok=True)
            await self._drain_all()
        return ExitCode.INTERRUPTED if self._force.is_set() else ExitCode.OK

    def _on_signal(self) -> None:
        (self._force if self._stop.is_set() else self._stop).set()

    async def _until_stopped(
        self,
        work: Coroutine[Any, Any, dict[str, str] | None],
        within_s: float | None = None,
    ) -> dict[str, str] | None:
        """Awaits the work; a signal ends it and gives None."""
        task = asyncio.create_task(work)
        stopped = asyncio.create_task(self._stop.wait())
        try:
            done, _ = await asyncio.wait(
                {task, stopped}, timeout=within_s, return_when=asyncio.FIRST_COMPLETED
            )
            if task in done:
                return task.result()
            if stopped in done:
                return None
            raise TimeoutError
        finally:
            for each in (task, stopped):
                each.cancel()
            await asyncio.gather(task, stopped, return_exceptions=True)

    async def _start_all(self) -> dict[str, str]:
        first = [self._operations(), self._models()]
        for spec in first:
            await self._launch(spec)
        addresses = {spec.name: await self._services[spec.name].wait_serving() for spec in first}
        await self._launch(self._backtests(addresses))
        addresses["backtests"] = await self._services["backtests"].wait_serving()
        return addresses

    async def _launch(self, spec: ServiceSpec) -> None:
        service = ServiceProcess(spec, self._run_dir / f"{spec.name}.address", self._log)
        self._services[spec.name] = service
        self._specs[spec.name] = spec
        await service.start()

    async def _keep_alive(self, addresses: dict[str, str]) -> None:
        """Starts whatever dies again, where it was; raises ServiceDiedError when that is no use."""
        keeping = [
            asyncio.create_task(self._keep_one_alive(name, address), name=f"keeping {name}")
            for name, address in addresses.items()
        ]
        try:
            done, _ = await asyncio.wait(keeping, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            for task in keeping:
                task.cancel()
            await asyncio.gather(*keeping, return_exceptions=True)

    async def _keep_one_alive(self, name: str, address: str) -> None:
        restarts = Restarts(SystemClock())
        settings = {**self._specs[name].settings, "PORT": address.rpartition(":")[2]}
        spec = replace(self._specs[name], settings=settings)
        while True:
            returncode = await self._services[name].wait_end()
            self._services[name].kill()  # workers that outlived it
            delay_s = restarts.next_delay_s()
            if delay_s is None:
                raise ServiceDiedError(name, returncode)
            self._log(name, f"ended by itself with exit code {returncode}; starting it again")
            await asyncio.sleep(delay_s)
            await self._launch(spec)
            with suppress(ServiceDiedError):  # it shows in the next round
                await self._services[name].wait_serving()
                self._log(name, f"serves again at {address}")

    async def _drain_all(self) -> None:
        """Drains backtests first, operations last: a run that ends can still say so."""
        draining = asyncio.create_task(self._drain_in_order())
        forced = asyncio.create_task(self._force.wait())
        await asyncio.wait({draining, forced}, return_when=asyncio.FIRST_COMPLETED)
        if self._force.is_set():
            for service in self._services.values():
                service.kill()
        await draining
        forced.cancel()

    async def _drain_in_order(self) -> None:
        for name in ("backtests", "models", "operations"):
            if name in self._services:
                await self._services[name].drain(DRAIN_S)

    def _operations(self) -> ServiceSpec:
        store = {"STORE_URL": self._settings.store} if self._settings.store else {}
        return self._spec("operations", "operations_service", 0, store)

    def _models(self) -> ServiceSpec:
        root = str(self._settings.models_dir)
        return self._spec("models", "model_service", 1, {"MODELS_DIR": root})

    def _backtests(self, addresses: dict[str, str]) -> ServiceSpec:
        peers = {
            "OPERATIONS_ADDRESS": addresses["operations"],
            "MODELS_ADDRESS": addresses["models"],
        }
        if self._settings.workers is not None:
            peers["WORKERS"] = str(self._settings.workers)
        return self._spec("backtests", "backtest_service", 2, peers)

    def _spec(self, name: str, module: str, port_offset: int, own: dict[str, str]) -> ServiceSpec:
        first = self._settings.first_port
        settings = {
            "PORT": str(first + port_offset if first else 0),
            "DRAIN_GRACE_S": f"{DRAIN_S:g}",
            "LOG_LEVEL": self._settings.log_level,
            **own,
        }
        return ServiceSpec(name, module, f"BACKLANE_{name.upper()}_", settings)


@contextmanager
def only_one(home: Path) -> Iterator[None]:
    """Holds the home for one `up`; raises ServicesFailedError when another one holds it."""
    folder = home / "run"
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "up.lock").open("a+", encoding="utf-8") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            pid = lock.read().strip() or "unknown"
            raise ServicesFailedError(
                f"`backlane up` already runs on {home}, as process {pid}. Stop it with Ctrl-C or "
                f"kill {pid}, or give another --home.",
                metadata={"home": str(home), "pid": pid},
            ) from None
        lock.truncate(0)
        lock.write(f"{os.getpid()}\n")
        lock.flush()
        try:
            yield
        finally:
            lock.truncate(0)


def write_atomically(path: Path, text: str) -> None:
    """Writes the file in one step: a reader sees all of it, or the one before."""
    part = path.with_name(f".{path.name}.{os.getpid()}")
    part.write_text(text, encoding="utf-8")
    part.replace(path)
