"""When a checkpoint is due: by time, by bars, and never so often that writing slows the run."""

from dataclasses import dataclass

COST_FACTOR = 10.0
"""After a checkpoint that took a second to write, the next one waits at least so many seconds."""


@dataclass(frozen=True, slots=True)
class CheckpointPolicy:
    """A checkpoint is due after so many seconds, or so many bars, whichever comes first."""

    interval_s: float = 30.0
    interval_bars: int = 1_000_000


class CheckpointSchedule:
    """Counts from the start of the attempt, then from each checkpoint. Times are monotonic."""

    def __init__(self, policy: CheckpointPolicy, now_s: float, simulated_bars: int = 0) -> None:
        self._policy = policy
        self._last_s = now_s
        self._last_bars = simulated_bars
        self._not_before_s = now_s

    def is_due(self, now_s: float, simulated_bars: int) -> bool:
        """Says whether one is due at this bar."""
        if now_s < self._not_before_s:
            return False
        return (
            now_s - self._last_s >= self._policy.interval_s
            or simulated_bars - self._last_bars >= self._policy.interval_bars
        )

    def taken(self, now_s: float, simulated_bars: int) -> None:
        """Notes that one was taken at this bar."""
        self._last_s, self._last_bars = now_s, simulated_bars

    def written(self, now_s: float, cost_s: float) -> None:
        """Notes how long writing it took, so that the next one does not come too soon."""
        self._not_before_s = now_s + COST_FACTOR * cost_s
