"""The worker process: one run after the other, each from its request to its result directory.

It is started with the file descriptors of a socket and a board, imports what it computes with,
and then waits for runs. Whatever happens to it happens to nobody else.
"""

import os
import resource
import socket
import sys
import uuid
from dataclasses import fields
from pathlib import Path

import numpy as np
import structlog
from numpy.typing import NDArray

from backlane import failpoints
from backlane.backtest.checkpoint import Binding
from backlane.backtest.checkpoint import Checkpoint as RunCheckpoint
from backlane.backtest.engine import run_backtest
from backlane.backtest.observer import PhaseTimer, RunObserver, raise_if_cancelled
from backlane.backtest.request import BacktestRequest
from backlane.backtest.result import BacktestRun
from backlane.backtest.summarize import summarize_run
from backlane.backtest.summary import ResultSummary
from backlane.backtest.window import cut_window
from backlane.client.models import ModelsClient, RemotePredictor
from backlane.clock import SystemClock
from backlane.cycle.loop import warm_up
from backlane.errors import (
    BacklaneError,
    CancelledRunError,
    CheckpointForeignError,
    InternalError,
    OutOfMemoryError,
)
from backlane.execution.order import ExitReason
from backlane.inference.model_info import ModelInfo
from backlane.market.bars import BarSeries
from backlane.market.timeframe import Timeframe
from backlane.operations.limits import TRADES_PER_OPERATION_MAX
from backlane.portfolio.position import PositionSide
from backlane.portfolio.records import TradeRecord
from backlane.rpc.log import configure_logging
from backlane.sources.catalog import Catalog
from backlane.sources.checkpoints import CheckpointFiles
from backlane.sources.engine_source import engine_digest
from backlane.sources.results import write_result
from backlane.wire.backtest import result_to_payload
from backlane.wire.portfolio import trade_to_bytes
from backtest_service.board import Board
from backtest_service.checkpoint_writer import CheckpointWriter, read_newest
from backtest_service.link import Link, die_with_parent, refuse_forks, show_as
from backtest_service.messages import (
    TRADES_PER_MESSAGE_MAX,
    EquityReached,
    FromWorker,
    NoteWritten,
    RunFailed,
    RunStopped,
    RunSucceeded,
    SliceSimulated,
    StartRun,
    WorkerReady,
    WorkerSetup,
)
from backtest_service.run_directory import list_files
from backtest_service.versions import read_versions
from backtest_service.warm import WarmBars, WarmModels

WARM_SHARE = 8
"""Kept bars take at most one such part of the memory that a worker may have."""
IDLE, BUSY = "backlane-idle", "backlane-run"
"""What a worker process is called while it waits, and while it runs."""

_TRADE_FIELDS = tuple(each.name for each in fields(TradeRecord))

_log = structlog.get_logger(__name__)


class BoardObserver:
    """Tells the board where the run is, and the supervisor what was traded."""

    def __init__(self, board: Board, link: Link) -> None:
        self._board = board
        self._link = link
        self._sent_count = 0

    def entered(self, phase: str, total_units: int) -> None:
        """Shows a new phase; a run that is to stop stops here."""
        raise_if_cancelled(self._board.slot)
        self._board.enter(phase, total_units)

    def advanced(self, completed_units: int) -> None:
        """Shows how far the phase is."""
        self._board.advance(completed_units)

    def simulated(
        self, bar_index: int, time_ns: int, equity: float, trades: NDArray[np.void]
    ) -> None:
        """Sends the trades of a slice, and the equity at its end."""
        reached = EquityReached(bar_index, time_ns, equity)
        # One more than the registry keeps: that one makes it say that the rest is in the result.
        room = TRADES_PER_OPERATION_MAX + 1 - self._sent_count
        kept = [trade_to_bytes(trade) for trade in _records(trades[: max(0, room)])]
        self._sent_count += len(kept)
        while len(kept) > TRADES_PER_MESSAGE_MAX:
            self._link.send(SliceSimulated(tuple(kept[:TRADES_PER_MESSAGE_MAX])))
            del kept[:TRADES_PER_MESSAGE_MAX]
        self._link.send(SliceSimulated(tuple(kept), reached))


def _records(trades: NDArray[np.void]) -> list[TradeRecord]:
    """Returns plain records; by the columns, which is ten times as fast as by the elements."""
    records = []
    for row in trades[list(_TRADE_FIELDS)].tolist():
        values = dict(zip(_TRADE_FIELDS, row, strict=True))
        values["side"] = PositionSide(values["side"])
        values["exit_reason"] = ExitReason(values["exit_reason"])
        records.append(TradeRecord(**values))
    return records


class Runner:
    """Carries out the runs of one worker process."""

    def __init__(self, setup: WorkerSetup, board: Board, link: Link) -> None:
        self._setup = setup
        self._board = board
        self._link = link
        self._models = WarmModels(ModelsClient(setup.models_address))
        bytes_max = setup.memory_bytes_max // WARM_SHARE
        self._bars = WarmBars(Catalog(setup.home), bytes_max)
        self._checkpoints = CheckpointFiles(setup.home)

    def run(self, command: StartRun) -> FromWorker:
        """Runs a request and returns how it ended; no run ends the process."""
        try:
            summary = self._execute(command)
        except CancelledRunError:
            return RunStopped()
        except MemoryError:
            return _failed(self._out_of_memory())
        except BacklaneError as error:
            # What reads files takes a failed allocation for a damaged file.
            ran_out = isinstance(error.__cause__, MemoryError)
            return _failed(self._out_of_memory() if ran_out else error)
        except Exception:  # noqa: BLE001 - the edge of a run
            return _failed(_unforeseen())
        return RunSucceeded(result_to_payload(summary))

    def _execute(self, command: StartRun) -> ResultSummary:
        request = command.request
        observer = PhaseTimer(SystemClock(), BoardObserver(self._board, self._link))
        observer.entered("load", 0)
        predictor = self._models.get(request.model.resource_name, request.model_digest)
        bars = self._load_bars(request, predictor.info)
        binding = Binding(
            command.spec_sha256.hex(),
            predictor.info.digest,
            request.dataset_digests,
            read_versions(predictor.info.runtime),
        )
        resume = read_newest(self._checkpoints, command, binding, self._note)
        try:
            run = self._simulate(command, predictor, bars, binding, resume, observer)
        except CheckpointForeignError as error:
            self._note(f"{error.message} Going on from the start.")
            run = self._simulate(command, predictor, bars, binding, None, observer)
        observer.entered("result", len(run.bars))
        write_result(run.timed(observer.timings), command.directory)
        observer.advanced(len(run.bars))
        files = list_files(command.directory)
        observer.stop()
        return summarize_run(run.timed(observer.timings), files)

    def _simulate(
        self,
        command: StartRun,
        predictor: RemotePredictor,
        bars: dict[str, BarSeries],
        binding: Binding,
        resume: RunCheckpoint | None,
        observer: RunObserver,
    ) -> BacktestRun:
        policy, clock = self._setup.checkpoint_policy, SystemClock()
        writer = CheckpointWriter(
            self._checkpoints, self._link, command, binding, policy, clock, resume
        )
        try:
            return run_backtest(
                command.request,
                predictor,
                bars,
                dataset_digests=command.request.dataset_digests,
                observer=observer,
                slot=self._board.slot,
                versions=binding.versions,
                resume=resume,
                checkpoints=writer,
            )
        finally:
            writer.close()

    def _note(self, text: str) -> None:
        _log.info("note", text=text)
        self._link.send(NoteWritten(text))

    def _load_bars(self, request: BacktestRequest, info: ModelInfo) -> dict[str, BarSeries]:
        bars = {
            label: self._bars.get(
                request.symbol, Timeframe.parse(label), request.dataset_digests[label]
            )
            for label in info.strategy.timeframes
        }
        window = cut_window(request, info.strategy, bars, request.resolved_switches())
        self._board.share_times(window.base.open_time_ns)
        return bars

    def _out_of_memory(self) -> OutOfMemoryError:
        limit_mib = self._setup.memory_bytes_max // 2**20
        return OutOfMemoryError(
            f"The run needed more than the {limit_mib} MiB that one worker may have. Run over "
            "fewer bars, or raise BACKLANE_BACKTESTS_RUN_MEMORY_BYTES_MAX.",
            metadata={"memory_bytes_max": str(self._setup.memory_bytes_max)},
        )


def _failed(error: BacklaneError) -> RunFailed:
    return RunFailed(error.reason, error.message, error.metadata)


def _unforeseen() -> InternalError:
    error_id = uuid.uuid4().hex
    _log.exception("unforeseen error in a run", error_id=error_id)
    return InternalError(
        f"Something unforeseen happened; the log of the service has it under {error_id}.",
        metadata={"error_id": error_id},
    )


def _limit_memory(bytes_max: int) -> None:
    # RLIMIT_AS would count what is reserved and never used, of which gRPC and Arrow have a lot.
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    soft = bytes_max if hard == resource.RLIM_INFINITY else min(bytes_max, hard)
    resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))


def _arm_failpoints() -> None:
    hits = os.environ.get("BACKLANE_FAILPOINT_HITS")
    failpoints.arm(os.environ.get("BACKLANE_FAILPOINTS", ""), Path(hits) if hits else None)


def main(link_fd: int, board_fd: int, parent_pid: int) -> None:
    """Serves runs until the supervisor is gone."""
    die_with_parent(parent_pid)
    link = Link(socket.socket(fileno=link_fd))
    setup = link.receive()
    if not isinstance(setup, WorkerSetup):
        raise TypeError(f"the first message is a {type(setup).__name__}")
    configure_logging(setup.log_level, setup.log_format)
    _arm_failpoints()
    refuse_forks()
    _limit_memory(setup.memory_bytes_max)
    warm_up()
    engine_digest()  # of the sources as they were when they were imported
    runner = Runner(setup, Board.attach(board_fd), link)
    show_as(IDLE)
    link.send(WorkerReady())
    while isinstance(command := link.receive(), StartRun):
        show_as(BUSY)
        ended = runner.run(command)
        show_as(IDLE)
        link.send(ended)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:4]))
