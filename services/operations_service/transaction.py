"""One transaction of the writer: what its commands read and change, and what it will publish.

The writer keeps the operations that a worker holds in memory as well (`memory`): renewing a lease
and reporting progress read no row. A transaction works on top of that and is folded into it after
its commit; one that fails is simply forgotten.

What nothing in the transaction looks at is written last: one statement with the rows of all
commands costs less than one for each.
"""

from collections import Counter
from collections.abc import Iterator

import sqlalchemy as sa

from backlane.clock import Clock
from backlane.operations.admission import Load
from backlane.operations.commands import TelemetryBatch
from backlane.operations.events import MetricsAppended
from backlane.operations.lease import Instant, Lease
from backlane.operations.operation import Operation, State
from backlane.operations.retention import RetentionPolicy, with_expiry
from backlane.operations.telemetry import PointKey, replayed_points
from backlane.operations.transitions import Change, committed
from operations_service import packing, statements
from operations_service.database import Session, Values
from operations_service.memory import Memory, News, Stored
from operations_service.queries import not_found
from operations_service.rows import (
    changing_values,
    chunk_values,
    event_values,
    label_values,
    lease_values,
    listed_state,
    operation_from,
    operation_values,
    payload_values,
    progress_text,
    reported_values,
)
from operations_service.tail import LoggedEvent


class Transaction:
    """What one batch of commands does; see the module."""

    def __init__(
        self,
        session: Session,
        memory: Memory,
        clock: Clock,
        retention: RetentionPolicy,
        *,
        is_shared: bool,
    ) -> None:
        self._session = session
        self._unwritten: dict[sa.ClauseElement, list[Values]] = {}
        self.retention = retention
        self.revision = memory.revision
        self.oldest_revision = memory.oldest_revision
        self.ended_count = memory.ended_count
        self.is_changed = False
        self._queued_count = memory.queued_count
        self._change_number = memory.change_number + 1
        self._live_changes: Counter[str] = Counter()
        self._logged: list[LoggedEvent] = []
        self._changed: dict[str, Operation] = {}
        self._held: dict[str, Stored | None] = {}
        self._memory = memory
        self._clock = clock
        self._is_shared = is_shared

    @property
    def session(self) -> Session:
        """The connection; what was put off is written first, so that a statement sees it."""
        if self._unwritten:
            unwritten, self._unwritten = self._unwritten, {}
            for statement, rows in unwritten.items():
                self._session.run_many(statement, rows)
        return self._session

    @property
    def now(self) -> Instant:
        """The time, read anew for each command."""
        return Instant.of(self._clock)

    def load_of(self, client: str) -> Load:
        """Returns what is on its way, of a client and in all, without counting it."""
        known = self._memory.live_of_client
        if client not in known:
            row = self.session.first(statements.SELECT_CLIENT, {"who": client})
            known[client] = 0 if row is None else row["live_count"]
        return Load(known[client] + self._live_changes[client], self._queued_count)

    def held(self) -> Iterator[Stored]:
        """Yields the operations that a worker holds, as this transaction sees them."""
        for name, stored in self._memory.held.items():
            if name not in self._held:
                yield stored
        yield from (stored for stored in self._held.values() if stored is not None)

    def load(self, name: str) -> Stored:
        """Returns an operation, or raises OperationNotFoundError."""
        stored = self._held[name] if name in self._held else self._memory.held.get(name)
        return stored or self._read(name)

    def recorded(self, stored: Stored, batch: TelemetryBatch) -> dict[PointKey, float]:
        """Returns the values of those points of a batch that the log has already."""
        wanted = set(replayed_points(stored.operation, batch))
        if not wanted:
            return {}
        steps = [step for _, step in wanted]
        chunks = self.session.rows(
            statements.SELECT_CHUNKS_OF_STEPS,
            {"row_id": stored.row_id, "low_step": min(steps), "high_step": max(steps)},
        )
        points = (
            point for one in chunks for point in packing.unpack(one["points"], one["first_index"])
        )
        return {
            (point.series, point.step): point.value
            for point in points
            if (point.series, point.step) in wanted
        }

    def add(self, change: Change, request_id: str) -> Operation:
        """Writes an operation that is new, and its first event; returns it as it is stored."""
        placed = committed(change, self.revision)
        operation = placed.operation
        row_id = operation.revision
        self.session.run(
            statements.INSERT_OPERATION, operation_values(operation, row_id, request_id)
        )
        self.session.run(
            statements.INSERT_PAYLOADS, {"operation_id": row_id, **payload_values(operation)}
        )
        self.session.run_many(statements.INSERT_LABEL, label_values(operation, row_id))
        self._log(row_id, placed)
        self._count(None, operation)
        self._changed[operation.name] = operation
        return operation

    def save(self, stored: Stored, change: Change) -> Operation:
        """Writes what a command changed, and nothing else; returns the operation afterwards."""
        if change.operation.end_time_ns != stored.operation.end_time_ns:
            ended = with_expiry(change.operation, self.retention)
            change = Change(ended, change.events)
        placed = committed(change, self.revision)
        before, after = stored.operation, placed.operation
        # Telemetry that is beyond a limit leaves its mark in the counts alone.
        is_durable = bool(placed.events) or after.counts != before.counts
        if is_durable:
            self._save_rows(stored.row_id, before, after)
            self._log(stored.row_id, placed)
            self._count(before, after)
        self._save_lease(stored.row_id, before, after, is_durable=is_durable)
        if after.lease is not None:
            self._held[after.name] = Stored(stored.row_id, after)
        elif before.lease is not None:
            self._held[after.name] = None
        if placed.events or after.progress is not before.progress:
            self._changed[after.name] = after
        return after

    def forget(self, operation: Operation) -> None:
        """Takes a removed operation, which had ended, out of the counts."""
        self.ended_count -= 1
        self.oldest_revision = max(self.oldest_revision, operation.revision)
        self.is_changed = True

    def flush(self) -> None:
        """Writes what the commands have in common; comes last, before the commit."""
        if not self.is_changed:
            return
        for client, more in self._live_changes.items():
            if more:
                self.session.run(statements.ADD_TO_CLIENT, {"who": client, "more": more})
            if more < 0:
                self.session.run(statements.FORGET_IDLE_CLIENT, {"who": client})
        self.session.run(
            statements.UPDATE_REGISTRY,
            {
                "revision": self.revision,
                "oldest_revision": self.oldest_revision,
                "change_number": self._change_number,
                "queued_count": self._queued_count,
                "ended_count": self.ended_count,
            },
        )

    def fold(self) -> News:
        """Makes the memory what the database is now, after the commit; returns what to publish."""
        memory = self._memory
        if self.is_changed:
            memory.revision, memory.oldest_revision = self.revision, self.oldest_revision
            memory.change_number = self._change_number
            memory.queued_count, memory.ended_count = self._queued_count, self.ended_count
            for client, more in self._live_changes.items():
                if client in memory.live_of_client:
                    memory.live_of_client[client] += more
        if self._held:
            # A new mapping each time: the event loop may be looking at the one before.
            held = {name: stored for name, stored in self._held.items() if stored is not None}
            kept = memory.held.items()
            memory.held = {name: one for name, one in kept if name not in self._held} | held
        changed = list(self._changed.values())
        return News(self.revision, self.oldest_revision, self._logged, changed)

    def _read(self, name: str) -> Stored:
        row = self.session.first(statements.SELECT_OPERATION, {"wanted_name": name})
        if row is None:
            raise not_found(name)
        return Stored(row["id"], operation_from(row))

    def _save_rows(self, row_id: int, before: Operation, after: Operation) -> None:
        if (after.state, after.is_deleted) == (before.state, before.is_deleted):
            values = {"row_id": row_id, **reported_values(after)}
            self._put_off(statements.UPDATE_REPORTED, values)
            return
        values = {"row_id": row_id, **changing_values(after)}
        self.session.run(statements.UPDATE_OPERATION, values)
        if after.spec is not before.spec or after.result is not before.result:
            values = payload_values(after)
            values = {name: values[name] for name in statements.PAYLOAD_COLUMNS}
            self.session.run(statements.UPDATE_PAYLOADS, {"row_id": row_id, **values})
        if after.labels and listed_state(after) != listed_state(before):
            values = {"row_id": row_id, "listed_state": listed_state(after)}
            self.session.run(statements.UPDATE_LABELS, values)

    def _save_lease(
        self, row_id: int, before: Operation, after: Operation, *, is_durable: bool
    ) -> None:
        if after.lease is None:
            if before.lease is not None:
                self.session.run(statements.DELETE_LEASE, {"row_id": row_id})
                self.is_changed = True
            return
        # A row of which anything changed is marked, so that whoever catches up reads it again.
        if not (is_durable or self._is_lease_news(before, after, after.lease)):
            return
        values = {
            **lease_values(after.lease),
            "progress": progress_text(after.progress),
            "change_number": self._change_number,
        }
        if before.lease is None:
            self.session.run(statements.INSERT_LEASE, {"operation_id": row_id, **values})
        else:
            values = {name: values[name] for name in statements.LEASE_COLUMNS}
            self._put_off(statements.UPDATE_LEASE, {"row_id": row_id, **values})
        self.is_changed = True

    def _is_lease_news(self, before: Operation, after: Operation, lease: Lease) -> bool:
        known = before.lease
        if known is None or known.batch_number != lease.batch_number:
            return True
        # Where nobody else looks, time and progress are in memory alone: both may be lost.
        is_renewed = known.renewal_number != lease.renewal_number
        return self._is_shared and (is_renewed or after.progress is not before.progress)

    def _put_off(self, statement: sa.ClauseElement, values: Values) -> None:
        self._unwritten.setdefault(statement, []).append(values)

    def _log(self, row_id: int, placed: Change) -> None:
        self.is_changed = True
        if not placed.events:
            return
        state = placed.operation.state
        for event in placed.events:
            self._put_off(statements.INSERT_EVENT, event_values(event, row_id, state))
            if isinstance(event.body, MetricsAppended):
                self._put_off(statements.INSERT_CHUNK, chunk_values(event.body, row_id))
        self.revision = placed.events[-1].revision
        self._logged.extend(LoggedEvent.of(event, placed.operation) for event in placed.events)

    def _count(self, before: Operation | None, after: Operation) -> None:
        was_queued = before is not None and before.state is State.QUEUED
        was_live = before is not None and not before.state.is_terminal
        self._queued_count += (after.state is State.QUEUED) - was_queued
        self._live_changes[after.client] += (not after.state.is_terminal) - was_live
        self.ended_count += after.state.is_terminal and was_live
