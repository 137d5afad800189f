"""Requests of workers to the registry: untrusted messages in, checked commands out, and back.

Each `..._from_proto` looks at every field and raises one InvalidRequestError with all that is
wrong.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from backlane.api.operations.v1 import worker_service_pb2 as worker_pb
from backlane.api.portfolio.v1 import portfolio_pb2
from backlane.operations import limits
from backlane.operations.checkpoints import CheckpointReply
from backlane.operations.commands import (
    Claim,
    Failed,
    Outcome,
    Stopped,
    Succeeded,
    TelemetryBatch,
)
from backlane.operations.operation import Checkpoint
from backlane.operations.store import Renewal
from backlane.wire.operation_checks import (
    RELEASE_REASON_CHARACTERS_MAX,
    check_checkpoint,
    check_epoch,
    check_error,
    check_kind,
    check_length,
    check_name,
    check_notes,
    check_payload_size,
    check_points,
    check_progress,
    check_request_id,
    check_trade_numbers,
    check_trades,
    check_worker_id,
    checked_wait_s,
)
from backlane.wire.operations import (
    checkpoint_from_proto,
    checkpoint_to_proto,
    error_from_proto,
    error_to_proto,
    payload_from_proto,
    payload_to_proto,
    point_from_proto,
    point_to_proto,
    progress_from_proto,
    progress_to_proto,
)
from backlane.wire.times import duration_to_proto
from backlane.wire.violations import Violations


@dataclass(frozen=True, slots=True)
class Telemetry:
    """A batch of telemetry, and the hold that it is written with."""

    operation: str
    epoch: int
    batch: TelemetryBatch


@dataclass(frozen=True, slots=True)
class Completion:
    """The end of a run, and the hold that it is written with."""

    operation: str
    epoch: int
    outcome: Outcome


@dataclass(frozen=True, slots=True)
class CheckpointCommit:
    """A checkpoint to commit, and the hold that it is written with."""

    operation: str
    epoch: int
    checkpoint: Checkpoint


@dataclass(frozen=True, slots=True)
class Release:
    """A run that its worker gives back, and why."""

    operation: str
    epoch: int
    reason: str


def claim_to_proto(claim: Claim, wait_s: float) -> worker_pb.AcquireOperationRequest:
    """Returns the message for a wish for work."""
    return worker_pb.AcquireOperationRequest(
        request_id=claim.request_id,
        worker_id=claim.worker_id,
        kinds=claim.kinds,
        wait=duration_to_proto(wait_s),
    )


def claim_from_proto(message: worker_pb.AcquireOperationRequest) -> tuple[Claim, float]:
    """Returns a checked wish for work, and how long to wait for some, in seconds."""
    found = Violations()
    check_request_id(found, message.request_id)
    check_worker_id(found, message.worker_id)
    found.check(
        1 <= len(message.kinds) <= limits.KINDS_MAX,
        "kinds",
        f"names {len(message.kinds)}; accepted is 1 to {limits.KINDS_MAX}",
    )
    for index, kind in enumerate(message.kinds):
        check_kind(found, f"kinds[{index}]", kind)
    wait_s = checked_wait_s(found, "wait", message.wait if message.HasField("wait") else None, 0.0)
    found.raise_if_any()
    return Claim(message.request_id.lower(), message.worker_id, tuple(message.kinds)), wait_s


def renewals_from_proto(message: worker_pb.RenewLeasesRequest) -> tuple[str, list[Renewal]]:
    """Returns the checked worker and the leases that it wants to keep."""
    found = Violations()
    check_worker_id(found, message.worker_id)
    found.check(
        1 <= len(message.renewals) <= limits.RENEWALS_PER_CALL_MAX,
        "renewals",
        f"holds {len(message.renewals)}; accepted is 1 to {limits.RENEWALS_PER_CALL_MAX}",
    )
    for index, renewal in enumerate(message.renewals):
        check_name(found, f"renewals[{index}].operation", renewal.operation)
        check_epoch(found, f"renewals[{index}].epoch", renewal.epoch)
    found.raise_if_any()
    return message.worker_id, [Renewal(one.operation, one.epoch) for one in message.renewals]


def renewals_to_proto(worker_id: str, renewals: Iterable[Renewal]) -> worker_pb.RenewLeasesRequest:
    """Returns the message for leases that a worker wants to keep."""
    kept = [
        worker_pb.RenewLeasesRequest.Renewal(operation=one.operation, epoch=one.epoch)
        for one in renewals
    ]
    return worker_pb.RenewLeasesRequest(worker_id=worker_id, renewals=kept)


def worker_from_proto(message: worker_pb.WatchDirectivesRequest) -> str:
    """Returns the checked id of a worker."""
    found = Violations()
    check_worker_id(found, message.worker_id)
    found.raise_if_any()
    return message.worker_id


def telemetry_to_proto(
    name: str, epoch: int, batch: TelemetryBatch
) -> worker_pb.AppendTelemetryRequest:
    """Returns the message for a batch of telemetry; the trades carry their numbers themselves."""
    return worker_pb.AppendTelemetryRequest(
        operation=name,
        epoch=epoch,
        batch_number=batch.batch_number,
        points=map(point_to_proto, batch.points),
        trades=map(portfolio_pb2.Trade.FromString, batch.trades),
        notes=batch.notes,
        progress=progress_to_proto(batch.progress) if batch.progress else None,
    )


def telemetry_from_proto(message: worker_pb.AppendTelemetryRequest) -> Telemetry:
    """Returns a checked batch of telemetry."""
    found = Violations()
    check_name(found, "operation", message.operation)
    check_epoch(found, "epoch", message.epoch)
    has_more = bool(message.points or message.trades or message.notes)
    found.check(
        message.batch_number >= (1 if has_more else 0),
        "batch_number",
        f"is {message.batch_number}; batches count from 1, and 0 is for nothing but progress",
    )
    check_points(found, message.points)
    trades = [trade.SerializeToString() for trade in message.trades]
    check_trades(found, trades)
    numbers = [trade.number for trade in message.trades]
    check_trade_numbers(found, numbers)
    check_notes(found, message.notes)
    if message.HasField("progress"):
        check_progress(found, message.progress)
    found.raise_if_any()
    batch = TelemetryBatch(
        batch_number=message.batch_number,
        points=tuple(map(point_from_proto, message.points)),
        trades=tuple(trades),
        first_trade=numbers[0] if numbers else 1,
        notes=tuple(message.notes),
        progress=progress_from_proto(message.progress) if message.HasField("progress") else None,
    )
    return Telemetry(message.operation, message.epoch, batch)


def outcome_to_proto(name: str, epoch: int, outcome: Outcome) -> worker_pb.CompleteOperationRequest:
    """Returns the message for the end of a run."""
    message = worker_pb.CompleteOperationRequest(operation=name, epoch=epoch)
    if isinstance(outcome, Succeeded):
        message.result.CopyFrom(payload_to_proto(outcome.result))
    elif isinstance(outcome, Failed):
        message.error.CopyFrom(error_to_proto(outcome.error))
        message.is_retryable = outcome.is_retryable
    else:
        message.cancelled.SetInParent()
    return message


def completion_from_proto(message: worker_pb.CompleteOperationRequest) -> Completion:
    """Returns the checked end of a run."""
    found = Violations()
    check_name(found, "operation", message.operation)
    check_epoch(found, "epoch", message.epoch)
    outcome: Outcome = Stopped()
    match message.WhichOneof("outcome"):
        case "result":
            found.check(bool(message.result.type_url), "result.type_url", "is missing")
            check_payload_size(found, "result", message.result)
            outcome = Succeeded(payload_from_proto(message.result))
        case "error":
            check_error(found, message.error)
            outcome = Failed(error_from_proto(message.error), message.is_retryable)
        case None:
            found.add("outcome", "is missing; accepted is result, error or cancelled")
    found.check(
        not message.is_retryable or message.HasField("error"),
        "is_retryable",
        "comes without an error; accepted is with one",
    )
    found.raise_if_any()
    return Completion(message.operation, message.epoch, outcome)


def checkpoint_commit_to_proto(
    name: str, epoch: int, checkpoint: Checkpoint
) -> worker_pb.CommitCheckpointRequest:
    """Returns the message for a checkpoint to commit."""
    return worker_pb.CommitCheckpointRequest(
        operation=name, epoch=epoch, checkpoint=checkpoint_to_proto(checkpoint)
    )


def checkpoint_commit_from_proto(message: worker_pb.CommitCheckpointRequest) -> CheckpointCommit:
    """Returns a checked checkpoint to commit."""
    found = Violations()
    check_name(found, "operation", message.operation)
    check_epoch(found, "epoch", message.epoch)
    check_checkpoint(found, message.checkpoint)
    found.raise_if_any()
    checkpoint = checkpoint_from_proto(message.checkpoint)
    return CheckpointCommit(message.operation, message.epoch, checkpoint)


def checkpoint_reply_to_proto(reply: CheckpointReply) -> worker_pb.CommitCheckpointResponse:
    """Returns the message for a checkpoint that was committed."""
    return worker_pb.CommitCheckpointResponse(
        checkpoint=checkpoint_to_proto(reply.checkpoint),
        dropped=map(checkpoint_to_proto, reply.dropped),
    )


def checkpoint_reply_from_proto(message: worker_pb.CommitCheckpointResponse) -> CheckpointReply:
    """Returns the checkpoint that was committed, and those that are kept no longer."""
    dropped = tuple(map(checkpoint_from_proto, message.dropped))
    return CheckpointReply(checkpoint_from_proto(message.checkpoint), dropped)


def release_from_proto(message: worker_pb.ReleaseOperationRequest) -> Release:
    """Returns a checked wish to give a run back."""
    found = Violations()
    check_name(found, "operation", message.operation)
    check_epoch(found, "epoch", message.epoch)
    check_length(found, "reason", message.reason, RELEASE_REASON_CHARACTERS_MAX)
    found.raise_if_any()
    return Release(message.operation, message.epoch, message.reason)
