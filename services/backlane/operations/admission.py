"""How much may be asked of the registry: by one client, and in all."""

from dataclasses import dataclass

from backlane.errors import QueueFullError


@dataclass(frozen=True, slots=True)
class AdmissionLimits:
    """How many operations may be on their way, that is neither ended nor deleted."""

    live_per_client_max: int = 10_000
    """Of one client."""
    queued_max: int = 100_000
    """Waiting for a worker, of all clients."""
    retry_delay_s: float = 1.0
    """What a refused client is told to wait."""


@dataclass(frozen=True, slots=True)
class Load:
    """What is on its way already."""

    live_of_client: int
    queued: int


def admit(load: Load, client: str, limits: AdmissionLimits) -> None:
    """Lets one more operation in, or refuses it.

    Raises:
        QueueFullError: a limit is reached; says which.

    """
    if load.live_of_client >= limits.live_per_client_max:
        raise QueueFullError(
            f"Client {client or '(unnamed)'} has {load.live_of_client} operations on their way, "
            f"and {limits.live_per_client_max} is the most. Wait until some have ended, or cancel "
            "them.",
            metadata={
                "limit_name": "live_operations_per_client",
                "limit": str(limits.live_per_client_max),
                "client": client,
            },
            retry_delay_s=limits.retry_delay_s,
        )
    if load.queued >= limits.queued_max:
        raise QueueFullError(
            f"{load.queued} operations wait for a worker, and {limits.queued_max} is the most. "
            "Try again later, or add workers.",
            metadata={"limit_name": "queued_operations", "limit": str(limits.queued_max)},
            retry_delay_s=limits.retry_delay_s,
        )
