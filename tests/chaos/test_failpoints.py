"""A real operations_service is killed, or told that its disk fails, at each failpoint it has.

The same story is told each time by clients that insist: operations of two writers, one of whom
goes silent once, a checkpoint, a cancel, watchers, and a prune in the end. Then nothing may be
lost or doubled. The failpoints of worker processes have theirs in `tests/integration`:
`WORKER_FAILPOINTS` says where.
"""

import asyncio
import os
import signal
import uuid
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager, suppress
from dataclasses import replace
from pathlib import Path

import pytest

from backlane import failpoints
from backlane.client.operations import AsyncOperationsClient, watch_request
from backlane.client.workers import AsyncWorkerClient
from backlane.errors import BacklaneError, LeaseLostError
from backlane.operations.commands import Succeeded, TelemetryBatch
from backlane.operations.directives import Assignment
from backlane.operations.events import MetricPoint
from backlane.operations.operation import Checkpoint, State
from backlane.operations.watching import StartAt
from backlane.testing.servers import ServiceProcess
from tests.chaos.calls import insist_async, is_passing
from tests.chaos.traffic import KIND, RESULT, SPEC
from tests.e2e.stack import free_ports
from tests.proofs.checker import Ledger, WatchChecker, told

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]

WORKER_FAILPOINTS = {
    "checkpoint.blob_written": "test_a_kill_between_the_file_and_its_commit_loses_only_that",
    "checkpoint.full": "test_a_full_disk_costs_the_checkpoints_and_nothing_else",
    "worker.slice_simulated": "test_a_poisonous_run_ends_after_its_attempts_with_their_history",
}
ARMED = {
    "registry.before_commit": "kill@6",
    "registry.after_commit_before_ack": "kill@6",
    "registry.after_ack_before_wake": "kill@6",
    "watch.before_send": "kill@4",
    "watch.between_snapshot_and_live": "kill@2",
    "watch.page_edge": "kill@1",
    "compaction.before_delete": "kill@1",
    "compaction.after_delete": "kill@1",
    "lease.before_grant": "kill@2",
    "lease.after_grant_before_ack": "kill@2",
    "lease.before_expire": "kill@3",
    "lease.after_expire": "kill@1",
    "checkpoint.after_commit_before_ack": "kill@1",
    "complete.after_commit_before_ack": "kill@1",
    "drain.after_not_serving": "kill@1",
    "store.fsync_error": "error@5",
    "store.full": "error@5",
    "store.locked": "error@5",
}
LEASE_TTL_S = 1.0
BATCHES = 4
NOTES_PER_BATCH, NOTE_CHARACTERS = 90, 4_000
"""A batch is a third of a mebibyte of notes: the log of the story takes several pages."""

TERMINAL = {State.SUCCEEDED, State.CANCELLED}


def test_every_failpoint_is_hit_somewhere() -> None:
    assert ARMED.keys() | WORKER_FAILPOINTS.keys() == failpoints.NAMES
    recovery = (Path(__file__).parents[1] / "integration" / "test_run_recovery.py").read_text()
    for name, test in WORKER_FAILPOINTS.items():
        assert test in recovery
        assert f"{name}=" in recovery


class Watched:
    """A watcher that comes back whenever it is thrown out, and a checker of what it saw."""

    def __init__(self, address: str, name: str) -> None:
        self.checker = WatchChecker(name)
        self.ended: set[str] = set()
        self._address = address

    async def until(self, names: set[str]) -> None:
        """Reads the log from its oldest event until all of these have ended."""
        request = watch_request(start=StartAt.OLDEST, bookmark_interval_s=1.0)
        while not self._knows_the_end_of(names):
            self.checker.connected(with_token=bool(self.checker.token))
            request = replace(request, resume_token=self.checker.token)
            with suppress(_Passing):
                await self._read(request, names)

    async def _read(self, request: object, names: set[str]) -> None:
        try:
            async with (
                AsyncOperationsClient(self._address) as client,
                aclosing(
                    client.watch(  # type: ignore[arg-type]
                        request,
                        on_reconnect=lambda _: self.checker.connected(with_token=True),
                    )
                ) as messages,
            ):
                async for message in messages:
                    self.checker.accept(message)
                    if self._knows_the_end_of(names):
                        return
        except BacklaneError as error:
            if is_passing(error):
                await asyncio.sleep(0.05)
                raise _Passing from error
            raise

    def _knows_the_end_of(self, names: set[str]) -> bool:
        seen = self.checker.operations
        return all(name in seen and seen[name].state in TERMINAL for name in names)


class _Passing(Exception):
    """Something that is over soon."""


class Story:
    """Two operations that are written, and one that is cancelled, whatever happens meanwhile."""

    def __init__(self, address: str) -> None:
        self.ledger = Ledger()
        self.names: set[str] = set()
        self._address = address

    async def tell(self) -> None:
        """Goes through all of it."""
        async with AsyncOperationsClient(self._address) as client:
            for _ in range(2):
                await self._create(client)
            await self._leave_one_to_lapse()
            cancelled = await self._create(client)
            await insist_async(lambda: client.cancel(cancelled))
            self.ledger.cancelled(cancelled)
            async with AsyncWorkerClient(self._address, "busy") as worker:
                while not await self._is_over(client):
                    key = str(uuid.uuid4())
                    taken = await insist_async(
                        lambda k=key: worker.acquire([KIND], wait_s=0.5, request_id=k)  # type: ignore[misc]
                    )
                    if taken is not None:
                        with suppress(LeaseLostError):
                            await self._write(worker, taken)

    async def prune(self) -> None:
        """Removes all that has ended; whatever happens, the next time removes the rest."""
        async with AsyncOperationsClient(self._address) as client:
            await insist_async(lambda: client.prune(older_than_s=0.0))
            left = await insist_async(client.list_page)
        assert left.operations == ()

    async def _create(self, client: AsyncOperationsClient) -> str:
        key = str(uuid.uuid4())
        for _ in range(2):  # a client that does not trust the first answer
            made = await insist_async(
                lambda: client.create(KIND, SPEC, request_id=key, max_attempts=20)
            )
            self.ledger.created(key, made.name)
        self.names.add(made.name)
        return made.name

    async def _leave_one_to_lapse(self) -> None:
        key = str(uuid.uuid4())
        async with AsyncWorkerClient(self._address, "silent") as worker:
            await insist_async(lambda: worker.acquire([KIND], wait_s=2.0, request_id=key))

    async def _is_over(self, client: AsyncOperationsClient) -> bool:
        found = [await insist_async(lambda n=n: client.get(n)) for n in self.names]  # type: ignore[misc]
        return all(operation.state.is_terminal for operation in found)

    async def _write(self, worker: AsyncWorkerClient, taken: Assignment) -> None:
        name, epoch = taken.operation.name, taken.hold.epoch
        for number in range(1, BATCHES + 1):
            batch = _batch(epoch, number)
            await insist_async(lambda b=batch: worker.append(name, epoch, b))  # type: ignore[misc]
            self.ledger.appended(name, batch)
        checkpoint = _checkpoint(name, taken.operation.checkpoint_number + 1)
        await insist_async(lambda: worker.commit_checkpoint(name, epoch, checkpoint))
        self.ledger.committed(name, checkpoint.number, checkpoint.sha256)
        done = await insist_async(lambda: worker.complete(name, epoch, Succeeded(RESULT)))
        self.ledger.completed(name, done.state)


def _batch(epoch: int, number: int) -> TelemetryBatch:
    return TelemetryBatch(
        number,
        points=(MetricPoint("written", number, number / 7),),
        notes=tuple(
            f"{epoch}: {number}: {note}".ljust(NOTE_CHARACTERS) for note in range(NOTES_PER_BATCH)
        ),
    )


def _checkpoint(name: str, number: int) -> Checkpoint:
    operation_id = name.removeprefix("operations/")
    return Checkpoint(
        number=number,
        uri=f"home:checkpoints/{operation_id}/{number:06d}-{'0' * 12}.ckpt",
        sha256=bytes([number]) * 32,
        size_bytes=1,
        completed_units=1 + number,
        format="test",
        spec_sha256=bytes(32),
    )


@asynccontextmanager
async def kept_alive(process: ServiceProcess) -> AsyncIterator[None]:
    """Starts the process again, without its failpoints, whenever it has ended."""

    async def look_after() -> None:
        while True:
            if not process.is_running:
                process._env.pop("BACKLANE_FAILPOINTS", None)
                await asyncio.to_thread(process.start)
            await asyncio.sleep(0.01)

    keeper = asyncio.create_task(look_after())
    try:
        yield
    finally:
        keeper.cancel()
        await asyncio.gather(keeper, return_exceptions=True)


@pytest.mark.asyncio
@pytest.mark.chaos
@pytest.mark.parametrize("name", sorted(ARMED))
async def test_a_failure_there_loses_and_doubles_nothing(name: str, tmp_path: Path) -> None:
    hits = tmp_path / "hits"
    (port,) = free_ports(1)
    env = {
        "BACKLANE_OPERATIONS_PORT": str(port),
        "BACKLANE_OPERATIONS_DATA_DIR": str(tmp_path / "registry"),
        "BACKLANE_OPERATIONS_LEASE_TTL_S": str(LEASE_TTL_S),
        "BACKLANE_OPERATIONS_DRAIN_GRACE_S": "1",
        "BACKLANE_OPERATIONS_LOG_LEVEL": "warning",
        "BACKLANE_FAILPOINTS": f"{name}={ARMED[name]}",
        "BACKLANE_FAILPOINT_HITS": str(hits),
    }
    process = ServiceProcess(
        "operations_service", env_prefix="BACKLANE_OPERATIONS_", folder=tmp_path, env=env
    )
    with process:
        async with kept_alive(process):
            address = process.address
            story = Story(address)
            telling = asyncio.create_task(story.tell())
            live = Watched(address, "live")
            watching = asyncio.create_task(live.until({"operations/none"}))
            await telling
            watching.cancel()
            await asyncio.gather(watching, return_exceptions=True)
            cold = Watched(address, "cold")
            for watched in (live, cold):
                await watched.until(story.names)
            if name.startswith("drain"):
                os.kill(process.pid, signal.SIGTERM)
                await asyncio.to_thread(process.wait)
            found = story.ledger.problems_in(cold.checker.operations)
            await story.prune()
    assert not told([live.checker.problems, cold.checker.problems, found])
    assert live.checker.operations == cold.checker.operations
    assert hits.read_text().splitlines().count(name) >= 1
