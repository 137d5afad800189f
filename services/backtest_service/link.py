"""The worker's end of the socket to its supervisor, and the ties that bind their lives."""

import ctypes
import os
import queue
import signal
import socket
import sys
import threading
from collections.abc import Callable

from backlane.errors import ForkRefusedError
from backtest_service.messages import LENGTH_BYTES, content_length, pack, unpack

_PR_SET_PDEATHSIG, _PR_SET_NAME = 1, 15
LOST_PARENT = 3
"""Exit code of a worker whose supervisor is gone."""


def die_with_parent(parent_pid: int) -> None:
    """Has the kernel kill this process when the one that started it dies, where it can (Linux).

    The socket's end does the same everywhere, but not to a process that is stopped or stuck.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL))
    if os.getppid() != parent_pid:  # it died before the kernel was told
        os._exit(LOST_PARENT)


def refuse_forks() -> None:
    """Has every os.fork of this process, now and later, raise ForkRefusedError.

    A fork of a process with threads of gRPC and a compiled loop copies their locks as they are: the
    child hangs, or answers on its parent's connections. Starting a program is no fork of this kind.
    """

    def look(event: str, _arguments: object) -> None:
        if event in {"os.fork", "os.forkpty"}:
            raise ForkRefusedError(
                "Something in the run wanted to fork its worker process, which would hang or break "
                "it. Start processes by spawn.",
                metadata={"event": event},
            )

    sys.addaudithook(look)


def show_as(name: str) -> None:
    """Names this process, at most 15 characters, for whoever looks at a list of them (Linux)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_NAME, name.encode(), 0, 0, 0)


class Link:
    """Sends from any thread; a thread of its own receives, and sees the other end go."""

    def __init__(
        self, connection: socket.socket, on_lost: Callable[[int], None] = os._exit
    ) -> None:
        self._connection = connection
        self._on_lost = on_lost
        self._sending = threading.Lock()
        self._received: queue.Queue[object] = queue.Queue(maxsize=1)
        threading.Thread(target=self._receive_all, name="link", daemon=True).start()

    def send(self, message: object) -> None:
        """Sends a message; waits while the supervisor is behind with reading."""
        packed = pack(message)
        with self._sending:
            self._connection.sendall(packed)

    def receive(self) -> object:
        """Waits for the next message."""
        return self._received.get()

    def _receive_all(self) -> None:
        try:
            while True:
                length = content_length(self._read(LENGTH_BYTES))
                self._received.put(unpack(self._read(length)))
        except (EOFError, OSError):
            self._on_lost(LOST_PARENT)

    def _read(self, size: int) -> bytes:
        parts, missing = [], size
        while missing:
            part = self._connection.recv(min(missing, 1 << 20))
            if not part:
                raise EOFError
            parts.append(part)
            missing -= len(part)
        return b"".join(parts)
