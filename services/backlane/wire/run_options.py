"""How a run is queued and tried, as a checked record."""

from dataclasses import dataclass

from backlane.api.backtest.v1 import backtest_service_pb2 as pb
from backlane.wire.operation_checks import check_attempts, check_priority, checked_timeout_s
from backlane.wire.violations import Violations

ATTEMPTS_DEFAULT = 3
"""Attempts that may end badly, where a request does not say: a worker may die twice."""


@dataclass(frozen=True, slots=True)
class RunOptions:
    """How a run is queued and tried; nothing of it changes the result.

    Times are seconds, None for no limit.
    """

    priority: int = 0
    max_attempts: int = ATTEMPTS_DEFAULT
    queue_timeout_s: float | None = None
    attempt_timeout_s: float | None = None


def run_options_from_proto(message: pb.RunOptions) -> RunOptions:
    """Returns the options of a run; raises InvalidRequestError for what is out of range."""
    found = Violations("options.")
    check_attempts(found, "max_attempts", message.max_attempts, default=ATTEMPTS_DEFAULT)
    check_priority(found, "priority", message.priority)
    options = RunOptions(
        priority=message.priority,
        max_attempts=message.max_attempts or ATTEMPTS_DEFAULT,
        queue_timeout_s=checked_timeout_s(found, message, "queue_timeout"),
        attempt_timeout_s=checked_timeout_s(found, message, "attempt_timeout"),
    )
    found.raise_if_any()
    return options
