"""The registry in one SQLite file, written by one process.

The write-ahead log of SQLite before 3.51.3 can be damaged when two connections write and copy it
back at once (sqlite.org/wal.html#walresetbug). Here one connection writes, a lock on the folder
keeps other servers out, and readers open the file as read-only.
"""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from backlane.errors import StoreUnavailableError
from operations_service import upgrading
from operations_service.data_lock import DataLock
from operations_service.database import Database, Session

READERS = 4
"""Connections, and threads, that read at once."""

BUSY_TIMEOUT_S = 5.0
"""How long a statement waits for a lock, such as that of a backup that is made."""

WAL_PAGES_PER_CHECKPOINT = 4_000
"""Pages of 4 KiB in the write-ahead log after which it is copied into the file."""

STATEMENTS_CACHED = 256
"""Statements that the driver keeps prepared."""

WRITER_PRAGMAS = (
    "PRAGMA journal_mode=WAL",
    # A commit is on the disk when it returns; the writer makes one for many callers.
    "PRAGMA synchronous=FULL",
    "PRAGMA foreign_keys=ON",
    f"PRAGMA wal_autocheckpoint={WAL_PAGES_PER_CHECKPOINT}",
)


class SqliteDatabase(Database):
    """One file; `prepare` takes the lock on its folder."""

    dialect = "sqlite"
    is_shared = False
    begin_write = "BEGIN IMMEDIATE"
    begin_look = "BEGIN"

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = DataLock(path.with_name(path.name + ".lock"))
        self._pool = sa.QueuePool(
            self._reader,  # type: ignore[arg-type]
            pool_size=READERS,
            max_overflow=0,
        )

    @contextmanager
    def reading(self) -> Iterator[Session]:
        """Returns a transaction on a connection that can read the file, and nothing else."""
        pooled = self._pool.connect()
        try:
            session = Session(self.dialect, pooled.cursor, pooled.invalidate)
            session.say(self.begin_look)
            yield session
            session.say("ROLLBACK")
        except sqlite3.Error:
            pooled.invalidate()
            raise
        finally:
            # What was left open is rolled back by the pool.
            pooled.close()

    def prepare(self) -> str:
        """Takes the lock, and makes or migrates the file."""
        _make_folder(self._path.parent)
        self._lock.acquire()
        engine = sa.create_engine(
            f"sqlite:///{self._path}",
            poolclass=sa.NullPool,
            connect_args={"check_same_thread": False, "timeout": BUSY_TIMEOUT_S},
        )
        # Foreign keys are off: a migration drops tables that it has copied.
        _prepare(engine, ("PRAGMA journal_mode=WAL", "PRAGMA synchronous=FULL"), self.begin_write)
        with engine.begin() as connection:
            return upgrading.upgrade(connection, str(self._path))

    def connect(self) -> Session:
        """Opens the one connection that writes."""
        connection = self._open(str(self._path))
        for pragma in WRITER_PRAGMAS:
            connection.execute(pragma)
        return Session(self.dialect, connection.cursor, connection.close)

    def tell_others(self, session: Session) -> None:
        """Tells nobody: the file is written by this process alone."""

    def is_outage(self, error: BaseException) -> bool:
        """Whether the disk, the file or a lock failed."""
        return isinstance(error, sqlite3.DatabaseError) and not isinstance(
            error, sqlite3.IntegrityError | sqlite3.ProgrammingError | sqlite3.DataError
        )

    def is_full(self, error: BaseException) -> bool:
        """Whether the disk is full."""
        return getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_FULL

    def release(self) -> None:
        """Closes the readers and gives the lock back."""
        self._pool.dispose()
        self._lock.release()

    def _reader(self) -> sqlite3.Connection:
        # PRAGMA query_only guards against our own mistakes, mode=ro against all others.
        connection = self._open(f"{self._path.absolute().as_uri()}?mode=ro")
        connection.execute("PRAGMA query_only=ON")
        return connection

    def _open(self, place: str) -> sqlite3.Connection:
        connection = sqlite3.connect(
            place,
            timeout=BUSY_TIMEOUT_S,
            # The driver would begin transactions where it sees fit.
            isolation_level=None,
            check_same_thread=False,
            cached_statements=STATEMENTS_CACHED,
            uri=place.startswith("file:"),
        )
        connection.row_factory = sqlite3.Row
        return connection


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise StoreUnavailableError(
            f"The folder {folder} cannot be made: {error.strerror}. "
            "Free its place, or set BACKLANE_HOME to another folder.",
            metadata={"path": str(folder), "cause": str(error.strerror)},
        ) from error


def _prepare(engine: sa.Engine, pragmas: tuple[str, ...], begin: str) -> None:
    @sa.event.listens_for(engine, "connect")
    def _on_connect(connection: Any, _record: object) -> None:
        # The driver would begin transactions where it sees fit; ours begin where _on_begin says.
        connection.isolation_level = None
        for pragma in pragmas:
            connection.execute(pragma).close()

    @sa.event.listens_for(engine, "begin")
    def _on_begin(connection: sa.Connection) -> None:
        connection.exec_driver_sql(begin)
