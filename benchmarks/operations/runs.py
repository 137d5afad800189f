"""Real runs that are cancelled, and real runs whose process dies.

Beside a run that is cancelled one process computes without a pause, so that a core is busy. The
run's own loop is held up a little after each slice by the failpoint `worker.slice_simulated`:
without it a hundred thousand bars are over before anybody can cancel.
"""

import multiprocessing
import os
import signal
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import psutil

from backlane.client.backlane_client import Client
from backlane.client.operations import watch_request
from backlane.client.run_options import RunOptions
from backlane.cycle.loop import Slot
from backlane.operations.events import StateChanged
from backlane.operations.operation import State
from backlane.sources.catalog import Catalog
from backlane.sources.synthetic import synthetic_bars
from backlane.testing.servers import wait_until
from backtest_service.board import Board
from backtest_service.child import BUSY, IDLE
from benchmarks.one_process import REQUEST, TIMEFRAME
from benchmarks.operations.figures import Figure, spread
from benchmarks.three_services import ThreeServices

BARS = 100_000
START = datetime(2010, 1, 1, tzinfo=UTC)
SLICE_PAUSE_S = 0.02
LOOK_S = 0.0005
PATIENCE_S = 60.0
OPTIONS = RunOptions(max_attempts=100)


def cancel(*, is_quick: bool) -> list[Figure]:
    """From CancelOperation to the slot that the loop reads, and to CANCELLED with a checkpoint."""
    told: list[float] = []
    ended: list[float] = []
    with _services(is_core_busy=True) as (services, client):
        for _ in range(5 if is_quick else 60):
            name = client.backtests.run(REQUEST).name
            board = Board.attach(os.open(_board_of(_busy_child(services)), os.O_RDWR))
            try:
                wait_until(partial(_is_in_loop, board), PATIENCE_S)
                asked_s = time.monotonic()
                client.operations.cancel(name, "bench")
                while board.slot[Slot.CANCEL] == 0.0:
                    time.sleep(LOOK_S)
                    if time.monotonic() > asked_s + PATIENCE_S:
                        raise TimeoutError(f"{name} was never told")
                told.append(time.monotonic() - asked_s)
            finally:
                board.close()
            operation = client.operations.wait(name, timeout_s=PATIENCE_S)
            ended.append(time.monotonic() - asked_s)
            if operation.state is not State.CANCELLED or not operation.checkpoints:
                raise RuntimeError(
                    f"{name} is {operation.state} {operation.error}, without a checkpoint perhaps"
                )
    return [
        *spread("cancel reaches a busy loop", told, (None, 250), "from the call that cancels"),
        *spread("request to CANCELLED with a checkpoint", ended, (None, 1_000)),
    ]


def dead_child(*, is_quick: bool) -> list[Figure]:
    """From kill -9 of the process that runs it to the next attempt of the run RUNNING."""
    again: list[float] = []
    with _services(is_core_busy=False) as (services, client):
        for _ in range(3 if is_quick else 20):
            # One death at a time: the process that stands by has started since the last.
            wait_until(lambda: len(_children_called(services, IDLE)) == 2, PATIENCE_S)
            name = client.backtests.run(REQUEST, options=OPTIONS).name
            pid = _busy_child(services)
            messages = client.operations.watch(watch_request(name))
            next(messages)
            killed_s = time.monotonic()
            os.kill(pid, signal.SIGKILL)
            for message in messages:
                if any(
                    isinstance(event.body, StateChanged)
                    and event.body.to_state is State.RUNNING
                    and event.attempt == 2
                    for event in message.events
                ):
                    again.append(time.monotonic() - killed_s)
                    break
            client.operations.cancel(name, "bench")
            client.operations.wait(name, timeout_s=PATIENCE_S)
    worst = Figure("new attempt after a dead child, worst", max(again), "s", 1)
    return [worst, *spread("of it", again)]


@contextmanager
def _services(*, is_core_busy: bool) -> Iterator[tuple[ThreeServices, Client]]:
    """Three services over a home with bars, warm; with one core kept busy where that is asked."""
    spinning = multiprocessing.get_context("spawn").Process(target=_spin, daemon=True)
    own = {
        "BACKLANE_BACKTESTS_SPARE_WORKERS": "1",
        "BACKLANE_FAILPOINTS": f"worker.slice_simulated=sleep:{SLICE_PAUSE_S}",
    }
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        Catalog(home).import_bars(synthetic_bars(1, START, BARS, TIMEFRAME), "synthetic")
        with ThreeServices(home, own) as services, Client(services.addresses) as client:
            name = client.backtests.run(REQUEST).name
            client.operations.wait(name, timeout_s=PATIENCE_S)
            if is_core_busy:
                spinning.start()
            try:
                yield services, client
            finally:
                if is_core_busy:
                    spinning.kill()
                    spinning.join()


def _spin() -> None:
    parent = os.getppid()
    while os.getppid() == parent:
        sum(range(100_000))


def _busy_child(services: ThreeServices) -> int:
    """Returns the process that carries out a run."""
    return wait_until(lambda: _children_called(services, BUSY), PATIENCE_S)[0]


def _children_called(services: ThreeServices, name: str) -> list[int]:
    """Returns the worker processes that are called so, as they are while they run or wait."""
    found = []
    for child in psutil.Process(services.backtests_pid).children():
        with suppress(psutil.NoSuchProcess):  # it has ended meanwhile
            if child.name() == name:
                found.append(child.pid)
    return found


def _is_in_loop(board: Board) -> bool:
    reading = board.read()
    return reading.phase == "simulation" and reading.completed_units > 0


def _board_of(pid: int) -> str:
    """Returns where the board of a worker process can be opened: its second argument."""
    arguments = psutil.Process(pid).cmdline()
    return f"/proc/{pid}/fd/{arguments[arguments.index('backtest_service.child') + 2]}"
