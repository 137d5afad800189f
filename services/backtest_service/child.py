"""The worker process: one run after the other, each from its request to its result directory.

It is started with the file descriptors of a socket and a board, imports what it computes with,
and then waits for runs. Whatever happens to it happens to nobody else.
"""

import os
import resource
import socket
import sys
import uuid
from pathlib import Path

import structlog

from backlane import failpoints
from backlane.backtest.portfolio_request import PortfolioRequest
from backlane.cycle.loop import warm_up
from backlane.errors import BacklaneError, CancelledRunError, InternalError, OutOfMemoryError
from backlane.rpc.log import configure_logging
from backlane.sources.checkpoints import CheckpointFiles
from backlane.sources.engine_source import engine_digest
from backtest_service.backtest_runs import BacktestRuns
from backtest_service.board import Board
from backtest_service.link import Link, die_with_parent, refuse_forks, show_as
from backtest_service.messages import (
    CycleDecided,
    FromWorker,
    RunFailed,
    RunStopped,
    RunSucceeded,
    StartCycle,
    StartRun,
    WorkerReady,
    WorkerSetup,
)
from backtest_service.portfolio_runs import PortfolioRuns
from backtest_service.workbench import Workbench

IDLE, BUSY = "backlane-idle", "backlane-run"
"""What a worker process is called while it waits, and while it runs."""

_log = structlog.get_logger(__name__)


class Runner:
    """Carries out the runs of one worker process, of whatever kind."""

    def __init__(self, bench: Workbench) -> None:
        self._memory_bytes_max = bench.setup.memory_bytes_max
        self._backtests = BacktestRuns(bench)
        self._portfolios = PortfolioRuns(bench)

    def run(self, command: StartRun | StartCycle) -> FromWorker:
        """Carries out a command and returns how it ended; no run ends the process."""
        try:
            return self._execute(command)
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

    def _execute(self, command: StartRun | StartCycle) -> FromWorker:
        if isinstance(command, StartCycle):
            return CycleDecided(self._portfolios.decide(command.request))
        request = command.request
        if isinstance(request, PortfolioRequest):
            return RunSucceeded(self._portfolios.execute(command, request))
        return RunSucceeded(self._backtests.execute(command, request))

    def _out_of_memory(self) -> OutOfMemoryError:
        limit_mib = self._memory_bytes_max // 2**20
        return OutOfMemoryError(
            f"The run needed more than the {limit_mib} MiB that one worker may have. Run over "
            "fewer bars, or raise BACKLANE_BACKTESTS_RUN_MEMORY_BYTES_MAX.",
            metadata={"memory_bytes_max": str(self._memory_bytes_max)},
        )


def _failed(error: BacklaneError) -> RunFailed:
    return RunFailed(error.reason, error.message, error.metadata, error.violations)


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
    bench = Workbench(setup, Board.attach(board_fd), link, CheckpointFiles(setup.home))
    runner = Runner(bench)
    show_as(IDLE)
    link.send(WorkerReady())
    while isinstance(command := link.receive(), StartRun | StartCycle):
        show_as(BUSY)
        ended = runner.run(command)
        show_as(IDLE)
        link.send(ended)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:4]))
