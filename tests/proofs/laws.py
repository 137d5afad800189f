"""What must hold of every step of an operation, whoever asked for it.

Written from the specification (docs/architecture.md; the moves by hand), never from the code: the
search and the simulation check each change that the real functions make against these laws.
"""

from collections.abc import Callable

from backlane.operations.events import (
    CheckpointCommitted,
    MetricsAppended,
    OperationEvent,
    StateChanged,
    TradesAppended,
)
from backlane.operations.operation import Operation, State
from backlane.operations.transitions import Change

Q, R, C = State.QUEUED, State.RUNNING, State.CANCELLING
S, F, X = State.SUCCEEDED, State.FAILED, State.CANCELLED
MOVES = frozenset(
    {(None, Q), (Q, R), (Q, X), (Q, F), (R, S), (R, F), (R, Q), (R, C), (C, X), (C, S), (C, F)}
)
"""Every legal move."""

HELD = frozenset({R, C})
ENDED = frozenset({S, F, X})
CHECKPOINTS_KEPT = 2


class ViolationError(Exception):
    """A law does not hold; the first argument names it."""


def require(law: str, holds: object, *seen: object) -> None:
    """Raises ViolationError unless the law holds."""
    if not holds:
        raise ViolationError(law, *seen)


def check_step(before: Operation | None, change: Change) -> None:
    """Checks what holds for every change, whatever asked for it; `before` is None for a new one."""
    after = change.operation
    check_standing(after)
    check_events(before, change)
    if before is None:
        return
    require("identity", (before.name, before.uid) == (after.name, after.uid))
    if before.state in ENDED:
        require("a terminal state absorbs", change == Change(before), before.state, after.state)
    for law, count in COUNTERS.items():
        require(law, count(after) >= count(before), count(before), count(after))
    require("failures are counted once", after.failure_count <= before.failure_count + 1)
    require("one checkpoint at a time", after.checkpoint_number <= before.checkpoint_number + 1)
    if before.lease is not None and after.lease is not None:
        require("a lease keeps its holder", before.lease.epoch == after.lease.epoch)
        grown = after.lease.batch_number - before.lease.batch_number
        require("batches are applied in order", grown in (0, 1), grown)
        require("a lease is never cut", after.lease.expires_at_s >= before.lease.expires_at_s)
        _check_progress(before, after)


def check_standing(one: Operation) -> None:
    """Checks what holds for an operation at any time."""
    require("held iff there is a lease", (one.lease is not None) == (one.state in HELD), one.state)
    if one.lease is not None:
        require("the lease has the newest epoch", one.lease.epoch == one.epoch)
    require("each grant has an epoch of its own", one.epoch == one.attempt, one.epoch, one.attempt)
    is_ended = one.state in ENDED
    require("an end has a time", (one.end_time_ns is not None) == is_ended)
    require("success has a result", (one.result is not None) == (one.state is S))
    require("another end has an error", (one.error is not None) == (one.state in {F, X}))
    require("failures are bounded", one.failure_count <= one.max_attempts, one.failure_count)
    _check_attempts(one)
    numbers = [checkpoint.number for checkpoint in one.checkpoints]
    newest_first = range(one.checkpoint_number, one.checkpoint_number - len(numbers), -1)
    require("the newest checkpoints are kept", numbers == list(newest_first), numbers)
    kept = min(CHECKPOINTS_KEPT, one.checkpoint_number)
    require("two checkpoints are kept", len(numbers) == kept, numbers)


def check_events(before: Operation | None, change: Change) -> None:
    """Checks that the events are numbered without holes and tell exactly what changed."""
    after = change.operation
    first = before.event_sequence + 1 if before else 1
    sequences = [event.sequence for event in change.events]
    require(
        "sequences have no holes",
        sequences == list(range(first, first + len(sequences)))
        and after.event_sequence == first + len(sequences) - 1,
        sequences,
    )
    state = before.state if before else None
    index = before.metric_index if before else 0
    checkpoint = before.checkpoint_number if before else after.checkpoint_number
    trades = before.counts.trades if before else 0
    for event in change.events:
        body = event.body
        require("an event is of its operation", event.operation == after.name)
        if isinstance(body, StateChanged):
            require("an event tells the state that was left", body.from_state == state)
            require("only legal moves", (state, body.to_state) in MOVES, state, body.to_state)
            state = body.to_state
            require("the end is told with its result", body.result == after.result)
        if isinstance(body, MetricsAppended):
            indices = [point.index for point in body.points]
            require(
                "indices have no holes", indices == list(range(index + 1, index + 1 + len(indices)))
            )
            index += len(indices)
        if isinstance(body, TradesAppended):
            trades += len(body.trades)
        if isinstance(body, CheckpointCommitted):
            checkpoint += 1
            require("an event tells the checkpoint", body.checkpoint.number == checkpoint)
    require("each change of state is told", state is after.state, state, after.state)
    require("each point is told", index == after.metric_index)
    require("each trade is told", trades == after.counts.trades)
    require("each checkpoint is told", checkpoint == after.checkpoint_number)


def check_writer(before: Operation, change: Change, epoch: int, worker: str, now_s: float) -> None:
    """Checks that a worker whose message changed something held the newest lease, and it lived."""
    if change == Change(before):
        return
    lease = before.lease
    require("only a holder writes", lease is not None, before.state, change.operation.state)
    assert lease is not None
    require("a stale epoch changes nothing", lease.epoch == epoch, lease.epoch, epoch)
    require("another worker changes nothing", lease.worker_id == worker, lease.worker_id, worker)
    require("a lapsed lease changes nothing", now_s < lease.expires_at_s)


def check_log(events: list[OperationEvent]) -> None:
    """Checks a whole log: revisions without holes."""
    revisions = [event.revision for event in events]
    require("revisions have no holes", revisions == list(range(1, len(revisions) + 1)))


def _check_attempts(one: Operation) -> None:
    """Each attempt is under way, failed, was given back, or ended the operation."""
    open_attempts = one.attempt - one.failure_count - one.release_count
    allowed = {
        Q: {0},
        R: {1},
        C: {1},
        S: {1},
        F: {0},
        X: {0, 1},  # cancelled while it waited, or while it was held
    }[one.state]
    require("each attempt is accounted for", open_attempts in allowed, one.state, open_attempts)
    if one.state is Q:
        require("one that waits has an attempt left", one.failure_count < one.max_attempts)


def _check_progress(before: Operation, after: Operation) -> None:
    if before.progress is not None:
        is_kept = after.progress is not None and after.progress.version >= before.progress.version
        require("progress never goes back", is_kept, before.progress, after.progress)


COUNTERS: dict[str, Callable[[Operation], int]] = {
    "the epoch never goes back": lambda one: one.epoch,
    "the attempt never goes back": lambda one: one.attempt,
    "the checkpoint never goes back": lambda one: one.checkpoint_number,
    "the failures never go back": lambda one: one.failure_count,
    "the releases never go back": lambda one: one.release_count,
    "the index never goes back": lambda one: one.metric_index,
}
