"""Replicas of one service: which one is called, and when the next one is."""

import getpass
import os
import socket
import threading
import time

from backlane.errors import (
    BacklaneError,
    InvalidRequestError,
    ServerDrainingError,
    ServiceUnavailableError,
    StoreUnavailableError,
)
from backlane.rpc.callers import client_name
from backlane.rpc.channel import RETRY_ATTEMPTS_MAX

READY_LOOK_S = 0.5
"""Time for one replica to become ready before the next one is looked at."""

REPLICAS_MAX = 16
"""Addresses in one list."""

REPLICA_RETRY_ATTEMPTS = 2
"""How often gRPC tries a call at one of several replicas; then the next one is asked."""

ELSEWHERE = (ServiceUnavailableError, ServerDrainingError, StoreUnavailableError)
"""Errors of one replica, which another one may not have."""


def default_client_name() -> str:
    """Returns user@host: the same for all programs of a user, so that limits count them as one."""
    try:
        user = getpass.getuser()
    except (OSError, KeyError):  # a user id without a name, as in a container
        user = str(os.getuid())
    return client_name(f"{user}@{socket.gethostname()}")


class Replicas:
    """The addresses of one service, and the one that is called now; for any number of threads."""

    def __init__(self, address: str) -> None:
        self.addresses = tuple(filter(None, (part.strip() for part in address.split(","))))
        if not 0 < len(self.addresses) <= REPLICAS_MAX:
            raise InvalidRequestError(
                f"{address!r} names {len(self.addresses)} addresses; accepted is host:port, or 2 "
                f"to {REPLICAS_MAX} of these with commas in between.",
                metadata={"address": address},
            )
        self._index = 0
        self._lock = threading.Lock()

    @property
    def current(self) -> str:
        """The address that is called now."""
        return self.addresses[self._index]

    @property
    def retry_attempts(self) -> int:
        """How often gRPC itself tries a call at one address."""
        return RETRY_ATTEMPTS_MAX if len(self.addresses) == 1 else REPLICA_RETRY_ATTEMPTS

    def leave(self, address: str) -> None:
        """Goes to the next address, unless another thread has left this one already."""
        with self._lock:
            if self.current == address:
                self._index = (self._index + 1) % len(self.addresses)


class Turn:
    """How long one call goes on over the replicas, and what is to be done after a failure."""

    def __init__(self, replicas: Replicas, deadline_s: float, ready_s: float) -> None:
        self._replicas = replicas
        self._failures = 0
        self._begun_s = time.monotonic()
        self._ends_s = self._begun_s + deadline_s
        self._ready_ends_s = self._begun_s + min(ready_s, deadline_s)

    @property
    def age_s(self) -> float:
        """Seconds since it began."""
        return time.monotonic() - self._begun_s

    @property
    def left_s(self) -> float:
        """Seconds of the deadline that are left."""
        return max(self._ends_s - time.monotonic(), 0.0)

    def failed(self, address: str, error: BacklaneError) -> float:
        """Returns the seconds to wait for the next replica to be ready; 0 to ask it at once.

        Raises the error when nobody is left to ask, or no time.
        """
        self._replicas.leave(address)
        self._failures += 1
        if not isinstance(error, ELSEWHERE) or not self.left_s:
            raise error
        if self._failures % len(self._replicas.addresses):
            return 0.0
        ready_left_s = self._ready_ends_s - time.monotonic()
        if ready_left_s <= 0:
            raise error
        return min(ready_left_s, READY_LOOK_S)
