"""How an attempt can end, and which ends let another attempt do better."""

from dataclasses import dataclass

from backlane.errors import (
    AttemptTimeoutError,
    BacklaneError,
    CallTimeoutError,
    LimitExceededError,
    RunStalledError,
    ServerDrainingError,
    ServiceUnavailableError,
    WorkerLostError,
)
from backlane.operations.commands import Failed, Outcome
from backlane.operations.limits import ERROR_MESSAGE_CHARACTERS_MAX
from backlane.operations.operation import OperationError
from backlane.rpc.error_catalog import code_of
from backlane.wire.operation_checks import RELEASE_REASON_CHARACTERS_MAX

RETRYABLE = (WorkerLostError, RunStalledError, AttemptTimeoutError, CallTimeoutError)
"""Another attempt may do better; each one counts, so that a poisonous run ends."""
OUT_OF_REACH = (ServiceUnavailableError, ServerDrainingError, LimitExceededError)
"""What the run needs is away for a while, which is no fault of the run: it goes back uncounted."""


@dataclass(frozen=True, slots=True)
class Released:
    """The run goes back to the queue, to go on from its newest checkpoint.

    `is_out_of_reach`: something that runs need is away; whoever takes work next should look first.
    """

    reason: str
    is_out_of_reach: bool = False


End = Outcome | Released


def end_of(error: BacklaneError) -> End:
    """Returns how an attempt with this error ends."""
    if isinstance(error, OUT_OF_REACH):
        return Released(error.message[:RELEASE_REASON_CHARACTERS_MAX], is_out_of_reach=True)
    return failed(error)


def failed(error: BacklaneError) -> Failed:
    """Returns the failure that this error is."""
    message = error.message[:ERROR_MESSAGE_CHARACTERS_MAX]
    return Failed(
        OperationError(error.reason, message, error.metadata, code_of(type(error))),
        is_retryable=isinstance(error, RETRYABLE),
    )
