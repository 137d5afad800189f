"""The SQLite store keeps the promises of the OperationStore port, and those of its file."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import pytest
import sqlalchemy as sa

from backlane.clock import ManualClock
from backlane.errors import LimitExceededError, ResumeTokenCompactedError, StoreUnavailableError
from backlane.operations.commands import Succeeded, TelemetryBatch
from backlane.operations.events import MetricPoint
from backlane.operations.selection import Selection
from backlane.testing.contracts.operation_store import OpenStore, OperationStoreContract
from backlane.testing.operations import EVERYTHING, RESULT, TERMS, log, request, running
from operations_service import queries, writer
from operations_service.store import SqliteOperationStore


@asynccontextmanager
async def opened(path: Path, clock: ManualClock) -> AsyncIterator[SqliteOperationStore]:
    store = SqliteOperationStore(path, clock, TERMS)
    await store.start()
    try:
        yield store
    finally:
        await store.stop()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "data" / "operations.sqlite"


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(1_700_000_000_000_000_000)


@pytest.fixture
def open_store(path: Path, clock: ManualClock) -> OpenStore:
    def open_again() -> AbstractAsyncContextManager[SqliteOperationStore]:
        return opened(path, clock)

    return open_again


class TestSqliteOperationStore(OperationStoreContract):
    pass


@pytest.mark.asyncio
async def test_a_second_store_on_the_same_folder_is_refused(path: Path, clock: ManualClock) -> None:
    async with opened(path, clock):
        with pytest.raises(StoreUnavailableError, match="in use by another operations_service"):
            async with opened(path, clock):
                pass
    async with opened(path, clock):
        pass  # the lock went with the store


@pytest.mark.asyncio
async def test_a_file_of_a_newer_version_is_refused(path: Path, clock: ManualClock) -> None:
    async with opened(path, clock):
        pass
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE registry SET schema_version = 99")
    connection.close()
    with pytest.raises(StoreUnavailableError, match="has schema version 99"):
        async with opened(path, clock):
            pass


@pytest.fixture
def text_file(path: Path) -> Path:
    path.parent.mkdir()
    path.write_bytes(b"this is a text file, and not a short one either" * 100)
    return path


@pytest.mark.asyncio
async def test_a_file_that_is_no_database_is_refused(text_file: Path, clock: ManualClock) -> None:
    with pytest.raises(StoreUnavailableError, match="not a database"):
        async with opened(text_file, clock):
            pass


@pytest.mark.asyncio
async def test_the_file_is_written_with_full_sync_and_a_log(path: Path, clock: ManualClock) -> None:
    async with opened(path, clock) as store:
        with store._write_engine.connect() as connection:
            pragmas = {
                name: connection.exec_driver_sql(f"PRAGMA {name}").scalar()
                for name in ("journal_mode", "synchronous", "foreign_keys", "busy_timeout")
            }
    full = 2
    assert pragmas == {
        "journal_mode": "wal",
        "synchronous": full,
        "foreign_keys": 1,
        "busy_timeout": 5000,
    }


@pytest.mark.asyncio
async def test_readers_cannot_write(path: Path, clock: ManualClock) -> None:
    async with opened(path, clock) as store:
        refused = pytest.raises(sa.exc.OperationalError, match="readonly")
        with store._read_engine.connect() as connection, refused:
            connection.exec_driver_sql("DELETE FROM operations")


@pytest.mark.asyncio
async def test_a_full_disk_is_an_outage_and_loses_nothing_that_was_accepted(
    path: Path, clock: ManualClock
) -> None:
    async with opened(path, clock) as store:
        made = await store.create(request(1))
        with store._write_engine.connect() as connection:
            pages = connection.exec_driver_sql("PRAGMA page_count").scalar()
            connection.exec_driver_sql(f"PRAGMA max_page_count={pages}")
        big = request(2, spec=RESULT.__class__("type.googleapis.com/test.Big", b"x" * 500_000))
        with pytest.raises(StoreUnavailableError, match="full"):
            await store.create(big)
        with store._write_engine.connect() as connection:
            connection.exec_driver_sql("PRAGMA max_page_count=1073741823")
        again = await store.create(big)
        assert [event.operation for event in await log(store)] == [made.name, again.name]


@pytest.mark.asyncio
async def test_a_commit_whose_answer_was_an_error_is_found_and_told(
    path: Path, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk took the transaction, and then said that it had not: execute and time out."""
    commit = writer.Writer._commit

    def commit_and_fail(self, commands):
        commit(self, commands)
        self.memory.revision -= 1
        raise sa.exc.OperationalError("COMMIT", {}, sqlite3.OperationalError("disk I/O error"))

    async with opened(path, clock) as store:
        first = await running(store, 1)
        clock.advance(10)
        with monkeypatch.context() as patch:
            patch.setattr(writer.Writer, "_commit", commit_and_fail)
            with pytest.raises(StoreUnavailableError, match="disk I/O error"):
                await store.create(request(2))
        assert store.revision == 2
        seen = store.changed.count
        await store.expire_lapsed()
        await store.changed.wait(30, after=seen)
        retried = await store.create(request(2))
        await store.append(first.name, first.epoch, TelemetryBatch(1, notes=("on",)))
        events = await log(store)
        clock.advance(5)
        assert await store.expire_lapsed() == (first.name,)  # looking again prolonged no lease
    assert [event.revision for event in events] == [1, 2, 3, 4]
    assert events[2].operation == retried.name


@pytest.mark.asyncio
async def test_a_command_that_breaks_halfway_is_undone_alone(
    path: Path, clock: ManualClock
) -> None:
    def break_halfway(tx):
        tx.connection.exec_driver_sql("UPDATE registry SET probe_count = 1000")
        raise ZeroDivisionError

    async with opened(path, clock) as store:
        results = await asyncio.gather(
            store.create(request(1)),
            store._writer.submit(break_halfway),
            store.create(request(2)),
            return_exceptions=True,
        )
        with store._read_engine.connect() as connection:
            count = connection.exec_driver_sql("SELECT probe_count FROM registry").scalar()
    assert [type(one).__name__ for one in results] == [
        "Operation",
        "ZeroDivisionError",
        "Operation",
    ]
    assert count == 0


@pytest.mark.asyncio
async def test_a_caller_that_goes_away_does_not_undo_its_command(
    path: Path, clock: ManualClock
) -> None:
    async with opened(path, clock) as store:
        call = asyncio.create_task(store.create(request(1)))
        await asyncio.sleep(0)
        call.cancel()
        made = await store.create(request(1))
        assert store.revision == made.revision == 1


@pytest.mark.asyncio
async def test_more_writes_than_the_queue_holds_are_refused_for_now(
    path: Path, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "QUEUE_COMMANDS_MAX", 3)
    async with opened(path, clock) as store:
        results = await asyncio.gather(
            *(store.create(request(n)) for n in range(1, 6)), return_exceptions=True
        )
    assert [type(one).__name__ for one in results] == ["Operation"] * 3 + ["LimitExceededError"] * 2
    assert all(
        one.retry_delay_s is not None for one in results if isinstance(one, LimitExceededError)
    )


@pytest.mark.asyncio
async def test_pages_of_the_log_end_at_one_mebibyte(path: Path, clock: ManualClock) -> None:
    """Three batches of 10,000 points are 30 events of about 46 kB: more than one page."""
    async with opened(path, clock) as store:
        held = await running(store)
        points = tuple(MetricPoint("equity", n, float(n)) for n in range(10_000))
        for number in (1, 2, 3):
            await store.append(held.name, held.epoch, TelemetryBatch(number, points))
        first = await store.read_events(EVERYTHING, 0)
        fresh = await log(store)
    async with opened(path, clock) as store:
        assert await store.read_events(EVERYTHING, 0) == first
        assert await log(store) == fresh
    assert len(fresh) == 2 + 30
    assert first.through_revision < 32


@pytest.mark.asyncio
async def test_a_snapshot_has_a_limit(
    path: Path, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queries, "SNAPSHOT_OPERATIONS_MAX", 2)
    async with opened(path, clock) as store:
        made = [await store.create(request(n)) for n in (1, 2, 3)]
        with pytest.raises(LimitExceededError, match="at most 2 operations"):
            await store.snapshot(EVERYTHING)
        one = Selection(names=frozenset({made[0].name}))
        assert len((await store.snapshot(one)).operations) == 1


@pytest.mark.asyncio
async def test_events_that_are_no_longer_kept_are_a_typed_error(
    path: Path, clock: ManualClock
) -> None:
    async with opened(path, clock) as store:
        held = await running(store)
        await store.complete(held.name, held.epoch, Succeeded(RESULT))
    with sqlite3.connect(path) as connection:
        connection.execute("DELETE FROM events WHERE revision <= 2")
        connection.execute("UPDATE registry SET oldest_revision = 2")
    connection.close()
    async with opened(path, clock) as store:
        with pytest.raises(ResumeTokenCompactedError) as raised:
            await store.read_events(EVERYTHING, 1)
        assert raised.value.metadata["oldest_revision"] == "2"
        assert len((await store.read_events(EVERYTHING, 2)).events) == 1


@pytest.mark.asyncio
async def test_writes_after_the_end_are_refused(path: Path, clock: ManualClock) -> None:
    async with opened(path, clock) as store:
        await store.create(request(1))
    with pytest.raises(StoreUnavailableError, match="closed"):
        await store.create(request(2))
