"""Removing operations that have ended, with all that is kept of them, a few at a time."""

from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from backlane import failpoints
from backlane.operations.limits import PRUNED_PER_CALL_MAX
from backlane.operations.retention import NS_PER_S
from backlane.operations.selection import Selection
from backlane.operations.store import Compaction
from operations_service import schema, selecting, statements
from operations_service.database import Session
from operations_service.rows import operation_from
from operations_service.transaction import Transaction

BATCH_EVENTS_MAX = 5_000
"""Events removed in one transaction, beyond those of its first operation."""

REQUEST_IDS_PER_BATCH = 1_000
"""Request ids whose time is over that are removed along with each batch."""

_operations = schema.operations.c


@dataclass(frozen=True, slots=True)
class Wish:
    """What to remove: the chosen operations that ended at `ended_by_ns` or before."""

    selection: Selection
    ended_by_ns: int


def count(session: Session, wish: Wish) -> int:
    """Returns how many operations would go, at most one more than one call removes."""
    some = _due(wish).limit(PRUNED_PER_CALL_MAX + 1).subquery()
    (row,) = session.rows_once(sa.select(sa.func.count().label("count")).select_from(some))
    return int(row["count"])


def remove(tx: Transaction, wish: Wish, most: int) -> Compaction:
    """Removes the operations that ended first; `has_more` when there may be others."""
    rows = list(tx.session.rows_once(_due(wish).limit(most)))
    surplus = 0 if wish.selection != Selection() else tx.ended_count - tx.retention.finished_max
    if len(rows) < min(most, surplus):
        anything = Wish(wish.selection, tx.now.wall_ns)
        rows = list(tx.session.rows_once(_due(anything).limit(min(most, surplus))))
    failpoints.reached("compaction.before_delete")
    removed = event_count = 0
    expires_ns = tx.now.wall_ns + int(tx.retention.request_id_s * NS_PER_S)
    for row in rows:
        event_count += row["event_sequence"]
        if removed and event_count > BATCH_EVENTS_MAX:
            break
        tx.session.run(
            statements.KEEP_REQUEST_ID,
            {"gone_request_id": row["request_id"], "expires_ns": expires_ns},
        )
        tx.session.run(statements.DELETE_OPERATION, {"row_id": row["id"]})
        tx.forget(operation_from(row))
        removed += 1
    values = {"now_ns": tx.now.wall_ns, "most": REQUEST_IDS_PER_BATCH}
    if tx.session.run(statements.DELETE_OLD_REQUEST_IDS, values) > 0:
        tx.is_changed = True
    return Compaction(removed, has_more=removed < len(rows) or removed == most)


def _due(wish: Wish) -> sa.Select[Any]:
    return (
        sa.select(*statements.OPERATION_COLUMNS)
        .select_from(statements.OPERATION_ROWS)
        .where(*selecting.chosen_ended(wish.selection), _operations.end_time_ns <= wish.ended_by_ns)
        .order_by(_operations.end_time_ns, _operations.id)
    )
