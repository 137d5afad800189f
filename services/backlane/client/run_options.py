"""How a run is queued and tried, for every client that starts one."""

from dataclasses import dataclass

from backlane.api.backtest.v1 import backtest_service_pb2 as pb
from backlane.wire.times import optional_duration_to_proto


@dataclass(frozen=True, slots=True)
class RunOptions:
    """How a run is queued and tried; nothing of it changes the result.

    Higher `priority` goes first, from -100 to 100. `max_attempts` bounds the attempts that end
    badly, as when a worker dies; None leaves it to the service. A run that no worker has taken
    after `queue_timeout_s` fails, and so does an attempt longer than `attempt_timeout_s`.
    """

    priority: int = 0
    max_attempts: int | None = None
    queue_timeout_s: float | None = None
    attempt_timeout_s: float | None = None


NO_OPTIONS = RunOptions()


def run_options_to_proto(options: RunOptions) -> pb.RunOptions:
    """Returns the message for the options of a run."""
    return pb.RunOptions(
        priority=options.priority,
        max_attempts=options.max_attempts or 0,
        queue_timeout=optional_duration_to_proto(options.queue_timeout_s),
        attempt_timeout=optional_duration_to_proto(options.attempt_timeout_s),
    )
