"""Runs that are killed, cancelled, drained or robbed of their checkpoints: each ends as if nothing
had been, or says why not. Real services in this process, real worker processes beside it."""

import asyncio
import hashlib
import os
import signal
import uuid
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import psutil
import pytest
import pytest_asyncio

from backlane import errors
from backlane.backtest.request import BacktestRequest
from backlane.client.backlane_client import AsyncClient
from backlane.client.backtests import RunOptions
from backlane.client.connection import Addresses
from backlane.client.operations import AsyncOperationsClient, watch_request
from backlane.client.workers import AsyncWorkerClient
from backlane.clock import SystemClock
from backlane.operations.events import Note
from backlane.operations.operation import Operation, State
from backlane.operations.watching import StartAt
from backlane.sources.checkpoints import CheckpointFiles
from backlane.testing.servers import running, wait_until_async
from backlane.wire.backtest import spec_to_payload
from backtest_service.app import build
from backtest_service.housekeeping import Housekeeping
from backtest_service.settings import BacktestServiceSettings
from model_service.app import build as build_models
from model_service.settings import ModelServiceSettings
from operations_service.app import build as build_operations
from operations_service.settings import OperationsServiceSettings
from tests.e2e.stack import fill_home, fill_models, long_request
from tests.e2e.watched import Watched

pytestmark = [
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.slow,
    pytest.mark.timeout(180),
]
SLOWLY = "worker.slice_simulated=sleep:0.05"
"""30 slices of the run below take a second and a half, whatever the machine."""


def a_run() -> BacktestRequest:
    """28,800 bars of one minute: 29 slices."""
    return long_request(end="2015-01-24")


@dataclass(frozen=True)
class Market:
    home: Path
    operations: str
    models: str

    @asynccontextmanager
    async def service(self, failpoints: str = "", **more: Any) -> AsyncIterator[AsyncClient]:
        """A backtest_service of its own, whose workers have these failpoints."""
        settings = BacktestServiceSettings(
            **{
                "port": 0,
                "home": self.home,
                "operations_address": self.operations,
                "models_address": self.models,
                "workers": 1,
                "probe_interval_s": 0.1,
                "drain_grace_s": 4.0,
                "checkpoint_interval_bars": 4_000,
            }
            | more
        )
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("BACKLANE_FAILPOINTS", failpoints)
            server = build(settings)
            async with running(server) as address:
                await wait_until_async(lambda: server.is_serving, 60)
                async with AsyncClient(Addresses(self.operations, self.models, address)) as client:
                    yield client

    @asynccontextmanager
    async def apart(self, failpoints: str = "", **more: Any) -> AsyncIterator[AsyncClient]:
        """The same with a registry of its own: no other worker takes its runs."""
        async with self.registry() as market, market.service(failpoints, **more) as client:
            yield client

    @asynccontextmanager
    async def registry(self) -> AsyncIterator["Market"]:
        with TemporaryDirectory() as folder:
            settings = OperationsServiceSettings(port=0, data_dir=Path(folder))
            async with running(build_operations(settings)) as address:
                yield replace(self, operations=address)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def market(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Market]:
    home = tmp_path_factory.mktemp("home")
    fill_models(home / "models")
    fill_home(home)
    async with AsyncExitStack() as stack:
        operations = await stack.enter_async_context(
            running(build_operations(OperationsServiceSettings(port=0, data_dir=home / "registry")))
        )
        models = await stack.enter_async_context(
            running(build_models(ModelServiceSettings(port=0, models_dir=home / "models")))
        )
        yield Market(home, operations, models)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def client(market: Market) -> AsyncIterator[AsyncClient]:
    async with market.service(SLOWLY) as client:
        yield client


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def undisturbed(client: AsyncClient) -> str:
    """The result digest of the run when nothing happens to it."""
    operation = await ended(client, (await client.backtests.run(a_run())).name)
    assert operation.state is State.SUCCEEDED
    return (await client.backtests.get_result(operation.name)).result_digest


async def ended(client: AsyncClient, name: str) -> Operation:
    operation = await client.operations.wait(name, timeout_s=60)
    assert operation.state.is_terminal
    return operation


async def log_of(client: AsyncClient, name: str) -> Watched:
    watched = Watched()
    async for message in client.operations.watch(watch_request(name, start=StartAt.OLDEST)):
        watched.take(message)
    return watched


async def notes_of(client: AsyncClient, name: str) -> list[str]:
    texts = []
    async for message in client.operations.watch(watch_request(name, start=StartAt.OLDEST)):
        texts += [event.body.text for event in message.events if isinstance(event.body, Note)]
    return texts


async def until(client: AsyncClient, name: str, what: str, count: int = 1) -> None:
    """Returns once so many events of a kind have come."""
    seen: Counter[str] = Counter()
    async for message in client.operations.watch(watch_request(name, start=StartAt.OLDEST)):
        seen.update(type(event.body).__name__ for event in message.events)
        if seen[what] >= count:
            return
    raise AssertionError(f"{name} ended with {dict(seen)}")


def busy_worker() -> psutil.Process:
    for child in psutil.Process().children():
        if child.name() == "backlane-run":
            return child
    raise AssertionError("no worker is running anything")


async def assert_undisturbed(client: AsyncClient, name: str, digest: str) -> Operation:
    operation = await ended(client, name)
    assert operation.state is State.SUCCEEDED, operation.error
    assert (await client.backtests.get_result(name)).result_digest == digest
    watched = await log_of(client, name)
    assert watched.is_whole()
    assert watched.trades == [trade async for trade in client.backtests.trades(name)]
    steps = [point.step for point in watched.points]
    assert steps == sorted(set(steps))
    return operation


def checkpoint_files(market: Market, name: str) -> list[Path]:
    folder = market.home / "checkpoints" / name.removeprefix("operations/")
    return sorted(folder.glob("*.ckpt"))


# --- death -------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV])
async def test_a_killed_worker_costs_an_attempt_and_nothing_else(
    market: Market, client: AsyncClient, undisturbed: str, number: signal.Signals
):
    name = (await client.backtests.run(a_run())).name
    await until(client, name, "CheckpointCommitted", 2)
    os.kill(busy_worker().pid, number)
    operation = await assert_undisturbed(client, name, undisturbed)
    assert operation.attempt == 2
    (failure,) = operation.failures
    assert failure.reason == "WORKER_LOST"
    assert number.name in failure.message
    notes = " ".join(await notes_of(client, name))
    assert "Going on from checkpoint" in notes, notes
    # A spare process took over: no start of one lies in between.
    events = (await log_of(client, name)).states
    assert events == [State.QUEUED, State.RUNNING, State.QUEUED, State.RUNNING, State.SUCCEEDED]
    results = market.home / "results" / name.removeprefix("operations/")
    assert [path.name for path in results.iterdir()] == ["attempt-2"]
    assert not checkpoint_files(market, name)


async def test_a_poisonous_run_ends_after_its_attempts_with_their_history(market: Market):
    async with market.apart("worker.slice_simulated=kill@3") as client:
        operation = await ended(client, (await client.backtests.run(a_run())).name)
        assert operation.state is State.FAILED
        assert operation.error is not None
        assert operation.error.reason == "WORKER_LOST"
        assert operation.attempt == operation.max_attempts == 3
        assert [one.reason for one in operation.failures] == ["WORKER_LOST"] * 3
        assert "attempt 1: WORKER_LOST; attempt 2: WORKER_LOST" in operation.error.message


async def test_a_kill_between_the_file_and_its_commit_loses_only_that_checkpoint(
    market: Market, undisturbed: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    hits = tmp_path / "hits"
    monkeypatch.setenv("BACKLANE_FAILPOINT_HITS", str(hits))
    # Each process dies after its second file: its first one is committed, and progress is made.
    point = f"{SLOWLY};checkpoint.blob_written=kill@2"
    async with market.apart(point, checkpoint_interval_bars=8_000) as client:
        name = (await client.backtests.run(a_run())).name
        operation = await assert_undisturbed(client, name, undisturbed)
    killed = hits.read_text().count("checkpoint.blob_written")
    assert killed == operation.attempt - 1 >= 1
    assert not checkpoint_files(market, name)


# --- checkpoints that cannot be used, or written -----------------------------------------------


@pytest.mark.parametrize("damage", ["changed", "removed", "both"])
async def test_a_damaged_checkpoint_is_said_and_the_one_before_is_used(
    market: Market, client: AsyncClient, undisturbed: str, damage: str
):
    name = (await client.backtests.run(a_run())).name
    await until(client, name, "CheckpointCommitted", 3)
    worker = busy_worker()
    worker.suspend()
    newest, before = (await client.operations.get(name)).checkpoints
    for one in (newest, before) if damage == "both" else (newest,):
        path = market.home / one.uri.removeprefix("home:")
        content = path.read_bytes()
        assert hashlib.sha256(content).digest() == one.sha256
        if damage == "removed":
            path.unlink()
        else:
            path.write_bytes(content[:5000] + b"\x00\xff" + content[5002:])
    worker.kill()
    await assert_undisturbed(client, name, undisturbed)
    notes = " ".join(await notes_of(client, name))
    assert f"Checkpoint {newest.number} is damaged" in notes
    if damage == "both":
        assert f"Checkpoint {before.number} is damaged" in notes
        assert "going on from the start" in notes
    else:
        assert f"Going on from checkpoint {before.number}" in notes


async def test_a_full_disk_costs_the_checkpoints_and_nothing_else(market: Market, undisturbed: str):
    async with market.apart(f"{SLOWLY};checkpoint.full=error") as client:
        name = (await client.backtests.run(a_run())).name
        operation = await assert_undisturbed(client, name, undisturbed)
        notes = await notes_of(client, name)
    assert operation.attempt == 1
    (note,) = [note for note in notes if "could not be written" in note]  # said once
    assert "No space left on device" in note
    assert not checkpoint_files(market, name)


# --- cancel and resume -------------------------------------------------------------------------


async def test_a_cancelled_run_leaves_a_checkpoint_and_goes_on_as_another(
    market: Market, client: AsyncClient, undisturbed: str
):
    first = (await client.backtests.run(a_run())).name
    await until(client, first, "TradesAppended")
    await client.operations.cancel(first, "later")
    cancelled = await ended(client, first)
    assert cancelled.state is State.CANCELLED
    newest, *_ = cancelled.checkpoints
    assert newest.completed_units > 0
    kept = checkpoint_files(market, first)
    assert len(kept) == len(cancelled.checkpoints)
    request_id = str(uuid.uuid4())
    second = await client.backtests.resume(first, request_id=request_id)
    again = await client.backtests.resume(first, request_id=request_id)
    assert again.name == second.name != first
    operation = await assert_undisturbed(client, second.name, undisturbed)
    assert operation.resumed_from == first
    notes = await notes_of(client, second.name)
    assert any(f"Going on from checkpoint {newest.number}" in note for note in notes)
    # The checkpoints belong to the operation that wrote them.
    assert checkpoint_files(market, first) == kept
    assert not checkpoint_files(market, second.name)
    assert (await client.operations.get(first)).state is State.CANCELLED


async def test_a_run_that_is_cancelled_twice_goes_on_twice(
    market: Market, client: AsyncClient, undisturbed: str
):
    name = (await client.backtests.run(a_run())).name
    done = []
    for _ in range(2):
        await until(client, name, "CheckpointCommitted", 2)
        await client.operations.cancel(name)
        cancelled = await ended(client, name)
        assert cancelled.state is State.CANCELLED
        done.append(cancelled.checkpoints[0].completed_units)
        name = (await client.backtests.resume(name)).name
    assert done[0] < done[1]
    await assert_undisturbed(client, name, undisturbed)


async def test_what_cannot_be_resumed_is_refused(client: AsyncClient):
    with pytest.raises(errors.OperationNotFoundError):
        await client.backtests.resume("operations/absent-0001")
    with pytest.raises(errors.InvalidRequestError):
        await client.backtests.resume("nonsense")
    other = await client.operations.create("nobody.runs_this", spec_to_payload(a_run()))
    with pytest.raises(errors.InvalidRequestError, match="is a nobody"):
        await client.backtests.resume(other.name)
    done = await client.backtests.run(a_run())
    await ended(client, done.name)
    with pytest.raises(errors.NothingToResumeError, match="succeeded"):
        await client.backtests.resume(done.name)


# --- drain, and what runs need -----------------------------------------------------------------


async def test_a_drained_worker_gives_its_run_back_with_a_checkpoint(
    market: Market, undisturbed: str
):
    slower, never = "worker.slice_simulated=sleep:0.5", 10**9
    async with market.registry() as apart:
        async with apart.service(slower, checkpoint_interval_bars=never) as client:
            name = (await client.backtests.run(a_run())).name
            await until(client, name, "TradesAppended")
        async with apart.service(checkpoint_interval_bars=never) as client:
            operation = await assert_undisturbed(client, name, undisturbed)
    assert operation.failures == ()  # it was given back, and no attempt is counted
    assert operation.attempt == 2
    (checkpoint,) = operation.checkpoints
    assert checkpoint.attempt == 1


async def test_a_run_waits_for_model_service_and_counts_no_attempt(
    market: Market, client: AsyncClient, undisturbed: str
):
    validation = await client.backtests.validate(a_run())
    settings = ModelServiceSettings(port=0, models_dir=market.home / "models")
    models = build_models(settings)
    async with AsyncExitStack() as stack:
        address = await stack.enter_async_context(running(models))
        apart = await stack.enter_async_context(market.registry())
        away = await stack.enter_async_context(replace(apart, models=address).service())
        await models.drain()
        payload = spec_to_payload(validation.request)
        operation = await away.operations.create("backtest.run", payload)
        await until(away, operation.name, "StateChanged", 3)  # queued, running, queued
        port = int(address.rpartition(":")[2])
        again = build_models(settings.model_copy(update={"port": port}))
        await stack.enter_async_context(running(again))
        done = await assert_undisturbed(away, operation.name, undisturbed)
        assert done.failures == ()
        assert done.attempt > 1 == done.max_attempts


async def test_options_of_a_run_reach_its_operation(client: AsyncClient):
    options = RunOptions(priority=7, max_attempts=5, queue_timeout_s=60.0, attempt_timeout_s=90.0)
    operation = await client.backtests.run(a_run(), options=options)
    assert (operation.priority, operation.max_attempts) == (7, 5)
    assert (operation.queue_timeout_s, operation.attempt_timeout_s) == (60.0, 90.0)
    assert (await client.backtests.run(a_run())).max_attempts == 3
    with pytest.raises(errors.InvalidRequestError) as caught:
        await client.backtests.run(a_run(), options=RunOptions(priority=101))
    assert [each.field for each in caught.value.violations] == ["options.priority"]


async def test_an_attempt_beyond_its_time_leaves_a_checkpoint_for_the_next(
    market: Market, undisturbed: str
):
    async with market.apart(
        "worker.slice_simulated=sleep:0.15", checkpoint_interval_bars=10**9
    ) as client:
        options = RunOptions(attempt_timeout_s=4.0, max_attempts=5)
        name = (await client.backtests.run(a_run(), options=options)).name
        operation = await assert_undisturbed(client, name, undisturbed)
        assert {one.reason for one in operation.failures} == {"ATTEMPT_TIMEOUT"}
        assert "Going on from checkpoint" in " ".join(await notes_of(client, name))


# --- zombies -----------------------------------------------------------------------------------


async def test_a_late_worker_can_spoil_nothing(
    market: Market, client: AsyncClient, undisturbed: str
):
    """It lost its lease, and writes a checkpoint, telemetry and a result all the same."""
    name = (await client.backtests.run(a_run())).name
    await until(client, name, "CheckpointCommitted", 1)
    newest = (await client.operations.get(name)).checkpoints[0]
    busy_worker().kill()
    await until(client, name, "StateChanged", 4)
    async with AsyncWorkerClient(market.operations, "zombie") as zombie:
        for call in (
            lambda: zombie.commit_checkpoint(name, 1, newest),
            lambda: zombie.release(name, 1, "late"),
        ):
            with pytest.raises(errors.LeaseLostError):
                await call()
    stale = market.home / "results" / name.removeprefix("operations/") / "attempt-1"
    await asyncio.to_thread(stale.mkdir, parents=True, exist_ok=True)
    (stale / "trades.csv").write_text("nonsense")
    await assert_undisturbed(client, name, undisturbed)


async def test_checkpoints_of_the_past_are_cleared_up(market: Market, client: AsyncClient):
    files = CheckpointFiles(market.home)
    succeeded = await ended(client, (await client.backtests.run(a_run())).name)
    cancelled = await client.operations.create("nobody.runs_this", spec_to_payload(a_run()))
    await client.operations.cancel(cancelled.name)
    names = (succeeded.name, cancelled.name, "operations/forgotten-1", "operations/young-1")
    for name in names:
        files.write(name, 1, (b"bytes",))
        if "young" not in name:
            folder = market.home / "checkpoints" / name.removeprefix("operations/")
            os.utime(folder, (1_000_000, 1_000_000))
    async with AsyncOperationsClient(market.operations) as operations:
        assert await Housekeeping(operations, files, SystemClock()).clear_up() == 2
    left = [name for name in names if checkpoint_files(market, name)]
    assert left == [cancelled.name, "operations/young-1"]
