"""The SQLite store: the embedded default of the operations registry.

One connection writes (`writer`), others read (`queries`), and the newest part of the log is in
memory (`tail`), so that a watcher who keeps up reads no file. The contract is that of
`backlane.operations.store`.
"""

import asyncio
import uuid
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import sqlalchemy as sa

from backlane.clock import Clock
from backlane.errors import ResumeTokenCompactedError, StoreUnavailableError
from backlane.operations.commands import Claim, NewOperation, Outcome, TelemetryBatch
from backlane.operations.events import StateChanged
from backlane.operations.lease import LeaseTerms
from backlane.operations.operation import Operation, State
from backlane.operations.selection import Selection
from backlane.operations.store import (
    EventPage,
    MetricPage,
    OperationPage,
    ProgressPage,
    Renewal,
    RenewalReply,
    Snapshot,
)
from operations_service import commands, queries, schema
from operations_service.data_lock import DataLock
from operations_service.signals import Signal
from operations_service.tail import ProgressBoard, Tail
from operations_service.transaction import Transaction
from operations_service.writer import Writer, is_outage, unavailable

_T = TypeVar("_T")

READERS = 4
"""Connections, and threads, that read at once."""


def new_operation_id() -> str:
    """Returns the last part of an operation's name: 16 random hex digits."""
    return uuid.uuid4().hex[:16]


class SqliteOperationStore:
    """Keeps operations in one SQLite file; started, used and stopped on one event loop."""

    def __init__(
        self,
        path: Path,
        clock: Clock,
        terms: LeaseTerms,
        *,
        new_id: Callable[[], str] = new_operation_id,
    ) -> None:
        self.terms = terms
        self.changed, self.queued = Signal(), Signal()
        self.ended, self.cancelling = Signal(), Signal()
        self._path = path
        self._new_id = new_id
        self._tail, self._board = Tail(), ProgressBoard()
        self._lock = DataLock(path.with_name(path.name + ".lock"))
        self._write_engine = schema.writer_engine(path)
        self._read_engine = schema.reader_engine(path, READERS)
        self._readers = ThreadPoolExecutor(READERS, thread_name_prefix="operations-reader")
        self._writer = Writer(self._write_engine, clock, terms, self._publish)
        self._registry_uid, self._oldest_revision, self._revision = "", 0, 0

    async def start(self) -> None:
        """Opens the file, or makes it."""
        try:
            _make_folder(self._path.parent)
            self._lock.acquire()
            self._registry_uid, self._oldest_revision = _opened(self._write_engine, self._path)
            self._writer.load()
        except Exception as error:
            self._let_go()
            if is_outage(error):
                raise unavailable(error) from error
            raise
        self._revision = self._writer.memory.revision
        for stored in self._writer.memory.held.values():
            self._board.report(stored.operation)

    @property
    def registry_uid(self) -> str:
        """Names this registry for ever."""
        return self._registry_uid

    @property
    def revision(self) -> int:
        """The newest revision that was committed and published."""
        return self._revision

    @property
    def oldest_revision(self) -> int:
        """The earliest place to read from."""
        return self._oldest_revision

    async def create(self, request: NewOperation) -> Operation:
        """Accepts an operation, once per request."""
        name, uid = f"operations/{self._new_id()}", str(uuid.uuid4())
        return await self._writer.submit(lambda tx: commands.create(tx, request, name, uid))

    async def claim(self, claim: Claim) -> Operation | None:
        """Gives the oldest queued operation of the kinds to the worker."""
        return await self._writer.submit(lambda tx: commands.claim(tx, claim, self.terms))

    async def renew(self, worker_id: str, renewals: Sequence[Renewal]) -> list[RenewalReply]:
        """Renews leases of a worker."""
        return await self._writer.submit(
            lambda tx: commands.renew(tx, worker_id, renewals, self.terms)
        )

    async def append(self, name: str, epoch: int, batch: TelemetryBatch) -> Operation:
        """Adds a batch of telemetry to the log."""
        return await self._writer.submit(lambda tx: commands.append(tx, name, epoch, batch))

    async def complete(self, name: str, epoch: int, outcome: Outcome) -> Operation:
        """Ends an operation as its worker says."""
        return await self._writer.submit(lambda tx: commands.complete(tx, name, epoch, outcome))

    async def request_cancel(self, name: str, reason: str) -> Operation:
        """Asks for cancel of an operation."""
        return await self._writer.submit(lambda tx: commands.request_cancel(tx, name, reason))

    async def delete(self, name: str) -> None:
        """Deletes a terminal operation."""
        await self._writer.submit(lambda tx: commands.delete(tx, name))

    async def expire_lapsed(self) -> tuple[str, ...]:
        """Takes every lease away whose time ran out."""
        return await self._writer.submit(commands.expire_lapsed)

    async def probe(self) -> None:
        """Writes one row, to see whether that works."""
        await self._writer.submit(commands.probe)

    def held_by(self, worker_id: str) -> tuple[Operation, ...]:
        """Returns the operations whose lease the worker holds."""
        held = (stored.operation for stored in self._writer.memory.held.values())
        return tuple(one for one in held if one.lease and one.lease.worker_id == worker_id)

    async def get(self, name: str) -> Operation:
        """Returns an operation as it is now."""
        return self._current(await self._read(lambda connection: queries.get(connection, name)))

    async def list_operations(
        self, selection: Selection, page_size: int, before: int | None = None
    ) -> OperationPage:
        """Returns a page, newest first."""
        page = await self._read(
            lambda connection: queries.list_operations(connection, selection, page_size, before)
        )
        return replace(page, operations=tuple(map(self._current, page.operations)))

    async def snapshot(self, selection: Selection) -> Snapshot:
        """Reads the chosen operations in one transaction."""
        found = await self._read(lambda connection: queries.snapshot(connection, selection))
        return replace(found, operations=tuple(map(self._current, found.operations)))

    async def states(self, names: frozenset[str]) -> tuple[dict[str, State | None], int]:
        """Returns the state of each operation that ever was, and the revision."""
        return await self._read(lambda connection: queries.states(connection, names))

    async def read_events(self, selection: Selection, after: int) -> EventPage:
        """Reads a page of the log, from memory when it is all there."""
        if after < self._oldest_revision:
            raise ResumeTokenCompactedError(
                f"Events up to revision {self._oldest_revision} are no longer kept, and revision "
                f"{after} is before that. Watch anew, from a snapshot.",
                metadata={"oldest_revision": str(self._oldest_revision), "revision": str(after)},
            )
        through = self._revision
        if after >= through:
            return EventPage((), after)
        page = self._tail.read(selection, after, through)
        if page is not None:
            return page
        return await self._read(
            lambda connection: queries.read_events(connection, selection, after, through)
        )

    def progress_since(self, selection: Selection, tick: int) -> ProgressPage:
        """Returns the progress reported after `tick`."""
        return self._board.since(selection, tick)

    async def list_metric_points(
        self, name: str, after_index: int, series: frozenset[str], page_size: int
    ) -> MetricPage:
        """Reads the points of an operation."""
        return await self._read(
            lambda connection: queries.list_metric_points(
                connection, name, after_index, series, page_size
            )
        )

    async def stop(self) -> None:
        """Finishes the writes that were asked for, and lets go of the file and the lock."""
        await self._writer.close()
        self._let_go()

    def wake(self) -> None:
        """Signals everything once, without a change."""
        for signal in (self.changed, self.queued, self.ended, self.cancelling):
            signal.fire()

    async def _read(self, query: Callable[[sa.Connection], _T]) -> _T:
        def in_transaction() -> _T:
            with self._read_engine.begin() as connection:
                return query(connection)

        try:
            return await asyncio.get_running_loop().run_in_executor(self._readers, in_transaction)
        except sa.exc.DatabaseError as error:
            if is_outage(error):
                raise unavailable(error) from error
            raise

    def _publish(self, transaction: Transaction) -> None:
        logged = transaction.logged
        first = logged[0].event.revision if logged else transaction.revision + 1
        has_unknown = first != self._revision + 1
        if has_unknown:
            # A commit that had failed for its caller reached the disk: its events are there alone.
            self._tail.clear()
        self._tail.extend(logged)
        self._revision = transaction.revision
        for operation in transaction.changed.values():
            self._board.report(operation)
        if has_unknown:
            self.wake()
        elif transaction.changed:
            self.changed.fire()
        bodies = [entry.event.body for entry in logged]
        entered = {body.to_state for body in bodies if isinstance(body, StateChanged)}
        if State.QUEUED in entered:
            self.queued.fire()
        if State.CANCELLING in entered:
            self.cancelling.fire()
        if any(state.is_terminal for state in entered):
            self.ended.fire()

    def _current(self, operation: Operation) -> Operation:
        """Returns what a reader is shown: the row, with the progress that is newer than it."""
        stored = self._writer.memory.held.get(operation.name)
        if stored is None or not operation.state.is_held:
            return operation
        return replace(operation, progress=stored.operation.progress)

    def _let_go(self) -> None:
        self._readers.shutdown()
        self._read_engine.dispose()
        self._write_engine.dispose()
        self._lock.release()


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise StoreUnavailableError(
            f"The folder {folder} cannot be made: {error.strerror}. "
            "Free its place, or set BACKLANE_HOME to another folder.",
            metadata={"path": str(folder), "cause": str(error.strerror)},
        ) from error


def _opened(engine: sa.Engine, path: Path) -> tuple[str, int]:
    """Makes the tables where there are none; returns the registry's uid and oldest revision."""
    with engine.begin() as connection:
        if not sa.inspect(connection).has_table("registry"):
            schema.metadata.create_all(connection)
            connection.execute(
                schema.registry.insert().values(
                    id=1,
                    schema_version=schema.SCHEMA_VERSION,
                    registry_uid=str(uuid.uuid4()),
                    revision=0,
                    oldest_revision=0,
                    probe_count=0,
                )
            )
        row = connection.execute(sa.select(schema.registry)).mappings().one()
    if row["schema_version"] != schema.SCHEMA_VERSION:
        raise StoreUnavailableError(
            f"{path} has schema version {row['schema_version']}, and this Backlane knows version "
            f"{schema.SCHEMA_VERSION}. Run the Backlane that wrote it, or a newer one.",
            metadata={
                "path": str(path),
                "schema_version": str(row["schema_version"]),
                "known_version": str(schema.SCHEMA_VERSION),
            },
        )
    return row["registry_uid"], row["oldest_revision"]
