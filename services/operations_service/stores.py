"""Which store the settings ask for."""

from pathlib import Path

import sqlalchemy as sa

from backlane.clock import Clock
from backlane.errors import FieldViolation, InvalidRequestError
from backlane.operations.store import OperationStore
from operations_service.settings import OperationsServiceSettings
from operations_service.sql_store import SqlOperationStore
from operations_service.sqlite_database import SqliteDatabase


def open_store(settings: OperationsServiceSettings, clock: Clock) -> OperationStore:
    """Returns the store of `settings.store_url`, which is still to be started.

    Raises:
        InvalidRequestError: the URL is none, or is that of a database that is not known.

    """
    url = parsed(settings.store_url)
    if url.get_backend_name() == "sqlite":
        database = SqliteDatabase(Path(str(url.database)))
        return SqlOperationStore(
            database,
            clock,
            settings.lease_terms,
            admission=settings.admission_limits,
            retention=settings.retention_policy,
        )
    # Only who uses PostgreSQL has its driver.
    from operations_service.postgres_store import PostgresOperationStore

    return PostgresOperationStore(
        url,
        clock,
        settings.lease_terms,
        admission=settings.admission_limits,
        retention=settings.retention_policy,
    )


def parsed(text: str) -> sa.URL:
    """Returns the URL of a store.

    Raises:
        InvalidRequestError: it is none, or is that of a database that is not known.

    """
    try:
        url = sa.engine.make_url(text)
    except sa.exc.ArgumentError:
        url = None
    is_file = url is not None and url.get_backend_name() == "sqlite" and url.database
    if url is None or not (is_file or url.get_backend_name() == "postgresql"):
        raise InvalidRequestError(
            "The store's URL is neither sqlite:///path nor postgresql://user@host:port/database.",
            violations=(FieldViolation("store_url", "of an unknown kind"),),
        )
    return url
