"""Reads of the registry's tables; each runs in the transaction of the connection it is given."""

from collections.abc import Iterator, Sequence

import sqlalchemy as sa

from backlane.errors import LimitExceededError, OperationNotFoundError
from backlane.operations.events import MetricPoint, OperationEvent, wire_bytes
from backlane.operations.operation import Operation, State
from backlane.operations.selection import Selection
from backlane.operations.store import EventPage, MetricPage, OperationPage, Snapshot
from operations_service import schema
from operations_service.rows import event_from, operation_from, point_from, points_range
from operations_service.tail import PAGE_BYTES_MAX, PAGE_EVENTS_MAX

SNAPSHOT_OPERATIONS_MAX = 10_000
"""Operations in one snapshot."""

SNAPSHOT_BYTES_MAX = 64 << 20
"""Bytes of their specs and results."""

OPERATION_OVERHEAD_BYTES = 512
"""Estimated bytes of an operation on the wire beside its spec, result and labels."""

_operations, _events, _points = schema.operations.c, schema.events.c, schema.metric_points.c


def not_found(name: str) -> OperationNotFoundError:
    """Returns the error that says so."""
    return OperationNotFoundError(
        f"There is no operation {name}: it was never made, or it was deleted.",
        metadata={"operation": name},
    )


def operation_bytes(operation: Operation) -> int:
    """Returns about how many bytes an operation takes in a message."""
    result = len(operation.result.value) if operation.result else 0
    labels = sum(4 * (len(key) + len(value)) for key, value in operation.labels.items())
    error = 4 * len(operation.error.message) if operation.error else 0
    return OPERATION_OVERHEAD_BYTES + len(operation.spec.value) + result + labels + error


def revision(connection: sa.Connection) -> int:
    """Returns the revision of the log."""
    return int(connection.execute(sa.select(schema.registry.c.revision)).scalar_one())


def get(connection: sa.Connection, name: str) -> Operation:
    """Returns an operation, or raises OperationNotFoundError."""
    query = sa.select(schema.operations).where(
        _operations.name == name, _operations.is_deleted.is_(False)
    )
    row = connection.execute(query).mappings().first()
    if row is None:
        raise not_found(name)
    return operation_from(row)


def list_operations(
    connection: sa.Connection, selection: Selection, page_size: int, before: int | None
) -> OperationPage:
    """Returns a page, newest first, cut at `page_size` and at 1 MiB."""
    query = sa.select(schema.operations).where(*_chosen(selection))
    if before is not None:
        query = query.where(_operations.id < before)
    rows = connection.execute(query.order_by(_operations.id.desc()).limit(page_size + 1))
    page: list[Operation] = []
    cursor: int | None = None
    size_bytes = 0
    for row in rows.mappings():
        operation = operation_from(row)
        size_bytes += operation_bytes(operation)
        if page and (len(page) == page_size or size_bytes > PAGE_BYTES_MAX):
            rows.close()
            return OperationPage(tuple(page), cursor, revision(connection))
        page.append(operation)
        cursor = row["id"]
    return OperationPage(tuple(page), None, revision(connection))


def snapshot(connection: sa.Connection, selection: Selection) -> Snapshot:
    """Returns all chosen operations, or raises LimitExceededError."""
    query = sa.select(schema.operations).where(*_chosen(selection)).order_by(_operations.id)
    found: list[Operation] = []
    size_bytes = 0
    rows = connection.execute(query.limit(SNAPSHOT_OPERATIONS_MAX + 1))
    for row in rows.mappings():
        found.append(operation_from(row))
        size_bytes += operation_bytes(found[-1])
        if len(found) > SNAPSHOT_OPERATIONS_MAX or size_bytes > SNAPSHOT_BYTES_MAX:
            rows.close()
            raise LimitExceededError(
                f"A snapshot holds at most {SNAPSHOT_OPERATIONS_MAX} operations and "
                f"{SNAPSHOT_BYTES_MAX >> 20} MiB. Narrow the filter, or list the operations and "
                "watch from the list's resume token.",
                metadata={"limit_name": "snapshot", "limit": str(SNAPSHOT_OPERATIONS_MAX)},
            )
    return Snapshot(tuple(found), revision(connection))


def states(connection: sa.Connection, names: frozenset[str]) -> tuple[dict[str, State | None], int]:
    """Returns the state of each operation that ever was, None for a deleted one."""
    found: dict[str, State | None] = {}
    if names:
        query = sa.select(_operations.name, _operations.state, _operations.is_deleted).where(
            _operations.name.in_(sorted(names))
        )
        for name, state, is_deleted in connection.execute(query):
            found[name] = None if is_deleted else State(state)
    return found, revision(connection)


def read_events(
    connection: sa.Connection, selection: Selection, after: int, through: int
) -> EventPage:
    """Returns a page of the chosen events in (after, through]."""
    query = (
        sa.select(schema.events, _operations.name)
        .join(schema.operations, _operations.id == _events.operation_id)
        .where(_events.revision > after, _events.revision <= through)
        .where(*_chosen_events(selection))
        .order_by(_events.revision)
        .limit(PAGE_EVENTS_MAX)
    )
    rows = connection.execute(query)
    events: list[OperationEvent] = []
    size_bytes = 0
    for row in rows.mappings():
        event = event_from(row, _points_of(connection, row))
        size_bytes += wire_bytes(event)
        if events and size_bytes > PAGE_BYTES_MAX:
            rows.close()
            return EventPage(tuple(events), events[-1].revision)
        events.append(event)
    if len(events) == PAGE_EVENTS_MAX:
        return EventPage(tuple(events), events[-1].revision)
    return EventPage(tuple(events), through)


def list_metric_points(
    connection: sa.Connection, name: str, after_index: int, series: frozenset[str], page_size: int
) -> MetricPage:
    """Returns a page of an operation's points, or raises OperationNotFoundError."""
    head = connection.execute(
        sa.select(_operations.id, _operations.metric_index, _operations.state).where(
            _operations.name == name, _operations.is_deleted.is_(False)
        )
    ).first()
    if head is None:
        raise not_found(name)
    operation_id, metric_index, state = head
    query = sa.select(schema.metric_points).where(
        _points.operation_id == operation_id, _points.index > after_index
    )
    if series:
        query = query.where(_points.series.in_(sorted(series)))
    rows = connection.execute(query.order_by(_points.index).limit(page_size)).mappings()
    points = tuple(point_from(row) for row in rows)
    through = points[-1].index if len(points) == page_size else max(after_index, metric_index)
    is_complete = State(state).is_terminal and through >= metric_index
    return MetricPage(points, through, is_complete)


def _points_of(connection: sa.Connection, row: sa.RowMapping) -> tuple[MetricPoint, ...]:
    span = points_range(row["body"])
    if span is None:
        return ()
    query = sa.select(schema.metric_points).where(
        _points.operation_id == row["operation_id"], _points.index.between(*span)
    )
    rows = connection.execute(query.order_by(_points.index)).mappings()
    return tuple(point_from(point) for point in rows)


def _chosen(selection: Selection) -> Sequence[sa.ColumnElement[bool]]:
    clauses: list[sa.ColumnElement[bool]] = [_operations.is_deleted.is_(False)]
    if selection.states:
        clauses.append(_operations.state.in_(sorted(selection.states)))
    return [*clauses, *_identity(selection)]


def _chosen_events(selection: Selection) -> Sequence[sa.ColumnElement[bool]]:
    clauses = list(_identity(selection))
    if selection.states:
        states = sorted(selection.states)
        clauses.append(sa.or_(_events.state.in_(states), _events.from_state.in_(states)))
    return clauses


def _identity(selection: Selection) -> Iterator[sa.ColumnElement[bool]]:
    if selection.names:
        yield _operations.name.in_(sorted(selection.names))
    if selection.kinds:
        yield _operations.kind.in_(sorted(selection.kinds))
    labels = schema.operation_labels.c
    for key, value in sorted(selection.labels.items()):
        having = sa.select(labels.operation_id).where(labels.key == key, labels.value == value)
        yield _operations.id.in_(having)
