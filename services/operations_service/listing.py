"""Pages of a list, and snapshots, in milliseconds whatever is chosen."""

from backlane.errors import LimitExceededError
from backlane.operations.operation import Operation
from backlane.operations.selection import ListOrder, Selection
from backlane.operations.store import OperationPage, Snapshot
from operations_service import selecting
from operations_service.database import Session
from operations_service.queries import operation_bytes, revision
from operations_service.rows import operation_from
from operations_service.selecting import Choice, Place
from operations_service.tail import PAGE_BYTES_MAX

CANDIDATES_MAX = 1_000
"""Operations with a label that one page looks at, where further labels are asked of them. The page
is short then, and the next one goes on from there."""

RARE_LABEL_MAX = 1_001
"""Of several labels the search begins with the one that the fewest have; counted up to here, which
is where one page cannot look at all of them any more."""

SNAPSHOT_OPERATIONS_MAX = 10_000
"""Operations in one snapshot."""

SNAPSHOT_BYTES_MAX = 64 << 20
"""Bytes of their specs and results."""


def list_operations(session: Session, selection: Selection, place: Place) -> OperationPage:
    """Returns a page, cut at 1 MiB."""
    one_more = Place(place.order, place.cursor, place.most + 1)
    choice = selecting.choice_of(selection, one_more, _first_label(session, selection))
    if choice.shape.is_narrow and choice.shape.is_by_label:
        choice.values["candidates"] = CANDIDATES_MAX
    rows = session.rows(selecting.page_of(choice.shape), choice.values)
    page: list[Operation] = []
    cursor: int | None = None
    size_bytes = 0
    for row in rows:
        operation = operation_from(row)
        size_bytes += operation_bytes(operation)
        if page and (len(page) == place.most or size_bytes > PAGE_BYTES_MAX):
            return OperationPage(tuple(page), cursor, revision(session))
        page.append(operation)
        cursor = row["id"]
    return OperationPage(tuple(page), _stopped_at(session, choice), revision(session))


def snapshot(session: Session, selection: Selection) -> Snapshot:
    """Returns all chosen operations, or raises LimitExceededError."""
    place = Place(ListOrder.OLDEST_FIRST, None, SNAPSHOT_OPERATIONS_MAX + 1)
    choice = selecting.choice_of(selection, place, _first_label(session, selection))
    found: list[Operation] = []
    size_bytes = 0
    for row in session.each(selecting.page_of(choice.shape), choice.values):
        found.append(operation_from(row))
        size_bytes += operation_bytes(found[-1])
        if len(found) > SNAPSHOT_OPERATIONS_MAX or size_bytes > SNAPSHOT_BYTES_MAX:
            raise LimitExceededError(
                f"A snapshot holds at most {SNAPSHOT_OPERATIONS_MAX} operations and "
                f"{SNAPSHOT_BYTES_MAX >> 20} MiB. Narrow the filter, or list the operations and "
                "watch from the list's resume token.",
                metadata={"limit_name": "snapshot", "limit": str(SNAPSHOT_OPERATIONS_MAX)},
            )
    return Snapshot(tuple(found), revision(session))


def _stopped_at(session: Session, choice: Choice) -> int | None:
    """Returns the last candidate, when the search ended with it and not with the list."""
    if choice.values["candidates"] == selecting.NO_LIMIT:
        return None
    row = session.first(selecting.end_of_candidates(choice.shape), choice.values)
    is_cut = row is not None and row["count"] == CANDIDATES_MAX
    return row["last"] if row is not None and is_cut else None


def _first_label(session: Session, selection: Selection) -> str | None:
    """Returns the key of the label that the fewest operations have, as far as that is cheap."""
    if len(selection.labels) <= 1:
        return next(iter(selection.labels), None)
    counts = {}
    for key, value in sorted(selection.labels.items()):
        values = {"label_key": key, "label_value": value, "most": RARE_LABEL_MAX}
        row = session.first(selecting.HOW_MANY_HAVE, values)
        counts[key] = 0 if row is None else row["count"]
    return min(counts, key=lambda key: counts[key])
