"""A registry that an older Backlane wrote is migrated in place, with all that is in it.

`data/operations_v1.sql` is the dump of a file that version 1 itself has written.
"""

import math
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import psycopg
import pytest
import sqlalchemy as sa

from backlane.clock import ManualClock
from backlane.errors import LeaseLostError, OperationNotFoundError, StoreUnavailableError
from backlane.operations.commands import Succeeded, TelemetryBatch
from backlane.operations.events import (
    Deleted,
    MetricPoint,
    MetricsAppended,
    Note,
    StateChanged,
    TradesAppended,
)
from backlane.operations.operation import OperationError, Progress, State
from backlane.operations.selection import Selection
from backlane.operations.store import Renewal
from backlane.testing.operations import EVERYTHING, RESULT, claim, log, request
from operations_service import schema, upgrading
from operations_service.migrations.runner import migrate
from tests.contract.stores import fresh_schema, postgres_store, sqlite_store

VERSION_1 = Path(__file__).parent / "data" / "operations_v1.sql"
NAMES = [f"operations/{number:016x}" for number in range(1, 7)]
DONE, HELD, FAILED, CANCELLED, DELETED, QUEUED = NAMES


@pytest.fixture
def path(tmp_path: Path) -> Path:
    file = tmp_path / "operations.sqlite"
    with closing(sqlite3.connect(file)) as connection:
        connection.executescript(VERSION_1.read_text())
    return file


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(1_700_000_100_000_000_000)


@pytest.mark.asyncio
async def test_operations_of_version_1_read_as_they_were(path: Path, clock: ManualClock) -> None:
    async with sqlite_store(path, clock) as store:
        listed = (await store.list_operations(EVERYTHING, 50)).operations
        assert [one.name for one in listed] == [QUEUED, CANCELLED, FAILED, HELD, DONE]
        by_label = await store.list_operations(Selection(labels={"sweep": "a"}), 50)
        assert [one.name for one in by_label.operations] == [HELD, DONE]
        done, held, failed = [await store.get(name) for name in (DONE, HELD, FAILED)]
        with pytest.raises(OperationNotFoundError):
            await store.get(DELETED)
        (taken,) = await store.held_by("worker-2")
        assert store.revision == 22
    assert (done.state, done.result, done.labels) == (
        State.SUCCEEDED,
        RESULT,
        {"sweep": "a", "n": "1"},
    )
    assert done.progress == Progress(3, 100, 1000, "bar", equity=math.inf)
    assert (done.counts.trades, done.counts.last_steps) == (2, {"equity": 5, "loss": 1})
    assert (held.state, held.attempt, held.failure_count) == (State.RUNNING, 2, 1)
    assert taken.name == HELD
    assert failed.error == OperationError("OUT_OF_MEMORY", "too much", {"limit": "1"}, 8)


@pytest.mark.asyncio
async def test_the_log_of_version_1_reads_as_it_was(path: Path, clock: ManualClock) -> None:
    async with sqlite_store(path, clock) as store:
        events = await log(store)
        page = await store.list_metric_points(DONE, 0, frozenset(), 100)
    assert [event.revision for event in events] == list(range(1, 23))
    points = tuple(MetricPoint("equity", n, n / 3, n * 10, n + 1) for n in range(5))
    more = (MetricPoint("loss", 0, math.nan, None, 6), MetricPoint("loss", 1, -0.0, None, 7))
    last = MetricPoint("equity", 5, 1e-300, None, 8)
    bodies = [event.body for event in events if event.operation == DONE][2:]
    assert repr(bodies) == repr(
        [
            MetricsAppended((*points, *more)),
            TradesAppended((b"\x08\x01", b"\x08\x02")),
            Note("a note"),
            MetricsAppended((last,)),
            StateChanged(State.RUNNING, State.SUCCEEDED, "COMPLETED", None, RESULT),
        ]
    )
    assert repr(page.points) == repr((*points, *more, last))
    assert isinstance(events[18].body, Deleted)


@pytest.mark.asyncio
async def test_what_ran_under_version_1_goes_on(path: Path, clock: ManualClock) -> None:
    """The lease has its full time, batches follow on, requests are known, counts are right."""
    async with sqlite_store(path, clock) as store:
        clock.advance(14)
        (reply,) = await store.renew("worker-2", [Renewal(HELD, 2)])
        assert reply.operation is not None
        with pytest.raises(LeaseLostError):
            await store.append(HELD, 1, TelemetryBatch(1))
        again = TelemetryBatch(1, (MetricPoint("equity", 0, 7.0),), notes=("running",))
        assert (await store.append(HELD, 2, again)).event_sequence == 6
        await store.append(HELD, 2, TelemetryBatch(2, (MetricPoint("equity", 1, 8.0),)))
        await store.complete(HELD, 2, Succeeded(RESULT))
        assert (await store.create(request(6))).name == QUEUED
        first = request(1, labels={"sweep": "a", "n": "1"}, max_attempts=3)
        assert (await store.create(first)).name == DONE
        taken = await store.claim(claim(99))
        assert taken is not None
        assert taken.name == QUEUED
        made = await store.create(request(7))
        assert made.revision == store.revision
        memory = store._writer.memory
        assert (memory.queued_count, memory.ended_count) == (1, 5)
        assert (await store.compact(0, EVERYTHING)).operation_count == 5
        left = (await store.snapshot(EVERYTHING)).operations
        assert [one.name for one in left] == [QUEUED, made.name]
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert connection.execute("PRAGMA foreign_key_check").fetchall() == []


@pytest.mark.asyncio
async def test_a_newer_version_is_refused(path: Path, clock: ManualClock) -> None:
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE registry SET schema_version = 99")
    with pytest.raises(StoreUnavailableError, match="has schema version 99") as raised:
        async with sqlite_store(path, clock):
            pass
    assert raised.value.metadata["known_version"] == str(schema.SCHEMA_VERSION)


@pytest.mark.asyncio
async def test_a_newer_version_is_refused_on_postgres(clock: ManualClock) -> None:
    with fresh_schema() as url:
        async with postgres_store(url, clock):
            pass
        with psycopg.connect(url.render_as_string(False), autocommit=True) as admin:
            admin.execute("UPDATE registry SET schema_version = 99")
        with pytest.raises(StoreUnavailableError, match="has schema version 99"):
            async with postgres_store(url, clock):
                pass


def test_a_migration_that_fails_leaves_everything_as_it_was(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All steps are one transaction, on SQLite, too."""

    def fail(_size: object, *_columns: object) -> bytes:
        raise ZeroDivisionError

    engine = sa.create_engine(f"sqlite:///{path}", poolclass=sa.NullPool)
    sa.event.listen(engine, "connect", lambda raw, _: setattr(raw, "isolation_level", None))
    sa.event.listen(engine, "begin", lambda one: one.exec_driver_sql("BEGIN IMMEDIATE"))
    before = _dump(path)
    monkeypatch.setattr("json.dumps", fail)
    with pytest.raises(ZeroDivisionError), engine.begin() as connection:
        migrate(connection, 1)
    monkeypatch.undo()
    assert _dump(path) == before


@pytest.mark.parametrize("database", ["sqlite", "postgresql"])
def test_migrated_tables_are_those_that_are_made_anew(tmp_path: Path, database: str) -> None:
    """From nothing through every version, against what the schema says."""
    if database == "sqlite":
        migrated = sa.create_engine(f"sqlite:///{tmp_path}/migrated", poolclass=sa.NullPool)
        fresh = sa.create_engine(f"sqlite:///{tmp_path}/fresh", poolclass=sa.NullPool)
        assert _tables(migrated, is_migrated=True) == _tables(fresh, is_migrated=False)
        return
    with fresh_schema() as one, fresh_schema() as two:
        engines = [
            sa.create_engine(url.set(drivername="postgresql+psycopg"), poolclass=sa.NullPool)
            for url in (one, two)
        ]
        assert _tables(engines[0], is_migrated=True) == _tables(engines[1], is_migrated=False)


def _tables(engine: sa.Engine, *, is_migrated: bool) -> dict[str, object]:
    """Every table with its columns, keys and indexes; names of constraints do not count."""
    with engine.begin() as connection:
        if is_migrated:
            _make_version_1(connection)
        upgrading.upgrade(connection, "test")
    found: dict[str, object] = {}
    inspector = sa.inspect(engine)
    for table in sorted(set(inspector.get_table_names()) - {"alembic_version"}):
        found[table] = (
            sorted(
                (one["name"], _kind(one["type"]), one["nullable"])
                for one in inspector.get_columns(table)
            ),
            set(inspector.get_pk_constraint(table)["constrained_columns"]),
            sorted(
                (tuple(one["constrained_columns"]), one["referred_table"], str(one["options"]))
                for one in inspector.get_foreign_keys(table)
            ),
            sorted(
                (one["name"], str(one["column_names"]), _options(one))
                for one in inspector.get_indexes(table)
                if not one.get("duplicates_constraint")
            ),
            sorted(tuple(one["column_names"]) for one in inspector.get_unique_constraints(table)),
        )
    engine.dispose()
    return found


def _options(index: Any) -> list[str]:
    return sorted(f"{name}: {value}" for name, value in index.get("dialect_options", {}).items())


def _dump(path: Path) -> str:
    with closing(sqlite3.connect(path)) as connection:
        return "\n".join(connection.iterdump())


def _make_version_1(connection: sa.Connection) -> None:
    from alembic.migration import MigrationContext
    from alembic.operations import Operations

    from operations_service.migrations.versions import v0001_first

    with Operations.context(MigrationContext.configure(connection)):
        v0001_first.upgrade()
    connection.exec_driver_sql("INSERT INTO registry VALUES (1, 1, 'uid', 0, 0, 0)")


def _kind(column_type: object) -> str:
    """JSON columns of version 1 are text to SQLite, and to us."""
    name = str(column_type)
    return {"JSON": "TEXT"}.get(name, name)


def test_alembic_is_not_loaded_where_there_is_nothing_to_migrate(tmp_path: Path) -> None:
    """It takes half a second, which a start has no use for."""
    code = (
        "import sys\n"
        "import operations_service.app, operations_service.postgres_store\n"
        "assert 'alembic' not in sys.modules\n"
    )
    subprocess.run(
        [sys.executable, "-c", code], check=True, env={"PYTHONPATH": "services"}, timeout=60
    )
