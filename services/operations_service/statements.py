"""The writer's statements, built once, and their texts in the language of each database.

The writer hands texts to the driver itself: SQLAlchemy's own execution costs a multiple of what
the statement does.
"""

from functools import cache
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import sqlite

from backlane.operations.operation import State
from operations_service import schema
from operations_service.rows import CHANGING_COLUMNS, REPORTED_COLUMNS

_operations, _payloads = schema.operations.c, schema.payloads.c
_leases, _request_ids, _clients = schema.leases.c, schema.request_ids.c, schema.clients.c
_labels, _events, _chunks = schema.operation_labels.c, schema.events.c, schema.point_chunks.c

OPERATION_COLUMNS = (
    *schema.operations.c,
    *(column for column in schema.payloads.c if column.name != "operation_id"),
)
"""What `rows.operation_from` reads, and the row's id."""

OPERATION_ROWS = schema.operations.join(schema.payloads)
_EVENT_ROWS = (
    schema.events.join(schema.operations, _operations.id == _events.operation_id)
    .join(schema.payloads, _payloads.operation_id == _events.operation_id)
    .outerjoin(
        schema.point_chunks,
        sa.and_(
            _chunks.operation_id == _events.operation_id,
            _chunks.first_index == _events.first_index,
        ),
    )
)
EVENT_QUERY = sa.select(
    *schema.events.c, _chunks.points, _operations.name, _operations.kind, _payloads.labels
).select_from(_EVENT_ROWS)
"""Events as `rows.event_from` reads them, with what a selection is about."""


@cache
def _dialect(name: str) -> sa.Dialect:
    if name == "sqlite":
        return sqlite.dialect(paramstyle="named")
    # Who uses SQLite does not wait for it at each start.
    from sqlalchemy.dialects import postgresql

    dialect: sa.Dialect = postgresql.psycopg.dialect()  # type: ignore[no-untyped-call]
    return dialect


@cache
def text_of(statement: sa.ClauseElement, dialect: str) -> tuple[str, dict[str, Any]]:
    """Returns the text of one of the statements below, and the values that are part of it."""
    compiled = statement.compile(dialect=_dialect(dialect))
    fixed = {name: value for name, value in compiled.params.items() if value is not None}
    return str(compiled), fixed


def rendered(query: sa.Select[Any], dialect: str) -> tuple[str, dict[str, Any]]:
    """Returns the text and the values of a query that was made for one use."""
    compiled = query.compile(dialect=_dialect(dialect), compile_kwargs={"render_postcompile": True})
    return compiled.string, dict(compiled.params)


SELECT_REGISTRY = sa.select(schema.registry)
LOCK_REGISTRY = SELECT_REGISTRY.with_for_update()
"""On SQLite the transaction itself is exclusive, and the text is the same as without the lock."""

INSERT_OPERATION = schema.operations.insert()
INSERT_PAYLOADS = schema.payloads.insert()
INSERT_LABEL = schema.operation_labels.insert()
INSERT_REQUEST_ID = schema.request_ids.insert().values(
    {name: sa.bindparam(name) for name in ("request_id", "name", "digests")}
)
INSERT_EVENT = schema.events.insert()
INSERT_CHUNK = schema.point_chunks.insert()
INSERT_LEASE = schema.leases.insert()

SELECT_OPERATION = (
    sa.select(*OPERATION_COLUMNS)
    .select_from(OPERATION_ROWS)
    .where(_operations.name == sa.bindparam("wanted_name"), _operations.is_deleted.is_(False))
)
SELECT_REQUEST = sa.select(_request_ids.name, _request_ids.digests).where(
    _request_ids.request_id == sa.bindparam("wanted_request_id")
)
SELECT_NEXT_QUEUED = (
    sa.select(_operations.name, _operations.priority, _operations.id)
    .where(
        _operations.state == sa.literal_column(f"'{State.QUEUED.value}'"),
        _operations.is_waiting.is_(False),
        _operations.kind == sa.bindparam("wanted_kind"),
    )
    .order_by(_operations.priority.desc(), _operations.id)
    .limit(sa.literal_column("1"))
)
"""The one that goes first of a kind."""

END_WAITING = (
    schema.operations.update()
    .where(
        _operations.is_waiting.is_(True),
        _operations.kind == sa.bindparam("wanted_kind"),
        _operations.next_attempt_ns <= sa.bindparam("now_ns"),
    )
    .values(is_waiting=sa.false())
)
SELECT_QUEUE_OVERDUE = (
    sa.select(_operations.name)
    .where(
        _operations.queue_deadline_ns.is_not(None),
        _operations.queue_deadline_ns <= sa.bindparam("now_ns"),
    )
    .order_by(_operations.queue_deadline_ns)
    .limit(sa.bindparam("most"))
)
SELECT_CHUNKS_OF_STEPS = sa.select(_chunks.first_index, _chunks.points).where(
    _chunks.operation_id == sa.bindparam("row_id"),
    _chunks.last_step >= sa.bindparam("low_step"),
    _chunks.first_step <= sa.bindparam("high_step"),
)
SELECT_CHUNKS_AFTER = (
    sa.select(_chunks.first_index, _chunks.points)
    .where(
        _chunks.operation_id == sa.bindparam("row_id"),
        _chunks.last_index > sa.bindparam("after_index"),
    )
    .order_by(_chunks.first_index)
)
SELECT_NEXT_DUE = sa.select(sa.func.min(_operations.next_attempt_ns).label("due_ns")).where(
    _operations.is_waiting.is_(True), _operations.kind == sa.bindparam("wanted_kind")
)
SELECT_CLIENT = sa.select(_clients.live_count).where(_clients.client == sa.bindparam("who"))

_HELD_COLUMNS = [
    column.label(f"lease_{column.name}") for column in _leases if column.name != "operation_id"
]
SELECT_HELD = (
    sa.select(*OPERATION_COLUMNS, *_HELD_COLUMNS)
    .select_from(OPERATION_ROWS.join(schema.leases, _leases.operation_id == _operations.id))
    .where(_leases.change_number > sa.bindparam("known_change"))
)
"""Operations whose lease changed after a change_number, with the lease."""

SELECT_NEWS = (
    EVENT_QUERY.add_columns(_operations.state.label("state_now"))
    .where(_events.revision > sa.bindparam("known_revision"))
    .order_by(_events.revision)
    .limit(sa.bindparam("most"))
)

UPDATE_REPORTED = (
    schema.operations.update()
    .where(_operations.id == sa.bindparam("row_id"))
    .values({column: sa.bindparam(column) for column in REPORTED_COLUMNS})
)
UPDATE_OPERATION = (
    schema.operations.update()
    .where(_operations.id == sa.bindparam("row_id"))
    .values({column: sa.bindparam(column) for column in CHANGING_COLUMNS})
)
PAYLOAD_COLUMNS = ("spec_value", "result_type_url", "result_value")
"""Payloads that change: a tombstone lets go of its spec."""

UPDATE_PAYLOADS = (
    schema.payloads.update()
    .where(_payloads.operation_id == sa.bindparam("row_id"))
    .values({column: sa.bindparam(column) for column in PAYLOAD_COLUMNS})
)
UPDATE_LABELS = (
    schema.operation_labels.update()
    .where(_labels.operation_id == sa.bindparam("row_id"))
    .values(state=sa.bindparam("listed_state"))
)
LEASE_COLUMNS = ("batch_number", "renewal_number", "progress", "change_number")
"""What changes about a lease."""

UPDATE_LEASE = (
    schema.leases.update()
    .where(_leases.operation_id == sa.bindparam("row_id"))
    .values({column: sa.bindparam(column) for column in LEASE_COLUMNS})
)
DELETE_LEASE = schema.leases.delete().where(_leases.operation_id == sa.bindparam("row_id"))
UPDATE_REGISTRY = schema.registry.update().values(
    {
        column: sa.bindparam(column)
        for column in (
            "revision",
            "oldest_revision",
            "change_number",
            "queued_count",
            "ended_count",
        )
    }
)
# `excluded` names the row that could not be inserted, in both languages.
ADD_TO_CLIENT = sa.text(
    "INSERT INTO clients (client, live_count) VALUES (:who, :more) "
    "ON CONFLICT (client) DO UPDATE SET live_count = clients.live_count + excluded.live_count"
)
FORGET_IDLE_CLIENT = schema.clients.delete().where(
    _clients.client == sa.bindparam("who"), _clients.live_count <= sa.literal_column("0")
)
KEEP_REQUEST_ID = (
    schema.request_ids.update()
    .where(_request_ids.request_id == sa.bindparam("gone_request_id"))
    .values(expire_time_ns=sa.bindparam("expires_ns"))
)
DELETE_OPERATION = schema.operations.delete().where(_operations.id == sa.bindparam("row_id"))
DELETE_OLD_REQUEST_IDS = schema.request_ids.delete().where(
    _request_ids.request_id.in_(
        sa.select(_request_ids.request_id)
        .where(
            _request_ids.expire_time_ns.is_not(None),
            _request_ids.expire_time_ns <= sa.bindparam("now_ns"),
        )
        .limit(sa.bindparam("most"))
    )
)
