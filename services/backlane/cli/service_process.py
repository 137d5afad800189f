"""One service as a child: started in a process group of its own, read, drained, ended."""

import asyncio
import os
import signal
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

LOG_LINE_BYTES_MAX = 1 << 20
"""A longer line of a service's log is left out."""

ADDRESS_POLL_S = 0.02
STOP_MARGIN_S = 5.0
"""Seconds beyond its own drain that a service gets before its group is killed."""

LogLine = Callable[[str, str], None]


@dataclass(frozen=True, slots=True)
class ServiceSpec:
    """How to start one service.

    `name` is the one in addresses.json; `prefix` begins the names of its settings in the
    environment; `settings` are those settings, by the rest of their names.
    """

    name: str
    module: str
    prefix: str
    settings: Mapping[str, str]


class ServiceDiedError(Exception):
    """A service ended by itself."""

    def __init__(self, name: str, returncode: int) -> None:
        super().__init__(f"{name} ended with exit code {returncode}")
        self.name = name
        self.returncode = returncode


class ServiceProcess:
    """A running service. Its log goes, line by line, to `log(name, line)`."""

    def __init__(self, spec: ServiceSpec, address_file: Path, log: LogLine) -> None:
        self.name = spec.name
        self._spec = spec
        self._address_file = address_file
        self._log = log
        self._process: asyncio.subprocess.Process | None = None
        self._reading: asyncio.Task[None] | None = None

    @property
    def pid(self) -> int:
        """Process id, and that of its group."""
        return self._started.pid

    async def start(self) -> None:
        """Starts the process, in a session of its own: a Ctrl-C in the terminal passes it by."""
        self._address_file.unlink(missing_ok=True)
        settings = {**self._spec.settings, "ADDRESS_FILE": str(self._address_file)}
        environment = {self._spec.prefix + name: value for name, value in settings.items()}
        self._process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            self._spec.module,
            env={**os.environ, "PYTHONUNBUFFERED": "1", **environment},
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            start_new_session=True,
            limit=LOG_LINE_BYTES_MAX,
        )
        self._reading = asyncio.create_task(self._read_log())

    async def wait_serving(self) -> str:
        """Waits until it is SERVING; returns its host:port. Raises ServiceDiedError."""
        while True:
            with suppress(FileNotFoundError):
                address = self._address_file.read_text(encoding="utf-8").strip()
                if address:
                    return address
            if self._started.returncode is not None:
                await self._finish_log()
                raise ServiceDiedError(self.name, self._started.returncode)
            await asyncio.sleep(ADDRESS_POLL_S)

    async def wait_end(self) -> int:
        """Waits until the process ends; returns its exit code."""
        code = await self._started.wait()
        await self._finish_log()
        return code

    async def drain(self, within_s: float) -> int:
        """Asks it to drain, waits, and ends what is left of its group; returns its exit code."""
        process = self._started
        if process.returncode is None:
            with suppress(ProcessLookupError):
                process.send_signal(signal.SIGTERM)
            with suppress(TimeoutError):
                async with asyncio.timeout(within_s + STOP_MARGIN_S):
                    await process.wait()
        self.kill()
        return await self.wait_end()

    def kill(self) -> None:
        """Ends the whole group at once: the service, and workers that outlived it."""
        if self._process is not None:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)

    @property
    def _started(self) -> asyncio.subprocess.Process:
        if self._process is None:
            raise RuntimeError(f"{self.name} has not been started")
        return self._process

    async def _read_log(self) -> None:
        stream = self._started.stdout
        while stream is not None:
            try:
                line = await stream.readline()
            except ValueError:
                self._log(self.name, f"(a line of over {LOG_LINE_BYTES_MAX} bytes)")
                continue
            if not line:
                return
            self._log(self.name, line.decode(errors="replace").rstrip())

    async def _finish_log(self) -> None:
        """Reads what is still in the pipe; a worker that holds it open is not waited for."""
        if self._reading is not None:
            await asyncio.wait({self._reading}, timeout=1.0)
            self._reading.cancel()
