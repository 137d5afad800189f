"""The SQLite store keeps the promises of its file."""

import asyncio
import os
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from backlane.clock import ManualClock
from backlane.errors import (
    LimitExceededError,
    ResumeTokenCompactedError,
    StoreUnavailableError,
)
from backlane.operations.commands import Succeeded, TelemetryBatch
from backlane.operations.events import MetricPoint
from backlane.operations.selection import Selection
from backlane.testing.contracts.operation_attempts import RETRYABLE
from backlane.testing.operations import EVERYTHING, RESULT, claim, log, request, running
from operations_service import listing, writer
from tests.contract.stores import sqlite_store


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "data" / "operations.sqlite"


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(1_700_000_000_000_000_000)


@pytest.mark.asyncio
async def test_a_second_store_on_the_same_folder_is_refused(path: Path, clock: ManualClock) -> None:
    """F-20."""
    async with sqlite_store(path, clock):
        with pytest.raises(StoreUnavailableError, match="in use by another operations_service"):
            async with sqlite_store(path, clock):
                pass
    async with sqlite_store(path, clock):
        pass  # the lock went with the store


@pytest.mark.asyncio
async def test_a_second_process_on_the_same_folder_is_refused(
    path: Path, clock: ManualClock
) -> None:
    code = (
        "import asyncio, sys, pathlib\n"
        "from backlane.clock import SystemClock\n"
        "from backlane.operations.lease import LeaseTerms\n"
        "from operations_service.store import SqliteOperationStore\n"
        "store = SqliteOperationStore(pathlib.Path(sys.argv[1]), SystemClock(), LeaseTerms())\n"
        "asyncio.run(store.start())\n"
    )
    async with sqlite_store(path, clock):
        ended = await asyncio.to_thread(
            subprocess.run,
            [sys.executable, "-c", code, str(path)],
            env={**os.environ, "PYTHONPATH": "services"},
            capture_output=True,
            text=True,
            timeout=60,
        )
    assert ended.returncode == 1
    assert f"in use by another operations_service (process {os.getpid()})" in ended.stderr


@pytest.fixture
def text_file(path: Path) -> Path:
    path.parent.mkdir()
    path.write_bytes(b"this is a text file, and not a short one either" * 100)
    return path


@pytest.mark.asyncio
async def test_a_file_that_is_no_database_is_refused(text_file: Path, clock: ManualClock) -> None:
    with pytest.raises(StoreUnavailableError, match="not a database"):
        async with sqlite_store(text_file, clock):
            pass


@pytest.mark.asyncio
async def test_the_file_is_written_with_full_sync_and_a_log(path: Path, clock: ManualClock) -> None:
    """Pitfalls 26 and 27: one connection writes, and each commit is on the disk."""
    async with sqlite_store(path, clock) as store:
        await store.create(request(1))
        session = store._writer._session
        pragmas = {}
        for name in ("journal_mode", "synchronous", "foreign_keys", "busy_timeout"):
            cursor = session._cursor()
            cursor.execute(f"PRAGMA {name}", {})
            pragmas[name] = cursor.fetchone()[0]
        await asyncio.gather(*(store.create(request(n)) for n in range(2, 50)))
        assert store._writer._session is session
    full = 2
    assert pragmas == {
        "journal_mode": "wal",
        "synchronous": full,
        "foreign_keys": 1,
        "busy_timeout": 5000,
    }


@pytest.mark.asyncio
async def test_many_writes_share_one_sync_of_the_disk(path: Path, clock: ManualClock) -> None:
    """Pitfall 27: what full sync costs is paid once for all who wait."""
    async with sqlite_store(path, clock) as store:
        begun = []
        say = type(store._writer._session).say
        session = store._writer._session
        session.say = lambda text: (begun.append(text), say(session, text))
        await asyncio.gather(*(store.create(request(n)) for n in range(1, 201)))
        assert begun.count("COMMIT") <= 3
        assert store.revision == 200


@pytest.mark.asyncio
async def test_readers_cannot_write(path: Path, clock: ManualClock) -> None:
    """Pitfall 26: not even by mistake."""
    async with sqlite_store(path, clock) as store:
        refused = pytest.raises(sqlite3.OperationalError, match="readonly")
        with refused, store._database.reading() as session:
            session.say("DELETE FROM operations")
        assert (await store.list_operations(EVERYTHING, 1)).operations == ()


@pytest.mark.asyncio
async def test_a_command_that_breaks_halfway_is_undone_alone(
    path: Path, clock: ManualClock
) -> None:
    def break_halfway(tx):
        tx.session.say("UPDATE registry SET queued_count = 1000")
        raise ZeroDivisionError

    async with sqlite_store(path, clock) as store:
        results = await asyncio.gather(
            store.create(request(1)),
            store._writer.submit(break_halfway),
            store.create(request(2)),
            return_exceptions=True,
        )
    with closing(sqlite3.connect(path)) as connection:
        count = connection.execute("SELECT queued_count FROM registry").fetchone()[0]
    assert [type(one).__name__ for one in results] == [
        "Operation",
        "ZeroDivisionError",
        "Operation",
    ]
    assert count == 2


@pytest.mark.asyncio
async def test_a_caller_that_goes_away_does_not_undo_its_command(
    path: Path, clock: ManualClock
) -> None:
    """Pitfall 28: the commit runs whoever waits for it."""
    async with sqlite_store(path, clock) as store:
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
    async with sqlite_store(path, clock) as store:
        results = await asyncio.gather(
            *(store.create(request(n)) for n in range(1, 6)), return_exceptions=True
        )
    assert [type(one).__name__ for one in results] == ["Operation"] * 3 + ["LimitExceededError"] * 2
    assert all(
        one.retry_delay_s is not None for one in results if isinstance(one, LimitExceededError)
    )


@pytest.mark.asyncio
async def test_writes_that_wait_at_the_end_are_done(path: Path, clock: ManualClock) -> None:
    async with sqlite_store(path, clock) as store:
        calls = [asyncio.create_task(store.create(request(n))) for n in range(1, 20)]
        await asyncio.sleep(0)
        await store.stop()
        assert len({one.name for one in await asyncio.gather(*calls)}) == 19


@pytest.mark.asyncio
async def test_pages_of_the_log_end_at_one_mebibyte(path: Path, clock: ManualClock) -> None:
    """Three batches of 10,000 points are 30 events of about 46 kB: more than one page."""
    async with sqlite_store(path, clock) as store:
        held = await running(store)
        for number in (1, 2, 3):
            first_step = 10_000 * number
            points = tuple(MetricPoint("equity", first_step + n, float(n)) for n in range(10_000))
            await store.append(held.name, held.epoch, TelemetryBatch(number, points))
        first = await store.read_events(EVERYTHING, 0)
        fresh = await log(store)
    async with sqlite_store(path, clock) as store:
        assert await store.read_events(EVERYTHING, 0) == first
        assert await log(store) == fresh
    assert len(fresh) == 2 + 30
    assert first.through_revision < 32


@pytest.mark.asyncio
async def test_a_filter_that_chooses_little_reads_the_log_in_stretches(
    path: Path, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("operations_service.queries.EVENTS_SCANNED_MAX", 3)
    async with sqlite_store(path, clock) as store:
        for number in range(1, 11):
            await store.create(request(number, kind="rare.kind" if number == 9 else "other.run"))
    async with sqlite_store(path, clock) as store:
        rare = Selection(kinds=frozenset({"rare.kind"}))
        assert (await store.read_events(rare, 0)).through_revision == 3
        assert [event.revision for event in await log(store, rare)] == [9]


@pytest.mark.asyncio
async def test_a_snapshot_has_a_limit(
    path: Path, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listing, "SNAPSHOT_OPERATIONS_MAX", 2)
    async with sqlite_store(path, clock) as store:
        made = [await store.create(request(n)) for n in (1, 2, 3)]
        with pytest.raises(LimitExceededError, match="at most 2 operations"):
            await store.snapshot(EVERYTHING)
        one = Selection(names=frozenset({made[0].name}))
        assert len((await store.snapshot(one)).operations) == 1


@pytest.mark.asyncio
async def test_a_page_that_is_hard_to_fill_is_short_and_the_list_goes_on(
    path: Path, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two labels that many have and nobody together: each page looks at so many and no more."""
    monkeypatch.setattr(listing, "CANDIDATES_MAX", 4)
    async with sqlite_store(path, clock) as store:
        for number in range(1, 21):
            labels = {"a": "1", "b": "2" if number == 3 else "x"}
            await store.create(request(number, labels=labels))
        both = Selection(labels={"a": "1", "b": "2"})
        monkeypatch.setattr(listing, "RARE_LABEL_MAX", 0)
        sizes, cursor = [], None
        while True:
            page = await store.list_operations(both, 10, cursor)
            sizes.append(len(page.operations))
            cursor = page.next_cursor
            if cursor is None:
                break
    assert sizes == [0, 0, 0, 0, 1, 0]


@pytest.mark.asyncio
async def test_writes_after_the_end_are_refused(path: Path, clock: ManualClock) -> None:
    async with sqlite_store(path, clock) as store:
        await store.create(request(1))
    with pytest.raises(StoreUnavailableError, match="closed"):
        await store.create(request(2))


@pytest.mark.asyncio
async def test_what_is_counted_is_what_is_there(path: Path, clock: ManualClock) -> None:
    """The counts that admission and retention go by, after some of everything."""
    async with sqlite_store(path, clock) as store:
        for number in range(1, 31):
            client = f"client-{number % 3}"
            made = await store.create(request(number, client=client, max_attempts=2))
            if number % 2:
                held = await store.claim(claim(number))
                assert held is not None
                if number % 5 == 0:
                    await store.complete(held.name, held.epoch, RETRYABLE)
                elif number % 7 == 0:
                    await store.release(held.name, held.epoch, "")
                elif number % 3 == 0:
                    await store.complete(held.name, held.epoch, Succeeded(RESULT))
            if number % 8 == 0:
                await store.request_cancel(made.name, "")
            if number % 16 == 0:
                await store.delete(made.name)
        clock.advance(1)
        await store.compact(1, Selection(labels={}, kinds=frozenset({"other.run"})))
        await store.compact(0.5, Selection(names=frozenset({made.name})))
    counts = "SELECT COUNT(*) FROM operations WHERE state"
    with closing(sqlite3.connect(path)) as connection:
        queued = connection.execute(f"{counts} = 'QUEUED'").fetchone()
        ended = connection.execute(f"{counts} IN ('SUCCEEDED', 'FAILED', 'CANCELLED')").fetchone()
        told = connection.execute("SELECT queued_count, ended_count FROM registry").fetchone()
        live = connection.execute(
            "SELECT client, COUNT(*) FROM operations "
            "WHERE state IN ('QUEUED', 'RUNNING', 'CANCELLING') GROUP BY client"
        ).fetchall()
        clients = connection.execute("SELECT client, live_count FROM clients").fetchall()
    assert told == (*queued, *ended)
    assert sorted(clients) == sorted(live)


@pytest.mark.asyncio
async def test_a_reader_on_the_edge_of_compaction_is_told_and_skips_nothing(
    path: Path, clock: ManualClock
) -> None:
    """F-04: it looked before the edge moved, and reads after that."""
    async with sqlite_store(path, clock) as store:
        for number in (1, 2):
            held = await running(store, number)
            await store.complete(held.name, held.epoch, Succeeded(RESULT))
    async with sqlite_store(path, clock) as store:
        await store.compact(0, EVERYTHING)
        store._oldest_revision = 0  # what this reader had seen
        with pytest.raises(ResumeTokenCompactedError):
            await store.read_events(EVERYTHING, 3)
