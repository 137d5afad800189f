"""The registry in a PostgreSQL schema, written by any number of processes.

Each transaction of a writer first locks the registry's one row, and keeps it to the commit: that
gives revisions in the order of commit, which no sequence does. Whoever holds that lock and freezes
is cut off by the server, so that the others wait for seconds and not for ever.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
import sqlalchemy as sa
from psycopg.rows import dict_row
from sqlalchemy.dialects import postgresql

from operations_service import schema, upgrading
from operations_service.database import Database, Session

READERS = 4
"""Connections, and threads, that read at once."""

CONNECT_TIMEOUT_S = 5
"""For which a connection is waited for, on each address of the server."""

LOCK_TIMEOUT_S = 5.0
"""For which a transaction waits for the registry's row; then its callers are told so."""

IDLE_TIMEOUT_S = 3.0
"""For which a transaction may do nothing before the server ends it: its process is frozen. Less
than LOCK_TIMEOUT_S, so that those who wait are spared."""

STATEMENT_TIMEOUT_S = 10.0
"""For which one statement may run."""

SILENCE_TIMEOUT_S = 5.0
"""For which a peer may leave data unacknowledged before the connection counts as lost."""

MIGRATION_LOCK = 0x6261636B6C616E65
"""The key of the advisory lock under which tables are made: "backlane" in ASCII."""

_SESSION = {
    # Durable when the commit returns, whatever the server's default.
    "synchronous_commit": "on",
    "lock_timeout": f"{LOCK_TIMEOUT_S:g}s",
    "idle_in_transaction_session_timeout": f"{IDLE_TIMEOUT_S:g}s",
    "statement_timeout": f"{STATEMENT_TIMEOUT_S:g}s",
    "application_name": "operations_service",
}


class PostgresDatabase(Database):
    """One registry in the schema that the URL's search_path names, by default `public`."""

    dialect = "postgresql"
    is_shared = True
    begin_write = "BEGIN ISOLATION LEVEL READ COMMITTED"
    begin_look = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"

    def __init__(self, url: sa.URL) -> None:
        schema.add_postgresql()
        self._url = url.set(drivername="postgresql")
        self.channel = ""
        """What others listen to; known once the tables are there."""
        self._pool = sa.QueuePool(
            self._reader,  # type: ignore[arg-type]
            pool_size=READERS,
            max_overflow=0,
            # One that was lost while it lay idle costs nobody an error.
            pre_ping=True,
            dialect=postgresql.psycopg.dialect(dbapi=psycopg),  # type: ignore[no-untyped-call]
        )

    @contextmanager
    def reading(self) -> Iterator[Session]:
        """Returns a transaction on a connection that cannot write."""
        pooled = self._pool.connect()
        try:
            session = Session(self.dialect, pooled.cursor, pooled.invalidate)
            session.say(self.begin_look)
            yield session
            session.say("ROLLBACK")
        except psycopg.Error:
            pooled.invalidate()
            raise
        finally:
            # What was left open is rolled back by the pool.
            pooled.close()

    def prepare(self) -> str:
        """Makes or migrates the tables, one process at a time."""
        engine = sa.create_engine("postgresql+psycopg://", creator=self.open, poolclass=sa.NullPool)
        with engine.begin() as connection:
            # A migration takes the time that it takes.
            for name in ("statement_timeout", "lock_timeout"):
                connection.exec_driver_sql(f"SET LOCAL {name} = 0")
            connection.execute(sa.select(sa.func.pg_advisory_xact_lock(MIGRATION_LOCK)))
            uid = upgrading.upgrade(connection, self._url.render_as_string(hide_password=True))
        self.channel = f"backlane_{uid.replace('-', '_')}"
        return uid

    def open(self, **options: Any) -> "psycopg.Connection[Any]":
        """Opens a connection with the session's settings; options are those of psycopg."""
        connection = psycopg.connect(
            self._url.render_as_string(hide_password=False),
            connect_timeout=CONNECT_TIMEOUT_S,
            keepalives_idle=5,
            keepalives_interval=2,
            keepalives_count=3,
            tcp_user_timeout=int(SILENCE_TIMEOUT_S * 1000),
            **options,
        )
        for name, value in _SESSION.items():
            connection.execute("SELECT set_config(%s, %s, false)", (name, value))
        if not connection.autocommit:
            connection.commit()
        return connection

    def connect(self) -> Session:
        """Opens the connection that writes."""
        connection = self.open(autocommit=True, row_factory=dict_row)
        return Session(self.dialect, connection.cursor, connection.close)

    def tell_others(self, session: Session) -> None:
        """Sends a notification, which arrives after the commit; it is a hint and may be lost."""
        session.say(f"NOTIFY {self.channel}")

    def is_outage(self, error: BaseException) -> bool:
        """Whether the server or the connection failed, or another process froze."""
        return isinstance(
            error, psycopg.OperationalError | psycopg.InterfaceError | psycopg.InternalError
        )

    def is_full(self, error: BaseException) -> bool:
        """Whether the server's disk is full."""
        return isinstance(error, psycopg.errors.DiskFull)

    def release(self) -> None:
        """Closes the connections of the readers."""
        self._pool.dispose()

    def _reader(self) -> "psycopg.Connection[Any]":
        return self.open(autocommit=True, row_factory=dict_row)
