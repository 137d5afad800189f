"""Committing a checkpoint: in order, by the holder of the lease alone, and never back."""

from dataclasses import dataclass

from backlane.errors import CheckpointOutOfOrderError
from backlane.operations.events import CheckpointCommitted
from backlane.operations.lease import Instant
from backlane.operations.limits import CHECKPOINTS_KEPT
from backlane.operations.operation import Checkpoint, Operation
from backlane.operations.records import replace
from backlane.operations.transitions import Change, fence, logged


@dataclass(frozen=True, slots=True)
class CheckpointReply:
    """The checkpoint as it was committed, and those that are kept no longer."""

    checkpoint: Checkpoint
    dropped: tuple[Checkpoint, ...] = ()


def commit(
    operation: Operation, epoch: int, checkpoint: Checkpoint, now: Instant
) -> tuple[Change, CheckpointReply]:
    """Makes a checkpoint the one that a next attempt begins from.

    The same checkpoint again changes nothing: number and SHA-256 tell it.

    Raises:
        LeaseLostError: the lease is not the operation's newest, or its time ran out.
        CheckpointOutOfOrderError: it is not the one after the last, or goes back behind it.

    """
    fence(operation, epoch, now)
    last = operation.checkpoints[0] if operation.checkpoints else None
    if last is not None and (last.number, last.sha256) == (checkpoint.number, checkpoint.sha256):
        return Change(operation), CheckpointReply(last)
    expected = operation.checkpoint_number + 1
    if checkpoint.number != expected:
        raise _out_of_order(operation, checkpoint, expected)
    placed = replace(checkpoint, attempt=operation.attempt, commit_time_ns=now.wall_ns)
    kept = (placed, *operation.checkpoints)[:CHECKPOINTS_KEPT]
    dropped = tuple(one for one in operation.checkpoints if one not in kept)
    grown = replace(operation, checkpoints=kept, checkpoint_number=placed.number)
    return logged(grown, [CheckpointCommitted(placed)], now), CheckpointReply(placed, dropped)


def _out_of_order(
    operation: Operation, checkpoint: Checkpoint, expected: int
) -> CheckpointOutOfOrderError:
    return CheckpointOutOfOrderError(
        f"Checkpoint {checkpoint.number} of {operation.name} does not follow the last one: "
        f"checkpoint {expected} is next.",
        metadata={
            "operation": operation.name,
            "number": str(checkpoint.number),
            "expected": str(expected),
        },
    )
