"""`backlane worker`: runs of the services in processes of their own, on one home."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
import pytest

from backlane.backtest.request import BacktestRequest
from backlane.client.backlane_client import Client
from backlane.client.workers import AsyncWorkerClient
from backlane.operations.operation import Operation, State
from backlane.testing.servers import wait_until
from backlane.wire.backtest import spec_to_payload
from tests.e2e.stack import Stack, long_request, short_request
from tests.e2e.watched import Watched, until_trades, watch_from_begin

pytestmark = [pytest.mark.slow, pytest.mark.long, pytest.mark.timeout(180)]
SLOWLY = {
    "BACKLANE_FAILPOINTS": "worker.slice_simulated=sleep:0.1",
    "BACKLANE_WORKER_CHECKPOINT_INTERVAL_BARS": "4000",
    "BACKLANE_WORKER_DRAIN_GRACE_S": "3",
}


@pytest.fixture(scope="module")
def stack(market: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """The three services, of which none runs anything."""
    folder = tmp_path_factory.mktemp("apart")
    home = folder / "home"
    home.mkdir()
    (home / "data").symlink_to(market / "home" / "data")
    env = {"BACKLANE_BACKTESTS_WORKERS": "0", "BACKLANE_OPERATIONS_LEASE_TTL_S": "3"}
    yield from Stack(home, market / "models", folder, env).running()


@pytest.fixture(scope="module")
def client(stack: Stack) -> Iterator[Client]:
    with stack.client() as client:
        yield client


class WorkerProcess:
    """`backlane worker` as a user starts it."""

    def __init__(self, stack: Stack, log_file: Path, env: dict[str, str] | None = None) -> None:
        self.log_file = log_file
        with log_file.open("ab") as log:
            self.process = subprocess.Popen(
                [
                    *(sys.executable, "-m", "backlane.cli.main", "worker"),
                    *("--operations", stack.addresses.operations),
                    *("--models", stack.addresses.models),
                    *("--workers", "1", "--home", str(stack.home)),
                ],
                env={**os.environ, **(env or {})},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    @property
    def text(self) -> str:
        return self.log_file.read_text()

    def busy_child(self) -> int:
        """The process that is running something, once there is one."""
        children = psutil.Process(self.process.pid).children
        return wait_until(
            lambda: next((c.pid for c in children() if c.name() == "backlane-run"), 0), 60
        )

    def drain(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(30)


@contextmanager
def worker_of(
    stack: Stack, log_file: Path, env: dict[str, str] | None = None
) -> Iterator[WorkerProcess]:
    worker = WorkerProcess(stack, log_file, env)
    try:
        yield worker
    finally:
        with suppress(ProcessLookupError):
            os.killpg(worker.process.pid, signal.SIGKILL)
        worker.process.wait()


def a_run() -> BacktestRequest:
    return long_request(end="2015-01-24")


def succeeded(client: Client, name: str) -> Operation:
    operation = client.operations.wait(name, timeout_s=60)
    assert operation.state is State.SUCCEEDED, operation
    return operation


@pytest.fixture(scope="module")
def undisturbed(stack: Stack, client: Client, tmp_path_factory: pytest.TempPathFactory) -> str:
    with worker_of(stack, tmp_path_factory.mktemp("log") / "log"):
        name = client.backtests.run(a_run()).name
        succeeded(client, name)
        return client.backtests.get_result(name).result_digest


def test_a_worker_runs_what_was_accepted_before_it_came(
    stack: Stack, client: Client, tmp_path: Path
):
    name = client.backtests.run(short_request()).name
    assert client.operations.get(name).state is State.QUEUED
    with worker_of(stack, tmp_path / "log") as worker:
        succeeded(client, name)
        assert worker.drain() == 0
        first, *rest = worker.text.splitlines()
        assert f"home {stack.home}" in first
        assert stack.addresses.operations in first
        assert "Draining" in " ".join(rest)
    assert list(client.backtests.trades(name))


def test_a_worker_without_a_registry_says_so_and_asks_on(
    stack: Stack, client: Client, tmp_path: Path
):
    name = client.backtests.run(short_request()).name
    stack.operations.terminate()
    with worker_of(stack, tmp_path / "log") as worker:
        wait_until(lambda: "Asking on" in worker.text, 30)
        stack.operations.start()
        succeeded(client, name)
        assert worker.text.count("Asking on") == 1


def test_a_worker_without_its_home_ends_with_a_reason(stack: Stack, tmp_path: Path):
    done = subprocess.run(
        [sys.executable, "-m", "backlane.cli.main", "worker", "--home", str(tmp_path / "absent")],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 64
    assert "absent is no directory" in done.stderr


def test_a_drained_worker_gives_its_run_to_another(
    stack: Stack, client: Client, undisturbed: str, tmp_path: Path
):
    name = client.backtests.run(a_run()).name
    with worker_of(stack, tmp_path / "first", SLOWLY) as first:
        until_trades(client, name)
        assert first.drain() == 0
    operation = client.operations.get(name)
    assert operation.state is State.QUEUED
    assert operation.checkpoints
    with worker_of(stack, tmp_path / "second"):
        operation = succeeded(client, name)
    assert (operation.attempt, operation.failures) == (2, ())
    assert client.backtests.get_result(name).result_digest == undisturbed


def test_a_worker_that_slept_past_its_lease_spoils_nothing(
    stack: Stack, client: Client, undisturbed: str, tmp_path: Path
):
    name = client.backtests.run(a_run()).name
    with worker_of(stack, tmp_path / "first", SLOWLY) as first:
        until_trades(client, name)
        child = first.busy_child()
        first.process.send_signal(signal.SIGSTOP)  # and its child works on: nobody can tell it
        with worker_of(stack, tmp_path / "second"):
            operation = succeeded(client, name)
            first.process.send_signal(signal.SIGCONT)
            # It learns that its lease is lost, and ends what its child was doing.
            wait_until(lambda: not psutil.pid_exists(child), 30)
    assert operation.attempt == 2
    assert [one.reason for one in operation.failures] == ["WORKER_LOST"]
    assert client.backtests.get_result(name).result_digest == undisturbed
    watched = Watched().take_all(watch_from_begin(client, name))
    assert watched.is_whole()
    assert watched.trades == list(client.backtests.trades(name))
    client.backtests.download_result(name, tmp_path / "out")


def test_a_process_that_stands_still_costs_no_lease(
    stack: Stack, client: Client, undisturbed: str, tmp_path: Path
):
    """As one that holds its interpreter lock does: the supervisor beside it renews."""
    name = client.backtests.run(a_run()).name
    with worker_of(stack, tmp_path / "log", SLOWLY) as worker:
        until_trades(client, name)
        child = worker.busy_child()
        os.kill(child, signal.SIGSTOP)
        let_a_lease_lapse(stack, client)
        assert client.operations.get(name).state is State.RUNNING
        os.kill(child, signal.SIGCONT)
        operation = succeeded(client, name)
    assert operation.attempt == 1
    assert client.backtests.get_result(name).result_digest == undisturbed


def let_a_lease_lapse(stack: Stack, client: Client) -> None:
    """Returns once a lease that began after this call has lapsed, because nobody renewed it."""
    spec = spec_to_payload(short_request())
    witness = client.operations.create("test.witness", spec, max_attempts=1)

    async def take() -> None:
        async with AsyncWorkerClient(stack.addresses.operations, "witness") as taker:
            assert await taker.acquire(["test.witness"]) is not None

    asyncio.run(take())
    ended = client.operations.wait(witness.name, timeout_s=60)
    assert ended.error is not None
    assert ended.error.reason == "WORKER_LOST"
