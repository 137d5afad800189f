"""A page of a list among a million operations: by state, by label, by kind, from both ends, deep.

The million is written by SQL, with the product's own tables and rows, and indexed afterwards; its
log is empty, as that of a registry whose history was compacted. A tenth of one percent is live.
"""

import sqlite3
import tempfile
import time
from collections.abc import Iterator
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
BATCH = 10_000
LIVE_EVERY = 1_000
PAGE_SIZE = 50
ROUNDS = 200
KINDS = ("backtest.run", "bench.run", "model.check", "data.load")
BASE_NS = 1_700_000_000_000_000_000
TARGET_MS = 5.0


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
    """Writes a registry of so many operations."""
    database = SqliteDatabase(file)
    database.prepare()
    database.release()
    connection = sqlite3.connect(file, isolation_level=None)
    connection.execute("PRAGMA synchronous=OFF")
    indexes = connection.execute(
        "SELECT name, sql FROM sqlite_master WHERE type = 'index' AND sql IS NOT NULL"
    ).fetchall()
    for name, _ in indexes:
        connection.execute(f"DROP INDEX {name}")
    texts = {
        table: str(table.insert().compile(dialect=sqlite.dialect(paramstyle="named")))
        for table in (schema.operations, schema.payloads, schema.operation_labels)
    }
    for first in range(1, count + 1, BATCH):
        connection.execute("BEGIN")
        made = list(_operations(first, min(first + BATCH, count + 1)))
        for table, values in _table_rows(made):
            connection.executemany(texts[table], values)
        connection.execute("COMMIT")
    for _, text in indexes:
        connection.execute(text)
    live = count // LIVE_EVERY
    connection.execute(
        "UPDATE registry SET revision = ?, oldest_revision = ?, queued_count = ?, ended_count = ?",
        (count, count, live, count - live),
    )
    connection.execute("INSERT INTO clients (client, live_count) VALUES ('bench', ?)", (live,))
    connection.execute("ANALYZE")
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()


def _operations(first: int, end: int) -> Iterator[tuple[int, Operation]]:
    ends = (State.SUCCEEDED, State.SUCCEEDED, State.SUCCEEDED, State.FAILED, State.CANCELLED)
    template = Operation("", "", KINDS[0], State.QUEUED, SPEC, 0, client="bench", event_sequence=1)
    result = Payload("type.googleapis.com/bench.Result", bytes(300))
    for row_id in range(first, end):
        is_live = row_id % LIVE_EVERY == 0
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
                labels={"user": f"user-{row_id % 100}", "batch": f"batch-{row_id // 1000}"},
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
    taken_of_all: list[float] = []
    with grpc.insecure_channel(address) as channel:
        stub = OperationsServiceStub(channel)
        for what, selection in _selections().items():
            taken_s: list[float] = []
            for order in ListOrder:
                # From the end of the list, and from deep within it.
                for cursor in (None, COUNT // 2):
                    token = "" if cursor is None else page_token(cursor, selection, order)
                    request = list_to_proto(ListRequest(selection, PAGE_SIZE, token, order))
                    taken_s += _pages(stub, request)
            taken_of_all += taken_s
            figures.append(
                Figure(f"of it, {what}, p99", percentile(taken_s, 99) * 1e3, "ms", TARGET_MS)
            )
    note = "50 each, newest and oldest first, first and deep pages"
    head = spread("list page at 1M operations, RPC", taken_of_all, (None, TARGET_MS), note)
    return [*head, *figures]


def _pages(stub: OperationsServiceStub, request: pb.ListOperationsRequest) -> Iterator[float]:
    for _ in range(ROUNDS // 4):
        begun_s = time.perf_counter()
        page = stub.ListOperations(request)
        yield time.perf_counter() - begun_s
        if not page.next_page_token:
            return
        request.page_token = page.next_page_token
