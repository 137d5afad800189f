"""Reads of the registry's tables; each runs in the transaction of the session it is given."""

from collections.abc import Iterable, Sequence

import sqlalchemy as sa

from backlane.errors import OperationNotFoundError, ResumeTokenCompactedError
from backlane.operations.events import MetricPoint, OperationEvent, wire_bytes
from backlane.operations.operation import Operation, State
from backlane.operations.selection import Selection
from backlane.operations.store import EventPage, MetricPage
from operations_service import packing, schema, selecting, statements
from operations_service.database import Session
from operations_service.rows import event_from, operation_from
from operations_service.tail import PAGE_BYTES_MAX, PAGE_EVENTS_MAX

EVENTS_SCANNED_MAX = 20_000
"""Revisions that one page looks at: a filter that chooses little must not hold a reader long."""

OPERATION_OVERHEAD_BYTES = 512
"""Estimated bytes of an operation on the wire beside its spec, result and labels."""

_operations, _events = schema.operations.c, schema.events.c


def not_found(name: str) -> OperationNotFoundError:
    """Returns the error that says so."""
    return OperationNotFoundError(
        f"There is no operation {name}: it was never made, or it was deleted.",
        metadata={"operation": name},
    )


def compacted(revision: int, oldest_revision: int) -> ResumeTokenCompactedError:
    """Returns the error that tells a reader to begin anew."""
    return ResumeTokenCompactedError(
        f"Events up to revision {oldest_revision} are no longer kept, and revision {revision} is "
        "before that. Watch anew, from a snapshot.",
        metadata={"oldest_revision": str(oldest_revision), "revision": str(revision)},
    )


def operation_bytes(operation: Operation) -> int:
    """Returns about how many bytes an operation takes in a message."""
    result = len(operation.result.value) if operation.result else 0
    labels = sum(4 * (len(key) + len(value)) for key, value in operation.labels.items())
    error = 4 * len(operation.error.message) if operation.error else 0
    failures = sum(4 * len(one.message) + 128 for one in operation.failures)
    checkpoints = sum(4 * len(one.uri) + 160 for one in operation.checkpoints)
    payloads = len(operation.spec.value) + result + labels
    return OPERATION_OVERHEAD_BYTES + payloads + error + failures + checkpoints


def revision(session: Session) -> int:
    """Returns the revision of the log."""
    (row,) = session.rows(statements.SELECT_REGISTRY)
    return int(row["revision"])


def get(session: Session, name: str) -> Operation:
    """Returns an operation, or raises OperationNotFoundError."""
    row = session.first(statements.SELECT_OPERATION, {"wanted_name": name})
    if row is None:
        raise not_found(name)
    return operation_from(row)


def states(session: Session, names: frozenset[str]) -> tuple[dict[str, State | None], int]:
    """Returns the state of each operation that ever was, None for a deleted one."""
    found: dict[str, State | None] = {}
    if names:
        query = sa.select(_operations.name, _operations.state, _operations.is_deleted).where(
            _operations.name.in_(sorted(names))
        )
        for row in session.rows_once(query):
            found[row["name"]] = None if row["is_deleted"] else State(row["state"])
    return found, revision(session)


def read_events(session: Session, selection: Selection, after: int, through: int) -> EventPage:
    """Returns a page of the chosen events in (after, through], or of the beginning of it.

    Raises:
        ResumeTokenCompactedError: some of them are no longer kept.

    """
    if not selection.names:
        through = min(through, after + EVENTS_SCANNED_MAX)
    # In the same transaction as the events: compaction may have come between.
    (registry,) = session.rows(statements.SELECT_REGISTRY)
    if after < registry["oldest_revision"]:
        raise compacted(after, registry["oldest_revision"])
    query = (
        statements.EVENT_QUERY.where(_events.revision > after, _events.revision <= through)
        .where(*selecting.chosen_events(selection))
        .order_by(_events.revision)
        .limit(PAGE_EVENTS_MAX)
    )
    events: list[OperationEvent] = []
    size_bytes = 0
    for row in session.each_once(query):
        event = event_from(row)
        size_bytes += wire_bytes(event)
        if events and size_bytes > PAGE_BYTES_MAX:
            return EventPage(tuple(events), events[-1].revision)
        events.append(event)
    if len(events) == PAGE_EVENTS_MAX:
        return EventPage(tuple(events), events[-1].revision)
    return EventPage(tuple(events), through)


def list_metric_points(
    session: Session, name: str, after_index: int, series: frozenset[str], page_size: int
) -> MetricPage:
    """Returns a page of an operation's points, or raises OperationNotFoundError."""
    head = session.first(statements.SELECT_OPERATION, {"wanted_name": name})
    if head is None:
        raise not_found(name)
    metric_index = head["metric_index"]
    points: list[MetricPoint] = []
    values = {"row_id": head["id"], "after_index": after_index}
    for row in session.each(statements.SELECT_CHUNKS_AFTER, values):
        unpacked = packing.unpack(row["points"], row["first_index"])
        points.extend(_wanted(unpacked, after_index, series))
        if len(points) >= page_size:
            break
    page = tuple(points[:page_size])
    through = page[-1].index if len(page) == page_size else max(after_index, metric_index)
    is_complete = State(head["state"]).is_terminal and through >= metric_index
    return MetricPage(page, through, is_complete)


def next_attempt_ns(session: Session, kinds: Sequence[str]) -> int | None:
    """Returns when the first operation of the kinds that waits for its next attempt is due."""
    rows = [session.first(statements.SELECT_NEXT_DUE, {"wanted_kind": kind}) for kind in kinds]
    due = [row["due_ns"] for row in rows if row is not None and row["due_ns"] is not None]
    return min(due, default=None)


def _wanted(
    points: Iterable[MetricPoint], after_index: int, series: frozenset[str]
) -> Iterable[MetricPoint]:
    return (
        point
        for point in points
        if point.index > after_index and (not series or point.series in series)
    )
