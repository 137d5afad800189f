"""One run, from its assignment to its end: feeds a worker, reports, watches, stops, completes."""

import asyncio
import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import structlog

from backlane.client.workers import AsyncWorkerClient
from backlane.clock import Clock
from backlane.errors import (
    AttemptTimeoutError,
    BacklaneError,
    InternalError,
    OutOfMemoryError,
    RunStalledError,
    WorkerLostError,
)
from backlane.operations.commands import Stopped, Succeeded
from backlane.operations.events import MetricPoint
from backlane.operations.operation import Operation, Progress
from backlane.rpc.error_catalog import error_from_parts
from backlane.sources.checkpoints import CheckpointFiles
from backtest_service import run_directory
from backtest_service.board import Board, Reading
from backtest_service.checkpoint_commits import CheckpointCommits
from backtest_service.ends import RETRYABLE, End, Released, end_of, failed
from backtest_service.lease_keeper import HeldLease
from backtest_service.messages import (
    CheckpointWritten,
    CycleDecided,
    NoteWritten,
    RunFailed,
    RunStopped,
    RunSucceeded,
    SliceSimulated,
    StartRun,
    WorkerReady,
)
from backtest_service.outbox import REPORT_INTERVAL_S, Outbox, persist
from backtest_service.run_kinds import request_of
from backtest_service.trades import messages_of
from backtest_service.worker import Worker, WorkerDied

EQUITY_SERIES = "equity"
TERMINATE_S = 1.0
"""Seconds from SIGTERM to SIGKILL."""
UNSAVED_GRACE_S = 0.5
"""Seconds that a run gets to stop by itself in a phase after which nothing would be kept."""
UNSAVED_PHASES = ("", "load", "features")
OVERDUE_MARGIN_S = 0.5
"""An attempt is stopped so long before its time is up, so that it can leave a checkpoint."""

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
        home: Path,
        limits: RunLimits,
        clock: Clock,
    ) -> None:
        self._client = client
        self._worker = worker
        self._lease = lease
        self._results_dir = home / run_directory.RESULTS_FOLDER
        self._limits = limits
        self._clock = clock
        self._outbox = Outbox(client, lease, clock)
        self._checkpoints = CheckpointCommits(
            client, lease, CheckpointFiles(home), self._outbox, clock
        )
        self._cut_off = asyncio.Event()
        self._killed_for: BacklaneError | None = None

    def cut_off(self) -> None:
        """Stops the run, because its worker goes down; it goes back to the queue."""
        self._cut_off.set()

    async def run(self, operation: Operation) -> End:
        """Runs the operation to the end of the attempt, and tells the registry how it ended."""
        directory = run_directory.attempt_directory(self._results_dir, operation)
        end = await self._end(operation, directory)
        if not self._lease.is_lost.is_set():
            end = await self._after_reports(end)
            await self._tell(operation, end)
        if self._lease.is_lost.is_set() or not isinstance(end, Succeeded):
            await asyncio.to_thread(run_directory.remove, directory)
        else:
            await asyncio.to_thread(run_directory.remove_others, directory)
            await self._checkpoints.remove_all()
        return end

    async def _after_reports(self, end: End) -> End:
        """Returns the end once all reports are acknowledged, or what keeps them from it."""
        try:
            await self._outbox.flush()
        except BacklaneError as error:
            return failed(error)
        return end

    async def _tell(self, operation: Operation, end: End) -> None:
        try:
            ended = await persist(self._lease, lambda: self._told(operation.name, end), self._clock)
        except BacklaneError as error:
            # Such as a result that is too large: said once more, as an error of the run.
            _log.exception("end refused", operation=operation.name)
            refused = failed(error)
            ended = await persist(
                self._lease, lambda: self._told(operation.name, refused), self._clock
            )
        if ended is not None:
            _log.info("run ended", operation=operation.name, state=ended.state.value)

    async def _told(self, name: str, end: End) -> Operation:
        if isinstance(end, Released):
            return await self._client.release(name, self._lease.epoch, end.reason)
        return await self._client.complete(name, self._lease.epoch, end)

    async def _end(self, operation: Operation, directory: Path) -> End:
        try:
            command = _start_of(operation, directory)
            await self._worker.ensure_started()
            async with self._watching(operation):
                return await self._feed(command)
        except WorkerDied as died:
            return self._end_by_death(died)
        except BacklaneError as error:
            return end_of(error)
        except Exception:  # noqa: BLE001 - the edge of a run: the service goes on
            _log.exception("unforeseen error", operation=operation.name)
            self._worker.kill()  # whatever it is doing, it is not to be found in the next run
            return failed(InternalError("Something unforeseen happened; see the service's log."))

    def _end_by_death(self, died: WorkerDied) -> End:
        if self._killed_for is None and not self._is_asked_to_stop():
            return failed(
                WorkerLostError(
                    f"The process that ran it is gone: {died.exit_text}. The log of its worker "
                    "may say more.",
                    metadata={"exit": died.exit_text},
                )
            )
        return self._stopped()

    async def _feed(self, command: StartRun) -> End:
        await self._worker.start_run(command)
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
                    await self._outbox.add(messages_of(trades), points)
                case CheckpointWritten(checkpoint):
                    await self._checkpoints.commit(checkpoint)
                case NoteWritten(text):
                    self._outbox.note(text)
                case RunSucceeded(result):
                    return Succeeded(result)
                case RunFailed(reason, message, metadata, _):
                    if reason == OutOfMemoryError.reason:
                        self._worker.kill()  # the next run gets a process with a whole heap
                    return self._end_by_error(error_from_parts(reason, message, metadata))
                case RunStopped():
                    return self._stopped()
                case WorkerReady() | CycleDecided():
                    continue

    def _end_by_error(self, error: BacklaneError) -> End:
        end = end_of(error)
        may_be_tried_again = isinstance(end, Released) or isinstance(error, RETRYABLE)
        return self._stopped() if may_be_tried_again and self._is_asked_to_stop() else end

    def _is_asked_to_stop(self) -> bool:
        return self._lease.cancel_asked.is_set() or self._cut_off.is_set()

    def _stopped(self) -> End:
        """Returns the end of a run that was told to stop, by whatever told it first."""
        if self._killed_for is not None:
            return failed(self._killed_for)
        if self._lease.cancel_asked.is_set():
            return Stopped()
        if self._cut_off.is_set():
            return Released("Its worker goes down.")
        return failed(InternalError("The run stopped, and nobody asked."))

    @asynccontextmanager
    async def _watching(self, operation: Operation) -> AsyncIterator[None]:
        """Reports, and looks for reasons to stop, while the run is on."""
        tasks = [
            asyncio.create_task(work, name=f"{name} {self._lease.operation}")
            for name, work in (
                ("reports", self._send_reports()),
                ("progress", self._report_progress(self._worker.board)),
                ("cancel", self._stop_when_cancelled()),
                ("lease", self._stop_when_lost()),
                ("cut-off", self._stop_when_cut_off()),
                ("time", self._stop_when_overdue(operation)),
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
        await self._stop_worker(TERMINATE_S)

    async def _stop_when_overdue(self, operation: Operation) -> None:
        """Stops an attempt a moment before the registry would, so that its work is kept."""
        timeout_s = operation.attempt_timeout_s
        if timeout_s is None:
            return
        await asyncio.sleep(max(timeout_s / 2, timeout_s - OVERDUE_MARGIN_S))
        if not self._is_asked_to_stop():
            self._killed_for = AttemptTimeoutError(
                f"Attempt {operation.attempt} took longer than {timeout_s:g} s. Allow more time, "
                "or run over fewer bars.",
                metadata={
                    "attempt_timeout_s": f"{timeout_s:g}",
                    "attempt": str(operation.attempt),
                },
            )
            await self._stop_worker(OVERDUE_MARGIN_S)

    async def _stop_when_lost(self) -> None:
        await self._lease.is_lost.wait()
        self._worker.kill()

    async def _stop_worker(self, grace_s: float) -> None:
        """Asks the run to stop, then the process, then asks no more. Cancelled when it has."""
        board = self._worker.board
        board.cancel()
        await asyncio.sleep(min(grace_s, UNSAVED_GRACE_S))
        if board.read().phase in UNSAVED_PHASES:
            # It is inside one long call, and would leave nothing to go on from.
            self._worker.kill()
        await asyncio.sleep(max(0.0, grace_s - UNSAVED_GRACE_S))
        self._worker.terminate()
        await asyncio.sleep(TERMINATE_S)
        self._worker.kill()


def _start_of(operation: Operation, directory: Path) -> StartRun:
    newest = operation.checkpoints[0].number if operation.checkpoints else 0
    return StartRun(
        operation=operation.name,
        request=request_of(operation),
        directory=directory,
        spec_sha256=hashlib.sha256(operation.spec.value).digest(),
        checkpoints=operation.checkpoints,
        checkpoint_number=newest + 1,
    )


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
