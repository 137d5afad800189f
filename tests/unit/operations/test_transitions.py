"""The state machine, one command at a time."""

from dataclasses import replace

import pytest

from backlane.errors import InvalidRequestError, LeaseLostError, OperationNotTerminalError
from backlane.operations import transitions
from backlane.operations.commands import Claim, Failed, NewOperation, Stopped, Succeeded
from backlane.operations.events import Deleted, StateChanged
from backlane.operations.lease import Instant, LeaseTerms
from backlane.operations.operation import (
    TERMINAL_STATES,
    Operation,
    OperationError,
    Payload,
    Progress,
    State,
)

TERMS = LeaseTerms(ttl_s=15.0, renew_interval_s=5.0, grace_s=10.0)
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


def ended(state: State) -> Operation:
    outcome = {State.SUCCEEDED: Succeeded(RESULT), State.FAILED: Failed(ERROR)}
    return transitions.complete(cancelling(), 1, outcome.get(state, Stopped()), at(3)).operation


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


def test_grant_counts_the_attempt_and_the_epoch_and_forgets_old_progress() -> None:
    waiting = replace(queued(), epoch=4, attempt=2, start_time_ns=7, progress=Progress(9))
    change = transitions.grant(waiting, CLAIM, TERMS, at(10))
    taken = change.operation
    assert (taken.state, taken.attempt, taken.epoch, taken.progress) == (State.RUNNING, 3, 5, None)
    assert taken.start_time_ns == 7  # of the first attempt
    assert taken.lease is not None
    assert (taken.lease.worker_id, taken.lease.expires_at_s) == ("worker-1", 25.0)
    assert change.events[0].attempt == 3


def test_renew_moves_the_end_of_the_lease_and_writes_nothing() -> None:
    change = transitions.renew(held(), "worker-1", 1, TERMS, at(10))
    assert change.events == ()
    assert change.operation.lease is not None
    assert change.operation.lease.expires_at_s == 25.0


def test_a_renewal_that_comes_late_never_shortens_a_lease() -> None:
    """Two renewals overtake each other: the lease ends with the later one."""
    later = transitions.renew(held(), "worker-1", 1, TERMS, at(10)).operation
    earlier = transitions.renew(later, "worker-1", 1, TERMS, at(9)).operation
    assert earlier.lease == later.lease


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
    assert stopping.lease == held().lease
    again = transitions.request_cancel(stopping, "another reason", at(3))
    assert again == transitions.Change(stopping)


def test_cancel_of_a_queued_operation_ends_it() -> None:
    change = transitions.request_cancel(queued(), "", at(2))
    assert change.operation.state is State.CANCELLED
    assert change.operation.end_time_ns == 2_000_000_000
    assert change.operation.error == OperationError(
        "CANCEL_REQUESTED", "Stopped because cancel was asked."
    )


@pytest.mark.parametrize("outcome", [Succeeded(RESULT), Failed(ERROR), Stopped()])
def test_the_same_end_again_changes_nothing(outcome: Succeeded | Failed | Stopped) -> None:
    done = transitions.complete(cancelling(), 1, outcome, at(3)).operation
    assert done.lease is None
    assert transitions.complete(done, 1, outcome, at(4)) == transitions.Change(done)


def test_the_same_end_from_an_older_holder_is_refused() -> None:
    second = transitions.grant(
        transitions.expire(held(max_attempts=2), at(16)).operation, CLAIM, TERMS, at(17)
    ).operation
    done = transitions.complete(second, 2, Succeeded(RESULT), at(18)).operation
    with pytest.raises(LeaseLostError):
        transitions.complete(done, 1, Succeeded(RESULT), at(19))


def test_a_worker_cannot_end_as_cancelled_what_nobody_cancelled() -> None:
    with pytest.raises(InvalidRequestError, match="nobody asked for cancel"):
        transitions.complete(held(), 1, Stopped(), at(2))


def test_expire_leaves_a_good_lease_alone() -> None:
    assert transitions.expire(held(), at(15.999)) == transitions.Change(held())
    assert transitions.expire(queued(), at(1000)) == transitions.Change(queued())


def test_expire_queues_again_while_attempts_remain() -> None:
    change = transitions.expire(held(max_attempts=2), at(16))
    assert (change.operation.state, change.operation.lease) == (State.QUEUED, None)
    assert change.operation.epoch == 1  # the next grant makes it 2, and fences this one off
    assert change.events[0].body == StateChanged(State.RUNNING, State.QUEUED, "LEASE_EXPIRED")


def test_expire_fails_the_last_attempt_and_says_who_was_lost() -> None:
    change = transitions.expire(held(), at(16))
    error = change.operation.error
    assert change.operation.state is State.FAILED
    assert error is not None
    assert error.reason == "WORKER_LOST"
    assert error.metadata == {"worker_id": "worker-1", "attempt": "1", "max_attempts": "1"}
    assert "worker-1" in error.message
    assert "attempt 1 of 1" in error.message


def test_expire_cancels_what_was_to_be_cancelled_though_attempts_remain() -> None:
    stopping = replace(cancelling(), max_attempts=5)
    assert transitions.expire(stopping, at(16)).operation.state is State.CANCELLED


@pytest.mark.parametrize("state", sorted(TERMINAL_STATES))
def test_a_terminal_state_stays(state: State) -> None:
    done = ended(state)
    assert done.state is state
    assert transitions.request_cancel(done, "too late", at(9)) == transitions.Change(done)
    assert transitions.expire(done, at(1000)) == transitions.Change(done)
    with pytest.raises(transitions.IllegalTransitionError):
        transitions.grant(done, CLAIM, TERMS, at(9))
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


def test_revisions_follow_the_last_one() -> None:
    change = transitions.committed(transitions.request_cancel(queued(), "", at(2)), 41)
    assert [event.revision for event in change.events] == [42]
    assert change.operation.revision == 42
    assert transitions.committed(transitions.Change(queued()), 41).operation.revision == 0


def test_no_terminal_state_is_left_in_the_table() -> None:
    assert not {origin for origin, _ in transitions.LEGAL_TRANSITIONS} & TERMINAL_STATES
    assert {target for _, target in transitions.LEGAL_TRANSITIONS} == set(State)
