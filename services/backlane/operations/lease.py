"""A worker's exclusive, time-limited right to an operation, and the fence that guards it.

A lease is good while its epoch is the operation's newest and its time has not run out. Time to
live is counted on the registry's monotonic clock: a jump of the wall clock ends no lease.
"""

from dataclasses import dataclass, replace

from backlane.clock import Clock


@dataclass(frozen=True, slots=True)
class Instant:
    """One reading of both faces of a clock: `wall_ns` to record, `monotonic_s` to measure."""

    wall_ns: int
    monotonic_s: float

    @classmethod
    def of(cls, clock: Clock) -> "Instant":
        """Reads both faces of the clock."""
        return cls(clock.now_ns(), clock.monotonic_s())


@dataclass(frozen=True, slots=True)
class LeaseTerms:
    """How long a lease is good, and how often its holder is told to renew it."""

    ttl_s: float = 15.0
    renew_interval_s: float = 5.0
    grace_s: float = 10.0
    """Time that a holder has to stop once cancel was asked."""


@dataclass(frozen=True, slots=True)
class Lease:
    """A hold on an operation.

    `epoch` grows with every grant for the operation; `expires_at_s` is a monotonic time of the
    registry; `request_id` is that of the call which took it; `batch_number` is the newest batch
    of telemetry that was applied.
    """

    operation: str
    epoch: int
    worker_id: str
    request_id: str
    expires_at_s: float
    batch_number: int = 0

    def is_live(self, now: Instant) -> bool:
        """Whether the holder may still write."""
        return now.monotonic_s < self.expires_at_s

    def renewed(self, terms: LeaseTerms, now: Instant) -> "Lease":
        """Returns the lease with its full time ahead of it again."""
        return replace(self, expires_at_s=max(self.expires_at_s, now.monotonic_s + terms.ttl_s))
