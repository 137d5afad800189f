"""The worker processes of this service: one for each run at once, replaced when they die."""

import asyncio

import structlog

from backlane.errors import ServiceUnavailableError, WorkerLostError
from backtest_service.messages import WorkerSetup
from backtest_service.worker import Worker

START_DELAY_S_MIN, START_DELAY_S_MAX = 0.5, 30.0
"""Pause after a worker that could not be started; it doubles."""

_log = structlog.get_logger(__name__)


class WorkerPool:
    """As many workers as runs at once."""

    def __init__(self, setup: WorkerSetup, *, size: int, start_timeout_s: float) -> None:
        self._problem = "No worker process has started yet."
        self.workers = tuple(Worker(setup, start_timeout_s=start_timeout_s) for _ in range(size))

    async def prepare(self, worker: Worker) -> None:
        """Returns once the worker waits for runs, however often it must be started for that."""
        delay_s = START_DELAY_S_MIN
        while True:
            try:
                await worker.ensure_started()
            except WorkerLostError as error:
                self._problem = error.message
                _log.error("worker not started", reason=error.message, retry_delay_s=delay_s)
                await asyncio.sleep(delay_s)
                delay_s = min(2 * delay_s, START_DELAY_S_MAX)
            else:
                self._problem = ""
                return

    def check(self) -> None:
        """Raises ServiceUnavailableError when no worker could be started, the last time.

        One that died in a run and is being replaced is no reason: its successor will start.
        """
        if self._problem:
            raise ServiceUnavailableError(self._problem)

    async def stop(self) -> None:
        """Ends every worker at once."""
        await asyncio.gather(*(worker.close() for worker in self.workers))
