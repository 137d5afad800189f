"""The state machine: which moves are legal, and what each command does to an operation.

Every function takes an operation, what is asked and the time, and returns the `Change`: the
operation afterwards and the events that say so. Nothing here is kept, awaited or looked up; a
store applies a change in one transaction, or not at all.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace

from backlane.errors import (
    CancelledRunError,
    FieldViolation,
    InvalidRequestError,
    LeaseLostError,
    OperationNotTerminalError,
    WorkerLostError,
)
from backlane.operations.commands import Claim, Failed, NewOperation, Outcome, Stopped, Succeeded
from backlane.operations.events import Deleted, EventBody, OperationEvent, StateChanged
from backlane.operations.lease import Instant, Lease, LeaseTerms
from backlane.operations.operation import Operation, OperationError, Payload, State

LEGAL_TRANSITIONS: frozenset[tuple[State | None, State]] = frozenset(
    {
        (None, State.QUEUED),  # accepted
        (State.QUEUED, State.RUNNING),  # a worker took the lease
        (State.QUEUED, State.CANCELLED),  # cancelled before anyone began
        (State.RUNNING, State.SUCCEEDED),  # the worker finished
        (State.RUNNING, State.FAILED),  # the worker failed, or was lost for the last time
        (State.RUNNING, State.QUEUED),  # the worker was lost, another may try
        (State.RUNNING, State.CANCELLING),  # cancel was asked while a worker held the lease
        (State.CANCELLING, State.CANCELLED),  # the worker stopped, or was lost
        (State.CANCELLING, State.SUCCEEDED),  # the worker was faster than the cancel
        (State.CANCELLING, State.FAILED),  # the worker failed before it could stop
    }
)
"""Every move that exists. Terminal states are in no left column: they absorb."""


class IllegalTransitionError(Exception):
    """A move that the table does not hold was about to be made: a bug, never a user's fault."""


@dataclass(frozen=True, slots=True)
class Change:
    """What a command does: the operation afterwards, and the events, numbered by sequence."""

    operation: Operation
    events: tuple[OperationEvent, ...] = ()


def create(request: NewOperation, name: str, uid: str, now: Instant) -> Change:
    """Accepts an operation under a fresh name and uid."""
    operation = Operation(
        name=name,
        uid=uid,
        kind=request.kind,
        state=State.QUEUED,
        spec=request.spec,
        create_time_ns=now.wall_ns,
        labels=dict(request.labels),
        max_attempts=request.max_attempts,
    )
    return logged(operation, [StateChanged(None, State.QUEUED, "CREATED")], now)


def grant(operation: Operation, claim: Claim, terms: LeaseTerms, now: Instant) -> Change:
    """Hands a queued operation to a worker: the attempt and the epoch grow by one."""
    lease = Lease(
        operation=operation.name,
        epoch=operation.epoch + 1,
        worker_id=claim.worker_id,
        request_id=claim.request_id,
        expires_at_s=now.monotonic_s + terms.ttl_s,
    )
    held = replace(
        operation,
        lease=lease,
        epoch=lease.epoch,
        attempt=operation.attempt + 1,
        start_time_ns=operation.start_time_ns or now.wall_ns,
        progress=None,
    )
    return _moved(held, State.RUNNING, "LEASE_GRANTED", now)


def renew(
    operation: Operation, worker_id: str, epoch: int, terms: LeaseTerms, now: Instant
) -> Change:
    """Gives a live lease its full time again.

    Raises:
        LeaseLostError: the lease is not the operation's newest, its time ran out, or another
            worker holds it.

    """
    lease = fence(operation, epoch, now)
    if lease.worker_id != worker_id:
        raise _lease_lost(operation, epoch, f"worker {lease.worker_id} holds it")
    return Change(replace(operation, lease=lease.renewed(terms, now)))


def request_cancel(operation: Operation, reason: str, now: Instant) -> Change:
    """Asks for cancel. A queued operation ends at once; a terminal one stays as it is."""
    if operation.state.is_terminal or operation.state is State.CANCELLING:
        return Change(operation)
    asked = replace(operation, cancel_reason=reason)
    if operation.state is State.RUNNING:
        return _moved(asked, State.CANCELLING, "CANCEL_REQUESTED", now)
    return _ended(asked, State.CANCELLED, "CANCEL_REQUESTED", now, error=_cancelled(asked))


def complete(operation: Operation, epoch: int, outcome: Outcome, now: Instant) -> Change:
    """Ends an operation as its worker says; the same outcome again changes nothing.

    Raises:
        LeaseLostError: the lease is not the operation's newest, or its time ran out.
        InvalidRequestError: the worker says that it was cancelled, and nobody had asked for it.

    """
    if epoch == operation.epoch and _is_recorded(operation, outcome):
        return Change(operation)
    fence(operation, epoch, now)
    if isinstance(outcome, Succeeded):
        return _ended(operation, State.SUCCEEDED, "COMPLETED", now, result=outcome.result)
    if isinstance(outcome, Failed):
        return _ended(operation, State.FAILED, outcome.error.reason, now, error=outcome.error)
    if operation.state is not State.CANCELLING:
        raise InvalidRequestError(
            f"{operation.name} cannot end as cancelled: nobody asked for cancel. "
            "Complete it with a result or an error.",
            metadata={"operation": operation.name, "state": operation.state.value},
            violations=(FieldViolation("outcome", "cancelled, but cancel was not asked for"),),
        )
    error = _cancelled(operation)
    return _ended(operation, State.CANCELLED, "CANCEL_ACKNOWLEDGED", now, error=error)


def expire(operation: Operation, now: Instant) -> Change:
    """Takes a lease away whose time ran out; does nothing while it is good."""
    lease = operation.lease
    if lease is None or lease.is_live(now):
        return Change(operation)
    if operation.state is State.CANCELLING:
        error = _cancelled(operation)
        return _ended(operation, State.CANCELLED, "LEASE_EXPIRED", now, error=error)
    if operation.attempt < operation.max_attempts:
        return _moved(replace(operation, lease=None), State.QUEUED, "LEASE_EXPIRED", now)
    error = _worker_lost(operation, lease)
    return _ended(operation, State.FAILED, error.reason, now, error=error)


def delete(operation: Operation, now: Instant) -> Change:
    """Deletes a terminal operation: what it carried goes, its log stays until compaction.

    Raises:
        OperationNotTerminalError: it has not ended yet.

    """
    if not operation.state.is_terminal:
        raise OperationNotTerminalError(
            f"{operation.name} is {operation.state}: cancel it, or wait for its end, to delete it.",
            metadata={"operation": operation.name, "state": operation.state.value},
        )
    tombstone = replace(
        operation,
        spec=Payload(operation.spec.type_url, b""),
        result=None,
        progress=None,
        is_deleted=True,
    )
    return logged(tombstone, [Deleted()], now)


def fence(operation: Operation, epoch: int, now: Instant) -> Lease:
    """Returns the lease that a worker writes with, or refuses the write.

    Raises:
        LeaseLostError: the epoch is not the newest, the time ran out, or it has ended.

    """
    lease = operation.lease
    if lease is None:
        problem = f"nobody holds it, it is {operation.state}"
    elif epoch != operation.epoch:
        problem = f"the newest epoch is {operation.epoch}"
    elif not lease.is_live(now):
        problem = "its time ran out"
    else:
        return lease
    raise _lease_lost(operation, epoch, problem)


def _lease_lost(operation: Operation, epoch: int, problem: str) -> LeaseLostError:
    return LeaseLostError(
        f"The lease of {operation.name} with epoch {epoch} is lost: {problem}. "
        "Stop, and write nothing more for it.",
        metadata={
            "operation": operation.name,
            "epoch": str(epoch),
            "epoch_now": str(operation.epoch),
            "state": operation.state.value,
        },
    )


def logged(operation: Operation, bodies: Iterable[EventBody], now: Instant) -> Change:
    """Returns the change that adds one event for each body, numbered on from the last one."""
    events = tuple(
        OperationEvent(operation.name, sequence, operation.attempt, now.wall_ns, body)
        for sequence, body in enumerate(bodies, operation.event_sequence + 1)
    )
    return Change(replace(operation, event_sequence=operation.event_sequence + len(events)), events)


def committed(change: Change, last_revision: int) -> Change:
    """Returns the change with the revisions after `last_revision`, one for each event."""
    if not change.events:
        return change
    events = tuple(
        replace(event, revision=revision)
        for revision, event in enumerate(change.events, last_revision + 1)
    )
    return Change(replace(change.operation, revision=events[-1].revision), events)


def _moved(
    operation: Operation,
    to_state: State,
    reason: str,
    now: Instant,
    *,
    error: OperationError | None = None,
    result: Payload | None = None,
) -> Change:
    if (operation.state, to_state) not in LEGAL_TRANSITIONS:
        raise IllegalTransitionError(f"{operation.name}: {operation.state} -> {to_state}")
    body = StateChanged(operation.state, to_state, reason, error, result)
    return logged(replace(operation, state=to_state), [body], now)


def _ended(
    operation: Operation,
    to_state: State,
    reason: str,
    now: Instant,
    *,
    error: OperationError | None = None,
    result: Payload | None = None,
) -> Change:
    ended = replace(operation, lease=None, end_time_ns=now.wall_ns, error=error, result=result)
    return _moved(ended, to_state, reason, now, error=error, result=result)


def _is_recorded(operation: Operation, outcome: Outcome) -> bool:
    if isinstance(outcome, Succeeded):
        return operation.state is State.SUCCEEDED and operation.result == outcome.result
    if isinstance(outcome, Failed):
        return operation.state is State.FAILED and operation.error == outcome.error
    return isinstance(outcome, Stopped) and operation.state is State.CANCELLED


def _cancelled(operation: Operation) -> OperationError:
    why = f": {operation.cancel_reason}" if operation.cancel_reason else "."
    return OperationError(
        reason=CancelledRunError.reason,
        message=f"Stopped because cancel was asked{why}",
        metadata={"cancel_reason": operation.cancel_reason} if operation.cancel_reason else {},
    )


def _worker_lost(operation: Operation, lease: Lease) -> OperationError:
    return OperationError(
        reason=WorkerLostError.reason,
        message=(
            f"Worker {lease.worker_id} stopped renewing its lease in attempt {operation.attempt} "
            f"of {operation.max_attempts}: it died, hung or lost its connection. "
            "See the worker's log, then run it again."
        ),
        metadata={
            "worker_id": lease.worker_id,
            "attempt": str(operation.attempt),
            "max_attempts": str(operation.max_attempts),
        },
    )
