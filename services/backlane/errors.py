"""The closed set of errors that Backlane raises on purpose.

An error says what is wrong and what to do, in words a user understands. It knows no gRPC status:
`backlane.rpc.error_catalog` maps each class to one, and `backlane.client` maps it back, so that
the same class arrives at the caller whether the work ran in process or behind a service.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar


@dataclass(frozen=True, slots=True)
class FieldViolation:
    """One field of a request that cannot be accepted.

    `field` is the path in the request (`spec.initial_cash`), `description` says what is wrong with
    the value and what is accepted instead.
    """

    field: str
    description: str


class BacklaneError(Exception):
    """Root of every error that Backlane raises on purpose.

    `message` is for people; `metadata` repeats each value that the message names, as text;
    `violations` lists the fields at fault, when a request is; `retry_delay_s` is set when trying
    again after so many seconds makes sense. An error that is always about the same field names it
    in `field`, and needs no violations of its own.
    """

    reason: ClassVar[str] = "INTERNAL_ERROR"
    field: ClassVar[str] = ""

    def __init__(
        self,
        message: str,
        *,
        metadata: Mapping[str, str] | None = None,
        violations: tuple[FieldViolation, ...] = (),
        retry_delay_s: float | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.metadata = dict(metadata or {})
        of_class = (FieldViolation(self.field, message),) if self.field else ()
        self.violations = violations or of_class
        self.retry_delay_s = retry_delay_s


# --- the request is at fault -------------------------------------------------------------------


class InvalidRequestError(BacklaneError):
    """A field of a request is missing, malformed or out of range."""

    reason = "VALIDATION_FAILED"


class InvalidStrategyError(BacklaneError):
    """A strategy file or the strategy inside a bundle breaks the v3 grammar."""

    reason = "STRATEGY_INVALID"


class InvalidPageTokenError(BacklaneError):
    """A page token is damaged, or comes from another query."""

    reason = "PAGE_TOKEN_INVALID"
    field = "page_token"


class InvalidResumeTokenError(BacklaneError):
    """A resume token is damaged, or comes from a watch of something else."""

    reason = "RESUME_TOKEN_INVALID"
    field = "resume_token"


class TensorMismatchError(BacklaneError):
    """A tensor has the wrong shape, length or type for the model."""

    reason = "TENSOR_MISMATCH"


class FutureDataError(BacklaneError):
    """Something asked for data that was not known yet at the time it was asked for."""

    reason = "FUTURE_DATA"


class CycleFailedError(BacklaneError):
    """More trading cycles of a run failed than it allows."""

    reason = "CYCLE_FAILED"


class NanRefusedError(BacklaneError):
    """A row of features holds a NaN and the caller asked to refuse that."""

    reason = "NAN_REFUSED"


class PayloadTooLargeError(BacklaneError):
    """A request is larger than a named limit."""

    reason = "PAYLOAD_TOO_LARGE"


class PathEscapesRootError(BacklaneError):
    """A name from a request would leave the folder that it is looked up in."""

    reason = "PATH_ESCAPES_ROOT"


class UploadDigestMismatchError(BacklaneError):
    """The bytes of an upload are not those of the digest that was given."""

    reason = "UPLOAD_DIGEST_MISMATCH"
    field = "opening.digest"


# --- there is no such thing --------------------------------------------------------------------


class OperationNotFoundError(BacklaneError):
    """No operation has this name."""

    reason = "OPERATION_NOT_FOUND"


class ModelNotFoundError(BacklaneError):
    """No bundle has this name and version."""

    reason = "MODEL_NOT_FOUND"


class DatasetNotFoundError(BacklaneError):
    """The catalog holds no bars of this symbol and timeframe."""

    reason = "DATASET_NOT_FOUND"


class ResultNotFoundError(BacklaneError):
    """The result, or the file of it, is not there."""

    reason = "RESULT_NOT_FOUND"


class UploadNotFoundError(BacklaneError):
    """No file with this digest was uploaded, or it is no longer kept."""

    reason = "UPLOAD_NOT_FOUND"


# --- the state of things does not allow it -----------------------------------------------------


class RequestIdReusedError(BacklaneError):
    """The request_id was used before, for another request."""

    reason = "REQUEST_ID_REUSED"


class OperationNotTerminalError(BacklaneError):
    """The operation has not ended yet, and what was asked needs it to."""

    reason = "OPERATION_NOT_TERMINAL"


class OperationNotSucceededError(BacklaneError):
    """The operation ended without a result."""

    reason = "OPERATION_NOT_SUCCEEDED"


class LeaseLostError(BacklaneError):
    """The lease that a worker writes with is no longer good."""

    reason = "LEASE_LOST"


class BatchOutOfOrderError(BacklaneError):
    """A batch of telemetry came before its predecessor."""

    reason = "BATCH_OUT_OF_ORDER"


class NothingToResumeError(BacklaneError):
    """The operation left no checkpoint, or has not failed: there is nothing to go on from."""

    reason = "NOTHING_TO_RESUME"


class CheckpointOutOfOrderError(BacklaneError):
    """A checkpoint does not follow the last one that was committed."""

    reason = "CHECKPOINT_OUT_OF_ORDER"


class CheckpointCorruptError(BacklaneError):
    """A checkpoint is missing or damaged: its bytes are not those that were committed."""

    reason = "CHECKPOINT_CORRUPT"


class CheckpointForeignError(BacklaneError):
    """A checkpoint was written by another kind of run, another version, or for another spec."""

    reason = "CHECKPOINT_FOREIGN"


class ResumeTokenForeignError(BacklaneError):
    """A resume token comes from another registry."""

    reason = "RESUME_TOKEN_FOREIGN"


class ResumeTokenAheadError(BacklaneError):
    """A resume token is newer than the registry, as after restoring an old backup."""

    reason = "RESUME_TOKEN_AHEAD"


class ResumeTokenCompactedError(BacklaneError):
    """A resume token is older than the oldest event that is kept."""

    reason = "RESUME_TOKEN_COMPACTED"


class BundleInvalidError(BacklaneError):
    """A bundle's files contradict each other or the format."""

    reason = "MODEL_BUNDLE_INVALID"


class BundleCorruptError(BacklaneError):
    """A file of a bundle cannot be read."""

    reason = "MODEL_FILE_CORRUPT"


class BundlePickledError(BacklaneError):
    """A bundle holds a pickled module, or any pickle but plain weights."""

    reason = "MODEL_NOT_WEIGHTS_ONLY"


class ModelDigestMismatchError(BacklaneError):
    """The bundle is not the one that the request was made for."""

    reason = "MODEL_DIGEST_MISMATCH"


class ModelNotTradableError(BacklaneError):
    """The model's head gives no trading decisions."""

    reason = "MODEL_NOT_TRADABLE"


class FeatureMismatchError(BacklaneError):
    """The features that are computed are not those that the model was trained on."""

    reason = "FEATURE_MISMATCH"


class DatasetExistsError(BacklaneError):
    """The catalog already holds other bars under this symbol and timeframe."""

    reason = "DATASET_EXISTS"


class DataRefusedError(BacklaneError):
    """Bars have a defect that would make a backtest a lie."""

    reason = "DATA_REFUSED"


class DatasetCorruptError(BacklaneError):
    """A dataset's file is damaged: its content is not what its digest says."""

    reason = "DATASET_CORRUPT"


class DatasetChangedError(BacklaneError):
    """The dataset is not the one that the request was made for."""

    reason = "DATASET_DIGEST_MISMATCH"


class DataRangeEmptyError(BacklaneError):
    """The dataset has no bars between the requested times."""

    reason = "DATA_RANGE_EMPTY"


class NotEnoughBarsError(BacklaneError):
    """There are fewer bars than the warm-up needs."""

    reason = "NOT_ENOUGH_BARS"


class NanFeaturesError(BacklaneError):
    """A feature is NaN at a simulated bar and the profile says that this ends the run."""

    reason = "NAN_FEATURES"


# --- too much, or not now ----------------------------------------------------------------------


class LimitExceededError(BacklaneError):
    """A named limit is reached; metadata names it."""

    reason = "LIMIT_EXCEEDED"


class QueueFullError(BacklaneError):
    """Too many operations are on their way: of this client, or in all."""

    reason = "QUEUE_FULL"


class WatchLimitError(BacklaneError):
    """Too many watches are open: of this client, or in all."""

    reason = "WATCH_LIMIT"


class RateLimitError(BacklaneError):
    """A client asks faster than it may."""

    reason = "RATE_LIMIT"


class StoreFullError(BacklaneError):
    """The disk has no room left for another operation or event."""

    reason = "STORE_FULL"


class SlowConsumerError(BacklaneError):
    """A reader of a stream stalled for too long; go on from the last resume token."""

    reason = "SLOW_CONSUMER"


class ServerDrainingError(BacklaneError):
    """The server is going down and takes no new work."""

    reason = "SERVER_DRAINING"


class StoreUnavailableError(BacklaneError):
    """The store cannot be reached or written."""

    reason = "STORE_UNAVAILABLE"


class ServiceUnavailableError(BacklaneError):
    """A service does not answer."""

    reason = "SERVICE_UNAVAILABLE"


class CallTimeoutError(BacklaneError):
    """A call did not end within its deadline."""

    reason = "DEADLINE_EXCEEDED"


# --- how an operation can end (in Operation.error alone) ---------------------------------------


class CancelledRunError(BacklaneError):
    """The run stopped because cancel was asked."""

    reason = "CANCEL_REQUESTED"


class WorkerLostError(BacklaneError):
    """The process that ran it died, or stopped answering."""

    reason = "WORKER_LOST"


class QueueTimeoutError(BacklaneError):
    """No worker took the operation in the time that it was allowed to wait."""

    reason = "QUEUE_TIMEOUT"


class AttemptTimeoutError(BacklaneError):
    """An attempt took longer than it was allowed to."""

    reason = "ATTEMPT_TIMEOUT"


class NondeterministicReplayError(BacklaneError):
    """An attempt that went over the same bars again got something else."""

    reason = "NONDETERMINISTIC_REPLAY"


class RunStalledError(BacklaneError):
    """The run made no progress for too long and was ended."""

    reason = "STALLED"


class OutOfMemoryError(BacklaneError):
    """The run needed more memory than it may have."""

    reason = "OUT_OF_MEMORY"


class ForkRefusedError(BacklaneError):
    """Something in a run wanted to fork its process, which would hang or break it."""

    reason = "FORK_REFUSED"


class InternalError(BacklaneError):
    """Something unforeseen; the log of the service has it under error_id."""

    reason = "INTERNAL_ERROR"
