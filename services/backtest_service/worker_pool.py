"""The worker processes: one for each run at once and some to spare, replaced when they die."""

import asyncio

import structlog

from backlane.errors import ServiceUnavailableError, WorkerLostError
from backtest_service.messages import WorkerSetup
from backtest_service.worker import Worker

START_DELAY_S_MIN, START_DELAY_S_MAX = 0.5, 30.0
"""Pause after a worker that could not be started; it doubles."""

PROCESSES_MAX = 512
"""More than settings can ask for: all of them may wait at once."""

_log = structlog.get_logger(__name__)


class WorkerPool:
    """As many workers as runs at once, and spare ones."""

    def __init__(
        self, setup: WorkerSetup, *, size: int, spare: int, start_timeout_s: float
    ) -> None:
        self.size = size
        self._setup = setup
        self._start_timeout_s = start_timeout_s
        self._problem = "No worker process has started yet." if size else ""
        self._ready: asyncio.Queue[Worker] = asyncio.Queue(maxsize=PROCESSES_MAX)
        self._workers: set[Worker] = set()
        self._wanted = size + spare if size else 0
        self._missing = asyncio.Event()
        self._filling: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Begins to start processes, one after the other."""
        self._missing.set()
        self._filling = asyncio.create_task(self._fill_forever(), name="worker processes")

    async def take(self) -> Worker:
        """Returns a worker that waits for a run, as soon as there is one."""
        while True:
            worker = await self._ready.get()
            if worker.is_running:
                return worker
            await self._drop(worker)  # it died while it waited

    async def give_back(self, worker: Worker) -> None:
        """Takes a worker back after its run; a dead one is replaced."""
        if worker.is_running:
            self._ready.put_nowait(worker)
        else:
            await self._drop(worker)

    async def _drop(self, worker: Worker) -> None:
        self._workers.discard(worker)
        self._missing.set()
        await worker.close()

    async def _fill_forever(self) -> None:
        delay_s = START_DELAY_S_MIN
        while True:
            await self._missing.wait()
            self._missing.clear()
            while len(self._workers) < self._wanted:
                try:
                    await self._start_one()
                except WorkerLostError as error:
                    self._problem = error.message
                    _log.error("worker not started", reason=error.message, retry_delay_s=delay_s)
                    await asyncio.sleep(delay_s)
                    delay_s = min(2 * delay_s, START_DELAY_S_MAX)
                else:
                    self._problem, delay_s = "", START_DELAY_S_MIN

    async def _start_one(self) -> None:
        worker = Worker(self._setup, start_timeout_s=self._start_timeout_s)
        self._workers.add(worker)
        try:
            await worker.ensure_started()
        except BaseException:
            self._workers.discard(worker)
            await worker.close()
            raise
        self._ready.put_nowait(worker)

    def check(self) -> None:
        """Raises ServiceUnavailableError when no worker could be started, the last time.

        One that died in a run and is being replaced is no reason: its successor will start.
        """
        if self._problem:
            raise ServiceUnavailableError(self._problem)

    async def stop(self) -> None:
        """Ends every worker at once."""
        if self._filling is not None:
            self._filling.cancel()
            await asyncio.gather(self._filling, return_exceptions=True)
        await asyncio.gather(*(worker.close() for worker in self._workers))
        self._workers.clear()
