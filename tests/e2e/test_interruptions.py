"""What happens when something dies, hangs, restarts or is cancelled in the middle of a run."""

import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest

from backlane.backtest.request import BacktestRequest
from backlane.client.backlane_client import Client
from backlane.client.backtests import RunOptions
from backlane.client.operations import watch_request
from backlane.errors import OperationNotSucceededError
from backlane.operations.operation import Operation, OperationError, State
from backlane.testing.servers import wait_until
from tests.e2e.stack import Stack, long_request, short_request
from tests.e2e.watched import Watched, until_trades, watch_from_begin

pytestmark = [pytest.mark.slow, pytest.mark.long, pytest.mark.timeout(180)]
ONE_ATTEMPT = RunOptions(max_attempts=1)
"""A run that is not tried again shows how an attempt ended."""


@pytest.fixture
def client(slow_stack: Stack) -> Iterator[Client]:
    with slow_stack.client() as client:
        yield client


def a_run_of_seconds() -> BacktestRequest:
    return long_request(end="2015-01-25")


def ended(client: Client, name: str) -> Operation:
    operation = client.operations.wait(name, timeout_s=60)
    assert operation.state.is_terminal
    return operation


def error_of(operation: Operation) -> OperationError:
    assert operation.state is State.FAILED
    assert operation.error is not None
    return operation.error


def digest_of(client: Client, name: str) -> str:
    return client.backtests.get_result(name).result_digest


def assert_it_works_again(client: Client) -> None:
    assert ended(client, client.backtests.run(short_request()).name).state is State.SUCCEEDED


def result_directory(stack: Stack, name: str) -> Path:
    return stack.home / "results" / name.removeprefix("operations/")


@pytest.mark.parametrize("end", ["killed", "drained"])
def test_a_watch_and_a_run_survive_the_restart_of_operations_service(
    slow_stack: Stack, client: Client, end: str
):
    name = client.backtests.run(a_run_of_seconds()).name
    with slow_stack.client() as watcher, ThreadPoolExecutor(1) as pool:
        watching = pool.submit(lambda: Watched().take_all(watch_from_begin(watcher, name)))
        until_trades(client, name)
        slow_stack.signal_worker(signal.SIGSTOP)  # the run is certainly in its middle
        if end == "killed":
            slow_stack.operations.kill()
        else:
            slow_stack.operations.terminate()
        slow_stack.signal_worker(signal.SIGCONT)
        slow_stack.operations.start()
        assert ended(client, name).state is State.SUCCEEDED
        watched = watching.result(60)
    assert watched.is_whole()
    assert watched.states == [State.QUEUED, State.RUNNING, State.SUCCEEDED]
    assert watched.trades == list(client.backtests.trades(name))


def test_a_watcher_that_goes_and_comes_back_misses_nothing(slow_stack: Stack, client: Client):
    name = client.backtests.run(a_run_of_seconds()).name
    with slow_stack.client() as first:
        watched = until_trades(first, name)
    with slow_stack.client() as second:
        request = watch_request(name, resume_token=watched.resume_token)
        watched.take_all(second.operations.watch(request))
    assert watched.is_whole()
    assert watched.trades == list(client.backtests.trades(name))


def test_a_killed_worker_ends_the_run_at_once_and_is_replaced(slow_stack: Stack, client: Client):
    name = client.backtests.run(a_run_of_seconds(), options=ONE_ATTEMPT).name
    until_trades(client, name)
    killed = slow_stack.signal_worker(signal.SIGKILL)
    error = error_of(ended(client, name))
    assert error.reason == "WORKER_LOST"
    assert error.code == 14  # UNAVAILABLE
    assert "SIGKILL" in error.message
    with pytest.raises(OperationNotSucceededError):
        client.backtests.get_result(name)
    assert_it_works_again(client)
    assert not psutil.pid_exists(killed)


def test_a_run_whose_worker_is_killed_ends_as_if_nothing_had_been(
    slow_stack: Stack, client: Client
):
    undisturbed = client.backtests.run(a_run_of_seconds()).name
    assert ended(client, undisturbed).state is State.SUCCEEDED
    name = client.backtests.run(a_run_of_seconds()).name
    until_trades(client, name)
    waiting = wait_until(lambda: len(slow_stack.worker_pids()) == 2 and slow_stack.worker_pids())
    slow_stack.signal_worker(signal.SIGKILL)
    wait_until(lambda: client.operations.get(name).attempt == 2)
    # A process that stood by has it: no start of one delays the next attempt.
    assert slow_stack.worker_pid() in waiting
    operation = ended(client, name)
    assert operation.state is State.SUCCEEDED
    assert [one.reason for one in operation.failures] == ["WORKER_LOST"]
    assert digest_of(client, name) == digest_of(client, undisturbed)


def test_a_crashed_worker_names_its_signal(slow_stack: Stack, client: Client):
    name = client.backtests.run(a_run_of_seconds(), options=ONE_ATTEMPT).name
    until_trades(client, name)
    slow_stack.signal_worker(signal.SIGSEGV)
    assert "SIGSEGV" in error_of(ended(client, name)).message


def test_a_hung_worker_is_ended_as_stalled(slow_stack: Stack, client: Client):
    name = client.backtests.run(a_run_of_seconds(), options=ONE_ATTEMPT).name
    until_trades(client, name)
    stopped = slow_stack.signal_worker(signal.SIGSTOP)
    error = error_of(ended(client, name))
    assert error.reason == "STALLED"
    assert "simulation" in error.message
    assert not psutil.pid_exists(stopped)
    assert_it_works_again(client)


def test_a_cancelled_run_stops_and_leaves_nothing(slow_stack: Stack, client: Client):
    name = client.backtests.run(a_run_of_seconds()).name
    until_trades(client, name)
    worker = slow_stack.worker_pid()
    client.operations.cancel(name, "changed my mind")
    operation = ended(client, name)
    assert operation.state is State.CANCELLED
    assert operation.cancel_reason == "changed my mind"
    wait_until(lambda: not result_directory(slow_stack, name).exists())
    assert_it_works_again(client)
    assert psutil.pid_exists(worker)  # it stopped by itself and is kept


def test_a_worker_that_does_not_hear_the_cancel_is_killed(slow_stack: Stack, client: Client):
    name = client.backtests.run(a_run_of_seconds()).name
    until_trades(client, name)
    stopped = slow_stack.signal_worker(signal.SIGSTOP)
    client.operations.cancel(name)
    # Asked by the board, after 5 s by SIGTERM, after 6 s by SIGKILL; after 8 s it would be STALLED.
    assert ended(client, name).state is State.CANCELLED
    wait_until(lambda: not psutil.pid_exists(stopped))


def test_the_death_of_backtest_service_fails_its_run_when_the_lease_lapses(
    slow_stack: Stack, client: Client
):
    name = client.backtests.run(a_run_of_seconds(), options=ONE_ATTEMPT).name
    until_trades(client, name)
    worker = slow_stack.worker_pid()
    slow_stack.backtests.kill()
    wait_until(lambda: not psutil.pid_exists(worker))  # its worker goes with it
    error = error_of(ended(client, name))
    assert error.reason == "WORKER_LOST"
    assert "lease" in error.message
    slow_stack.backtests.start()
    assert_it_works_again(client)


def test_a_run_ends_when_the_registry_stays_away_longer_than_its_lease(
    slow_stack: Stack, client: Client
):
    name = client.backtests.run(long_request(end="2015-03-01"), options=ONE_ATTEMPT).name
    until_trades(client, name)
    worker = slow_stack.signal_worker(signal.SIGSTOP)  # it cannot end by itself
    slow_stack.operations.kill()
    wait_until(lambda: not psutil.pid_exists(worker), 30)
    slow_stack.operations.start()
    assert error_of(ended(client, name)).reason == "WORKER_LOST"
    assert_it_works_again(client)


def test_a_drain_that_is_too_short_for_a_run_keeps_what_it_has_done(
    slow_stack: Stack, client: Client
):
    name = client.backtests.run(long_request(end="2015-02-15")).name
    until_trades(client, name)
    assert slow_stack.backtests.terminate() == 0
    waiting = client.operations.get(name)
    assert waiting.state is State.QUEUED
    (checkpoint,) = waiting.checkpoints
    assert checkpoint.completed_units > 0
    slow_stack.backtests.start()
    operation = ended(client, name)
    assert operation.state is State.SUCCEEDED
    assert operation.failures == ()


def test_a_busy_run_is_cancelled_with_a_checkpoint_and_goes_on(slow_stack: Stack, client: Client):
    name = client.backtests.run(long_request(end="2015-02-15")).name
    until_trades(client, name)
    client.operations.cancel(name)
    assert ended(client, name).checkpoints
    resumed = client.backtests.resume(name)
    operation = ended(client, resumed.name)
    assert operation.state is State.SUCCEEDED
    assert operation.resumed_from == name


def test_a_run_beyond_its_memory_fails_alone(small_stack: Stack):
    with small_stack.client() as client:
        error = error_of(ended(client, client.backtests.run(long_request()).name))
        assert error.reason == "OUT_OF_MEMORY"
        assert "512 MiB" in error.message
        assert_it_works_again(client)
