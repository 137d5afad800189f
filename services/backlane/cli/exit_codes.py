"""How a command ends, as numbers that a script can act on (docs/cli.md has the same table)."""

from enum import IntEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from backlane.errors import BacklaneError


class ExitCode(IntEnum):
    """Exit status of a `backlane` command."""

    OK = 0
    FAILED = 1
    USAGE = 2
    UNREACHABLE = 3
    CANCELLED = 4
    NOT_DONE = 5
    INTERNAL = 70
    INTERRUPTED = 130

    @property
    def meaning(self) -> str:
        """Returns what it means, in a sentence."""
        return _MEANINGS[self]


_MEANINGS = {
    ExitCode.OK: "It worked.",
    ExitCode.FAILED: "It was refused, or the run failed; the message says why.",
    ExitCode.USAGE: "The command or the request is not valid; the message names the fields.",
    ExitCode.UNREACHABLE: "A service does not answer, is going down, or cannot reach its store.",
    ExitCode.CANCELLED: "The run was cancelled.",
    ExitCode.NOT_DONE: "The operation had not ended when the wait was over.",
    ExitCode.INTERNAL: "Something unforeseen, here or in a service: a defect, please report it.",
    ExitCode.INTERRUPTED: "Interrupted by Ctrl-C; a run on a service goes on without this command.",
}


def exit_code_of(error: "BacklaneError") -> ExitCode:
    """Returns the code that a command ends with when this error stops it."""
    from backlane import errors

    unreachable = (
        errors.ServiceUnavailableError,
        errors.ServerDrainingError,
        errors.StoreUnavailableError,
        errors.CallTimeoutError,
    )
    if isinstance(error, errors.InvalidRequestError):
        return ExitCode.USAGE
    if isinstance(error, unreachable):
        return ExitCode.UNREACHABLE
    if isinstance(error, errors.CancelledRunError):
        return ExitCode.CANCELLED
    if isinstance(error, errors.InternalError):
        return ExitCode.INTERNAL
    return ExitCode.FAILED
