"""One run, from its assignment to its end: feeds a worker, reports, watches, stops, completes."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import structlog

from backlane.backtest.request import BacktestRequest
from backlane.client.workers import AsyncWorkerClient
from backlane.clock import Clock
from backlane.errors import (
    BacklaneError,
    InternalError,
    OutOfMemoryError,
    RunStalledError,
    ServerDrainingError,
    WorkerLostError,
)
from backlane.operations.commands import Failed, Outcome, Stopped, Succeeded
from backlane.operations.events import MetricPoint
from backlane.operations.limits import ERROR_MESSAGE_CHARACTERS_MAX
from backlane.operations.operation import Operation, OperationError, Progress
from backlane.rpc.error_catalog import code_of, error_from_parts
from backlane.wire.backtest import request_from_payload
from backtest_service import run_directory
from backtest_service.board import Board, Reading
from backtest_service.lease_keeper import HeldLease
from backtest_service.messages import (
    RunFailed,
    RunStopped,
    RunSucceeded,
    SliceSimulated,
    StartRun,
    WorkerReady,
)
from backtest_service.outbox import REPORT_INTERVAL_S, Outbox, persist
from backtest_service.worker import Worker, WorkerDied

EQUITY_SERIES = "equity"
TERMINATE_S = 1.0
"""Seconds from SIGTERM to SIGKILL."""

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class RunLimits:
    """How long a run may stand still, and how long it may take to stop when it is asked to."""

    stall_timeout_s: float
    cancel_grace_s: float


class Supervision:
    """Looks after one run. `cut_off` stops it from outside, as a drain does."""

    def __init__(
        self,
        client: AsyncWorkerClient,
        worker: Worker,
        lease: HeldLease,
        results_dir: Path,
        limits: RunLimits,
        clock: Clock,
    ) -> None:
        self._client = client
        self._worker = worker
        self._lease = lease
        self._results_dir = results_dir
        self._limits = limits
        self._clock = clock
        self._outbox = Outbox(client, lease, clock)
        self._cut_off = asyncio.Event()
        self._killed_for: BacklaneError | None = None

    def cut_off(self) -> None:
        """Stops the run; it ends as failed, because the service goes down."""
        self._cut_off.set()

    async def run(self, operation: Operation) -> None:
        """Runs the operation to its end and tells the registry how it ended."""
        directory = run_directory.directory_of(self._results_dir, operation.name)
        outcome = await self._outcome(operation, directory)
        if not self._lease.is_lost.is_set():
            await self._complete(operation, await self._after_reports(outcome))
        if self._lease.is_lost.is_set() or not isinstance(outcome, Succeeded):
            await asyncio.to_thread(run_directory.remove, directory)

    async def _after_reports(self, outcome: Outcome) -> Outcome:
        """Returns the outcome once all reports are acknowledged, or what keeps them from it."""
        try:
            await self._outbox.flush()
        except BacklaneError as error:
            return _failed(error)
        return outcome

    async def _complete(self, operation: Operation, outcome: Outcome) -> None:
        name, epoch = operation.name, self._lease.epoch
        try:
            ended = await persist(
                self._lease, lambda: self._client.complete(name, epoch, outcome), self._clock
            )
        except BacklaneError as error:
            # Such as a result that is too large: said once more, as an error of the run.
            _log.exception("end refused", operation=name)
            failed = _failed(error)
            ended = await persist(
                self._lease, lambda: self._client.complete(name, epoch, failed), self._clock
            )
        if ended is not None:
            _log.info("run ended", operation=name, state=ended.state.value)

    async def _outcome(self, operation: Operation, directory: Path) -> Outcome:
        try:
            request = request_from_payload(operation.spec)
            await self._worker.ensure_started()
            async with self._watching():
                return await self._feed(request, directory)
        except WorkerDied as died:
            return self._outcome_of_death(died)
        except BacklaneError as error:
            return _failed(error)
        except Exception:  # noqa: BLE001 - the edge of a run: the service goes on
            _log.exception("unforeseen error", operation=operation.name)
            self._worker.kill()  # whatever it is doing, it is not to be found in the next run
            return _failed(InternalError("Something unforeseen happened; see the service's log."))

    def _outcome_of_death(self, died: WorkerDied) -> Outcome:
        if self._killed_for is not None:
            return _failed(self._killed_for)
        if self._lease.cancel_asked.is_set():
            return Stopped()
        return _failed(
            WorkerLostError(
                f"The process that ran it is gone: {died.exit_text}. Run it again; the log of "
                "backtest_service may say more.",
                metadata={"exit": died.exit_text},
            )
        )

    async def _feed(self, request: BacktestRequest, directory: Path) -> Outcome:
        await self._worker.start_run(StartRun(request, directory))
        while True:
            match await self._worker.receive():
                case SliceSimulated(trades, reached):
                    points: tuple[MetricPoint, ...] = ()
                    if reached is not None:
                        points = (
                            MetricPoint(
                                EQUITY_SERIES, reached.bar_index, reached.equity, reached.time_ns
                            ),
                        )
                    await self._outbox.add(trades, points)
                case RunSucceeded(result):
                    return Succeeded(result)
                case RunFailed(reason, message, metadata):
                    if reason == OutOfMemoryError.reason:
                        self._worker.kill()  # the next run gets a process with a whole heap
                    return _failed(error_from_parts(reason, message, metadata))
                case RunStopped():
                    return self._stopped()
                case WorkerReady():
                    continue

    def _stopped(self) -> Outcome:
        if self._lease.cancel_asked.is_set() and self._killed_for is None:
            return Stopped()
        return _failed(self._killed_for or InternalError("The run stopped, and nobody asked."))

    @asynccontextmanager
    async def _watching(self) -> AsyncIterator[None]:
        """Reports, and looks for reasons to stop, while the run is on."""
        tasks = [
            asyncio.create_task(work, name=f"{name} {self._lease.operation}")
            for name, work in (
                ("reports", self._send_reports()),
                ("progress", self._report_progress(self._worker.board)),
                ("cancel", self._stop_when_cancelled()),
                ("lease", self._stop_when_lost()),
                ("cut-off", self._stop_when_cut_off()),
            )
        ]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            for ended in await asyncio.gather(*tasks, return_exceptions=True):
                if isinstance(ended, BaseException) and not isinstance(
                    ended, asyncio.CancelledError
                ):
                    _log.error("supervision failed", exc_info=ended)

    async def _send_reports(self) -> None:
        try:
            await self._outbox.send_forever()
        except BacklaneError as error:
            # The registry refuses what this run reports: it would be a run that nobody can follow.
            self._killed_for = error
            self._worker.kill()

    async def _report_progress(self, board: Board) -> None:
        version, newest, changed_s = 0, Reading("", 0, 0), self._clock.monotonic_s()
        while True:
            await asyncio.sleep(REPORT_INTERVAL_S)
            reading, now_s = board.read(), self._clock.monotonic_s()
            if reading != newest:
                version, newest, changed_s = version + 1, reading, now_s
                self._outbox.report(_progress(version, reading, self._clock.now_ns()))
            elif now_s - changed_s >= self._limits.stall_timeout_s:
                self._stop_stalled(reading)
                return

    def _stop_stalled(self, reading: Reading) -> None:
        timeout_s = self._limits.stall_timeout_s
        self._killed_for = RunStalledError(
            f"The run made no progress for {timeout_s:g} s in phase {reading.phase or 'start'} and "
            "was ended. Run it again; if it stalls again, the log of backtest_service may say why.",
            metadata={"stall_timeout_s": f"{timeout_s:g}", "phase": reading.phase},
        )
        self._worker.kill()

    async def _stop_when_cancelled(self) -> None:
        await self._lease.cancel_asked.wait()
        await self._stop_worker(min(self._limits.cancel_grace_s, self._lease.cancel_grace_s))

    async def _stop_when_cut_off(self) -> None:
        await self._cut_off.wait()
        self._killed_for = self._killed_for or ServerDrainingError(
            "backtest_service was shut down while it ran. Run it again."
        )
        await self._stop_worker(TERMINATE_S)

    async def _stop_when_lost(self) -> None:
        await self._lease.is_lost.wait()
        self._worker.kill()

    async def _stop_worker(self, grace_s: float) -> None:
        """Asks the run to stop, then the process, then asks no more. Cancelled when it has."""
        self._worker.board.cancel()
        await asyncio.sleep(grace_s)
        self._worker.terminate()
        await asyncio.sleep(TERMINATE_S)
        self._worker.kill()


def _failed(error: BacklaneError) -> Failed:
    message = error.message[:ERROR_MESSAGE_CHARACTERS_MAX]
    return Failed(OperationError(error.reason, message, error.metadata, code_of(type(error))))


def _progress(version: int, reading: Reading, now_ns: int) -> Progress:
    return Progress(
        version=version,
        completed_units=reading.completed_units,
        total_units=reading.total_units,
        unit="bar",
        phase=reading.phase,
        report_time_ns=now_ns,
        simulated_time_ns=reading.simulated_time_ns,
        equity=reading.equity,
        trade_count=reading.trade_count,
    )
