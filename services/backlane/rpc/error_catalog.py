"""The one table that says how each error answers a call, and the way back.

A servicer raises; the interceptor asks `to_status`. A client asks `from_rpc_error` and raises the
same class again. An operation that failed carries the same reason: `error_from_parts`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, cast

import grpc
from google.protobuf.message import DecodeError
from google.rpc import status_pb2
from grpc import StatusCode

from backlane import errors
from backlane.errors import BacklaneError, FieldViolation
from backlane.rpc.status_details import Unpacked, pack

DETAILS_KEY = "grpc-status-details-bin"


@dataclass(frozen=True, slots=True)
class Entry:
    """How an error answers: the gRPC code, and what the caller can do about it."""

    code: StatusCode
    help: str


CATALOG: Mapping[type[BacklaneError], Entry] = MappingProxyType(
    {
        errors.InvalidRequestError: Entry(
            StatusCode.INVALID_ARGUMENT, "Correct the fields that the violations name."
        ),
        errors.InvalidStrategyError: Entry(
            StatusCode.INVALID_ARGUMENT, "Correct the strategy where the violations point."
        ),
        errors.InvalidPageTokenError: Entry(
            StatusCode.INVALID_ARGUMENT,
            "List again from the first page, with the same filter.",
        ),
        errors.InvalidResumeTokenError: Entry(
            StatusCode.INVALID_ARGUMENT, "Start the watch anew, with a snapshot."
        ),
        errors.TensorMismatchError: Entry(
            StatusCode.INVALID_ARGUMENT, "Send rows of as many float32 features as the model has."
        ),
        errors.FutureDataError: Entry(
            StatusCode.OUT_OF_RANGE, "Ask for a time that is not after that of the context."
        ),
        errors.CycleFailedError: Entry(
            StatusCode.FAILED_PRECONDITION,
            "Correct the stage that the message names, or raise failed_cycles_max.",
        ),
        errors.NanRefusedError: Entry(
            StatusCode.INVALID_ARGUMENT, "Leave out the row, or let NaN propagate to its outputs."
        ),
        errors.PayloadTooLargeError: Entry(
            StatusCode.INVALID_ARGUMENT, "Send less at once: fewer rows, a smaller page or chunk."
        ),
        errors.PathEscapesRootError: Entry(
            StatusCode.INVALID_ARGUMENT, "Use a plain name, without folders, `..` or links."
        ),
        errors.UploadDigestMismatchError: Entry(
            StatusCode.INVALID_ARGUMENT, "Send the file again, under the SHA-256 of its bytes."
        ),
        errors.OperationNotFoundError: Entry(
            StatusCode.NOT_FOUND, "Look it up with `backlane operation list`."
        ),
        errors.ModelNotFoundError: Entry(
            StatusCode.NOT_FOUND, "Look it up with `backlane model list`."
        ),
        errors.DatasetNotFoundError: Entry(
            StatusCode.NOT_FOUND, "Import the bars with `backlane data import`."
        ),
        errors.ResultNotFoundError: Entry(
            StatusCode.NOT_FOUND, "Ask for a file that the result lists, or run the backtest again."
        ),
        errors.UploadNotFoundError: Entry(StatusCode.NOT_FOUND, "Upload the file, then ask again."),
        errors.RequestIdReusedError: Entry(
            StatusCode.ALREADY_EXISTS, "Make a new request_id for each new request."
        ),
        errors.OperationNotTerminalError: Entry(
            StatusCode.FAILED_PRECONDITION, "Wait for its end, or cancel it first."
        ),
        errors.OperationNotSucceededError: Entry(
            StatusCode.FAILED_PRECONDITION, "Read its error, and run it again."
        ),
        errors.LeaseLostError: Entry(
            StatusCode.ABORTED, "Abandon the attempt: another worker has it."
        ),
        errors.BatchOutOfOrderError: Entry(
            StatusCode.ABORTED, "Send again from the batch that the metadata names as expected."
        ),
        errors.NothingToResumeError: Entry(StatusCode.FAILED_PRECONDITION, "Run it anew."),
        errors.CheckpointOutOfOrderError: Entry(
            StatusCode.ABORTED, "Send the checkpoint that the metadata names as expected."
        ),
        errors.CheckpointCorruptError: Entry(
            StatusCode.DATA_LOSS, "Resume from the checkpoint before it, or run it anew."
        ),
        errors.CheckpointForeignError: Entry(
            StatusCode.FAILED_PRECONDITION, "Resume with the version that wrote it, or run it anew."
        ),
        errors.ResumeTokenForeignError: Entry(
            StatusCode.FAILED_PRECONDITION, "Check the address; start the watch with a snapshot."
        ),
        errors.ResumeTokenAheadError: Entry(
            StatusCode.FAILED_PRECONDITION,
            "The registry went back in time, as after a restored backup: start with a snapshot.",
        ),
        errors.ResumeTokenCompactedError: Entry(
            StatusCode.OUT_OF_RANGE, "Start the watch anew, with a snapshot."
        ),
        errors.BundleInvalidError: Entry(
            StatusCode.FAILED_PRECONDITION, "Check the bundle with `backlane model verify`."
        ),
        errors.BundleCorruptError: Entry(
            StatusCode.DATA_LOSS, "Copy the bundle anew from where it was trained."
        ),
        errors.BundlePickledError: Entry(
            StatusCode.FAILED_PRECONDITION,
            "Save weights alone: torch.save(model.state_dict(), …).",
        ),
        errors.ModelDigestMismatchError: Entry(
            StatusCode.FAILED_PRECONDITION,
            "Ask for the version that is there, or restore it.",
        ),
        errors.ModelNotTradableError: Entry(
            StatusCode.FAILED_PRECONDITION, "Choose a model whose head gives trading decisions."
        ),
        errors.FeatureMismatchError: Entry(
            StatusCode.FAILED_PRECONDITION, "Use the strategy that the model was trained with."
        ),
        errors.DatasetExistsError: Entry(
            StatusCode.ALREADY_EXISTS, "Replace the bars on purpose, or choose another symbol."
        ),
        errors.DataRefusedError: Entry(
            StatusCode.FAILED_PRECONDITION,
            "Correct the file, then import it again: nothing is repaired silently.",
        ),
        errors.DatasetCorruptError: Entry(StatusCode.DATA_LOSS, "Import the bars anew."),
        errors.DatasetChangedError: Entry(
            StatusCode.FAILED_PRECONDITION, "Run it anew on the bars that are there now."
        ),
        errors.DataRangeEmptyError: Entry(
            StatusCode.OUT_OF_RANGE, "Choose times within the range that the metadata names."
        ),
        errors.NotEnoughBarsError: Entry(
            StatusCode.FAILED_PRECONDITION, "Choose an earlier start, or import more bars."
        ),
        errors.NanFeaturesError: Entry(
            StatusCode.FAILED_PRECONDITION, "Start later, mend the bars, or use another profile."
        ),
        errors.LimitExceededError: Entry(
            StatusCode.RESOURCE_EXHAUSTED, "Ask for less at once, or again after the delay."
        ),
        errors.QueueFullError: Entry(
            StatusCode.RESOURCE_EXHAUSTED, "Wait until some have ended, or cancel some."
        ),
        errors.WatchLimitError: Entry(
            StatusCode.RESOURCE_EXHAUSTED, "Close a watch, or watch several operations by one."
        ),
        errors.RateLimitError: Entry(StatusCode.RESOURCE_EXHAUSTED, "Ask again after the delay."),
        errors.StoreFullError: Entry(
            StatusCode.RESOURCE_EXHAUSTED,
            "Free the disk of the store; nothing that was accepted is lost.",
        ),
        errors.SlowConsumerError: Entry(
            StatusCode.RESOURCE_EXHAUSTED, "Read faster; go on from the last resume token."
        ),
        errors.ServerDrainingError: Entry(
            StatusCode.UNAVAILABLE, "Try again after the delay: another server takes over."
        ),
        errors.StoreUnavailableError: Entry(
            StatusCode.UNAVAILABLE, "Try again; if it stays, look at the disk and the store's log."
        ),
        errors.ServiceUnavailableError: Entry(
            StatusCode.UNAVAILABLE, "Start the services with `backlane up`, or check the address."
        ),
        errors.CallTimeoutError: Entry(
            StatusCode.DEADLINE_EXCEEDED, "Try again, or allow more time."
        ),
        errors.CancelledRunError: Entry(StatusCode.CANCELLED, "Run it again, if it was a mistake."),
        errors.WorkerLostError: Entry(
            StatusCode.UNAVAILABLE, "Run it again; the worker's log says why it died."
        ),
        errors.QueueTimeoutError: Entry(
            StatusCode.DEADLINE_EXCEEDED, "Add workers, allow more time, or run it again."
        ),
        errors.AttemptTimeoutError: Entry(
            StatusCode.DEADLINE_EXCEEDED, "Allow more time, or run over fewer bars."
        ),
        errors.NondeterministicReplayError: Entry(
            StatusCode.INTERNAL, "Report it: the same run must always give the same bits."
        ),
        errors.RunStalledError: Entry(
            StatusCode.DEADLINE_EXCEEDED, "Run it again; the worker's log says where it stood."
        ),
        errors.OutOfMemoryError: Entry(
            StatusCode.RESOURCE_EXHAUSTED, "Run over fewer bars, or allow more memory."
        ),
        errors.ForkRefusedError: Entry(
            StatusCode.FAILED_PRECONDITION,
            "Take what forks out of the run, or have it start processes by spawn.",
        ),
        errors.InternalError: Entry(
            StatusCode.INTERNAL, "Report it with the error_id; the service's log has the traceback."
        ),
    }
)

_BY_REASON = {cls.reason: cls for cls in CATALOG}


def code_of(error_type: type[BacklaneError]) -> int:
    """Returns the number of the gRPC code that this error answers with."""
    return int(_entry(error_type).code.value[0])


def _entry(error_type: type[BacklaneError]) -> Entry:
    return next(
        (CATALOG[cls] for cls in error_type.__mro__ if cls in CATALOG),
        CATALOG[errors.InternalError],
    )


def to_status(error: BacklaneError) -> status_pb2.Status:
    """Returns the google.rpc Status of an error: code, message, and details of at most 4 KiB."""
    return pack(error, _entry(type(error)).code)


def error_from_parts(
    reason: str,
    message: str,
    metadata: Mapping[str, str] | None = None,
    *,
    violations: tuple[FieldViolation, ...] = (),
    retry_delay_s: float | None = None,
) -> BacklaneError:
    """Returns the error with this reason; an InternalError that names it where there is none.

    A reason is unknown only when the other side is newer than this one.
    """
    cls = _BY_REASON.get(reason)
    known = dict(metadata or {})
    if cls is None:
        cls, known = errors.InternalError, known | {"reason": reason}
    return cls(message, metadata=known, violations=violations, retry_delay_s=retry_delay_s)


def from_rpc_error(error: grpc.RpcError, *, peer: str = "The service") -> BacklaneError:
    """Returns the error that a failed call stands for, sync or asyncio.

    `peer` names the other side (`model_service at 127.0.0.1:7411`) where the call failed before
    the other side could say anything itself.
    """
    call = cast(Any, error)
    unpacked = _unpacked(call)
    if unpacked is None or unpacked.reason is None:
        return _without_details(call.code(), call.details() or "", peer)
    return error_from_parts(
        unpacked.reason,
        unpacked.message,
        unpacked.metadata,
        violations=unpacked.violations,
        retry_delay_s=unpacked.retry_delay_s,
    )


def _unpacked(call: Any) -> Unpacked | None:
    for key, value in call.trailing_metadata() or ():
        if key == DETAILS_KEY:
            try:
                return Unpacked(status_pb2.Status.FromString(value))
            except DecodeError:
                return None
    return None


def _without_details(code: StatusCode, details: str, peer: str) -> BacklaneError:
    """Returns what the transport's own failure means: nobody there, too late, too large."""
    metadata = {"code": code.name, "details": details}
    match code:
        case StatusCode.UNAVAILABLE:
            return errors.ServiceUnavailableError(
                f"{peer} does not answer ({details}). Is it running? "
                "`backlane up` starts all three services.",
                metadata=metadata,
            )
        case StatusCode.CANCELLED:
            return errors.ServiceUnavailableError(
                f"The call to {peer} was cancelled before it ended ({details}).", metadata=metadata
            )
        case StatusCode.DEADLINE_EXCEEDED:
            return errors.CallTimeoutError(
                f"{peer} did not answer within the deadline.", metadata=metadata
            )
        case StatusCode.RESOURCE_EXHAUSTED if "larger than max" in details:
            return errors.PayloadTooLargeError(
                f"A message to or from {peer} is over the limit ({details}).", metadata=metadata
            )
        case _:
            return errors.InternalError(
                f"{peer} answered {code.name}: {details}", metadata=metadata
            )
