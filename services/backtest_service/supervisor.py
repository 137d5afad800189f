"""Takes work from operations_service and has it run, as much at once as there are workers."""

import asyncio
import uuid
from dataclasses import dataclass
from pathlib import Path

import structlog

from backlane.client.workers import AsyncWorkerClient
from backlane.clock import Clock
from backlane.errors import BacklaneError
from backlane.operations.directives import Assignment
from backtest_service import run_directory
from backtest_service.lease_keeper import LeaseKeeper
from backtest_service.submission import OPERATION_KIND
from backtest_service.supervision import RunLimits, Supervision
from backtest_service.worker import Worker
from backtest_service.worker_pool import WorkerPool

ACQUIRE_WAIT_S = 1.0
"""How long one call waits for work. It is never cut short: the lease that it brings would lapse."""
RETRY_DELAY_S = 0.5
CUT_OFF_S = 3.0
"""Time that is kept back from a drain to stop what still runs and to tell the registry."""

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class SupervisorTerms:
    """Where results go, how many are kept, and what runs may take."""

    results_dir: Path
    results_max: int
    limits: RunLimits
    drain_grace_s: float


class Supervisor:
    """Acquires runs and supervises them; the background of backtest_service."""

    def __init__(
        self, client: AsyncWorkerClient, pool: WorkerPool, terms: SupervisorTerms, clock: Clock
    ) -> None:
        self._client = client
        self._pool = pool
        self._terms = terms
        self._clock = clock
        self._keeper = LeaseKeeper(client, clock)
        self._lanes: list[asyncio.Task[None]] = []
        self._running: set[Supervision] = set()
        self._draining = asyncio.Event()

    async def start(self) -> None:
        """Begins to ask for work; workers start beside it."""
        await self._keeper.start()
        self._lanes = [
            asyncio.create_task(self._work_forever(worker), name=f"lane {index}")
            for index, worker in enumerate(self._pool.workers)
        ]

    async def drain(self) -> None:
        """Takes no more work; lets what runs end in time, then cuts it off."""
        self._draining.set()
        done, left = await asyncio.wait(
            self._lanes, timeout=max(0.0, self._terms.drain_grace_s - CUT_OFF_S)
        )
        if left:
            for supervision in self._running:
                supervision.cut_off()
            await asyncio.wait(left)
        _log.info("drained", lanes=len(done), cut_off=len(left))

    async def stop(self) -> None:
        """Ends everything; workers die with it."""
        for lane in self._lanes:
            lane.cancel()
        await asyncio.gather(*self._lanes, return_exceptions=True)
        await self._keeper.stop()
        await self._pool.stop()
        await self._client.close()

    async def _work_forever(self, worker: Worker) -> None:
        while not self._draining.is_set():
            try:
                await self._pool.prepare(worker)
                await self._work_once(worker)
            except BacklaneError as error:
                _log.warning("no work", reason=error.message)
                await asyncio.sleep(RETRY_DELAY_S)
            except Exception:  # noqa: BLE001 - the edge of a lane: the next run may do better
                _log.exception("unforeseen error")
                await asyncio.sleep(RETRY_DELAY_S)

    async def _work_once(self, worker: Worker) -> None:
        asked_s = self._clock.monotonic_s()
        assignment = await self._acquire()
        if assignment is None:
            return
        operation = assignment.operation
        _log.info("run begins", operation=operation.name, worker_pid=worker.pid)
        terms = self._terms
        # Counted from before the answer could have been made.
        async with self._keeper.holding(assignment.hold, asked_s) as lease:
            supervision = Supervision(
                self._client, worker, lease, terms.results_dir, terms.limits, self._clock
            )
            self._running.add(supervision)
            try:
                await supervision.run(operation)
            finally:
                self._running.discard(supervision)
        removed = await asyncio.to_thread(run_directory.prune, terms.results_dir, terms.results_max)
        if removed:
            _log.info("old results removed", count=removed)

    async def _acquire(self) -> Assignment | None:
        """Asks for work; a lost answer is asked for again under the same request_id."""
        request_id = str(uuid.uuid4())
        while not self._draining.is_set():
            try:
                return await self._client.acquire(
                    [OPERATION_KIND], wait_s=ACQUIRE_WAIT_S, request_id=request_id
                )
            except BacklaneError as error:
                _log.info("registry not reached", reason=error.message)
                await asyncio.sleep(RETRY_DELAY_S)
        return None
