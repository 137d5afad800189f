"""One transaction of the writer: what its commands read and change, and what it will publish.

The writer owns the operations that a worker holds in memory as well (`Memory`), because it alone
changes them: renewing a lease and reporting progress read no row. A transaction works on top of
that and is folded into it after its commit; a transaction that fails is simply forgotten.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import sqlalchemy as sa

from backlane.clock import Clock
from backlane.operations.events import MetricsAppended
from backlane.operations.lease import Instant, Lease, LeaseTerms
from backlane.operations.operation import HELD_STATES, Operation
from backlane.operations.transitions import Change, committed
from operations_service import queries, schema, statements
from operations_service.rows import (
    changing_values,
    event_values,
    lease_from,
    lease_values,
    operation_from,
    operation_values,
    point_values,
)
from operations_service.tail import LoggedEvent

_operations = schema.operations.c


@dataclass(frozen=True, slots=True)
class Stored:
    """An operation and the key of its row."""

    row_id: int
    operation: Operation


@dataclass(slots=True)
class Memory:
    """What the writer knows without reading: the revision, and the operations that are held."""

    revision: int = 0
    held: dict[str, Stored] = field(default_factory=dict)


def load_memory(
    connection: sa.Connection, terms: LeaseTerms, now: Instant, known: Mapping[str, Stored]
) -> Memory:
    """Reads the memory back from the file.

    A lease that is not `known` gets its full time: whoever holds it could not renew it while
    nobody listened.
    """
    operation_rows = _rows(
        connection, sa.select(schema.operations).where(_operations.state.in_(sorted(HELD_STATES)))
    )
    lease_rows = {row["operation_id"]: row for row in _rows(connection, sa.select(schema.leases))}
    held: dict[str, Stored] = {}
    for row in operation_rows:
        lease = lease_from(row["name"], lease_rows[row["id"]], now.monotonic_s + terms.ttl_s)
        stored = known.get(lease.operation)
        before = stored.operation.lease if stored else None
        if before is not None and before.epoch == lease.epoch:
            lease = replace(lease, expires_at_s=before.expires_at_s)
        held[lease.operation] = Stored(row["id"], operation_from(row, lease))
    return Memory(queries.revision(connection), held)


class Transaction:
    """What one batch of commands does; see the module."""

    def __init__(self, connection: sa.Connection, memory: Memory, clock: Clock) -> None:
        self.connection = connection
        self.revision = memory.revision
        self.logged: list[LoggedEvent] = []
        self.changed: dict[str, Operation] = {}
        self._memory = memory
        self._held: dict[str, Stored | None] = {}
        self._clock = clock

    @property
    def now(self) -> Instant:
        """The time, read anew for each command."""
        return Instant.of(self._clock)

    @property
    def has_events(self) -> bool:
        """Whether the log grows by this transaction."""
        return bool(self.logged)

    def fold(self) -> None:
        """Makes the memory what the file is now; to be called after the commit."""
        self._memory.revision = self.revision
        # A new mapping each time: the event loop may be looking at the one before.
        held = {name: stored for name, stored in self._held.items() if stored is not None}
        kept = self._memory.held.items()
        self._memory.held = {name: one for name, one in kept if name not in self._held} | held

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

    def add(self, change: Change) -> Stored:
        """Writes an operation that is new, and its first event; returns it as it is stored."""
        placed = committed(change, self.revision)
        operation = placed.operation
        inserted = self.connection.execute(statements.INSERT_OPERATION, operation_values(operation))
        row_id = int(inserted.inserted_primary_key[0]) if inserted.inserted_primary_key else 0
        labels = [
            {"operation_id": row_id, "key": key, "value": value}
            for key, value in operation.labels.items()
        ]
        if labels:
            self.connection.execute(statements.INSERT_LABEL, labels)
        self._log(row_id, placed)
        self.changed[operation.name] = operation
        return Stored(row_id, operation)

    def save(self, stored: Stored, change: Change) -> Operation:
        """Writes what a command changed, and nothing else; returns the operation afterwards."""
        placed = committed(change, self.revision)
        before, after = stored.operation, placed.operation
        if _durable(before) != _durable(after):
            values = {"row_id": stored.row_id, **changing_values(after)}
            self.connection.execute(statements.UPDATE_OPERATION, values)
        self._save_lease(stored.row_id, before.lease, after.lease)
        self._log(stored.row_id, placed)
        if after.lease is not None:
            self._held[after.name] = Stored(stored.row_id, after)
        elif before.lease is not None:
            self._held[after.name] = None
        if placed.events or after.progress is not before.progress:
            self.changed[after.name] = after
        return after

    def _read(self, name: str) -> Stored:
        found = self.connection.execute(statements.SELECT_OPERATION, {"wanted_name": name})
        row = found.mappings().first()
        if row is None:
            raise queries.not_found(name)
        return Stored(row["id"], operation_from(row))

    def _save_lease(self, row_id: int, before: Lease | None, after: Lease | None) -> None:
        if after is None:
            if before is not None:
                self.connection.execute(statements.DELETE_LEASE, {"row_id": row_id})
        elif before is None:
            values = {"operation_id": row_id, **lease_values(after)}
            self.connection.execute(statements.INSERT_LEASE, values)
        elif before.batch_number != after.batch_number:
            values = {"row_id": row_id, "batch_number": after.batch_number}
            self.connection.execute(statements.UPDATE_BATCH_NUMBER, values)

    def _log(self, row_id: int, placed: Change) -> None:
        if not placed.events:
            return
        state = placed.operation.state
        rows = [{"operation_id": row_id, **event_values(e, state)} for e in placed.events]
        self.connection.execute(statements.INSERT_EVENT, rows)
        points = [
            {"operation_id": row_id, **point_values(point)}
            for event in placed.events
            if isinstance(event.body, MetricsAppended)
            for point in event.body.points
        ]
        if points:
            self.connection.execute(statements.INSERT_POINT, points)
        self.revision = placed.events[-1].revision
        self.logged.extend(LoggedEvent.of(event, placed.operation) for event in placed.events)


def _durable(operation: Operation) -> Operation:
    return replace(operation, lease=None, progress=None)


def _rows(
    connection: sa.Connection, query: sa.Select[tuple[object, ...]]
) -> Sequence[sa.RowMapping]:
    return connection.execute(query).mappings().all()
