"""How a service process ends, as numbers that a supervisor can act on."""

from enum import IntEnum


class ExitCode(IntEnum):
    """Exit status of a service process; the numbers follow sysexits.h."""

    OK = 0
    SETTINGS = 64
    CANNOT_BIND = 69
    INTERNAL = 70
    CANNOT_START = 75
    FORCED = 130

    @property
    def help(self) -> str:
        """Returns what it means and what to do."""
        return _HELP[self]


_HELP = {
    ExitCode.OK: "Drained and stopped, as asked by SIGTERM or SIGINT.",
    ExitCode.SETTINGS: "A setting or an argument is wrong; the message names it. Do not restart.",
    ExitCode.CANNOT_BIND: "The address is taken or is not of this machine; free it or set another.",
    ExitCode.INTERNAL: "Something unforeseen; the log has the traceback.",
    ExitCode.CANNOT_START: "Something it needs is not there; the message names it. Restart later.",
    ExitCode.FORCED: "Stopped at once by a second signal; running calls were cut off.",
}


class StartupError(Exception):
    """The process cannot start; `message` is for the terminal, `exit_code` for the supervisor."""

    def __init__(self, message: str, exit_code: ExitCode) -> None:
        super().__init__(message)
        self.message = message
        self.exit_code = exit_code
