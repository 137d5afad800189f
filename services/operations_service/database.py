"""What a store asks of the database under it, and one open transaction on it."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, suppress
from typing import Any

import sqlalchemy as sa

from backlane.errors import BacklaneError, StoreFullError, StoreUnavailableError
from backlane.failpoints import FailpointError
from operations_service.rows import Row
from operations_service.statements import rendered, text_of

OUTAGE_RETRY_DELAY_S = 1.0
FULL_RETRY_DELAY_S = 10.0

Values = Mapping[str, Any]
NOTHING: Values = {}


class Session:
    """A connection of the driver, within one transaction: runs the statements of `statements`.

    `cursor` makes a cursor of the driver, whose rows are read by the names of columns; `close`
    closes the connection.
    """

    def __init__(self, dialect: str, cursor: Callable[[], Any], close: Callable[[], None]) -> None:
        self._dialect = dialect
        self._cursor = cursor
        self._close = close

    def say(self, text: str) -> None:
        """Runs a text as it is, such as BEGIN."""
        self._cursor().execute(text, {})

    def run(self, statement: sa.ClauseElement, values: Values = NOTHING) -> int:
        """Runs a statement; returns how many rows it changed."""
        count: int = self._execute(statement, values).rowcount
        return count

    def run_many(self, statement: sa.ClauseElement, rows: Sequence[Values]) -> None:
        """Runs a statement once for each of the rows."""
        if len(rows) == 1:
            self._execute(statement, rows[0])
        elif rows:
            text, fixed = text_of(statement, self._dialect)
            self._cursor().executemany(text, [{**fixed, **row} for row in rows] if fixed else rows)

    def rows(self, statement: sa.ClauseElement, values: Values = NOTHING) -> Sequence[Row]:
        """Returns all rows of a query."""
        rows: Sequence[Row] = self._execute(statement, values).fetchall()
        return rows

    def first(self, statement: sa.ClauseElement, values: Values = NOTHING) -> Row | None:
        """Returns the first row of a query, None when there is none."""
        row: Row | None = self._execute(statement, values).fetchone()
        return row

    def each(self, statement: sa.ClauseElement, values: Values = NOTHING) -> Iterator[Row]:
        """Yields the rows of a query, of which not all may be wanted."""
        yield from self._execute(statement, values)

    def rows_once(self, query: sa.Select[Any]) -> Sequence[Row]:
        """Returns all rows of a query that holds its values, and is not run again."""
        return list(self.each_once(query))

    def each_once(self, query: sa.Select[Any]) -> Iterator[Row]:
        """Yields the rows of a query that holds its values, and is not run again."""
        cursor = self._cursor()
        cursor.execute(*rendered(query, self._dialect))
        yield from cursor

    def close(self) -> None:
        """Lets go of the connection, whatever state it is in."""
        with suppress(Exception):
            self._close()

    def _execute(self, statement: sa.ClauseElement, values: Values) -> Any:
        text, fixed = text_of(statement, self._dialect)
        cursor = self._cursor()
        cursor.execute(text, {**fixed, **values} if fixed else values)
        return cursor


class Database(ABC):
    """A database that holds one registry."""

    dialect: str
    """The name of SQLAlchemy's dialect."""

    is_shared: bool
    """Whether other processes write, too: then leases and progress are written for them to see."""

    begin_write: str
    """What begins a transaction of the writer."""

    begin_look: str
    """What begins a transaction that sees one state of everything, and writes nothing."""

    @abstractmethod
    def reading(self) -> AbstractContextManager[Session]:
        """Returns a transaction that sees one state of everything, and cannot write."""

    @abstractmethod
    def prepare(self) -> str:
        """Makes or migrates the tables, or finds them as they should be; blocks.

        Returns the uid of the registry.

        Raises:
            StoreUnavailableError: they belong to a newer version, or to somebody else now.

        """

    @abstractmethod
    def connect(self) -> Session:
        """Opens a connection for the writer."""

    @abstractmethod
    def tell_others(self, session: Session) -> None:
        """Within a transaction: lets other processes know of it once it is committed."""

    @abstractmethod
    def is_outage(self, error: BaseException) -> bool:
        """Whether the database failed, and not the statement."""

    @abstractmethod
    def is_full(self, error: BaseException) -> bool:
        """Whether an outage means that there is no room left."""

    @abstractmethod
    def release(self) -> None:
        """Lets go of everything that it holds."""

    def outage(self, error: BaseException) -> BacklaneError | None:
        """Returns what a caller is told about an outage; None when the error is none."""
        cause = error.orig if isinstance(error, sa.exc.DBAPIError) and error.orig else error
        if isinstance(cause, FailpointError):
            return full(str(cause)) if str(cause) == "store.full" else unavailable(str(cause))
        if not self.is_outage(cause):
            return None
        text = str(cause).strip()
        return full(text) if self.is_full(cause) else unavailable(text)


def unavailable(cause: str) -> StoreUnavailableError:
    """Returns what a caller is told whose write may or may not have been taken."""
    return StoreUnavailableError(
        f"The operations store cannot be used: {cause}. A write may or may not have been taken; "
        "repeating it is safe.",
        metadata={"cause": cause},
        retry_delay_s=OUTAGE_RETRY_DELAY_S,
    )


def full(cause: str) -> StoreFullError:
    """Returns what a caller is told when there is no room for the write."""
    return StoreFullError(
        f"The operations store has no room left: {cause}. Nothing of the write was taken. Make "
        "room on its disk, or remove operations that have ended: backlane operation prune.",
        metadata={"cause": cause},
        retry_delay_s=FULL_RETRY_DELAY_S,
    )
