"""A page of a list among a million operations: by state, by label, by kind, from both ends, deep.

The first thousand is made by the product's own code, the others are copied from it in SQL with
names, times and labels of their own, and indexed afterwards. The log is empty, as that of a
registry whose history was compacted. A tenth of one percent is live.
"""

import sqlite3
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import grpc
import sqlalchemy as sa
from sqlalchemy.dialects import sqlite

from backlane.api.operations.v1 import operations_service_pb2 as pb
from backlane.api.operations.v1.operations_service_pb2_grpc import OperationsServiceStub
from backlane.operations.operation import Operation, Payload, State
from backlane.operations.selection import ListOrder, Selection
from backlane.operations.tokens import page_token
from backlane.wire.operation_requests import ListRequest, list_to_proto
from benchmarks.operations.figures import Figure, percentile, spread
from benchmarks.operations.registry import SPEC, registry
from operations_service import rows, schema
from operations_service.sqlite_database import SqliteDatabase

COUNT = 1_000_000
PATTERN = 1_000
"""Operations that the product's own code makes rows of, one of them live. All others are copies."""
CACHE_KIB = 1 << 20
PAGE_SIZE = 50
ROUNDS = 200
KINDS = ("backtest.run", "bench.run", "model.check", "data.load")
BASE_NS = 1_700_000_000_000_000_000
TARGET_MS = 5.0

DIFFERING: Mapping[sa.Table, Mapping[str, str]] = {
    schema.operations: {
        "id": "{row_id}",
        "name": "printf('operations/%016x', {row_id})",
        "uid": "printf('%032x', {row_id})",
        "request_id": "'request-' || {row_id}",
        "revision": "{row_id}",
        **{
            f"{what}_time_ns": f"pattern.{what}_time_ns + {PATTERN * 10**9} * number"
            for what in ("create", "start", "end")
        },
    },
    schema.payloads: {
        "operation_id": "{row_id}",
        "labels": "replace(pattern.labels, '\"batch-0\"', '\"batch-' || number || '\"')",
    },
    schema.operation_labels: {
        "operation_id": "{row_id}",
        "value": "CASE pattern.key WHEN 'batch' THEN 'batch-' || number ELSE pattern.value END",
    },
}
"""What differs from copy to copy, as SQL: `pattern` is the row, `number` that of the copy."""


def run(*, is_quick: bool) -> list[Figure]:
    """Builds the registry, then reads pages; a look does without it."""
    if is_quick:
        return []
    with tempfile.TemporaryDirectory() as folder:
        begun_s = time.monotonic()
        build(Path(folder) / "registry" / "operations.sqlite", COUNT)
        built_s = time.monotonic() - begun_s
        with registry(Path(folder), RETENTION_DAYS="100000", RETENTION_MAX="2000000") as process:
            figures = _read(process.address)
    return [*figures, Figure("of it, to build the registry", built_s, "s", note=f"{COUNT:,}")]


def build(file: Path, count: int) -> None:
    """Writes a registry of so many operations, a multiple of PATTERN."""
    database = SqliteDatabase(file)
    database.prepare()
    database.release()
    with closing(sqlite3.connect(file, isolation_level=None)) as connection:
        # What is interrupted is thrown away with its folder.
        connection.execute("PRAGMA journal_mode=OFF")
        connection.execute("PRAGMA synchronous=OFF")
        connection.execute(f"PRAGMA cache_size=-{CACHE_KIB}")
        indexes = connection.execute(
            "SELECT name, sql FROM sqlite_master WHERE type = 'index' AND sql IS NOT NULL"
        ).fetchall()
        for name, _ in indexes:
            connection.execute(f"DROP INDEX {name}")
        connection.execute("BEGIN")
        _write_pattern(connection)
        for table, differing in DIFFERING.items():
            connection.execute(_copies(table, differing), {"copies": count // PATTERN - 1})
        _count(connection, count)
        for _, text in indexes:
            connection.execute(text)
        connection.execute("COMMIT")
        connection.execute("PRAGMA journal_mode=WAL")


def _write_pattern(connection: sqlite3.Connection) -> None:
    for table, values in _table_rows(list(_operations())):
        text = str(table.insert().compile(dialect=sqlite.dialect(paramstyle="named")))
        connection.executemany(text, values)


def _copies(table: sa.Table, differing: Mapping[str, str]) -> str:
    """Returns what copies the pattern in a table so many times, each copy as numbered."""
    names = [column.name for column in table.columns]
    key = "id" if "id" in names else "operation_id"
    chosen = ", ".join(differing.get(name, f"pattern.{name}") for name in names)
    row_id = f"(pattern.{key} + {PATTERN} * number)"
    # CROSS JOIN keeps the order of the loops, so that rows come in the order of their keys.
    return f"""
        WITH RECURSIVE copy(number) AS (
            SELECT 1 WHERE :copies > 0
            UNION ALL SELECT number + 1 FROM copy WHERE number < :copies
        )
        INSERT INTO {table.name} ({", ".join(names)})
        SELECT {chosen.format(row_id=row_id)}
        FROM copy CROSS JOIN (SELECT * FROM {table.name} ORDER BY {key}) AS pattern
    """


def _count(connection: sqlite3.Connection, count: int) -> None:
    live = count // PATTERN
    connection.execute(
        "UPDATE registry SET revision = ?, oldest_revision = ?, queued_count = ?, ended_count = ?",
        (count, count, live, count - live),
    )
    connection.execute("INSERT INTO clients (client, live_count) VALUES ('bench', ?)", (live,))


def _operations() -> Iterator[tuple[int, Operation]]:
    """Yields the pattern: 1,000 operations in which everything is as often as among a million."""
    ends = (State.SUCCEEDED, State.SUCCEEDED, State.SUCCEEDED, State.FAILED, State.CANCELLED)
    template = Operation("", "", KINDS[0], State.QUEUED, SPEC, 0, client="bench", event_sequence=1)
    result = Payload("type.googleapis.com/bench.Result", bytes(300))
    for row_id in range(1, PATTERN + 1):
        is_live = row_id == PATTERN
        state = State.QUEUED if is_live else ends[row_id % len(ends)]
        created_ns = BASE_NS + row_id * 10**9
        yield (
            row_id,
            replace(
                template,
                name=f"operations/{row_id:016x}",
                uid=f"{row_id:032x}",
                kind=KINDS[row_id % len(KINDS)],
                state=state,
                labels={"user": f"user-{row_id % 100}", "batch": "batch-0"},
                create_time_ns=created_ns,
                start_time_ns=None if is_live else created_ns + 10**8,
                end_time_ns=None if is_live else created_ns + 10**9,
                attempt=0 if is_live else 1,
                epoch=0 if is_live else 1,
                event_sequence=1 if is_live else 3,
                revision=row_id,
                result=result if state is State.SUCCEEDED else None,
            ),
        )


def _table_rows(
    made: list[tuple[int, Operation]],
) -> Iterator[tuple[sa.Table, list[rows.Values]]]:
    yield (
        schema.operations,
        [rows.operation_values(one, row_id, f"request-{row_id}") for row_id, one in made],
    )
    yield (
        schema.payloads,
        [{"operation_id": row_id, **rows.payload_values(one)} for row_id, one in made],
    )
    yield (
        schema.operation_labels,
        [values for row_id, one in made for values in rows.label_values(one, row_id)],
    )


def _selections() -> dict[str, Selection]:
    return {
        "everything": Selection(),
        "queued": Selection(states=frozenset({State.QUEUED})),
        "failed or cancelled": Selection(states=frozenset({State.FAILED, State.CANCELLED})),
        "a label of 1%": Selection(labels={"user": "user-7"}),
        "a label of 0.1%": Selection(labels={"batch": "batch-500"}),
        "a kind and a label": Selection(kinds=frozenset({KINDS[3]}), labels={"user": "user-7"}),
        "a kind, a state and a label": Selection(
            kinds=frozenset({KINDS[3]}),
            states=frozenset({State.SUCCEEDED}),
            labels={"user": "user-7"},
        ),
        "two labels": Selection(labels={"user": "user-7", "batch": "batch-500"}),
    }


def _read(address: str) -> list[Figure]:
    figures = []
    first_s: list[float] = []
    later_s: list[float] = []
    with grpc.insecure_channel(address) as channel:
        stub = OperationsServiceStub(channel)
        for what, selection in _selections().items():
            taken_s: list[float] = []
            for order in ListOrder:
                # From the end of the list, and from deep within it.
                for cursor in (None, COUNT // 2):
                    token = "" if cursor is None else page_token(cursor, selection, order)
                    request = list_to_proto(ListRequest(selection, PAGE_SIZE, token, order))
                    first, *later = _pages(stub, request)
                    first_s.append(first)
                    taken_s += later
            later_s += taken_s
            figures.append(
                Figure(f"of it, {what}, p99", percentile(taken_s, 99) * 1e3, "ms", TARGET_MS)
            )
    note = "50 each, newest and oldest first, first and deep pages"
    head = spread("list page at 1M operations, RPC", later_s, (None, TARGET_MS), note)
    first_note = "each filter's first page since the start: its statement is still to be made"
    return [*head, *figures, *spread("the first of its kind", first_s, note=first_note)]


def _pages(stub: OperationsServiceStub, request: pb.ListOperationsRequest) -> Iterator[float]:
    """Yields what each page takes, one after the other; from the end it begins anew."""
    begins_at = request.page_token
    for _ in range(ROUNDS // 4):
        begun_s = time.perf_counter()
        page = stub.ListOperations(request)
        yield time.perf_counter() - begun_s
        request.page_token = page.next_page_token or begins_at
