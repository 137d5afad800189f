"""Networks in memory, by the digest of their bundle, within a number of bytes."""

import asyncio
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn

from backlane.errors import LimitExceededError

RETRY_DELAY_S = 1.0


class Loaded:
    """A network in memory. `idle` is set while no prediction uses it."""

    def __init__(self, network: nn.Module, size_bytes: int) -> None:
        self.network = network
        self.size_bytes = size_bytes
        self.users_count = 0
        self.idle = asyncio.Event()
        self.idle.set()


class NetworkCache:
    """Networks by digest; the least recently used go first, those in use never.

    One event loop calls it, so it needs no lock.
    """

    def __init__(self, bytes_max: int) -> None:
        self._bytes_max = bytes_max
        self._loaded: OrderedDict[str, Loaded] = OrderedDict()
        self._leaving: list[Loaded] = []

    @property
    def size_bytes(self) -> int:
        """What all networks take, those that are dropped but still in use included."""
        self._leaving = [loaded for loaded in self._leaving if loaded.users_count]
        return sum(loaded.size_bytes for loaded in (*self._loaded.values(), *self._leaving))

    def __contains__(self, digest: str) -> bool:
        return digest in self._loaded

    def get(self, digest: str) -> Loaded | None:
        """Returns a network and marks it as used most recently."""
        loaded = self._loaded.get(digest)
        if loaded is not None:
            self._loaded.move_to_end(digest)
        return loaded

    @contextmanager
    def used(self, loaded: Loaded) -> Iterator[nn.Module]:
        """Keeps a network, and its bytes in the count, until it has predicted."""
        if loaded not in self._loaded.values() and loaded not in self._leaving:
            self._leaving.append(loaded)
        loaded.users_count += 1
        loaded.idle.clear()
        try:
            yield loaded.network
        finally:
            loaded.users_count -= 1
            if not loaded.users_count:
                loaded.idle.set()

    def make_room(self, size_bytes: int, name: str) -> None:
        """Drops networks until `size_bytes` more fit.

        Raises LimitExceededError when they cannot: the bundle is larger than the whole cache, or
        predictions hold what is there.
        """
        held_bytes = sum(
            loaded.size_bytes
            for loaded in (*self._loaded.values(), *self._leaving)
            if loaded.users_count
        )
        if held_bytes + size_bytes > self._bytes_max:
            raise _no_room(name, size_bytes, held_bytes, self._bytes_max)
        for digest in list(self._loaded):
            if self.size_bytes + size_bytes <= self._bytes_max:
                return
            if not self._loaded[digest].users_count:
                del self._loaded[digest]

    def put(self, digest: str, loaded: Loaded) -> None:
        """Adds a network, for which `make_room` has made room."""
        self._loaded[digest] = loaded

    def pop(self, digest: str) -> Loaded | None:
        """Takes a network out; predictions that use it go on, and its bytes count till then."""
        loaded = self._loaded.pop(digest, None)
        if loaded is not None:
            self._leaving.append(loaded)
        return loaded


def _no_room(name: str, size_bytes: int, held_bytes: int, limit: int) -> LimitExceededError:
    larger_alone = size_bytes > limit
    remedy = "raise BACKLANE_MODELS_CACHE_BYTES_MAX" if larger_alone else "try again in a moment"
    return LimitExceededError(
        f"{name} needs {size_bytes:,} bytes of memory; {held_bytes:,} of {limit:,} are held by "
        f"predictions under way: {remedy}.",
        metadata={
            "limit_name": "cache_bytes_max",
            "limit": str(limit),
            "needed": str(size_bytes),
            "held": str(held_bytes),
        },
        retry_delay_s=None if larger_alone else RETRY_DELAY_S,
    )
