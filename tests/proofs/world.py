"""The registry of the exhaustive search: one operation, real functions, no log and no time.

Only what tells two situations apart is kept of an operation (`canonical`): times become "still
good" or "over", counters of events go. Passing time moves them from one to the other
(`elapse`); everything else is the real code, called once for each pair of operation and message.
"""

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from backlane.errors import BacklaneError, LeaseLostError, NothingToResumeError
from backlane.operations import checkpoints, telemetry, transitions
from backlane.operations.commands import (
    Claim,
    Failed,
    NewOperation,
    Outcome,
    Resumption,
    Stopped,
    Succeeded,
    TelemetryBatch,
)
from backlane.operations.events import Deleted, MetricPoint
from backlane.operations.lease import Instant, LeaseTerms
from backlane.operations.operation import (
    Checkpoint,
    Operation,
    OperationError,
    Payload,
    Progress,
    State,
)
from backlane.operations.transitions import Change
from tests.proofs.laws import ENDED, check_events, check_standing, check_step, check_writer, require

NOW = Instant(10**18, 1e6)
"""The search stands still at this instant; what elapses is moved into the past of it."""
TERMS = LeaseTerms(ttl_s=15.0, renew_interval_s=5.0, grace_s=10.0, cancel_margin_s=5.0)
ATTEMPT_TIMEOUT_S = 1_000.0
QUEUE_TIMEOUT_S = 100.0
UNITS = 2
"""Units of work; after each one a batch of telemetry and a checkpoint."""
NS_PER_S = 10**9
WORKERS = ("w1", "w2")

BROKEN = OperationError("BROKEN", "it broke")
OUTCOMES: dict[str, Callable[[int], Outcome]] = {
    "done": lambda epoch: Succeeded(Payload("result", str(epoch).encode())),
    "retry": lambda epoch: Failed(OperationError("BROKEN", f"epoch {epoch}"), is_retryable=True),
    "fatal": lambda epoch: Failed(OperationError("BROKEN", f"for good {epoch}")),
    "stop": lambda epoch: Stopped(),
}


class Message(NamedTuple):
    """What a worker sends. `number` is that of the claim, batch or checkpoint, 0 for others.

    `base` is with how many units the attempt began: its first batch goes over them again.
    """

    kind: str
    worker: str
    epoch: int = 0
    number: int = 0
    base: int = 0

    def mirrored(self) -> "Message":
        """The same of the other worker."""
        return self._replace(worker=WORKERS[1 - WORKERS.index(self.worker)])


class Answer(NamedTuple):
    """What a worker is told: ok, none, lost or refused; with ok, what it may need to know."""

    kind: str
    epoch: int = 0
    units: int = 0
    is_cancelling: bool = False


@dataclass
class World:
    """Knows every operation that was reached, by number, and what each message does to it."""

    max_attempts: int = 3
    operations: list[Operation] = field(default_factory=list)
    known: dict[Operation, int] = field(default_factory=dict)
    steps: dict[tuple[int, Message], tuple[int, Answer]] = field(default_factory=dict)
    drifts: dict[int, tuple[int, ...]] = field(default_factory=dict)
    cancels: dict[int, int] = field(default_factory=dict)
    mirrors: dict[int, int] = field(default_factory=dict)

    def first(self) -> int:
        """Returns the number of the operation as it is accepted."""
        spec = Payload("spec", b"")
        request = NewOperation("request", "test.run", spec, {}, self.max_attempts)
        request = replace(
            request, queue_timeout_s=QUEUE_TIMEOUT_S, attempt_timeout_s=ATTEMPT_TIMEOUT_S
        )
        change = transitions.create(request, "operations/1", "uid", NOW)
        check_step(None, change)
        return self.number_of(change.operation)

    def number_of(self, operation: Operation) -> int:
        """Returns the number of an operation; a new one is probed with all there is."""
        one = canonical(operation)
        key = hashable(one)
        number = self.known.get(key)
        if number is None:
            number = self.known[key] = len(self.operations)
            self.operations.append(one)
            probe(one)
        return number

    def deliver(self, number: int, message: Message) -> tuple[int, Answer]:
        """Returns what a message makes of an operation, and the answer."""
        step = self.steps.get((number, message))
        if step is None:
            before = self.operations[number]
            change, answer = decide(before, message)
            step = self.steps[number, message] = (self.number_of(change.operation), answer)
        return step

    def drift(self, number: int) -> tuple[int, ...]:
        """Returns what an operation can become by itself: by time, and by the scanner."""
        found = self.drifts.get(number)
        if found is None:
            one = self.operations[number]
            after = {self.number_of(other) for other in (*elapsed(one), scanned(one))}
            found = self.drifts[number] = tuple(sorted(after - {number}))
        return found

    def cancel(self, number: int) -> int:
        """Returns what a client's cancel makes of an operation."""
        found = self.cancels.get(number)
        if found is None:
            found = self.cancels[number] = self.number_of(cancelled(self.operations[number]))
        return found

    def mirrored(self, number: int) -> int:
        """Returns the operation with the two workers changed about, when the second one holds it.

        Nothing in the registry tells one worker from another but being the same or not.
        """
        found = self.mirrors.get(number)
        if found is None:
            one, found = self.operations[number], number
            if one.lease is not None and one.lease.worker_id == WORKERS[1]:
                lease = replace(one.lease, worker_id=WORKERS[0])
                found = self.number_of(replace(one, lease=lease))
            self.mirrors[number] = found
        return found

    def resumptions(self) -> set[int]:
        """Returns the operations that go on from all that have ended so far."""
        ended = [one for one in self.operations if one.state in ENDED]
        return {self.number_of(made) for made in map(resumed, ended) if made is not None}


def elapsed(one: Operation) -> Iterator[Operation]:
    """Yields what an operation becomes when one of its times runs out.

    A lease that ran out and a pause that is over are seen by several commands: each is a
    situation of its own. The other times matter to the scanner alone, which comes at once.
    """
    if one.lease is not None and one.lease.is_live(NOW):
        yield _lapsed(one)
    if one.next_attempt_ns is not None and one.next_attempt_ns > NOW.wall_ns:
        yield replace(one, next_attempt_ns=NOW.wall_ns)
    for late in overdue(one):
        if _is_due(late):
            yield scanned(late)


def overdue(one: Operation) -> Iterator[Operation]:
    """Yields the operation with a time run out that the scanner alone looks at."""
    lease = one.lease
    if one.state is State.QUEUED:
        made_ns = NOW.wall_ns - int(QUEUE_TIMEOUT_S * NS_PER_S)
        yield replace(one, create_time_ns=made_ns)
    if lease is not None:
        granted_s = NOW.monotonic_s - ATTEMPT_TIMEOUT_S
        yield replace(one, lease=replace(lease, granted_at_s=granted_s))
        if lease.cancel_at_s is not None:
            asked_s = NOW.monotonic_s - TERMS.grace_s - TERMS.cancel_margin_s
            yield replace(one, lease=replace(lease, cancel_at_s=asked_s))


def scanned(before: Operation) -> Operation:
    """Returns what the scanner makes of an operation, which is what its times ask for."""
    change = transitions.expire(before, TERMS, NOW)
    check_step(before, change)
    is_due = _is_due(before)
    require("the scanner acts in time", (change != Change(before)) == is_due, before.state)
    after = change.operation
    if is_due and before.state is State.CANCELLING:
        require("an overdue cancel ends it", after.state is State.CANCELLED)
    if is_due and before.state is State.RUNNING:
        require("a lost attempt is a failure", after.failure_count == before.failure_count + 1)
    return replace(after, create_time_ns=NOW.wall_ns)


def cancelled(before: Operation) -> Operation:
    """Returns what a client's cancel makes of an operation."""
    change = transitions.request_cancel(before, "asked", NOW)
    check_step(before, change)
    after = change.operation
    if before.state is State.QUEUED:
        require("cancel ends one that waits", after.state is State.CANCELLED, after.state)
    if before.state is State.RUNNING:
        require("cancel is noted on one that runs", after.state is State.CANCELLING)
        held = (before.lease.epoch, before.lease.worker_id) if before.lease else None
        kept = (after.lease.epoch, after.lease.worker_id) if after.lease else None
        require("cancel leaves the lease with its holder", kept == held)
    return after


def decide(before: Operation, message: Message) -> tuple[Change, Answer]:
    """Applies the real function to a message, checks the laws, and returns the answer."""
    try:
        change = _called(before, message)
    except LeaseLostError:
        return Change(before), Answer("lost")
    except BacklaneError:
        return Change(before), Answer("refused")
    if change is None:
        return Change(before), Answer("none")
    check_step(before, change)
    if message.kind == "claim":
        _check_grant(before, change)
    else:
        check_writer(before, change, message.epoch, message.worker, NOW.monotonic_s)
        _check_effect(before, change, message)
    after = change.operation
    units = after.checkpoints[0].completed_units if after.checkpoints else 0
    return change, Answer("ok", after.epoch, units, after.state is State.CANCELLING)


def _called(before: Operation, message: Message) -> Change | None:
    kind, worker, epoch = message.kind, message.worker, message.epoch
    if kind == "claim":
        return _claimed(before, Claim(str(message.number), worker, ("test.run",)))
    if kind == "renew":
        return transitions.renew(before, worker, epoch, TERMS, NOW)
    if kind == "release":
        return transitions.release(before, epoch, "drain", NOW)
    if kind == "commit":
        return checkpoints.commit(before, epoch, checkpoint_of(message.number), NOW)[0]
    if kind == "append":
        batch = batch_of(message.number, message.base)
        return telemetry.append(before, epoch, batch, NOW, recorded(before, batch))
    return transitions.complete(before, epoch, OUTCOMES[kind](epoch), NOW)


def _claimed(before: Operation, claim: Claim) -> Change | None:
    """What a store does with a claim: the same one again gets the same lease."""
    lease = before.lease
    if lease is not None and (lease.worker_id, lease.request_id) == (
        claim.worker_id,
        claim.request_id,
    ):
        return Change(before) if lease.is_live(NOW) else None
    if not transitions.is_claimable(before, NOW):
        return None
    return transitions.grant(before, claim, TERMS, NOW)


def batch_of(number: int, base: int) -> TelemetryBatch:
    """The batch of a unit: its first one in an attempt goes over the units before it again."""
    unit = base + number
    steps = range(1 if number == 1 else unit, unit + 1)
    points = tuple(MetricPoint("x", step, step / 7) for step in steps)
    trades = tuple(str(step).encode() for step in steps)
    return TelemetryBatch(number, points, trades, steps[0], progress=Progress(number))


def recorded(one: Operation, batch: TelemetryBatch) -> dict[tuple[str, int], float]:
    """What the log holds of the points that a batch repeats: a run gives the same bits."""
    return {key: key[1] / 7 for key in telemetry.replayed_points(one, batch)}


def checkpoint_of(number: int) -> Checkpoint:
    """The checkpoint after a unit; its number is that of the unit."""
    return Checkpoint(number, f"home:{number}", bytes([number]) * 32, 1, number, "t", b"s" * 32)


def resumed(source: Operation) -> Operation | None:
    """Returns what goes on from a terminal operation; None when nothing can."""
    can_resume = source.state is not State.SUCCEEDED and source.checkpoints
    request = Resumption("request-2", source.name)
    try:
        change = transitions.resume(source, request, "operations/2", "uid-2", NOW)
    except NothingToResumeError:
        require("what left a checkpoint can be resumed", not can_resume)
        return None
    require("success is not resumed", can_resume)
    check_step(None, change)
    made = change.operation
    require("a resumed operation is a new one", made.name != source.name)
    require("it begins at the checkpoint", made.checkpoints == source.checkpoints)
    require("it knows its source", made.resumed_from == source.name)
    return replace(made, name=source.name, uid=source.uid, resumed_from="")


def _is_due(one: Operation) -> bool:
    """Whether a time of it has run out, and the scanner has to act: from the specification."""
    lease, now_s = one.lease, NOW.monotonic_s
    if one.state is State.QUEUED:
        waited_ns = NOW.wall_ns - one.create_time_ns
        return one.attempt == 0 and waited_ns >= QUEUE_TIMEOUT_S * NS_PER_S
    if lease is None:
        return False
    is_lapsed = now_s >= lease.expires_at_s
    if one.state is State.RUNNING:
        return is_lapsed or now_s - lease.granted_at_s >= ATTEMPT_TIMEOUT_S
    asked_s = lease.cancel_at_s if lease.cancel_at_s is not None else now_s
    return is_lapsed or now_s - asked_s >= TERMS.grace_s + TERMS.cancel_margin_s


def _check_grant(before: Operation, change: Change) -> None:
    after = change.operation
    if change == Change(before):
        return
    require("only what waits is given out", before.state is State.QUEUED, before.state)
    is_due = before.next_attempt_ns is None or before.next_attempt_ns <= NOW.wall_ns
    require("a pause is kept", is_due)
    require("a grant has a new epoch", after.epoch == before.epoch + 1)
    require("a grant is an attempt", after.attempt == before.attempt + 1)
    lease = after.lease
    require("a new lease is whole", lease is not None and lease.is_live(NOW))
    assert lease is not None
    require("batches begin anew", lease.batch_number == 0)
    require("progress begins anew", after.progress is None)


def _check_effect(before: Operation, change: Change, message: Message) -> None:
    """Checks that a message which was accepted did what it is for, and nothing else."""
    after, kind, lease = change.operation, message.kind, before.lease
    if lease is None:
        return  # nothing has changed: check_writer has seen to it
    if kind == "renew":
        require("a renewal changes the lease alone", replace(after, lease=lease) == before)
        require("a renewed lease is whole", after.lease is not None and after.lease.is_live(NOW))
    if kind == "append" and after.state is before.state:
        is_next = message.number == lease.batch_number + 1
        applied = after.lease is not None and after.lease.batch_number == message.number
        require("a batch is applied once, in order", not is_next or applied)
        if not is_next:
            require("a batch that came before changes nothing", not change.events)
        steps = after.counts.last_steps.get("x", 0)
        require("the log holds each step once", steps == after.metric_index == after.counts.trades)
    elif kind == "append":
        require("equal bits end nothing", False, after.state)
    if kind == "commit" and after != before:
        require("a checkpoint is the next one", message.number == before.checkpoint_number + 1)
    if kind == "release":
        require("a release takes the lease", after.lease is None)
        is_free = before.release_count < transitions.RELEASES_MAX
        if before.state is State.RUNNING and is_free:
            require("a release is no failure", after.failure_count == before.failure_count)
            require("a release queues", after.state is State.QUEUED)
    if kind == "done":
        told = after.result.value if after.result else b""
        require("the result is the holder's", told == str(before.epoch).encode(), told)
    if kind == "retry" and before.state is State.RUNNING:
        has_more = before.failure_count + 1 < before.max_attempts
        require(
            "a retryable error queues while attempts remain",
            after.state is (State.QUEUED if has_more else State.FAILED),
        )
        require(
            "a pause follows a failure", not has_more or not transitions.is_claimable(after, NOW)
        )
    if kind in ("retry", "fatal"):
        require("a failure is counted", after.failure_count == before.failure_count + 1)
    if kind == "stop":
        require("a stopped worker ends it", after.state is State.CANCELLED)


def probe(one: Operation) -> None:
    """Tries every message of every worker under every epoch, and every time that can run out.

    Above all this is what a zombie may send, at whatever time it wakes up: under an older epoch,
    or when nobody holds the operation. `decide` checks that it changes nothing, and so the search
    need not keep such messages under way. A terminal operation can be deleted once.
    """
    check_standing(one)
    for worker, epoch in itertools.product(WORKERS, range(one.epoch + 2)):
        is_holder = one.lease is None or one.lease.worker_id == worker
        for message in _everything(worker, epoch):
            # But for a renewal the registry knows a worker by its epoch alone.
            if message.kind == "renew" or is_holder or epoch != one.epoch:
                decide(one, message)
    for late in (one, *overdue(one)):
        scanned(late)
        if late.lease is not None:
            scanned(_lapsed(late))
    if one.state in ENDED:
        _probe_end(one)


def _everything(worker: str, epoch: int) -> Iterator[Message]:
    for kind in ("renew", "release", *OUTCOMES):
        yield Message(kind, worker, epoch)
    for number in range(1, UNITS + 2):
        yield Message("append", worker, epoch, number)
        yield Message("commit", worker, epoch, number)


def _lapsed(one: Operation) -> Operation:
    return replace(one, lease=one.lease and replace(one.lease, expires_at_s=NOW.monotonic_s))


def _probe_end(one: Operation) -> None:
    require("the end ignores cancel", transitions.request_cancel(one, "x", NOW) == Change(one))
    require("the end ignores the scanner", transitions.expire(one, TERMS, NOW) == Change(one))
    require("the end is not given out", not transitions.is_claimable(one, NOW))
    change = transitions.delete(one, NOW)
    check_events(one, change)
    resumed(one)
    bodies = [event.body for event in change.events]
    require("a delete is told once", bodies == [Deleted()] and change.operation.is_deleted)
    gone = change.operation
    require("nothing follows a delete", transitions.delete(gone, NOW) == Change(gone))


def canonical(one: Operation) -> Operation:
    """Returns what stands for all operations that will do the same from here on.

    Numbers of events go, and who wrote what when. The newest failure is looked at again while the
    operation waits, or has failed; progress while it is held; of an end only how it ended.
    """
    error = one.error and OperationError(one.error.reason, "")
    lease = one.lease and replace(one.lease, renewal_number=0)
    last = one.failures[-1:] if lease is None else ()
    due_ns = one.next_attempt_ns
    if due_ns is not None:
        due_ns = NOW.wall_ns + (NS_PER_S if due_ns > NOW.wall_ns else 0)
    return replace(
        one,
        event_sequence=0,
        error=error,
        lease=lease,
        failures=tuple(replace(failure, time_ns=0, worker_id="") for failure in last),
        checkpoints=tuple(replace(each, attempt=0, commit_time_ns=0) for each in one.checkpoints),
        end_time_ns=None if one.end_time_ns is None else NOW.wall_ns,
        start_time_ns=None,
        next_attempt_ns=due_ns,
        progress=Progress(one.progress.version) if one.progress and lease else None,
        cancel_reason="",
    )


def hashable(one: Operation) -> Operation:
    """Returns the operation with hashable mappings in it."""
    counts = replace(one.counts, last_steps=tuple(sorted(one.counts.last_steps.items())))  # type: ignore[arg-type]
    error = one.error and replace(one.error, metadata=())  # type: ignore[arg-type]
    return replace(one, labels=(), counts=counts, error=error)  # type: ignore[arg-type]
