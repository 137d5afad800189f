"""Committing checkpoints: in order, by the holder, the last two kept."""

from dataclasses import replace

import pytest

from backlane.errors import CheckpointOutOfOrderError, LeaseLostError
from backlane.operations import checkpoints, transitions
from backlane.operations.events import CheckpointCommitted
from backlane.operations.limits import CHECKPOINTS_KEPT
from backlane.operations.operation import Operation, State
from backlane.operations.transitions import Change
from tests.unit.operations.test_transitions import (
    CLAIM,
    TERMS,
    at,
    cancelling,
    checkpoint,
    ended,
    held,
    queued,
)


def committed(*numbers: int) -> Operation:
    operation = held(max_attempts=2)
    for number in numbers:
        operation = checkpoints.commit(operation, 1, checkpoint(number), at(2))[0].operation
    return operation


def test_a_checkpoint_is_kept_and_told_with_its_attempt_and_time() -> None:
    change, reply = checkpoints.commit(held(), 1, checkpoint(1), at(4))
    placed = replace(checkpoint(1), attempt=1, commit_time_ns=4_000_000_000)
    assert (change.operation.checkpoints, change.operation.checkpoint_number) == ((placed,), 1)
    assert (reply.checkpoint, reply.dropped) == (placed, ())
    (event,) = change.events
    assert (event.body, event.sequence) == (CheckpointCommitted(placed), 3)
    assert change.operation.state is State.RUNNING


def test_the_newest_two_are_kept_and_the_one_that_goes_is_told() -> None:
    _, reply = checkpoints.commit(committed(1, 2), 1, checkpoint(3), at(5))
    assert CHECKPOINTS_KEPT == 2
    assert [one.number for one in committed(1, 2, 3).checkpoints] == [3, 2]
    assert [one.number for one in reply.dropped] == [1]


def test_the_same_checkpoint_again_changes_nothing() -> None:
    twice = committed(1, 2)
    change, reply = checkpoints.commit(twice, 1, checkpoint(2), at(9))
    assert change == Change(twice)
    assert (reply.checkpoint, reply.dropped) == (twice.checkpoints[0], ())


@pytest.mark.parametrize("number", [0, 1, 4], ids=["none", "before the last", "with a hole"])
def test_a_checkpoint_out_of_order_says_which_one_is_next(number: int) -> None:
    with pytest.raises(CheckpointOutOfOrderError) as raised:
        checkpoints.commit(committed(1, 2), 1, checkpoint(number), at(5))
    assert raised.value.metadata["expected"] == "3"


def test_the_same_number_with_other_bytes_is_refused() -> None:
    other = replace(checkpoint(2), sha256=b"o" * 32)
    with pytest.raises(CheckpointOutOfOrderError, match="checkpoint 3 is next"):
        checkpoints.commit(committed(1, 2), 1, other, at(5))


@pytest.mark.parametrize("number", [2, 3], ids=["the last one again", "the next one"])
def test_only_the_holder_commits(number: int) -> None:
    twice = committed(1, 2)
    for epoch, seconds in ((0, 3), (2, 3), (1, 16)):
        with pytest.raises(LeaseLostError):
            checkpoints.commit(twice, epoch, checkpoint(number), at(seconds))
    for free in (queued(), ended(State.SUCCEEDED)):
        with pytest.raises(LeaseLostError):
            checkpoints.commit(free, 1, checkpoint(1), at(3))


def test_the_next_attempt_goes_on_with_the_number() -> None:
    waiting = transitions.expire(committed(1, 2), TERMS, at(16)).operation
    assert [one.number for one in waiting.checkpoints] == [2, 1]
    again = transitions.grant(waiting, CLAIM, TERMS, at(20)).operation
    change, _ = checkpoints.commit(again, 2, checkpoint(3), at(21))
    assert change.operation.checkpoints[0].attempt == 2


def test_a_worker_that_is_told_to_stop_may_still_commit_its_last_one() -> None:
    change, _ = checkpoints.commit(cancelling(), 1, checkpoint(1), at(3))
    assert (change.operation.state, change.operation.checkpoint_number) == (State.CANCELLING, 1)


def test_a_resumed_operation_counts_on_and_lets_go_of_what_it_began_from() -> None:
    resumed = replace(held(), checkpoints=committed(1, 2).checkpoints, checkpoint_number=2)
    change, reply = checkpoints.commit(resumed, 1, checkpoint(3), at(4))
    assert [one.number for one in change.operation.checkpoints] == [3, 2]
    assert reply.dropped == (committed(1).checkpoints[0],)


def test_checkpoints_go_with_a_delete() -> None:
    done = transitions.delete(ended(State.SUCCEEDED, committed(1)), at(9)).operation
    assert done.checkpoints == ()
