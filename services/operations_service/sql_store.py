"""The store of the registry, over a SQL database of either kind.

One connection writes (`writer`), others read (`queries`), and the newest part of the log is in
memory (`tail`), so that a watcher who keeps up reads no disk. The contract is that of
`backlane.operations.store`.
"""

import asyncio
import uuid
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from backlane import failpoints
from backlane.clock import Clock
from backlane.operations.admission import AdmissionLimits
from backlane.operations.checkpoints import CheckpointReply
from backlane.operations.commands import Claim, NewOperation, Outcome, Resumption, TelemetryBatch
from backlane.operations.events import StateChanged
from backlane.operations.lease import LeaseTerms
from backlane.operations.limits import PRUNED_PER_CALL_MAX
from backlane.operations.operation import Checkpoint, Operation, State
from backlane.operations.records import replace
from backlane.operations.retention import NS_PER_S, RetentionPolicy
from backlane.operations.selection import ListOrder, Selection
from backlane.operations.store import (
    Compaction,
    EventPage,
    MetricPage,
    OperationPage,
    ProgressPage,
    Renewal,
    RenewalReply,
    Snapshot,
)
from operations_service import commands, compaction, listing, queries
from operations_service.database import Database, Session, unavailable
from operations_service.memory import News
from operations_service.selecting import Place
from operations_service.signals import Signal
from operations_service.tail import ProgressBoard, Tail
from operations_service.writer import Writer

_T = TypeVar("_T")

READERS = 4
"""Threads that read at once."""


def new_operation_id() -> str:
    """Returns the last part of an operation's name: 16 random hex digits."""
    return uuid.uuid4().hex[:16]


class SqlOperationStore:
    """Keeps operations in a SQL database; started, used and stopped on one event loop."""

    def __init__(
        self,
        database: Database,
        clock: Clock,
        terms: LeaseTerms,
        *,
        admission: AdmissionLimits | None = None,
        retention: RetentionPolicy | None = None,
        new_id: Callable[[], str] = new_operation_id,
    ) -> None:
        self.terms = terms
        self.admission = admission or AdmissionLimits()
        self.retention = retention or RetentionPolicy()
        self.changed, self.queued = Signal(), Signal()
        self.ended, self.cancelling = Signal(), Signal()
        self._database = database
        self._clock = clock
        self._new_id = new_id
        self._tail, self._board = Tail(), ProgressBoard()
        self._readers = ThreadPoolExecutor(READERS, thread_name_prefix="operations-reader")
        self._writer = Writer(
            database, clock, terms, self.retention, self._publish, self._wake_for_news
        )
        self._to_wake: set[Signal] = set()
        self._registry_uid, self._oldest_revision, self._revision = "", 0, 0

    async def start(self) -> None:
        """Opens the database, or makes it."""
        try:
            self._registry_uid = self._database.prepare()
            self._writer.load()
        except Exception as error:
            await self.stop()
            told = self._database.outage(error)
            if told is not None:
                raise told from error
            raise
        memory = self._writer.memory
        self._revision, self._oldest_revision = memory.revision, memory.oldest_revision
        for stored in memory.held.values():
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
        name, uid = self._new_names()
        return await self._writer.submit(
            lambda tx: commands.create(tx, request, self.admission, name, uid)
        )

    async def resume(self, request: Resumption) -> Operation:
        """Accepts an operation that goes on from another one, once per request."""
        name, uid = self._new_names()
        return await self._writer.submit(
            lambda tx: commands.resume(tx, request, self.admission, name, uid)
        )

    async def claim(self, claim: Claim) -> Operation | None:
        """Gives the queued operation of the kinds that goes first to the worker."""
        taken = await self._writer.submit(lambda tx: commands.claim(tx, claim, self.terms))
        if taken is not None:
            _reached("lease.after_grant_before_ack")
        return taken

    async def next_attempt_delay_s(self, kinds: tuple[str, ...]) -> float | None:
        """Returns the seconds until the first operation that waits is due."""
        due_ns = await self._read(lambda session: queries.next_attempt_ns(session, kinds))
        return None if due_ns is None else max(0.0, (due_ns - self._clock.now_ns()) / NS_PER_S)

    async def renew(self, worker_id: str, renewals: Sequence[Renewal]) -> list[RenewalReply]:
        """Renews leases of a worker."""
        return await self._writer.submit(
            lambda tx: commands.renew(tx, worker_id, renewals, self.terms)
        )

    async def append(self, name: str, epoch: int, batch: TelemetryBatch) -> Operation:
        """Adds a batch of telemetry to the log."""
        return await self._writer.submit(lambda tx: commands.append(tx, name, epoch, batch))

    async def commit_checkpoint(
        self, name: str, epoch: int, checkpoint: Checkpoint
    ) -> CheckpointReply:
        """Makes a checkpoint the one that a next attempt begins from."""
        reply = await self._writer.submit(
            lambda tx: commands.commit_checkpoint(tx, name, epoch, checkpoint)
        )
        _reached("checkpoint.after_commit_before_ack")
        return reply

    async def release(self, name: str, epoch: int, reason: str) -> Operation:
        """Gives an operation back to the queue."""
        return await self._writer.submit(lambda tx: commands.release(tx, name, epoch, reason))

    async def complete(self, name: str, epoch: int, outcome: Outcome) -> Operation:
        """Ends an operation as its worker says."""
        ended = await self._writer.submit(lambda tx: commands.complete(tx, name, epoch, outcome))
        _reached("complete.after_commit_before_ack")
        return ended

    async def request_cancel(self, name: str, reason: str) -> Operation:
        """Asks for cancel of an operation."""
        return await self._writer.submit(lambda tx: commands.request_cancel(tx, name, reason))

    async def delete(self, name: str) -> None:
        """Deletes a terminal operation."""
        await self._writer.submit(lambda tx: commands.delete(tx, name))

    async def expire_lapsed(self) -> tuple[str, ...]:
        """Does what the passing of time asks for, to all."""
        _reached("lease.before_expire")
        changed = await self._writer.submit(lambda tx: commands.expire_lapsed(tx, self.terms))
        if changed:
            _reached("lease.after_expire")
        return changed

    async def compact(
        self, older_than_s: float, selection: Selection, *, is_dry_run: bool = False
    ) -> Compaction:
        """Removes chosen operations that ended longer ago, in short transactions."""
        cutoff_ns = self._clock.now_ns() - int(older_than_s * NS_PER_S)
        wish = compaction.Wish(selection, cutoff_ns)
        if is_dry_run:
            count = await self._read(lambda session: compaction.count(session, wish))
            return Compaction(min(count, PRUNED_PER_CALL_MAX), count > PRUNED_PER_CALL_MAX)
        removed = 0
        while removed < PRUNED_PER_CALL_MAX:
            most = min(self.retention.batch_operations, PRUNED_PER_CALL_MAX - removed)
            batch = await self._writer.submit(
                lambda tx, most=most: compaction.remove(tx, wish, most)  # type: ignore[misc]
            )
            _reached("compaction.after_delete")
            removed += batch.operation_count
            if not batch.has_more:
                return Compaction(removed, has_more=False)
        return Compaction(removed, has_more=True)

    async def probe(self) -> None:
        """Writes one row, to see whether that works."""
        await self._writer.submit(commands.probe)

    async def held_by(self, worker_id: str) -> tuple[Operation, ...]:
        """Returns the operations whose lease the worker holds."""
        held = (stored.operation for stored in self._writer.memory.held.values())
        return tuple(one for one in held if one.lease and one.lease.worker_id == worker_id)

    async def get(self, name: str) -> Operation:
        """Returns an operation as it is now."""
        return self._current(await self._read(lambda session: queries.get(session, name)))

    async def list_operations(
        self,
        selection: Selection,
        page_size: int,
        cursor: int | None = None,
        order: ListOrder = ListOrder.NEWEST_FIRST,
    ) -> OperationPage:
        """Returns a page from beyond the cursor."""
        place = Place(order, cursor, page_size)
        page = await self._read(lambda session: listing.list_operations(session, selection, place))
        return replace(page, operations=tuple(map(self._current, page.operations)))

    async def snapshot(self, selection: Selection) -> Snapshot:
        """Reads the chosen operations in one transaction."""
        found = await self._read(lambda session: listing.snapshot(session, selection))
        return replace(found, operations=tuple(map(self._current, found.operations)))

    async def states(self, names: frozenset[str]) -> tuple[dict[str, State | None], int]:
        """Returns the state of each operation that ever was, and the revision."""
        return await self._read(lambda session: queries.states(session, names))

    async def read_events(self, selection: Selection, after: int) -> EventPage:
        """Reads a page of the log, from memory when it is all there."""
        if after < self._oldest_revision:
            raise queries.compacted(after, self._oldest_revision)
        through = self._revision
        if after >= through:
            return EventPage((), after)
        page = self._tail.read(selection, after, through)
        if page is not None:
            return page
        return await self._read(
            lambda session: queries.read_events(session, selection, after, through)
        )

    def progress_since(self, selection: Selection, tick: int) -> ProgressPage:
        """Returns the progress reported after `tick`."""
        return self._board.since(selection, tick)

    async def list_metric_points(
        self, name: str, after_index: int, series: frozenset[str], page_size: int
    ) -> MetricPage:
        """Reads the points of an operation."""
        return await self._read(
            lambda session: queries.list_metric_points(
                session, name, after_index, series, page_size
            )
        )

    async def stop(self) -> None:
        """Finishes the writes that were asked for, and lets go of everything."""
        await self._writer.close()
        self._readers.shutdown()
        self._database.release()

    def wake(self) -> None:
        """Signals everything once, without a change."""
        for signal in (self.changed, self.queued, self.ended, self.cancelling):
            signal.fire()

    def _new_names(self) -> tuple[str, str]:
        return f"operations/{self._new_id()}", str(uuid.uuid4())

    async def _read(self, query: Callable[[Session], _T]) -> _T:
        def in_transaction() -> _T:
            with self._database.reading() as session:
                return query(session)

        try:
            return await asyncio.get_running_loop().run_in_executor(self._readers, in_transaction)
        except Exception as error:
            told = self._database.outage(error)
            if told is not None:
                raise told from error
            raise

    def _publish(self, news: News) -> None:
        """Makes what was committed readable; whoever waits for it is woken after that."""
        if not news.is_whole:
            self._tail.clear()
        self._tail.extend(news.events)
        self._revision, self._oldest_revision = news.revision, news.oldest_revision
        for operation in news.changed:
            self._board.report(operation)
        if not news.is_whole:
            self._to_wake.update((self.changed, self.queued, self.ended, self.cancelling))
        elif news.changed or news.events:
            self._to_wake.add(self.changed)
        bodies = [entry.event.body for entry in news.events]
        entered = {body.to_state for body in bodies if isinstance(body, StateChanged)}
        if State.QUEUED in entered:
            self._to_wake.add(self.queued)
        if State.CANCELLING in entered:
            self._to_wake.add(self.cancelling)
        if any(state.is_terminal for state in entered):
            self._to_wake.add(self.ended)

    def _wake_for_news(self) -> None:
        signals, self._to_wake = self._to_wake, set()
        for signal in signals:
            signal.fire()

    def _current(self, operation: Operation) -> Operation:
        """Returns what a reader is shown: the row, with the progress that is newer than it."""
        stored = self._writer.memory.held.get(operation.name)
        if stored is None or not operation.state.is_held:
            return operation
        return replace(operation, progress=stored.operation.progress)


def _reached(name: str) -> None:
    """Lets a test make the answer of a write that is durable get lost here."""
    try:
        failpoints.reached(name)
    except failpoints.FailpointError as error:
        raise unavailable(str(error)) from error
