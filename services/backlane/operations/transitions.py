"""The state machine: which moves are legal, and what each command does to an operation.

Every function takes an operation, what is asked and the time, and returns the `Change`: the
operation afterwards and the events that say so. Nothing here is kept, awaited or looked up; a
store applies a change in one transaction, or not at all.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from backlane.errors import (
    AttemptTimeoutError,
    CancelledRunError,
    FieldViolation,
    InvalidRequestError,
    LeaseLostError,
    NothingToResumeError,
    OperationNotTerminalError,
    QueueTimeoutError,
    WorkerLostError,
)
from backlane.operations.commands import (
    Claim,
    Failed,
    NewOperation,
    Outcome,
    Resumption,
    Stopped,
    Succeeded,
)
from backlane.operations.events import Deleted, EventBody, OperationEvent, StateChanged
from backlane.operations.lease import Instant, Lease, LeaseTerms
from backlane.operations.limits import (
    FAILURE_MESSAGE_CHARACTERS_MAX,
    FAILURES_KEPT_MAX,
    RELEASES_MAX,
)
from backlane.operations.operation import AttemptFailure, Operation, OperationError, Payload, State
from backlane.operations.records import replace
from backlane.operations.retries import retry_delay_s

NS_PER_S = 1_000_000_000

LEGAL_TRANSITIONS: frozenset[tuple[State | None, State]] = frozenset(
    {
        (None, State.QUEUED),  # accepted
        (State.QUEUED, State.RUNNING),  # a worker took the lease
        (State.QUEUED, State.CANCELLED),  # cancelled before anyone began
        (State.QUEUED, State.FAILED),  # nobody took it in time
        (State.RUNNING, State.SUCCEEDED),  # the worker finished
        (State.RUNNING, State.FAILED),  # the worker failed, or was lost for the last time
        (State.RUNNING, State.QUEUED),  # the attempt ended badly or was given back
        (State.RUNNING, State.CANCELLING),  # cancel was asked while a worker held the lease
        (State.CANCELLING, State.CANCELLED),  # the worker stopped, was lost, or took too long
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
        priority=request.priority,
        client=request.client,
        queue_timeout_s=request.queue_timeout_s,
        attempt_timeout_s=request.attempt_timeout_s,
    )
    return logged(operation, [StateChanged(None, State.QUEUED, "CREATED")], now)


def resume(source: Operation, request: Resumption, name: str, uid: str, now: Instant) -> Change:
    """Accepts a new operation that goes on from the checkpoints of one that did not succeed.

    Raises:
        OperationNotTerminalError: the source has not ended yet.
        NothingToResumeError: it succeeded, or left no checkpoint.

    """
    if not source.state.is_terminal:
        raise OperationNotTerminalError(
            f"{source.name} is {source.state}: it goes on by itself. Resume it once it has failed "
            "or was cancelled.",
            metadata={"operation": source.name, "state": source.state.value},
        )
    if source.state is State.SUCCEEDED or not source.checkpoints:
        why = "it succeeded" if source.state is State.SUCCEEDED else "it left no checkpoint"
        raise NothingToResumeError(
            f"{source.name} cannot be resumed: {why}. Run it anew.",
            metadata={"operation": source.name, "state": source.state.value},
        )
    operation = Operation(
        name=name,
        uid=uid,
        kind=source.kind,
        state=State.QUEUED,
        spec=source.spec,
        create_time_ns=now.wall_ns,
        labels=dict(source.labels),
        max_attempts=source.max_attempts,
        priority=source.priority,
        client=request.client,
        queue_timeout_s=source.queue_timeout_s,
        attempt_timeout_s=source.attempt_timeout_s,
        checkpoints=source.checkpoints,
        checkpoint_number=source.checkpoint_number,
        resumed_from=source.name,
    )
    return logged(operation, [StateChanged(None, State.QUEUED, "RESUMED")], now)


def is_claimable(operation: Operation, now: Instant) -> bool:
    """Whether a worker may be given the operation now."""
    waits = operation.next_attempt_ns is not None and operation.next_attempt_ns > now.wall_ns
    return operation.state is State.QUEUED and not waits


def grant(operation: Operation, claim: Claim, terms: LeaseTerms, now: Instant) -> Change:
    """Hands a queued operation to a worker: the attempt and the epoch grow by one."""
    lease = Lease(
        operation=operation.name,
        epoch=operation.epoch + 1,
        worker_id=claim.worker_id,
        request_id=claim.request_id,
        expires_at_s=now.monotonic_s + terms.ttl_s,
        granted_at_s=now.monotonic_s,
    )
    is_first = operation.start_time_ns is None
    held = replace(
        operation,
        lease=lease,
        epoch=lease.epoch,
        attempt=operation.attempt + 1,
        start_time_ns=now.wall_ns if is_first else operation.start_time_ns,
        next_attempt_ns=None,
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


def release(operation: Operation, epoch: int, reason: str, now: Instant) -> Change:
    """Gives an operation back to the queue; no attempt is counted until that happens too often.

    One that is to be cancelled ends as cancelled: its worker has stopped.

    Raises:
        LeaseLostError: the lease is not the operation's newest, or its time ran out.

    """
    lease = fence(operation, epoch, now)
    if operation.state is State.CANCELLING:
        error = _cancelled(operation)
        return _ended(operation, State.CANCELLED, "CANCEL_ACKNOWLEDGED", now, error=error)
    if operation.release_count >= RELEASES_MAX:
        error = OperationError(
            WorkerLostError.reason,
            f"Workers gave it back {RELEASES_MAX} times, the last one because: {reason}",
            {"release_count": str(operation.release_count), "cause": reason},
        )
        return _attempt_failed(operation, lease, error, "RELEASED", now)
    queued = replace(operation, lease=None, release_count=operation.release_count + 1)
    return _moved(queued, State.QUEUED, "RELEASED", now)


def request_cancel(operation: Operation, reason: str, now: Instant) -> Change:
    """Asks for cancel. A queued operation ends at once; a terminal one stays as it is."""
    if operation.state.is_terminal or operation.state is State.CANCELLING:
        return Change(operation)
    asked = replace(operation, cancel_reason=reason)
    if operation.lease is not None:
        lease = replace(operation.lease, cancel_at_s=now.monotonic_s)
        return _moved(replace(asked, lease=lease), State.CANCELLING, "CANCEL_REQUESTED", now)
    return _ended(asked, State.CANCELLED, "CANCEL_REQUESTED", now, error=_cancelled(asked))


def complete(operation: Operation, epoch: int, outcome: Outcome, now: Instant) -> Change:
    """Ends an operation as its worker says, or its attempt when the error is retryable.

    The same outcome again changes nothing.

    Raises:
        LeaseLostError: the lease is not the operation's newest, or its time ran out.
        InvalidRequestError: the worker says that it was cancelled, and nobody had asked for it.

    """
    if epoch == operation.epoch and _is_recorded(operation, outcome):
        return Change(operation)
    lease = fence(operation, epoch, now)
    if isinstance(outcome, Succeeded):
        return _ended(operation, State.SUCCEEDED, "COMPLETED", now, result=outcome.result)
    if isinstance(outcome, Failed):
        if outcome.is_retryable and operation.state is State.RUNNING:
            return _attempt_failed(operation, lease, outcome.error, "RETRYABLE_ERROR", now)
        return _failed_for_good(operation, lease, outcome.error, now)
    if operation.state is not State.CANCELLING:
        raise InvalidRequestError(
            f"{operation.name} cannot end as cancelled: nobody asked for cancel. "
            "Complete it with a result or an error.",
            metadata={"operation": operation.name, "state": operation.state.value},
            violations=(FieldViolation("outcome", "cancelled, but cancel was not asked for"),),
        )
    error = _cancelled(operation)
    return _ended(operation, State.CANCELLED, "CANCEL_ACKNOWLEDGED", now, error=error)


def expire(operation: Operation, terms: LeaseTerms, now: Instant) -> Change:
    """Does what the passing of time asks for; most often nothing.

    A lease whose time ran out is taken away. An attempt beyond its time ends badly. A cancel that
    its worker does not follow ends the operation all the same. An operation that nobody began in
    time fails.
    """
    lease = operation.lease
    if lease is None:
        return _queue_expired(operation, now)
    if operation.state is State.CANCELLING:
        if lease.is_live(now) and not _is_cancel_overdue(lease, terms, now):
            return Change(operation)
        reason = "CANCEL_TIMEOUT" if lease.is_live(now) else "LEASE_EXPIRED"
        return _ended(operation, State.CANCELLED, reason, now, error=_cancelled(operation))
    if not lease.is_live(now):
        error = _worker_lost(operation, lease)
        return _attempt_failed(operation, lease, error, "LEASE_EXPIRED", now)
    timeout_s = operation.attempt_timeout_s
    if timeout_s is not None and now.monotonic_s >= lease.granted_at_s + timeout_s:
        error = _attempt_overdue(operation, timeout_s)
        return _attempt_failed(operation, lease, error, error.reason, now)
    return Change(operation)


def delete(operation: Operation, now: Instant) -> Change:
    """Deletes a terminal operation: what it carried goes, its log stays until compaction.

    Again, it changes nothing.

    Raises:
        OperationNotTerminalError: it has not ended yet.

    """
    if operation.is_deleted:
        return Change(operation)
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
        checkpoints=(),
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


def fail(operation: Operation, error: OperationError, now: Instant) -> Change:
    """Ends a held operation for good, for a cause that the registry itself found."""
    if operation.lease is None:
        raise IllegalTransitionError(f"{operation.name}: nobody holds it")
    return _failed_for_good(operation, operation.lease, error, now)


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


def _attempt_failed(
    operation: Operation, lease: Lease, error: OperationError, reason: str, now: Instant
) -> Change:
    """Queues the operation for another attempt, or fails it when it has none left."""
    failed = _with_failure(operation, lease, error, now)
    if failed.failure_count >= operation.max_attempts:
        return _ended(failed, State.FAILED, error.reason, now, error=_with_history(failed, error))
    delay_ns = int(retry_delay_s(failed.failure_count) * NS_PER_S)
    queued = replace(failed, lease=None, next_attempt_ns=now.wall_ns + delay_ns)
    return _moved(queued, State.QUEUED, reason, now, error=error)


def _failed_for_good(
    operation: Operation, lease: Lease, error: OperationError, now: Instant
) -> Change:
    failed = _with_failure(operation, lease, error, now)
    return _ended(failed, State.FAILED, error.reason, now, error=error)


def _with_failure(
    operation: Operation, lease: Lease, error: OperationError, now: Instant
) -> Operation:
    failure = AttemptFailure(
        attempt=operation.attempt,
        worker_id=lease.worker_id,
        reason=error.reason,
        message=error.message[:FAILURE_MESSAGE_CHARACTERS_MAX],
        time_ns=now.wall_ns,
    )
    kept = (*operation.failures, failure)[-FAILURES_KEPT_MAX:]
    return replace(operation, failure_count=operation.failure_count + 1, failures=kept)


def _with_history(operation: Operation, error: OperationError) -> OperationError:
    """Returns the error of the last attempt, with a word on those before it."""
    before = operation.failures[:-1]
    if not before:
        return error
    history = "; ".join(f"attempt {one.attempt}: {one.reason}" for one in before)
    return replace(
        error,
        message=(
            f"{error.message} It was the last of {operation.failure_count} attempts ({history})."
        ),
        metadata={**error.metadata, "failed_attempts": str(operation.failure_count)},
    )


def _queue_expired(operation: Operation, now: Instant) -> Change:
    timeout_s = operation.queue_timeout_s
    if operation.state is not State.QUEUED or operation.attempt or timeout_s is None:
        return Change(operation)
    if now.wall_ns < operation.create_time_ns + int(timeout_s * NS_PER_S):
        return Change(operation)
    error = OperationError(
        QueueTimeoutError.reason,
        f"No worker took it in {timeout_s:g} s. Look whether workers for {operation.kind} run, "
        "then run it again.",
        {"queue_timeout_s": f"{timeout_s:g}", "kind": operation.kind},
    )
    return _ended(operation, State.FAILED, error.reason, now, error=error)


def _is_cancel_overdue(lease: Lease, terms: LeaseTerms, now: Instant) -> bool:
    if lease.cancel_at_s is None:
        return False
    return now.monotonic_s >= lease.cancel_at_s + terms.grace_s + terms.cancel_margin_s


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
    if isinstance(outcome, Stopped):
        return operation.state is State.CANCELLED
    last = operation.failures[-1] if operation.failures else None
    is_told = (
        last is not None
        and last.attempt == operation.attempt
        and (last.reason, last.message)
        == (outcome.error.reason, outcome.error.message[:FAILURE_MESSAGE_CHARACTERS_MAX])
    )
    return is_told and operation.state in (State.FAILED, State.QUEUED)


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
            f"Worker {lease.worker_id} stopped renewing its lease in attempt {operation.attempt}: "
            "it died, hung or lost its connection. See the worker's log, then run it again."
        ),
        metadata={
            "worker_id": lease.worker_id,
            "attempt": str(operation.attempt),
            "max_attempts": str(operation.max_attempts),
        },
    )


def _attempt_overdue(operation: Operation, timeout_s: float) -> OperationError:
    return OperationError(
        reason=AttemptTimeoutError.reason,
        message=(
            f"Attempt {operation.attempt} took longer than {timeout_s:g} s. Allow more time, or "
            "run over fewer bars."
        ),
        metadata={"attempt_timeout_s": f"{timeout_s:g}", "attempt": str(operation.attempt)},
    )
