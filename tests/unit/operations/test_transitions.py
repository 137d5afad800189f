"""The state machine, one command at a time."""

from dataclasses import replace

import pytest

from backlane.clock import ManualClock
from backlane.errors import LeaseLostError, NothingToResumeError, OperationNotTerminalError
from backlane.operations import transitions
from backlane.operations.commands import (
    Claim,
    Failed,
    NewOperation,
    Resumption,
    Stopped,
    Succeeded,
)
from backlane.operations.directives import Action, answer_to, directive_for
from backlane.operations.events import Deleted, StateChanged
from backlane.operations.lease import Instant, LeaseTerms
from backlane.operations.limits import RELEASES_MAX
from backlane.operations.operation import (
    TERMINAL_STATES,
    Checkpoint,
    Operation,
    OperationError,
    Payload,
    Progress,
    State,
)
from backlane.operations.store import Renewal, RenewalReply

TERMS = LeaseTerms(ttl_s=15.0, renew_interval_s=5.0, grace_s=10.0, cancel_margin_s=5.0)
CLAIM = Claim("claim-1", "worker-1", ("backtest.run",))
RESULT = Payload("type.googleapis.com/test.Result", b"\x08\x01")
ERROR = OperationError("OUT_OF_MEMORY", "too much")


def at(seconds: float) -> Instant:
    return Instant(round(seconds * 1e9), seconds)


def queued(**fields: object) -> Operation:
    spec = Payload("type.googleapis.com/test.Spec", b"x")
    request = NewOperation("request-1", "backtest.run", spec, **fields)  # type: ignore[arg-type]
    return transitions.create(request, "operations/test", "uid", at(0)).operation


def held(**fields: object) -> Operation:
    return transitions.grant(queued(**fields), CLAIM, TERMS, at(1)).operation


def cancelling() -> Operation:
    return transitions.request_cancel(held(), "a mistake", at(2)).operation


def ended(state: State, operation: Operation | None = None) -> Operation:
    outcome = {State.SUCCEEDED: Succeeded(RESULT), State.FAILED: Failed(ERROR)}
    held_one = operation or cancelling()
    return transitions.complete(held_one, 1, outcome.get(state, Stopped()), at(3)).operation


def checkpoint(number: int, completed_units: int = 0) -> Checkpoint:
    """What is in it is told by its SHA-256, here 32 times its number."""
    return Checkpoint(
        number=number,
        uri=f"home:checkpoints/{number}",
        sha256=bytes([number]) * 32,
        size_bytes=100,
        completed_units=completed_units or 10 * number,
        format="test/1",
        spec_sha256=b"s" * 32,
    )


def test_create_queues_and_tells() -> None:
    change = transitions.create(
        NewOperation("request-1", "backtest.run", RESULT, {"a": "b"}, 3), "operations/x", "u", at(5)
    )
    made = change.operation
    assert (made.state, made.attempt, made.epoch, made.max_attempts) == (State.QUEUED, 0, 0, 3)
    assert (made.create_time_ns, made.labels, made.event_sequence) == (5_000_000_000, {"a": "b"}, 1)
    (event,) = change.events
    assert event.body == StateChanged(None, State.QUEUED, "CREATED")
    assert (event.sequence, event.attempt, event.time_ns) == (1, 0, 5_000_000_000)


def test_create_keeps_what_was_asked_for() -> None:
    made = queued(priority=7, client="ci", queue_timeout_s=60.0, attempt_timeout_s=90.0)
    assert (made.priority, made.client) == (7, "ci")
    assert (made.queue_timeout_s, made.attempt_timeout_s) == (60.0, 90.0)
    assert (made.failure_count, made.release_count, made.checkpoint_number) == (0, 0, 0)


def test_grant_counts_the_attempt_and_the_epoch_and_forgets_old_progress() -> None:
    waiting = replace(queued(), epoch=4, attempt=2, start_time_ns=7, progress=Progress(9))
    change = transitions.grant(waiting, CLAIM, TERMS, at(10))
    taken = change.operation
    assert (taken.state, taken.attempt, taken.epoch, taken.progress) == (State.RUNNING, 3, 5, None)
    assert taken.start_time_ns == 7  # of the first attempt
    assert taken.lease is not None
    assert (taken.lease.worker_id, taken.lease.expires_at_s) == ("worker-1", 25.0)
    assert (taken.lease.granted_at_s, taken.lease.batch_number) == (10.0, 0)
    assert change.events[0].attempt == 3
    assert change.events[0].body == StateChanged(State.QUEUED, State.RUNNING, "LEASE_GRANTED")


def test_a_start_at_the_epoch_of_time_is_a_start() -> None:
    """0 ns is a time like any other, not "unknown"."""
    first = transitions.grant(queued(max_attempts=2), CLAIM, TERMS, at(0)).operation
    waiting = transitions.expire(first, TERMS, at(20)).operation
    assert transitions.grant(waiting, CLAIM, TERMS, at(21)).operation.start_time_ns == 0


@pytest.mark.parametrize(
    ("next_attempt_ns", "expected"), [(None, True), (3_000_000_000, True), (3_000_000_001, False)]
)
def test_a_queued_operation_is_claimable_once_its_pause_is_over(
    next_attempt_ns: int | None, expected: bool
) -> None:
    waiting = replace(queued(), next_attempt_ns=next_attempt_ns)
    assert transitions.is_claimable(waiting, at(3)) is expected


def test_only_a_queued_operation_is_claimable() -> None:
    assert not transitions.is_claimable(held(), at(3))
    assert not transitions.is_claimable(cancelling(), at(3))
    assert not any(transitions.is_claimable(ended(state), at(3)) for state in TERMINAL_STATES)


def test_renew_moves_the_end_of_the_lease_and_writes_nothing() -> None:
    change = transitions.renew(held(), "worker-1", 1, TERMS, at(10))
    assert change.events == ()
    assert change.operation.lease is not None
    assert change.operation.lease.expires_at_s == 25.0


def test_a_renewal_that_comes_late_never_shortens_a_lease() -> None:
    """Two renewals overtake each other: the lease ends with the later one."""
    later = transitions.renew(held(), "worker-1", 1, TERMS, at(10)).operation
    earlier = transitions.renew(later, "worker-1", 1, TERMS, at(9)).operation
    assert later.lease is not None
    assert earlier.lease == replace(later.lease, renewal_number=2)


def test_a_renewal_is_counted_so_that_other_replicas_see_it() -> None:
    renewed = transitions.renew(held(), "worker-1", 1, TERMS, at(10)).operation
    assert renewed.lease is not None
    assert (renewed.lease.renewal_number, renewed.lease.granted_at_s) == (1, 1.0)


@pytest.mark.parametrize(
    ("epoch", "seconds"), [(0, 2.0), (2, 2.0), (1, 16.0)], ids=["old", "unknown", "lapsed"]
)
def test_a_lease_that_is_not_good_is_refused(epoch: int, seconds: float) -> None:
    """The lease of epoch 1 is good from 1 s until before 16 s."""
    with pytest.raises(LeaseLostError) as raised:
        transitions.fence(held(), epoch, at(seconds))
    assert raised.value.metadata["epoch_now"] == "1"
    assert transitions.fence(held(), 1, at(15.999)).epoch == 1


def test_another_worker_cannot_renew_a_lease() -> None:
    with pytest.raises(LeaseLostError, match="worker-1 holds it"):
        transitions.renew(held(), "worker-2", 1, TERMS, at(2))


def test_cancel_of_a_held_operation_keeps_the_lease_and_the_first_reason() -> None:
    stopping = cancelling()
    assert (stopping.state, stopping.cancel_reason) == (State.CANCELLING, "a mistake")
    lease = held().lease
    assert lease is not None
    assert stopping.lease == replace(lease, cancel_at_s=2.0)
    again = transitions.request_cancel(stopping, "another reason", at(3))
    assert again == transitions.Change(stopping)


def test_cancel_of_a_queued_operation_ends_it() -> None:
    change = transitions.request_cancel(queued(), "", at(2))
    assert change.operation.state is State.CANCELLED
    assert change.operation.end_time_ns == 2_000_000_000
    assert change.operation.error == OperationError(
        "CANCEL_REQUESTED", "Stopped because cancel was asked."
    )


def test_a_release_gives_back_and_counts_no_failure() -> None:
    change = transitions.release(held(max_attempts=1), 1, "the worker drains", at(5))
    waiting = change.operation
    assert (waiting.state, waiting.lease, waiting.next_attempt_ns) == (State.QUEUED, None, None)
    assert (waiting.release_count, waiting.failure_count, waiting.failures) == (1, 0, ())
    assert change.events[0].body == StateChanged(State.RUNNING, State.QUEUED, "RELEASED")
    again = transitions.grant(waiting, CLAIM, TERMS, at(5)).operation
    assert (again.attempt, again.epoch) == (2, 2)


def test_a_release_too_many_counts_as_an_attempt_that_failed() -> None:
    """RELEASES_MAX of them are free; the next one is the only attempt that there was."""
    often = replace(held(max_attempts=1), release_count=RELEASES_MAX)
    change = transitions.release(often, 1, "the worker drains", at(5))
    error = change.operation.error
    assert (change.operation.state, change.operation.failure_count) == (State.FAILED, 1)
    assert error is not None
    assert (error.reason, error.metadata["cause"]) == ("WORKER_LOST", "the worker drains")
    assert error.metadata["release_count"] == str(RELEASES_MAX) == "100"
    once_more = transitions.release(replace(often, max_attempts=2), 1, "it drains", at(5))
    body = once_more.events[0].body
    assert isinstance(body, StateChanged)
    assert (body.to_state, body.reason) == (State.QUEUED, "RELEASED")
    assert once_more.operation.next_attempt_ns == 5_200_000_000


def test_a_release_of_what_is_to_be_cancelled_ends_it() -> None:
    change = transitions.release(cancelling(), 1, "the worker drains", at(5))
    body = change.events[0].body
    assert isinstance(body, StateChanged)
    assert (body.to_state, body.reason) == (State.CANCELLED, "CANCEL_ACKNOWLEDGED")
    assert change.operation.release_count == 0


@pytest.mark.parametrize(("epoch", "seconds"), [(0, 2.0), (2, 2.0), (1, 16.0)])
def test_only_the_holder_can_release(epoch: int, seconds: float) -> None:
    with pytest.raises(LeaseLostError):
        transitions.release(held(), epoch, "mine?", at(seconds))
    waiting = transitions.release(held(), 1, "once", at(2)).operation
    with pytest.raises(LeaseLostError, match="nobody holds it, it is QUEUED"):
        transitions.release(waiting, 1, "once", at(3))


def test_resume_makes_a_new_operation_with_the_checkpoints_of_the_old_one() -> None:
    running = replace(
        held(labels={"a": "b"}, max_attempts=3, priority=5, attempt_timeout_s=9.0),
        checkpoints=(checkpoint(4), checkpoint(3)),
        checkpoint_number=4,
        resumed_from="operations/older",
    )
    source = ended(State.FAILED, running)
    asked = Resumption("request-2", source.name, client="cli")
    change = transitions.resume(source, asked, "operations/new", "uid-2", at(20))
    made = change.operation
    assert (made.name, made.uid, made.state) == ("operations/new", "uid-2", State.QUEUED)
    assert (made.resumed_from, made.client) == ("operations/test", "cli")
    assert (made.checkpoints, made.checkpoint_number) == (source.checkpoints, 4)
    assert (made.spec, made.labels, made.kind) == (source.spec, {"a": "b"}, "backtest.run")
    assert (made.max_attempts, made.priority, made.attempt_timeout_s) == (3, 5, 9.0)
    assert (made.attempt, made.epoch, made.failure_count, made.metric_index) == (0, 0, 0, 0)
    assert (made.error, made.end_time_ns, made.create_time_ns) == (None, None, 20_000_000_000)
    assert change.events[0].body == StateChanged(None, State.QUEUED, "RESUMED")
    assert (change.events[0].operation, change.events[0].sequence) == ("operations/new", 1)


def test_what_has_not_ended_goes_on_by_itself() -> None:
    for live in (queued(), held(), cancelling()):
        with pytest.raises(OperationNotTerminalError, match="goes on by itself"):
            transitions.resume(live, Resumption("r", live.name), "operations/new", "uid", at(9))


def test_there_is_nothing_to_resume_without_a_checkpoint_or_after_success() -> None:
    with_checkpoint = replace(held(), checkpoints=(checkpoint(1),), checkpoint_number=1)
    cases = {
        "it succeeded": ended(State.SUCCEEDED, with_checkpoint),
        "it left no checkpoint": ended(State.CANCELLED),
    }
    for why, source in cases.items():
        with pytest.raises(NothingToResumeError, match=why):
            transitions.resume(source, Resumption("r", source.name), "operations/n", "u", at(9))


def test_cancel_is_told_with_the_time_that_is_left() -> None:
    assert directive_for(held(), TERMS).action is Action.CONTINUE
    told = directive_for(cancelling(), TERMS)
    assert (told.action, told.grace_s, told.reason) == (Action.CANCEL, 10.0, "a mistake")
    lost = answer_to(RenewalReply(Renewal("operations/test", 1), None, "gone"), TERMS)
    assert (lost.action, lost.hold, lost.reason) == (Action.ABANDON, None, "gone")


@pytest.mark.parametrize("state", sorted(TERMINAL_STATES))
def test_a_terminal_state_stays(state: State) -> None:
    done = ended(state)
    assert done.state is state
    assert transitions.request_cancel(done, "too late", at(9)) == transitions.Change(done)
    assert transitions.expire(done, TERMS, at(1000)) == transitions.Change(done)
    with pytest.raises(transitions.IllegalTransitionError):
        transitions.grant(done, CLAIM, TERMS, at(9))
    with pytest.raises(transitions.IllegalTransitionError):
        transitions.fail(done, ERROR, at(9))
    with pytest.raises(LeaseLostError):
        transitions.release(done, 1, "late", at(9))
    with pytest.raises(LeaseLostError):
        transitions.renew(done, "worker-1", 1, TERMS, at(9))
    outcomes = (Succeeded(RESULT), Failed(ERROR), Stopped())
    answers = [_answer(done, outcome) for outcome in outcomes]
    assert sorted(answers) == ["refused", "refused", "unchanged"]


def _answer(done: Operation, outcome: Succeeded | Failed | Stopped) -> str:
    try:
        change = transitions.complete(done, 1, outcome, at(9))
    except LeaseLostError:
        return "refused"
    return "unchanged" if change == transitions.Change(done) else "changed"


def test_only_a_terminal_operation_is_deleted() -> None:
    for live in (queued(), held(), cancelling()):
        with pytest.raises(OperationNotTerminalError):
            transitions.delete(live, at(3))
    change = transitions.delete(ended(State.SUCCEEDED), at(4))
    assert (change.operation.is_deleted, change.operation.result) == (True, None)
    assert change.operation.spec.value == b""
    assert change.events[0].body == Deleted()


def test_a_deleted_operation_is_deleted_once() -> None:
    """The event of the delete is the last one: nothing follows it, not even another one."""
    gone = transitions.delete(ended(State.SUCCEEDED), at(4)).operation
    assert transitions.delete(gone, at(5)) == transitions.Change(gone)


def test_revisions_follow_the_last_one() -> None:
    change = transitions.committed(transitions.request_cancel(queued(), "", at(2)), 41)
    assert [event.revision for event in change.events] == [42]
    assert change.operation.revision == 42
    assert transitions.committed(transitions.Change(queued()), 41).operation.revision == 0


def test_the_table_holds_the_moves_of_the_specification_and_no_other() -> None:
    """Written down by hand from docs/architecture.md and SERVICES.md 2.4."""
    moves = {
        (None, "QUEUED"),
        *(("QUEUED", to) for to in ("RUNNING", "CANCELLED", "FAILED")),
        *(("RUNNING", to) for to in ("SUCCEEDED", "FAILED", "QUEUED", "CANCELLING")),
        *(("CANCELLING", to) for to in ("CANCELLED", "SUCCEEDED", "FAILED")),
    }
    assert moves == transitions.LEGAL_TRANSITIONS


def test_an_instant_holds_both_faces_of_one_clock() -> None:
    clock = ManualClock(7_000)
    clock.advance(2.0)
    assert Instant.of(clock) == Instant(2_000_007_000, 2.0)
