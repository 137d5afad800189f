"""The supervisor's side of a worker process: starts it, talks to it, ends it."""

import asyncio
import os
import signal
import socket
import sys
from contextlib import suppress
from typing import cast

import structlog

from backlane.errors import WorkerLostError
from backtest_service.board import Board
from backtest_service.messages import (
    FRAME_BYTES_MAX,
    LENGTH_BYTES,
    FromWorker,
    StartRun,
    WorkerReady,
    WorkerSetup,
    content_length,
    pack,
    unpack,
)

_NO_PROCESS = "there is no process any more"
_EXIT_S = 1.0
"""Seconds from the end of the connection to the end of the process."""
_ENVIRONMENT = {
    # One run, one thread: the others belong to other runs.
    **dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1"),
    # Allocators that reserve no gigabytes ahead, so that the memory limit counts what is used.
    "ARROW_DEFAULT_MEMORY_POOL": "system",
    "MALLOC_ARENA_MAX": "2",
}

_log = structlog.get_logger(__name__)


class WorkerDied(Exception):  # noqa: N818 - an end that the supervisor looks for
    """The worker process ended, or cut the connection; `exit_text` says how."""

    def __init__(self, exit_text: str) -> None:
        super().__init__(exit_text)
        self.exit_text = exit_text


class Worker:
    """One worker process, kept for run after run and started anew when it has died.

    A process of its own session and group, started by exec: nothing of this process is inherited
    but the socket and the board.
    """

    def __init__(self, setup: WorkerSetup, *, start_timeout_s: float) -> None:
        self.board = Board.create()
        self._setup = setup
        self._start_timeout_s = start_timeout_s
        self._is_killed = False
        self._process: asyncio.subprocess.Process | None = None
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None

    @property
    def is_running(self) -> bool:
        """Says whether there is a process that has not ended, and was not told to."""
        return self._is_alive() and not self._is_killed

    @property
    def pid(self) -> int:
        """Returns the process id, 0 when there is no process."""
        return self._process.pid if self._process is not None else 0

    async def ensure_started(self) -> None:
        """Returns once a process waits for runs: the one that is there, or a new one.

        Raises WorkerLostError when it does not get so far within the timeout.
        """
        if self.is_running:
            return
        await self._clear_away()
        await self._spawn()
        try:
            async with asyncio.timeout(self._start_timeout_s):
                await self.send(self._setup)
                message = await self.receive()
        except (WorkerDied, TimeoutError) as error:
            reason = error.exit_text if isinstance(error, WorkerDied) else "it took too long"
            await self._clear_away()
            raise WorkerLostError(
                f"A worker process could not be started: {reason}. See the service's log.",
                metadata={"cause": reason, "timeout_s": str(self._start_timeout_s)},
            ) from error
        if not isinstance(message, WorkerReady):
            raise TypeError(f"the first message of a worker is a {type(message).__name__}")
        _log.debug("worker ready", pid=self.pid)

    async def _spawn(self) -> None:
        self.board.wipe()
        ours, theirs = socket.socketpair()
        arguments = [str(theirs.fileno()), str(self.board.fd), str(os.getpid())]
        with theirs:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "backtest_service.child",
                *arguments,
                stdin=asyncio.subprocess.DEVNULL,
                pass_fds=(theirs.fileno(), self.board.fd),
                start_new_session=True,
                env={**os.environ, **_ENVIRONMENT},
            )
        self._reader, self._writer = await asyncio.open_connection(sock=ours, limit=FRAME_BYTES_MAX)

    async def start_run(self, command: StartRun) -> None:
        """Hands over a run; its messages come from `receive`. Raises WorkerDied."""
        self.board.wipe()
        await self.send(command)

    async def receive(self) -> FromWorker:
        """Waits for the next message; raises WorkerDied when there will be none."""
        reader = self._reader
        if reader is None:
            raise WorkerDied(_NO_PROCESS)
        try:
            header = await reader.readexactly(LENGTH_BYTES)
            content = await reader.readexactly(content_length(header))
        except (asyncio.IncompleteReadError, ConnectionError) as error:
            raise WorkerDied(await self._exit_text()) from error
        return cast(FromWorker, unpack(content))

    async def send(self, message: object) -> None:
        """Sends a message to the process; raises WorkerDied where there is none."""
        if self._writer is None:
            raise WorkerDied(_NO_PROCESS)
        try:
            self._writer.write(pack(message))
            await self._writer.drain()
        except ConnectionError as error:
            raise WorkerDied(await self._exit_text()) from error

    async def _exit_text(self) -> str:
        if self._process is None:
            return _NO_PROCESS
        process = self._process
        try:
            async with asyncio.timeout(_EXIT_S):
                code = await process.wait()
        except TimeoutError:  # it cut the connection and lives on
            self.kill()
            code = await process.wait()
        return explain_exit(code)

    def terminate(self) -> None:
        """Asks the process to end (SIGTERM)."""
        self._signal(signal.SIGTERM)

    def kill(self) -> None:
        """Ends the process and its group at once (SIGKILL); `receive` then raises WorkerDied."""
        self._is_killed = True
        self._signal(signal.SIGKILL)

    async def _clear_away(self) -> None:
        """Ends the process, waits for it, and closes the connection to it."""
        if self._process is not None:
            self.kill()
            await self._process.wait()
        if self._writer is not None:
            self._writer.close()
        self._process = self._reader = self._writer = None
        self._is_killed = False

    async def close(self) -> None:
        """Ends the process and lets go of the board."""
        await self._clear_away()
        self.board.close()

    def _signal(self, number: signal.Signals) -> None:
        if self._is_alive():
            with suppress(ProcessLookupError):
                os.killpg(self.pid, number)

    def _is_alive(self) -> bool:
        return self._process is not None and self._process.returncode is None


def explain_exit(code: int) -> str:
    """Returns how a process ended, from its exit code: negative for the signal that killed it."""
    if code >= 0:
        return f"it exited with code {code}"
    name = signal.Signals(-code).name
    causes = {
        signal.SIGKILL: ", sent by someone, or by the kernel when the machine is out of memory",
        signal.SIGSEGV: ": it touched memory that is not its own",
        signal.SIGABRT: ": a library gave up, as it does when it gets no memory",
    }
    return f"it was killed by {name}{causes.get(signal.Signals(-code), '')}"
