"""A worker's exclusive, time-limited right to an operation, and the fence that guards it.

A lease is good while its epoch is the operation's newest and its time has not run out. Time to
live is counted on the registry's monotonic clock: a jump of the wall clock ends no lease.
"""

from dataclasses import dataclass

from backlane.clock import Clock
from backlane.operations.records import replace


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
    cancel_margin_s: float = 5.0
    """Beyond the grace: then the operation ends as cancelled, whatever its holder does."""


@dataclass(frozen=True, slots=True)
class Lease:
    """A hold on an operation.

    `epoch` grows with every grant for the operation; `request_id` is that of the call which took
    it; `batch_number` is the newest batch of telemetry that was applied; `renewal_number` counts
    the renewals. `expires_at_s` and `granted_at_s` are monotonic times of the registry's process
    that looks at it, counted anew where another one takes over: a lease may live longer than its
    time by that, and never shorter. `cancel_at_s` is when cancel was asked.
    """

    operation: str
    epoch: int
    worker_id: str
    request_id: str
    expires_at_s: float
    batch_number: int = 0
    renewal_number: int = 0
    granted_at_s: float = 0.0
    cancel_at_s: float | None = None

    def is_live(self, now: Instant) -> bool:
        """Whether the holder may still write."""
        return now.monotonic_s < self.expires_at_s

    def renewed(self, terms: LeaseTerms, now: Instant) -> "Lease":
        """Returns the lease with its full time ahead of it again."""
        return replace(
            self,
            expires_at_s=max(self.expires_at_s, now.monotonic_s + terms.ttl_s),
            renewal_number=self.renewal_number + 1,
        )
