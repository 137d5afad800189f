"""The worker process: one run after the other, each from its request to its result directory.

It is started with the file descriptors of a socket and a board, imports what it computes with,
and then waits for runs. Whatever happens to it happens to nobody else.
"""

import resource
import socket
import sys
import uuid

import numpy as np
import structlog
from numpy.typing import NDArray

from backlane.backtest.engine import run_backtest
from backlane.backtest.observer import raise_if_cancelled
from backlane.backtest.request import BacktestRequest
from backlane.backtest.summarize import summarize_run
from backlane.backtest.summary import ResultSummary
from backlane.backtest.window import cut_window
from backlane.client.models import ModelsClient
from backlane.cycle.loop import warm_up
from backlane.errors import BacklaneError, CancelledRunError, InternalError, OutOfMemoryError
from backlane.execution.order import ExitReason
from backlane.inference.model_info import ModelInfo
from backlane.market.bars import BarSeries
from backlane.market.timeframe import Timeframe
from backlane.operations.limits import TRADES_PER_OPERATION_MAX
from backlane.portfolio.position import PositionSide
from backlane.portfolio.records import TradeRecord
from backlane.rpc.log import configure_logging
from backlane.sources.catalog import Catalog
from backlane.sources.results import write_result
from backlane.wire.backtest import result_to_payload
from backlane.wire.portfolio import trade_to_bytes
from backtest_service.board import Board
from backtest_service.link import Link, die_with_parent
from backtest_service.messages import (
    TRADES_PER_MESSAGE_MAX,
    EquityReached,
    FromWorker,
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
        kept = [trade_to_bytes(_record(trade)) for trade in trades[: max(0, room)]]
        self._sent_count += len(kept)
        while len(kept) > TRADES_PER_MESSAGE_MAX:
            self._link.send(SliceSimulated(tuple(kept[:TRADES_PER_MESSAGE_MAX])))
            del kept[:TRADES_PER_MESSAGE_MAX]
        self._link.send(SliceSimulated(tuple(kept), reached))


def _record(trade: np.void) -> TradeRecord:
    return TradeRecord(
        number=int(trade["number"]),
        entry_time_ns=int(trade["entry_time_ns"]),
        exit_time_ns=int(trade["exit_time_ns"]),
        side=PositionSide(int(trade["side"])),
        quantity=float(trade["quantity"]),
        entry_price=float(trade["entry_price"]),
        exit_price=float(trade["exit_price"]),
        gross_pnl=float(trade["gross_pnl"]),
        net_pnl=float(trade["net_pnl"]),
        commission=float(trade["commission"]),
        slippage=float(trade["slippage"]),
        exit_reason=ExitReason(int(trade["exit_reason"])),
        mae=float(trade["mae"]),
        mfe=float(trade["mfe"]),
        financing=float(trade["financing"]),
    )


class Runner:
    """Carries out the runs of one worker process."""

    def __init__(self, setup: WorkerSetup, board: Board, link: Link) -> None:
        self._setup = setup
        self._board = board
        self._link = link
        self._models = ModelsClient(setup.models_address)
        self._catalog = Catalog(setup.home)

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
        request, observer = command.request, BoardObserver(self._board, self._link)
        observer.entered("load", 0)
        predictor = self._models.predictor(request.model.resource_name, request.model_digest)
        bars = self._load_bars(request, predictor.info)
        run = run_backtest(
            request,
            predictor,
            bars,
            dataset_digests=request.dataset_digests,
            observer=observer,
            slot=self._board.slot,
            versions=read_versions(predictor.info.runtime),
        )
        observer.entered("result", len(run.bars))
        write_result(run, command.directory)
        observer.advanced(len(run.bars))
        return summarize_run(run, list_files(command.directory))

    def _load_bars(self, request: BacktestRequest, info: ModelInfo) -> dict[str, BarSeries]:
        bars = {
            label: self._catalog.load(
                request.symbol,
                Timeframe.parse(label),
                expected_digest=request.dataset_digests[label],
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


def main(link_fd: int, board_fd: int, parent_pid: int) -> None:
    """Serves runs until the supervisor is gone."""
    die_with_parent(parent_pid)
    link = Link(socket.socket(fileno=link_fd))
    setup = link.receive()
    if not isinstance(setup, WorkerSetup):
        raise TypeError(f"the first message is a {type(setup).__name__}")
    configure_logging(setup.log_level, setup.log_format)
    _limit_memory(setup.memory_bytes_max)
    warm_up()
    runner = Runner(setup, Board.attach(board_fd), link)
    link.send(WorkerReady())
    while isinstance(command := link.receive(), StartRun):
        link.send(runner.run(command))


if __name__ == "__main__":
    main(*map(int, sys.argv[1:4]))
