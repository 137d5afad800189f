"""What the writer knows without reading, and how it catches up with what others have written.

The writer's thread alone changes it. `change_number` says up to which transaction it is true: a
transaction that finds another one in the registry's row reads what it missed, first of all. That
covers other replicas, and a commit of one's own whose answer was lost.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field

from backlane.errors import StoreUnavailableError
from backlane.operations.lease import Instant, Lease, LeaseTerms
from backlane.operations.operation import HELD_STATES, Operation, Payload, State
from backlane.operations.records import replace
from operations_service import statements
from operations_service.database import Session
from operations_service.rows import Row, event_from, operation_from, progress_from
from operations_service.tail import LoggedEvent

NEWS_EVENTS_MAX = 4_096
"""Events read to catch up; beyond that the memory is read anew and watchers read the disk."""

_HELD = frozenset(state.value for state in HELD_STATES)


@dataclass(frozen=True, slots=True)
class Stored:
    """An operation and the key of its row."""

    row_id: int
    operation: Operation


@dataclass(slots=True)
class Memory:
    """The registry's row, and the operations that are held; see the module."""

    revision: int = 0
    oldest_revision: int = 0
    change_number: int = -1
    queued_count: int = 0
    ended_count: int = 0
    held: dict[str, Stored] = field(default_factory=dict)
    live_of_client: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class News:
    """What is to be published: events, and the operations that changed.

    `is_whole`: the events follow what was published before without a hole.
    """

    revision: int
    oldest_revision: int
    events: Sequence[LoggedEvent]
    changed: Sequence[Operation]
    is_whole: bool = True


def catch_up(
    session: Session, registry: Row, memory: Memory, terms: LeaseTerms, now: Instant
) -> News | None:
    """Makes the memory what the database is; returns what others did, None when nothing.

    A lease, or a renewal, that is seen for the first time gets its full time from now: nobody can
    know how much of it is over, and so none ends early.

    Raises:
        StoreUnavailableError: the database is an older state of itself, such as a lagging copy.

    """
    known = memory.change_number
    if registry["change_number"] == known:
        return None
    if registry["change_number"] < known or registry["revision"] < memory.revision:
        raise _gone_back(registry, memory)
    events, gone, is_whole = _news_events(session, registry, memory)
    is_first = known < 0
    held = {} if is_first or not is_whole else dict(memory.held)
    changed: list[Operation] = []
    for row in session.rows(statements.SELECT_HELD, {"known_change": known if held else -1}):
        before = memory.held.get(row["name"])
        lease = _lease_from(row, before.operation if before else None, terms, now)
        operation = replace(
            operation_from(row, lease), progress=progress_from(row["lease_progress"])
        )
        held[operation.name] = Stored(row["id"], operation)
        changed.append(operation)
    for operation in gone:
        held.pop(operation.name, None)
    memory.held = held
    memory.live_of_client = {}
    for column in ("revision", "oldest_revision", "change_number", "queued_count", "ended_count"):
        setattr(memory, column, registry[column])
    return News(memory.revision, memory.oldest_revision, events, [*changed, *gone], is_whole)


def _news_events(
    session: Session, registry: Row, memory: Memory
) -> tuple[list[LoggedEvent], list[Operation], bool]:
    """Returns what was logged since, which of it nobody holds any more, and whether it is all."""
    if memory.change_number < 0:
        return [], [], False
    values = {"known_revision": memory.revision, "most": NEWS_EVENTS_MAX + 1}
    rows = session.rows(statements.SELECT_NEWS, values)
    # Of an operation that was removed meanwhile nothing is left: the rest is not whole.
    if len(rows) != registry["revision"] - memory.revision:
        return [], [], False
    logged: list[LoggedEvent] = []
    gone: dict[str, Operation] = {}
    for row in rows:
        operation = _known_by(row, row["state"])
        logged.append(LoggedEvent.of(event_from(row), operation))
        if row["state_now"] not in _HELD:
            gone[operation.name] = _known_by(row, row["state_now"])
    return logged, list(gone.values()), True


def _known_by(row: Row, state: str) -> Operation:
    """Returns of an operation what a selection asks about; the rest is left empty."""
    return Operation(
        name=row["name"],
        uid="",
        kind=row["kind"],
        state=State(state),
        spec=Payload("", b""),
        create_time_ns=0,
        labels=json.loads(row["labels"]),
    )


def _lease_from(row: Row, before: Operation | None, terms: LeaseTerms, now: Instant) -> Lease:
    known = before.lease if before else None
    is_known = known is not None and known.epoch == row["lease_epoch"]
    cancel_at_s = None
    if row["state"] == State.CANCELLING.value:
        asked_s = known.cancel_at_s if known and is_known else None
        cancel_at_s = now.monotonic_s if asked_s is None else asked_s
    lease = Lease(
        operation=row["name"],
        epoch=row["lease_epoch"],
        worker_id=row["lease_worker_id"],
        request_id=row["lease_request_id"],
        expires_at_s=now.monotonic_s + terms.ttl_s,
        batch_number=row["lease_batch_number"],
        renewal_number=row["lease_renewal_number"],
        granted_at_s=now.monotonic_s,
        cancel_at_s=cancel_at_s,
    )
    if known is None or not is_known:
        return lease
    if known.renewal_number >= lease.renewal_number:
        lease = replace(lease, expires_at_s=known.expires_at_s)
    return replace(
        lease,
        granted_at_s=known.granted_at_s,
        renewal_number=max(known.renewal_number, lease.renewal_number),
    )


def _gone_back(registry: Row, memory: Memory) -> StoreUnavailableError:
    return StoreUnavailableError(
        f"The operations store went back from revision {memory.revision} to "
        f"{registry['revision']}: it is an older copy of itself. Nothing is served from it until "
        "operations_service is started anew.",
        metadata={
            "revision": str(registry["revision"]),
            "revision_before": str(memory.revision),
        },
    )
