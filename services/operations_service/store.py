"""The SQLite store: the embedded default of the operations registry."""

from collections.abc import Callable
from pathlib import Path

from backlane.clock import Clock
from backlane.operations.admission import AdmissionLimits
from backlane.operations.lease import LeaseTerms
from backlane.operations.retention import RetentionPolicy
from operations_service.sql_store import SqlOperationStore, new_operation_id
from operations_service.sqlite_database import SqliteDatabase


class SqliteOperationStore(SqlOperationStore):
    """Keeps operations in one file, for one server."""

    def __init__(
        self,
        path: Path,
        clock: Clock,
        terms: LeaseTerms,
        *,
        admission: AdmissionLimits | None = None,
        retention: RetentionPolicy | None = None,
        new_id: Callable[[], str] = new_operation_id,
    ) -> None:
        database = SqliteDatabase(path)
        super().__init__(
            database, clock, terms, admission=admission, retention=retention, new_id=new_id
        )
