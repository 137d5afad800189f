"""Who may come in: nobody new while the server drains, and only so many calls at once."""

import asyncio
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from backlane.errors import LimitExceededError, ServerDrainingError

DRAINING_RETRY_DELAY_S = 1.0
LIMIT_RETRY_DELAY_S = 0.5
INFRASTRUCTURE = ("/grpc.health.v1.Health/", "/grpc.reflection.v1alpha.ServerReflection/")
"""Always let in: health must answer while everything else is full, or on its way out."""


def is_infrastructure(method: str) -> bool:
    """Says whether a full method name (`/package.Service/Method`) is health or reflection."""
    return method.startswith(INFRASTRUCTURE)


class Admission:
    """Counts calls per class: unary, stream, and one class per method that has its own limit.

    One event loop calls it, so it needs no lock.
    """

    def __init__(
        self, *, unary_max: int, stream_max: int, method_max: Mapping[str, int] | None = None
    ) -> None:
        self._limits = {"unary": unary_max, "stream": stream_max, **(method_max or {})}
        self._counts: Counter[str] = Counter()
        self._draining = False
        self.closing = asyncio.Event()

    def refuse_new(self) -> None:
        """Refuses every new call from here on; those that run go on."""
        self._draining = True

    def end_infrastructure(self) -> None:
        """Ends open health watches and reflection streams, which never end by themselves."""
        self.closing.set()

    @contextmanager
    def admitted(self, method: str, *, streaming: bool) -> Iterator[None]:
        """Holds one place for a call.

        Raises ServerDrainingError, or LimitExceededError when all places of its class are taken.
        """
        if is_infrastructure(method):
            yield
            return
        if self._draining:
            raise ServerDrainingError(
                "The server is going down and takes no new calls; try again in a second.",
                retry_delay_s=DRAINING_RETRY_DELAY_S,
            )
        name = method if method in self._limits else ("stream" if streaming else "unary")
        if self._counts[name] >= self._limits[name]:
            raise self._full(name)
        self._counts[name] += 1
        try:
            yield
        finally:
            self._counts[name] -= 1

    def _full(self, name: str) -> LimitExceededError:
        limit = self._limits[name]
        return LimitExceededError(
            f"All {limit} places for {name} calls are taken; try again in a moment.",
            metadata={"limit_name": name, "limit": str(limit)},
            retry_delay_s=LIMIT_RETRY_DELAY_S,
        )
