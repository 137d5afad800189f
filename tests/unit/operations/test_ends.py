"""How attempts and operations end: completed, failed, expired, overdue, cancelled."""

from dataclasses import replace

import pytest

from backlane.errors import InvalidRequestError, LeaseLostError
from backlane.operations import transitions
from backlane.operations.commands import Claim, Failed, Outcome, Stopped, Succeeded
from backlane.operations.events import StateChanged
from backlane.operations.limits import FAILURE_MESSAGE_CHARACTERS_MAX, FAILURES_KEPT_MAX
from backlane.operations.operation import AttemptFailure, Operation, OperationError, State
from backlane.operations.transitions import Change, complete, expire
from tests.unit.operations.test_transitions import (
    CLAIM,
    ERROR,
    RESULT,
    TERMS,
    at,
    cancelling,
    held,
    queued,
)

RETRYABLE = Failed(ERROR, is_retryable=True)


def moved(change: Change) -> tuple[State | None, State, str]:
    """The one move that a change tells of."""
    (event,) = change.events
    assert isinstance(event.body, StateChanged)
    return event.body.from_state, event.body.to_state, event.body.reason


@pytest.mark.parametrize(
    ("start", "outcome", "expected"),
    [
        (held, Succeeded(RESULT), (State.RUNNING, State.SUCCEEDED, "COMPLETED")),
        (held, Failed(ERROR), (State.RUNNING, State.FAILED, "OUT_OF_MEMORY")),
        (held, RETRYABLE, (State.RUNNING, State.FAILED, "OUT_OF_MEMORY")),
        (cancelling, Succeeded(RESULT), (State.CANCELLING, State.SUCCEEDED, "COMPLETED")),
        (cancelling, Failed(ERROR), (State.CANCELLING, State.FAILED, "OUT_OF_MEMORY")),
        (cancelling, RETRYABLE, (State.CANCELLING, State.FAILED, "OUT_OF_MEMORY")),
        (cancelling, Stopped(), (State.CANCELLING, State.CANCELLED, "CANCEL_ACKNOWLEDGED")),
    ],
)
def test_a_worker_ends_an_operation(start: object, outcome: Outcome, expected: object) -> None:
    """With the default of one attempt a retryable error is an end as well."""
    change = complete(start(), 1, outcome, at(3))  # type: ignore[operator]
    done = change.operation
    assert moved(change) == expected
    assert (done.lease, done.end_time_ns) == (None, 3_000_000_000)
    assert (done.result is not None) == (done.state is State.SUCCEEDED)
    assert (done.error is None) == (done.state is State.SUCCEEDED)


def test_a_worker_cannot_end_as_cancelled_what_nobody_cancelled() -> None:
    with pytest.raises(InvalidRequestError, match="nobody asked for cancel"):
        complete(held(), 1, Stopped(), at(2))


@pytest.mark.parametrize("outcome", [Succeeded(RESULT), Failed(ERROR), RETRYABLE, Stopped()])
def test_the_same_end_again_changes_nothing(outcome: Outcome) -> None:
    done = complete(cancelling(), 1, outcome, at(3)).operation
    assert done.lease is None
    assert complete(done, 1, outcome, at(4)) == Change(done)


def test_the_same_retryable_error_again_is_counted_once() -> None:
    """The answer was lost: the worker says it again, while the operation waits."""
    waiting = complete(held(max_attempts=2), 1, RETRYABLE, at(3)).operation
    assert (waiting.state, waiting.failure_count) == (State.QUEUED, 1)
    assert complete(waiting, 1, RETRYABLE, at(4)) == Change(waiting)
    with pytest.raises(LeaseLostError):
        complete(waiting, 1, Failed(OperationError("OTHER", "too much"), True), at(4))
    again = transitions.grant(waiting, CLAIM, TERMS, at(5)).operation
    with pytest.raises(LeaseLostError, match="the newest epoch is 2"):
        complete(again, 1, RETRYABLE, at(6))


def test_another_end_than_before_is_refused() -> None:
    done = complete(held(), 1, Succeeded(RESULT), at(3)).operation
    other = replace(RESULT, value=b"other")
    for outcome in (Succeeded(other), Failed(ERROR), Stopped()):
        with pytest.raises(LeaseLostError, match="nobody holds it, it is SUCCEEDED"):
            complete(done, 1, outcome, at(4))


def test_the_same_end_from_an_older_holder_is_refused() -> None:
    waiting = expire(held(max_attempts=2), TERMS, at(16)).operation
    second = transitions.grant(waiting, CLAIM, TERMS, at(17)).operation
    done = complete(second, 2, Succeeded(RESULT), at(18)).operation
    with pytest.raises(LeaseLostError):
        complete(done, 1, Succeeded(RESULT), at(19))


def test_an_end_that_comes_after_the_lease_ran_out_is_refused() -> None:
    """Granted at 1 s for 15 s: good before 16 s, though nobody has looked yet."""
    assert complete(held(), 1, Succeeded(RESULT), at(15.999)).operation.state is State.SUCCEEDED
    with pytest.raises(LeaseLostError, match="its time ran out"):
        complete(held(), 1, Succeeded(RESULT), at(16))


def test_a_retryable_error_queues_again_after_a_pause() -> None:
    """The pause after the first failure is 0.2 s."""
    change = complete(held(max_attempts=2), 1, RETRYABLE, at(3))
    waiting = change.operation
    (event,) = change.events
    assert event.body == StateChanged(
        State.RUNNING, State.QUEUED, "RETRYABLE_ERROR", error=RETRYABLE.error
    )
    assert (waiting.lease, waiting.error, waiting.end_time_ns) == (None, None, None)
    assert waiting.next_attempt_ns == 3_200_000_000
    assert waiting.failures == (
        AttemptFailure(1, "worker-1", "OUT_OF_MEMORY", "too much", 3_000_000_000),
    )
    assert transitions.grant(waiting, CLAIM, TERMS, at(4)).operation.next_attempt_ns is None


def attempted(failures: int, max_attempts: int, error: OperationError = ERROR) -> Operation:
    """An operation after so many retryable failures, one a second from 1 s on."""
    operation = queued(max_attempts=max_attempts)
    for number in range(1, failures + 1):
        claim = Claim(f"claim-{number}", f"worker-{number}", ("backtest.run",))
        taken = transitions.grant(operation, claim, TERMS, at(number)).operation
        outcome = Failed(error, is_retryable=True)
        operation = complete(taken, taken.epoch, outcome, at(number)).operation
    return operation


def test_the_pauses_grow() -> None:
    """0.2, 0.8 and 3.2 s after failures at 1, 2 and 3 s."""
    pauses = [attempted(count, 9).next_attempt_ns for count in (1, 2, 3)]
    assert pauses == [1_200_000_000, 2_800_000_000, 6_200_000_000]


def test_the_last_failure_ends_it_and_tells_of_those_before() -> None:
    assert attempted(2, 3).state is State.QUEUED
    done = attempted(3, 3)
    assert (done.state, done.failure_count, done.attempt) == (State.FAILED, 3, 3)
    assert done.error is not None
    assert done.error.message == (
        "too much It was the last of 3 attempts (attempt 1: OUT_OF_MEMORY; "
        "attempt 2: OUT_OF_MEMORY)."
    )
    assert done.error.metadata == {"failed_attempts": "3"}


def test_only_the_newest_failures_are_told_and_only_the_beginning_of_each() -> None:
    long = OperationError("BROKEN", "x" * (FAILURE_MESSAGE_CHARACTERS_MAX + 1))
    many = attempted(FAILURES_KEPT_MAX + 2, 99, long)
    assert [failure.attempt for failure in many.failures] == list(range(3, 13))
    assert {len(failure.message) for failure in many.failures} == {512}
    outcome = Failed(long, is_retryable=True)
    assert complete(many, 12, outcome, at(99)) == Change(many)


def test_an_error_that_is_not_retryable_ends_it_though_attempts_remain() -> None:
    done = complete(held(max_attempts=5), 1, Failed(ERROR), at(3)).operation
    assert (done.state, done.failure_count, done.error) == (State.FAILED, 1, ERROR)


def test_the_registry_itself_ends_a_held_operation_for_good() -> None:
    change = transitions.fail(held(max_attempts=5), ERROR, at(3))
    assert moved(change) == (State.RUNNING, State.FAILED, "OUT_OF_MEMORY")
    assert change.operation.failure_count == 1


def test_expire_leaves_alone_what_is_in_time() -> None:
    assert expire(held(), TERMS, at(15.999)) == Change(held())
    assert expire(queued(), TERMS, at(1000)) == Change(queued())
    assert expire(cancelling(), TERMS, at(15.999)) == Change(cancelling())


def test_expire_queues_again_while_attempts_remain() -> None:
    change = expire(held(max_attempts=2), TERMS, at(16))
    waiting = change.operation
    assert moved(change) == (State.RUNNING, State.QUEUED, "LEASE_EXPIRED")
    assert (waiting.lease, waiting.failure_count) == (None, 1)
    assert waiting.epoch == 1  # the next grant makes it 2, and fences this one off
    assert (waiting.failures[0].reason, waiting.failures[0].worker_id) == (
        "WORKER_LOST",
        "worker-1",
    )
    assert waiting.next_attempt_ns == 16_200_000_000


def test_expire_fails_the_last_attempt_and_says_who_was_lost() -> None:
    change = expire(held(), TERMS, at(16))
    error = change.operation.error
    assert moved(change) == (State.RUNNING, State.FAILED, "WORKER_LOST")
    assert error is not None
    assert error.reason == "WORKER_LOST"
    assert error.metadata == {"worker_id": "worker-1", "attempt": "1", "max_attempts": "1"}
    assert "worker-1" in error.message
    assert "attempt 1:" in error.message


def test_expire_cancels_what_was_to_be_cancelled_though_attempts_remain() -> None:
    stopping = replace(cancelling(), max_attempts=5)
    change = expire(stopping, TERMS, at(16))
    assert moved(change) == (State.CANCELLING, State.CANCELLED, "LEASE_EXPIRED")
    assert change.operation.failure_count == 0


def test_a_cancel_that_the_worker_does_not_follow_ends_all_the_same() -> None:
    """Asked at 2 s, 10 s of grace and 5 s beyond: overdue from 17 s on, however it renews."""
    renewed = transitions.renew(cancelling(), "worker-1", 1, TERMS, at(10)).operation
    assert expire(renewed, TERMS, at(16.999)) == Change(renewed)
    change = expire(renewed, TERMS, at(17))
    assert moved(change) == (State.CANCELLING, State.CANCELLED, "CANCEL_TIMEOUT")
    with pytest.raises(LeaseLostError):
        transitions.renew(change.operation, "worker-1", 1, TERMS, at(17))


def test_an_attempt_may_take_so_long_and_no_longer() -> None:
    """Granted at 1 s with 20 s: overdue from 21 s on, however it renews."""
    running = held(max_attempts=2, attempt_timeout_s=20.0)
    renewed = transitions.renew(running, "worker-1", 1, TERMS, at(10)).operation
    assert expire(renewed, TERMS, at(20.999)) == Change(renewed)
    change = expire(renewed, TERMS, at(21))
    assert moved(change) == (State.RUNNING, State.QUEUED, "ATTEMPT_TIMEOUT")
    assert change.operation.failures[0].reason == "ATTEMPT_TIMEOUT"
    last = expire(replace(renewed, max_attempts=1), TERMS, at(21)).operation
    assert last.error is not None
    assert (last.state, last.error.reason) == (State.FAILED, "ATTEMPT_TIMEOUT")
    assert last.error.metadata == {"attempt_timeout_s": "20", "attempt": "1"}


def test_a_lease_that_ran_out_goes_before_an_attempt_that_is_overdue() -> None:
    late = expire(held(max_attempts=2, attempt_timeout_s=5.0), TERMS, at(30))
    assert moved(late) == (State.RUNNING, State.QUEUED, "LEASE_EXPIRED")


def test_an_operation_that_nobody_takes_in_time_fails() -> None:
    """Made at 0 s with 60 s."""
    waiting = queued(queue_timeout_s=60.0)
    assert expire(waiting, TERMS, at(59.999)) == Change(waiting)
    change = expire(waiting, TERMS, at(60))
    assert moved(change) == (State.QUEUED, State.FAILED, "QUEUE_TIMEOUT")
    assert change.operation.error is not None
    assert change.operation.error.metadata == {"queue_timeout_s": "60", "kind": "backtest.run"}
    assert change.operation.failure_count == 0  # there was no attempt


def test_a_queue_timeout_is_about_the_first_attempt_alone() -> None:
    """One that was given back, or waits for its next attempt, has begun."""
    begun = held(queue_timeout_s=60.0, max_attempts=2)
    given_back = transitions.release(begun, 1, "drain", at(2)).operation
    failed_once = expire(begun, TERMS, at(16)).operation
    for waiting in (given_back, failed_once):
        assert expire(waiting, TERMS, at(1000)) == Change(waiting)


def test_a_jump_of_the_wall_clock_ends_no_lease_and_no_attempt() -> None:
    running = held(attempt_timeout_s=100.0)
    a_day_on = replace(at(2), wall_ns=86_400 * 10**9)
    assert expire(running, TERMS, a_day_on) == Change(running)
    assert expire(cancelling(), TERMS, a_day_on) == Change(cancelling())
    assert transitions.fence(running, 1, a_day_on) == running.lease
