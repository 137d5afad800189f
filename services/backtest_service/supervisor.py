"""Takes work from operations_service and has it run, as much at once as there are workers."""

import asyncio
import uuid
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

import structlog

from backlane.client.workers import AsyncWorkerClient
from backlane.clock import Clock
from backlane.errors import BacklaneError
from backlane.operations.directives import Assignment
from backtest_service import run_directory
from backtest_service.ends import End, Released
from backtest_service.housekeeping import Housekeeping
from backtest_service.lease_keeper import LeaseKeeper
from backtest_service.run_kinds import RUN_KINDS
from backtest_service.supervision import RunLimits, Supervision
from backtest_service.worker import Worker
from backtest_service.worker_pool import WorkerPool

ACQUIRE_WAIT_S = 1.0
"""How long one call waits for work. It is never cut short: the lease that it brings would lapse."""
RETRY_DELAY_S = 0.5
CUT_OFF_S = 3.0
"""Time that is kept back from a drain to stop what still runs and to tell the registry."""

Look = Callable[[], Awaitable[None]]

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class SupervisorTerms:
    """Where results and checkpoints go, how many results are kept, and what runs may take."""

    home: Path
    results_max: int
    limits: RunLimits
    drain_grace_s: float


class Supervisor:
    """Acquires runs and supervises them; the background of backtest_service, and of a worker.

    `look` raises a BacklaneError while something that every run needs is out of reach.
    """

    def __init__(
        self,
        client: AsyncWorkerClient,
        pool: WorkerPool,
        housekeeping: Housekeeping,
        terms: SupervisorTerms,
        clock: Clock,
        look: Look,
    ) -> None:
        self._client = client
        self._pool = pool
        self._housekeeping = housekeeping
        self._terms = terms
        self._clock = clock
        self._look = look
        self._keeper = LeaseKeeper(client, clock)
        self._lanes: list[asyncio.Task[None]] = []
        self._running: set[Supervision] = set()
        self._draining = asyncio.Event()
        self._problem = ""

    async def start(self) -> None:
        """Begins to ask for work; worker processes start beside it."""
        if self._pool.size == 0:
            return
        await self._keeper.start()
        await self._pool.start()
        await self._housekeeping.start()
        self._lanes = [
            asyncio.create_task(self._work_forever(), name=f"lane {index}")
            for index in range(self._pool.size)
        ]

    async def drain(self) -> None:
        """Takes no more work; lets what runs end in time, then stops it and gives it back."""
        self._draining.set()
        if not self._lanes:
            return
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
        await self._housekeeping.stop()
        await self._keeper.stop()
        await self._pool.stop()
        await self._client.close()

    async def _work_forever(self) -> None:
        while not self._draining.is_set():
            worker = await self._take_worker()
            if worker is None:
                return
            try:
                end = await self._work_once(worker)
            except BacklaneError as error:
                _log.warning("no work", reason=error.message)
                await asyncio.sleep(RETRY_DELAY_S)
            except Exception:  # noqa: BLE001 - the edge of a lane: the next run may do better
                _log.exception("unforeseen error")
                await asyncio.sleep(RETRY_DELAY_S)
            else:
                if isinstance(end, Released) and end.is_out_of_reach:
                    await self._wait_for_reach()
            finally:
                await self._pool.give_back(worker)

    async def _take_worker(self) -> Worker | None:
        """Returns a worker, None when the drain came first."""
        taking = asyncio.create_task(self._pool.take())
        drained = asyncio.create_task(self._draining.wait())
        try:
            await asyncio.wait({taking, drained}, return_when=asyncio.FIRST_COMPLETED)
            return taking.result() if taking.done() else None
        finally:
            taking.cancel()
            drained.cancel()

    async def _wait_for_reach(self) -> None:
        """Waits until what the last run missed is there: it would miss it again at once."""
        while not self._draining.is_set():
            await asyncio.sleep(RETRY_DELAY_S)
            try:
                await self._look()
            except BacklaneError as error:
                _log.info("waiting", reason=error.message)
            else:
                return

    async def _work_once(self, worker: Worker) -> End | None:
        asked_s = self._clock.monotonic_s()
        assignment = await self._acquire()
        if assignment is None:
            return None
        operation = assignment.operation
        _log.info(
            "run begins",
            operation=operation.name,
            attempt=operation.attempt,
            worker_pid=worker.pid,
        )
        terms = self._terms
        # Counted from before the answer could have been made.
        async with self._keeper.holding(assignment.hold, asked_s) as lease:
            supervision = Supervision(
                self._client, worker, lease, terms.home, terms.limits, self._clock
            )
            self._running.add(supervision)
            try:
                end = await supervision.run(operation)
            finally:
                self._running.discard(supervision)
        results_dir = terms.home / run_directory.RESULTS_FOLDER
        removed = await asyncio.to_thread(run_directory.prune, results_dir, terms.results_max)
        if removed:
            _log.info("old results removed", count=removed)
        return end

    async def _acquire(self) -> Assignment | None:
        """Asks for work; a lost answer is asked for again under the same request_id."""
        request_id = str(uuid.uuid4())
        while not self._draining.is_set():
            try:
                assignment = await self._client.acquire(
                    RUN_KINDS, wait_s=ACQUIRE_WAIT_S, request_id=request_id
                )
            except BacklaneError as error:
                self._say_once(error.message)
                await asyncio.sleep(RETRY_DELAY_S)
            else:
                self._say_once("")
                return assignment
        return None

    def _say_once(self, problem: str) -> None:
        """Logs that the registry cannot be reached, and that it can again, once each."""
        if problem and not self._problem:
            _log.warning("registry not reached; asking on", reason=problem)
        elif self._problem and not problem:
            _log.warning("registry reached again")
        self._problem = problem
