"""Whatever happens to the disk, the SQLite store says so, loses nothing and stays whole."""

import asyncio
import resource
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from backlane import failpoints
from backlane.clock import ManualClock
from backlane.errors import (
    BacklaneError,
    StoreFullError,
    StoreUnavailableError,
)
from backlane.operations.commands import Succeeded, TelemetryBatch
from backlane.operations.events import MetricPoint
from backlane.operations.operation import Payload
from backlane.operations.retention import RetentionPolicy
from backlane.testing.contracts.operation_attempts import checkpoint
from backlane.testing.operations import EVERYTHING, RESULT, claim, log, request, running
from operations_service import sqlite_database
from tests.contract.stores import sqlite_store

BIG = Payload("type.googleapis.com/test.Big", b"x" * 500_000)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "data" / "operations.sqlite"


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(1_700_000_000_000_000_000)


@pytest.fixture
def armed(tmp_path: Path) -> Iterator[Path]:
    """The file of hits; every failpoint is disarmed afterwards."""
    yield tmp_path / "hits"
    failpoints.arm("")


def size_of(path: Path) -> int:
    return path.stat().st_size


def hits_in(armed: Path) -> str:
    return armed.read_text()


def check_integrity(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert connection.execute("PRAGMA foreign_key_check").fetchall() == []


@pytest.mark.asyncio
async def test_a_full_file_is_told_and_loses_nothing_that_was_accepted(
    path: Path, clock: ManualClock
) -> None:
    async with sqlite_store(path, clock) as store:
        made = await store.create(request(1))
        pages = size_of(path) // 4096 + 20
        pragmas = (*sqlite_database.WRITER_PRAGMAS, f"PRAGMA max_page_count={pages}")
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sqlite_database, "WRITER_PRAGMAS", pragmas)
            store._writer._disconnect()
            with pytest.raises(StoreFullError, match="no room left"):
                await store.create(request(2, spec=BIG))
            store._writer._disconnect()
        again = await store.create(request(2, spec=BIG))
        assert [event.operation for event in await log(store)] == [made.name, again.name]
    check_integrity(path)


@pytest.mark.asyncio
async def test_a_full_disk_is_told_and_leaves_the_file_whole(
    path: Path, clock: ManualClock
) -> None:
    """The system refuses to let any file grow: a commit breaks off in the middle of its writes."""
    async with sqlite_store(path, clock) as store:
        made = await store.create(request(1))
        unlimited = resource.getrlimit(resource.RLIMIT_FSIZE)
        size = size_of(path.with_name(path.name + "-wal"))
        resource.setrlimit(resource.RLIMIT_FSIZE, (size + 20_000, unlimited[1]))
        try:
            with pytest.raises((StoreFullError, StoreUnavailableError)):
                await store.create(request(2, spec=BIG))
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, unlimited)
        again = await store.create(request(2, spec=BIG))
        assert [event.operation for event in await log(store)] == [made.name, again.name]
    check_integrity(path)


@pytest.mark.asyncio
async def test_a_file_that_may_not_be_written_any_more_is_an_outage(
    path: Path, clock: ManualClock
) -> None:
    """Reads go on; writes are told so, and work again once they can."""
    async with sqlite_store(path, clock) as store:
        made = await store.create(request(1))
        with pytest.MonkeyPatch.context() as patch:
            pragmas = (*sqlite_database.WRITER_PRAGMAS, "PRAGMA query_only=ON")
            patch.setattr(sqlite_database, "WRITER_PRAGMAS", pragmas)
            store._writer._disconnect()
            with pytest.raises(StoreUnavailableError, match="readonly"):
                await store.create(request(2))
            with pytest.raises(StoreUnavailableError):
                await store.probe()
            assert await store.get(made.name) == made
        store._writer._disconnect()
        await store.create(request(2))
    check_integrity(path)


@pytest.mark.asyncio
async def test_a_file_that_somebody_locks_is_an_outage_and_no_damage(
    path: Path, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite_database, "BUSY_TIMEOUT_S", 0.01)
    async with sqlite_store(path, clock) as store:
        await store.create(request(1))
        with closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            with pytest.raises(StoreUnavailableError, match="locked"):
                await store.create(request(2))
            other.execute("ROLLBACK")
        await store.create(request(2))
        assert store.revision == 2
    check_integrity(path)


@pytest.mark.parametrize(
    ("name", "error"),
    [
        ("store.full", StoreFullError),
        ("store.locked", StoreUnavailableError),
        ("store.fsync_error", StoreUnavailableError),
        ("registry.before_commit", StoreUnavailableError),
        ("registry.after_commit_before_ack", StoreUnavailableError),
    ],
)
@pytest.mark.asyncio
async def test_a_write_that_fails_at_its_commit_is_safe_to_repeat(
    path: Path, clock: ManualClock, armed: Path, name: str, error: type[BacklaneError]
) -> None:
    async with sqlite_store(path, clock) as store:
        held = await running(store, 1)
        failpoints.arm(f"{name}=error@1", armed)
        notes = TelemetryBatch(1, (MetricPoint("x", 1, 1.0),), notes=("a line",))
        answers = await asyncio.gather(
            store.create(request(2)),
            store.append(held.name, held.epoch, notes),
            return_exceptions=True,
        )
        assert [type(one) for one in answers] == [error, error]
        assert hits_in(armed) == f"{name}\n"
        await store.create(request(2))
        await store.append(held.name, held.epoch, notes)
        events = await log(store)
        assert [event.revision for event in events] == [1, 2, 3, 4, 5]
        assert [e.sequence for e in events if e.operation == held.name] == [1, 2, 3, 4]
    async with sqlite_store(path, clock) as store:
        assert await log(store) == events
    check_integrity(path)


@pytest.mark.parametrize(
    "name",
    [
        "lease.after_grant_before_ack",
        "checkpoint.after_commit_before_ack",
        "complete.after_commit_before_ack",
    ],
)
@pytest.mark.asyncio
async def test_an_answer_that_is_lost_is_given_again(
    path: Path, clock: ManualClock, armed: Path, name: str
) -> None:
    """F-09 and its kin: what was committed is found, and not done twice."""
    async with sqlite_store(path, clock) as store:
        await store.create(request(1))
        failpoints.arm(f"{name}=error@1", armed)

        async def insist(ask):
            try:
                return await ask()
            except StoreUnavailableError:
                return await ask()

        held = await insist(lambda: store.claim(claim(1)))
        await insist(lambda: store.commit_checkpoint(held.name, held.epoch, checkpoint(1)))
        await insist(lambda: store.complete(held.name, held.epoch, Succeeded(RESULT)))
        assert hits_in(armed) == f"{name}\n"
        assert store.revision == 4


@pytest.mark.asyncio
async def test_a_commit_whose_answer_was_an_error_is_found_and_told(
    path: Path, clock: ManualClock, armed: Path
) -> None:
    """The disk took the transaction, and then said that it had not: execute and time out."""
    async with sqlite_store(path, clock) as store:
        first = await running(store, 1)
        clock.advance(10)
        failpoints.arm("registry.after_commit_before_ack=error@1")
        with pytest.raises(StoreUnavailableError, match="after_commit"):
            await store.create(request(2))
        assert store.revision == 2
        seen = store.changed.count
        await store.expire_lapsed()
        await store.changed.wait(30, after=seen)
        assert store.revision == 3
        retried = await store.create(request(2))
        await store.append(first.name, first.epoch, TelemetryBatch(1, notes=("on",)))
        events = await log(store)
        clock.advance(5)
        assert await store.expire_lapsed() == (first.name,)  # looking again prolonged no lease
    assert [event.revision for event in events] == [1, 2, 3, 4]
    assert events[2].operation == retried.name


@pytest.mark.asyncio
async def test_a_backup_is_made_while_it_is_written_and_can_be_restored(
    path: Path, tmp_path: Path, clock: ManualClock
) -> None:
    """F-05: the copy has the registry's name, and is behind: a newer token is told so."""
    copy = tmp_path / "copy" / "operations.sqlite"
    copy.parent.mkdir()
    async with sqlite_store(path, clock) as store:
        held = await running(store, 1)
        writing = asyncio.gather(*(store.create(request(n)) for n in range(2, 200)))

        def back_up() -> None:
            with closing(sqlite3.connect(path)) as source, closing(sqlite3.connect(copy)) as target:
                source.backup(target)

        await asyncio.to_thread(back_up)
        await writing
        uid, revision = store.registry_uid, store.revision
        whole = await log(store)
    check_integrity(copy)
    async with sqlite_store(copy, clock) as store:
        assert store.registry_uid == uid
        assert 2 <= store.revision <= revision
        assert await log(store) == whole[: store.revision]
        await store.append(held.name, held.epoch, TelemetryBatch(1, notes=("on",)))


@pytest.mark.parametrize("name", ["compaction.before_delete", "compaction.after_delete"])
@pytest.mark.asyncio
async def test_compaction_that_breaks_off_can_go_on(
    path: Path, clock: ManualClock, armed: Path, name: str
) -> None:
    async with sqlite_store(path, clock, retention=RetentionPolicy(batch_operations=2)) as store:
        for number in range(1, 6):
            held = await running(store, number)
            await store.complete(held.name, held.epoch, Succeeded(RESULT))
        failpoints.arm(f"{name}=error@2", armed)
        with pytest.raises(StoreUnavailableError):
            await store.compact(0, EVERYTHING)
        left = await store.list_operations(EVERYTHING, 10)
        assert len(left.operations) == (3 if name == "compaction.before_delete" else 1)
        first = left.operations[-1].revision - 3
        assert store.oldest_revision == first
        assert len(await log(store, after=first)) == 3 * len(left.operations)
        assert (await store.compact(0, EVERYTHING)).operation_count == len(left.operations)
        assert hits_in(armed).startswith(f"{name}\n")
    check_integrity(path)
