"""The port to what keeps operations, and its contract in prose.

Durable. A write that returned is on disk; one that raised a domain error changed nothing; one that
raised `StoreUnavailableError` may or may not have happened, and is safe to repeat: every write is
idempotent by its request_id, batch_number, outcome or nature.

Ordered. Each durable event gets the next `revision`, without holes, in the order of commit. A
change and its events are one transaction. `revision` moves only after the commit, and waiters are
woken after that: what a watcher is told can be read.

Exclusive. At most one lease per operation is live. Every write of a worker carries its epoch and
is refused once the lease is lost. After a restart of the registry a lease that was live gets its
full time again, so that a restart ends no run.

Shared. Several stores may stand on one database, one in each replica of the registry. Each sees
every change: its own at once, those of others within `FOREIGN_CHANGE_S_MAX`.

Latest wins. Progress is kept beside the log; it may be lost in a restart, events never are.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from backlane.operations.admission import AdmissionLimits
from backlane.operations.checkpoints import CheckpointReply
from backlane.operations.commands import Claim, NewOperation, Outcome, Resumption, TelemetryBatch
from backlane.operations.events import MetricPoint, OperationEvent
from backlane.operations.lease import LeaseTerms
from backlane.operations.operation import Checkpoint, Operation, Progress, State
from backlane.operations.retention import RetentionPolicy
from backlane.operations.selection import ListOrder, Selection

FOREIGN_CHANGE_S_MAX = 0.25
"""The longest time until a store sees what another one on the same database has committed, even
when no notification of it arrives."""


@dataclass(frozen=True, slots=True)
class Compaction:
    """What one round of retention removed; `has_more` when a further round would find something."""

    operation_count: int
    has_more: bool


@dataclass(frozen=True, slots=True)
class OperationPage:
    """A page of a list, in the order that was asked for.

    `next_cursor` goes into the next call; None at the end. `revision` is that of the log at which
    the page was read.
    """

    operations: tuple[Operation, ...]
    next_cursor: int | None
    revision: int


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The chosen operations, all as they were at `revision`, oldest first."""

    operations: tuple[Operation, ...]
    revision: int


@dataclass(frozen=True, slots=True)
class EventPage:
    """The chosen events in (after, through_revision], in order, and none but these."""

    events: tuple[OperationEvent, ...]
    through_revision: int


@dataclass(frozen=True, slots=True)
class MetricPage:
    """Points in index order; pass `through_index` on to read further.

    `is_complete`: the operation is terminal and all of it is read.
    """

    points: tuple[MetricPoint, ...]
    through_index: int
    is_complete: bool


@dataclass(frozen=True, slots=True)
class ProgressPage:
    """The newest progress of each chosen operation that reported since a tick, and the tick now."""

    progress: dict[str, Progress]
    tick: int


@dataclass(frozen=True, slots=True)
class Renewal:
    """A lease that a worker wants to keep."""

    operation: str
    epoch: int


@dataclass(frozen=True, slots=True)
class RenewalReply:
    """What became of a renewal.

    `operation` holds the lease when it is good; None when it is lost, for the reason that
    `problem` gives.
    """

    renewal: Renewal
    operation: Operation | None
    problem: str = ""


class Wake(Protocol):
    """Something to wait for, without missing it.

    Read `count`, look at the state, and wait for a count beyond the one that was read.
    """

    @property
    def count(self) -> int:
        """How often it has happened so far."""
        ...

    async def wait(self, timeout_s: float, *, after: int) -> None:
        """Returns once `count` is above `after`, or after `timeout_s`; may return earlier."""
        ...


class OperationStore(Protocol):
    """Keeps operations, their leases and their log; see the contract above."""

    terms: LeaseTerms
    admission: AdmissionLimits
    retention: RetentionPolicy

    @property
    def registry_uid(self) -> str:
        """Names this registry for ever; a copy restored from a backup keeps the name."""
        ...

    @property
    def revision(self) -> int:
        """The newest committed revision; 0 before the first event."""
        ...

    @property
    def oldest_revision(self) -> int:
        """The revision before the oldest event that is kept: the earliest place to read from."""
        ...

    @property
    def changed(self) -> Wake:
        """Signals after every commit with an event, and after every report of progress."""
        ...

    @property
    def queued(self) -> Wake:
        """Signals after every commit by which an operation became QUEUED."""
        ...

    @property
    def ended(self) -> Wake:
        """Signals after every commit by which an operation became terminal."""
        ...

    @property
    def cancelling(self) -> Wake:
        """Signals after every commit by which an operation became CANCELLING."""
        ...

    async def create(self, request: NewOperation) -> Operation:
        """Accepts an operation; the same request again returns the same operation as it is now.

        Raises:
            RequestIdReusedError: another request came under this request_id; says what differs.
            OperationNotFoundError: it was accepted before, and has been deleted since.
            QueueFullError: the client, or the registry, has too many on their way.

        """
        ...

    async def resume(self, request: Resumption) -> Operation:
        """Accepts an operation that goes on from another one, as `transitions.resume` says.

        The same request again returns the same operation, as `create` does; raises what both say.
        """
        ...

    async def get(self, name: str) -> Operation:
        """Returns an operation.

        Raises:
            OperationNotFoundError: there is none, or it was deleted.

        """
        ...

    async def list_operations(
        self,
        selection: Selection,
        page_size: int,
        cursor: int | None = None,
        order: ListOrder = ListOrder.NEWEST_FIRST,
    ) -> OperationPage:
        """Returns a page from beyond the cursor."""
        ...

    async def claim(self, claim: Claim) -> Operation | None:
        """Gives a queued operation of the kinds to the worker; None when there is none now.

        The highest priority goes first, and among equals the oldest; one that waits for its next
        attempt is passed over. The same claim again returns the operation that it got, while that
        lease is live.
        """
        ...

    async def next_attempt_delay_s(self, kinds: tuple[str, ...]) -> float | None:
        """Returns the seconds until the first operation that waits for its next attempt is due.

        None when none waits.
        """
        ...

    async def renew(self, worker_id: str, renewals: Sequence[Renewal]) -> list[RenewalReply]:
        """Renews leases; replies in the same order. A lost lease is a reply, not an error."""
        ...

    async def append(self, name: str, epoch: int, batch: TelemetryBatch) -> Operation:
        """Adds telemetry, as `telemetry.append` says."""
        ...

    async def complete(self, name: str, epoch: int, outcome: Outcome) -> Operation:
        """Ends an operation, as `transitions.complete` says."""
        ...

    async def request_cancel(self, name: str, reason: str) -> Operation:
        """Asks for cancel, as `transitions.request_cancel` says."""
        ...

    async def delete(self, name: str) -> None:
        """Deletes a terminal operation, as `transitions.delete` says.

        Raises:
            OperationNotFoundError: there is none.

        """
        ...

    async def commit_checkpoint(
        self, name: str, epoch: int, checkpoint: Checkpoint
    ) -> CheckpointReply:
        """Commits a checkpoint, as `checkpoints.commit` says."""
        ...

    async def release(self, name: str, epoch: int, reason: str) -> Operation:
        """Gives an operation back to the queue, as `transitions.release` says."""
        ...

    async def expire_lapsed(self) -> tuple[str, ...]:
        """Does what the passing of time asks for, as `transitions.expire` says, to all.

        Returns the operations that it changed.
        """
        ...

    async def compact(
        self, older_than_s: float, selection: Selection, *, is_dry_run: bool = False
    ) -> Compaction:
        """Removes chosen operations that ended longer ago, with all that is kept of them.

        At most `PRUNED_PER_CALL_MAX` by one call, in transactions of `retention.batch_operations`;
        moves `oldest_revision`. Removes request_ids whose time is over, too.
        """
        ...

    async def held_by(self, worker_id: str) -> tuple[Operation, ...]:
        """Returns the operations whose lease the worker holds."""
        ...

    async def snapshot(self, selection: Selection) -> Snapshot:
        """Reads the chosen operations in one transaction.

        Raises:
            LimitExceededError: there are too many to hold at once.

        """
        ...

    async def states(self, names: frozenset[str]) -> tuple[dict[str, State | None], int]:
        """Returns each operation's state at the revision that it returns; None for a deleted one.

        Names that never existed are left out.
        """
        ...

    async def read_events(self, selection: Selection, after: int) -> EventPage:
        """Reads the log on from `after`, at most one page of about 1 MiB.

        Raises:
            ResumeTokenCompactedError: events after `after` are no longer kept.

        """
        ...

    def progress_since(self, selection: Selection, tick: int) -> ProgressPage:
        """Returns the progress reported after `tick`; 0 for all that is known."""
        ...

    async def list_metric_points(
        self, name: str, after_index: int, series: frozenset[str], page_size: int
    ) -> MetricPage:
        """Reads the points of an operation on from `after_index`, of some series or of all."""
        ...

    def wake(self) -> None:
        """Signals everything once, without a change, so that everyone who waits looks again."""
        ...

    async def probe(self) -> None:
        """Writes one row, to learn whether writing works.

        Raises:
            StoreUnavailableError: it does not.

        """
        ...

    async def start(self) -> None:
        """Opens what keeps the operations; comes before everything else.

        Raises:
            StoreUnavailableError: it cannot be opened, belongs to a newer version of Backlane, or
                is in use by another server.

        """
        ...

    async def stop(self) -> None:
        """Finishes the writes that were asked for, and lets go of everything."""
        ...
