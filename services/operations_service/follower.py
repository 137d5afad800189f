"""Notices what other processes have committed to a shared database.

A notification is a hint: it says that it may be worth a look. Where none comes, because it was lost
or the connection was, a look is due all the same after POLL_INTERVAL_S.
"""

import asyncio
import select
import socket
import threading
from collections.abc import Callable

import psycopg
import structlog

from operations_service.postgres_database import PostgresDatabase

POLL_INTERVAL_S = 0.2
"""The longest time between two looks; with the look itself it stays below FOREIGN_CHANGE_S_MAX."""

RECONNECT_DELAYS_S = (0.1, 0.2, 0.5, 1.0)
"""Pauses before the connection is tried again; the last one goes on."""

_log = structlog.get_logger(__name__)


class Follower:
    """A thread with a connection that listens; `look` is called in the event loop.

    `known_change` returns the change_number up to which the store knows everything.
    """

    def __init__(
        self,
        database: PostgresDatabase,
        known_change: Callable[[], int],
        look: Callable[[], None],
    ) -> None:
        self._database = database
        self._known_change = known_change
        self._look = look
        self._is_stopped = threading.Event()
        # A byte in it ends the wait for notifications at once.
        self._bell, self._ringer = socket.socketpair()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begins to listen, in a thread of its own."""
        loop = asyncio.get_running_loop()
        self._thread = threading.Thread(
            target=self._run, args=(loop,), name="operations-follower", daemon=True
        )
        self._thread.start()

    async def stop(self) -> None:
        """Ends the thread at once, and waits for that."""
        self._is_stopped.set()
        self._ringer.send(b"x")
        if self._thread is not None:
            await asyncio.to_thread(self._thread.join)
        self._bell.close()
        self._ringer.close()

    def _run(self, loop: asyncio.AbstractEventLoop) -> None:
        failure_count = 0
        while not self._is_stopped.is_set():
            try:
                with self._database.open(autocommit=True) as connection:
                    connection.execute(f"LISTEN {self._database.channel}")
                    failure_count = 0
                    self._follow(connection, loop)
            except psycopg.Error as error:
                delay_s = RECONNECT_DELAYS_S[min(failure_count, len(RECONNECT_DELAYS_S) - 1)]
                _log.warning("follower_disconnected", error=str(error), retry_in_s=delay_s)
                failure_count += 1
                self._is_stopped.wait(delay_s)

    def _follow(
        self, connection: "psycopg.Connection[tuple[int]]", loop: asyncio.AbstractEventLoop
    ) -> None:
        # The first look comes before the first wait: much may have happened without a connection.
        while not self._is_stopped.is_set():
            row = connection.execute("SELECT change_number FROM registry").fetchone()
            if row is not None and row[0] != self._known_change():
                loop.call_soon_threadsafe(self._look)
            select.select([connection.fileno(), self._bell.fileno()], [], [], POLL_INTERVAL_S)
            for _ in connection.notifies(timeout=0):
                pass
