"""Who may come in: nobody while the server drains, and only so many calls, in all and of each."""

import asyncio
from collections import Counter, OrderedDict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from backlane.clock import Clock
from backlane.errors import (
    BacklaneError,
    LimitExceededError,
    RateLimitError,
    ServerDrainingError,
)

DRAINING_RETRY_DELAY_S = 1.0
LIMIT_RETRY_DELAY_S = 0.5
RATED_CLIENTS_MAX = 10_000
"""Clients whose rate is known at once; the one that was silent the longest is forgotten first."""
INFRASTRUCTURE = ("/grpc.health.v1.Health/", "/grpc.reflection.v1alpha.ServerReflection/")
"""Always let in: health must answer while everything else is full, or on its way out."""


def is_infrastructure(method: str) -> bool:
    """Says whether a full method name (`/package.Service/Method`) is health or reflection."""
    return method.startswith(INFRASTRUCTURE)


@dataclass(frozen=True, slots=True)
class MethodLimit:
    """How many calls of one method may run at once: in all, and of one client.

    `error` is what one more is refused with.
    """

    total: int
    per_client: int | None = None
    error: type[BacklaneError] = LimitExceededError


@dataclass(frozen=True, slots=True)
class RateLimit:
    """How fast one client may call the methods of some services (`/package.Service/`).

    `burst` calls at once after a pause, `per_s` in each second in the long run.
    """

    services: tuple[str, ...]
    per_s: float
    burst: int


class Rates:
    """A token bucket for each client."""

    def __init__(self, limit: RateLimit, clock: Clock) -> None:
        self._limit = limit
        self._clock = clock
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def take(self, method: str, client: str) -> None:
        """Counts a call.

        Raises:
            RateLimitError: the client asks too fast; says when the next call is welcome.

        """
        if not method.startswith(self._limit.services):
            return
        now_s = self._clock.monotonic_s()
        left, since_s = self._buckets.pop(client, (float(self._limit.burst), now_s))
        left = min(left + (now_s - since_s) * self._limit.per_s, float(self._limit.burst))
        is_allowed = left >= 1
        self._buckets[client] = (left - 1 if is_allowed else left, now_s)
        if len(self._buckets) > RATED_CLIENTS_MAX:
            self._buckets.popitem(last=False)
        if not is_allowed:
            raise self._too_fast(client, (1 - left) / self._limit.per_s)

    def _too_fast(self, client: str, delay_s: float) -> RateLimitError:
        limit = self._limit
        return RateLimitError(
            f"Client {client} may make {limit.per_s:g} calls a second, and {limit.burst} at once, "
            "and has made more. Call again after the delay, or have one watch instead of many "
            "calls.",
            metadata={
                "client": client,
                "calls_per_s": f"{limit.per_s:g}",
                "burst": str(limit.burst),
            },
            retry_delay_s=max(delay_s, 0.001),
        )


class Admission:
    """Counts calls per class: unary, stream, and one class per method that has its own limit.

    One event loop calls it, so it needs no lock.
    """

    def __init__(
        self,
        *,
        unary_max: int,
        stream_max: int,
        method_limits: Mapping[str, MethodLimit] | None = None,
        rates: Rates | None = None,
    ) -> None:
        self._limits = {
            "unary": MethodLimit(unary_max),
            "stream": MethodLimit(stream_max),
            **(method_limits or {}),
        }
        self._counts: Counter[str] = Counter()
        self._counts_of_clients: Counter[tuple[str, str]] = Counter()
        self._rates = rates
        self._draining = False
        self.closing = asyncio.Event()

    def refuse_new(self) -> None:
        """Refuses every new call from here on; those that run go on."""
        self._draining = True

    def end_infrastructure(self) -> None:
        """Ends open health watches and reflection streams, which never end by themselves."""
        self.closing.set()

    @contextmanager
    def admitted(self, method: str, *, streaming: bool, client: str = "") -> Iterator[None]:
        """Holds one place for a call.

        Raises:
            ServerDrainingError: the server goes down.
            RateLimitError: the client asks too fast.
            LimitExceededError, or what the method's limit says: all places of its class are taken,
                or all of this client.

        """
        if is_infrastructure(method):
            yield
            return
        if self._draining:
            raise ServerDrainingError(
                "The server is going down and takes no new calls; try again in a second.",
                retry_delay_s=DRAINING_RETRY_DELAY_S,
            )
        if self._rates is not None:
            self._rates.take(method, client)
        name = method if method in self._limits else ("stream" if streaming else "unary")
        limit = self._limits[name]
        self._check(name, limit, client)
        self._counts[name] += 1
        if limit.per_client is not None:
            self._counts_of_clients[name, client] += 1
        try:
            yield
        finally:
            self._counts[name] -= 1
            if limit.per_client is not None:
                self._leave(name, client)

    def _check(self, name: str, limit: MethodLimit, client: str) -> None:
        if self._counts[name] >= limit.total:
            raise limit.error(
                f"All {limit.total} places for {name} calls are taken; try again in a moment.",
                metadata={"limit_name": name, "limit": str(limit.total)},
                retry_delay_s=LIMIT_RETRY_DELAY_S,
            )
        of_client = self._counts_of_clients[name, client]
        if limit.per_client is not None and of_client >= limit.per_client:
            raise limit.error(
                f"Client {client} has {of_client} {name} calls open, and {limit.per_client} is the "
                "most. Close one, or let one do the work of several.",
                metadata={
                    "limit_name": f"{name} per client",
                    "limit": str(limit.per_client),
                    "client": client,
                },
                retry_delay_s=LIMIT_RETRY_DELAY_S,
            )

    def _leave(self, name: str, client: str) -> None:
        self._counts_of_clients[name, client] -= 1
        if not self._counts_of_clients[name, client]:
            del self._counts_of_clients[name, client]
