"""Real servers for tests: in this event loop, or as processes that can be killed."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar

from backlane.rpc.server import RpcServer

READY_DEADLINE_S = 30.0
_PAUSE_S_MIN = 0.001
_PAUSE_S_MAX = 0.05

FoundT = TypeVar("FoundT")


@asynccontextmanager
async def running(server: RpcServer) -> AsyncIterator[str]:
    """Starts the server, yields its host:port, and drains it."""
    await server.start()
    try:
        yield server.address
    finally:
        await server.drain()


def wait_until(condition: Callable[[], FoundT], deadline_s: float = 10.0) -> FoundT:
    """Returns the first true value of the condition; raises TimeoutError after the deadline.

    It looks at once, then after pauses that grow from 1 ms to 50 ms.
    """
    ends_s = time.monotonic() + deadline_s
    pause_s = _PAUSE_S_MIN
    while not (found := condition()):
        if time.monotonic() >= ends_s:
            raise TimeoutError(f"still {found!r} after {deadline_s} s: {condition}")
        time.sleep(pause_s)
        pause_s = min(2 * pause_s, _PAUSE_S_MAX)
    return found


async def wait_until_async(
    condition: Callable[[], FoundT | Awaitable[FoundT]], deadline_s: float = 10.0
) -> FoundT:
    """Does the same without holding the event loop; the condition may be a coroutine function."""
    ends_s = time.monotonic() + deadline_s
    pause_s = _PAUSE_S_MIN
    while True:
        looked = condition()
        found = await looked if isinstance(looked, Awaitable) else looked
        if found:
            return found
        if time.monotonic() >= ends_s:
            raise TimeoutError(f"still {found!r} after {deadline_s} s: {condition}")
        await asyncio.sleep(pause_s)
        pause_s = min(2 * pause_s, _PAUSE_S_MAX)


class ServiceProcess:
    """A service as a process of its own: `python -m <module>` in a new process group.

    `folder` gets its log and its address file; `env` is added to this process's environment;
    `env_prefix` is that of the service's settings. Leaving the context ends the whole group.
    """

    def __init__(
        self,
        module: str,
        *,
        env_prefix: str,
        folder: Path,
        env: Mapping[str, str] | None = None,
        ready_deadline_s: float = READY_DEADLINE_S,
    ) -> None:
        self.module = module
        self.address = ""
        self.log_file = folder / f"{module}.log"
        self._address_file = folder / f"{module}.address"
        self._ready_deadline_s = ready_deadline_s
        self._env = {
            **os.environ,
            f"{env_prefix}ADDRESS_FILE": str(self._address_file),
            **(env or {}),
        }
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> str:
        """Starts it and waits until it is SERVING; returns host:port.

        Raises RuntimeError with the end of its log when it ends first.
        """
        self._address_file.unlink(missing_ok=True)
        with self.log_file.open("ab") as log:
            self._process = subprocess.Popen(  # noqa: S603 - a module that the test names
                [sys.executable, "-m", self.module],
                env=self._env,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        try:
            self.address = wait_until(self._read_address, self._ready_deadline_s)
        except BaseException:
            self.kill()
            raise
        return self.address

    @property
    def pid(self) -> int:
        """Returns the process id, which is that of its group too."""
        return self._running().pid

    @property
    def is_running(self) -> bool:
        """Says whether it has been started and has not ended."""
        return self._process is not None and self._process.poll() is None

    def signal(self, number: signal.Signals) -> None:
        """Sends a signal to the service alone."""
        self._running().send_signal(number)

    def terminate(self, deadline_s: float = 20.0) -> int:
        """Asks it to drain and waits; returns its exit code, or raises TimeoutExpired."""
        self.signal(signal.SIGTERM)
        return self.wait(deadline_s)

    def wait(self, deadline_s: float = 20.0) -> int:
        """Waits for its end; returns its exit code."""
        return self._running().wait(deadline_s)

    def kill(self) -> None:
        """Ends it and all it has started, at once, as a power cut would."""
        process = self._process
        if process is None:
            return
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()

    def read_log(self) -> str:
        """Returns what it has logged."""
        return self.log_file.read_text(encoding="utf-8", errors="replace")

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            raise RuntimeError(f"{self.module} has not been started")
        return self._process

    def _read_address(self) -> str:
        code = self._running().poll()
        if code is not None:
            raise RuntimeError(f"{self.module} ended with {code}:\n{self.read_log()[-4000:]}")
        with suppress(FileNotFoundError):
            return self._address_file.read_text(encoding="utf-8").strip()
        return ""

    def __enter__(self) -> Self:
        """Starts it."""
        self.start()
        return self

    def __exit__(
        self,
        _type: type[BaseException] | None,
        _error: BaseException | None,
        _traceback: TracebackType | None,
    ) -> None:
        """Drains it when it still runs, then ends its group."""
        with suppress(subprocess.TimeoutExpired):
            if self.is_running:
                self.terminate()
        self.kill()
