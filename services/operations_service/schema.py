"""The tables of the registry, and how its file is opened.

Column names follow the fields of `backlane.operations`. Times are UTC nanoseconds.
"""

from pathlib import Path
from typing import Any

import sqlalchemy as sa

SCHEMA_VERSION = 1
"""Grows with every change of a table; a file with a higher one is refused."""

BUSY_TIMEOUT_S = 5.0
"""How long a statement waits for a lock, such as a checkpoint's."""

WAL_PAGES_PER_CHECKPOINT = 4_000
"""Pages of 4 KiB in the write-ahead log after which it is copied into the file."""

metadata = sa.MetaData()

registry = sa.Table(
    "registry",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("schema_version", sa.Integer, nullable=False),
    sa.Column("registry_uid", sa.Text, nullable=False),
    sa.Column("revision", sa.BigInteger, nullable=False),
    sa.Column("oldest_revision", sa.BigInteger, nullable=False),
    sa.Column("probe_count", sa.BigInteger, nullable=False),
    comment="One row.",
)

operations = sa.Table(
    "operations",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=True),
    sa.Column("name", sa.Text, nullable=False, unique=True),
    sa.Column("uid", sa.Text, nullable=False, unique=True),
    sa.Column("kind", sa.Text, nullable=False),
    sa.Column("state", sa.Text, nullable=False),
    sa.Column("is_deleted", sa.Boolean, nullable=False),
    sa.Column("spec_type_url", sa.Text, nullable=False),
    sa.Column("spec_value", sa.LargeBinary, nullable=False),
    sa.Column("labels", sa.JSON, nullable=False),
    sa.Column("max_attempts", sa.Integer, nullable=False),
    sa.Column("attempt", sa.Integer, nullable=False),
    sa.Column("epoch", sa.BigInteger, nullable=False),
    sa.Column("event_sequence", sa.BigInteger, nullable=False),
    sa.Column("metric_index", sa.BigInteger, nullable=False),
    sa.Column("counts", sa.JSON, nullable=False),
    sa.Column("revision", sa.BigInteger, nullable=False),
    sa.Column("create_time_ns", sa.BigInteger, nullable=False),
    sa.Column("start_time_ns", sa.BigInteger),
    sa.Column("end_time_ns", sa.BigInteger),
    sa.Column("cancel_reason", sa.Text, nullable=False),
    sa.Column("progress", sa.JSON(none_as_null=True)),
    sa.Column("result_type_url", sa.Text),
    sa.Column("result_value", sa.LargeBinary),
    sa.Column("error", sa.JSON(none_as_null=True)),
    sqlite_autoincrement=True,
)
sa.Index("operations_by_state", operations.c.state, operations.c.kind, operations.c.id)
sa.Index("operations_by_kind", operations.c.kind, operations.c.id)

operation_labels = sa.Table(
    "operation_labels",
    metadata,
    sa.Column("key", sa.Text, primary_key=True),
    sa.Column("value", sa.Text, primary_key=True),
    sa.Column("operation_id", sa.ForeignKey("operations.id", ondelete="CASCADE"), primary_key=True),
    sqlite_with_rowid=False,
    comment="The labels once more, so that a filter finds them by an index.",
)

leases = sa.Table(
    "leases",
    metadata,
    sa.Column("operation_id", sa.ForeignKey("operations.id", ondelete="CASCADE"), primary_key=True),
    sa.Column("epoch", sa.BigInteger, nullable=False),
    sa.Column("worker_id", sa.Text, nullable=False),
    sa.Column("request_id", sa.Text, nullable=False),
    sa.Column("batch_number", sa.BigInteger, nullable=False),
    comment="No time: it is counted in memory, and anew after a restart.",
)

request_ids = sa.Table(
    "request_ids",
    metadata,
    sa.Column("request_id", sa.Text, primary_key=True),
    sa.Column("operation_id", sa.ForeignKey("operations.id", ondelete="CASCADE"), nullable=False),
    sa.Column("digests", sa.JSON, nullable=False),
    sqlite_with_rowid=False,
)

events = sa.Table(
    "events",
    metadata,
    sa.Column("revision", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True),
    sa.Column("operation_id", sa.ForeignKey("operations.id", ondelete="CASCADE"), nullable=False),
    sa.Column("sequence", sa.BigInteger, nullable=False),
    sa.Column("attempt", sa.Integer, nullable=False),
    sa.Column("time_ns", sa.BigInteger, nullable=False),
    sa.Column("state", sa.Text, nullable=False),
    sa.Column("from_state", sa.Text),
    sa.Column("body", sa.JSON, nullable=False),
    sa.Column("payload", sa.LargeBinary),
    sa.UniqueConstraint("operation_id", "sequence"),
    comment="The log. `state` is that of the operation right after the event.",
)
sa.Index("events_by_operation", events.c.operation_id, events.c.revision)

metric_points = sa.Table(
    "metric_points",
    metadata,
    sa.Column("operation_id", sa.ForeignKey("operations.id", ondelete="CASCADE"), primary_key=True),
    sa.Column("index", sa.BigInteger, primary_key=True),
    sa.Column("series", sa.Text, nullable=False),
    sa.Column("step", sa.BigInteger, nullable=False),
    sa.Column("time_ns", sa.BigInteger),
    sa.Column("value", sa.LargeBinary(8), nullable=False),
    sqlite_with_rowid=False,
)


def writer_engine(path: Path) -> sa.Engine:
    """Returns the engine of the one connection that writes the file; makes the file if need be."""
    engine = sa.create_engine(
        f"sqlite:///{path}",
        poolclass=sa.StaticPool,
        connect_args={"check_same_thread": False, "timeout": BUSY_TIMEOUT_S},
    )
    pragmas = (
        "PRAGMA journal_mode=WAL",
        "PRAGMA synchronous=FULL",
        "PRAGMA foreign_keys=ON",
        f"PRAGMA wal_autocheckpoint={WAL_PAGES_PER_CHECKPOINT}",
    )
    _prepare(engine, pragmas, "BEGIN IMMEDIATE")
    return engine


def reader_engine(path: Path, connection_count: int) -> sa.Engine:
    """Returns an engine whose connections can read the file, and nothing else."""
    engine = sa.create_engine(
        f"sqlite:///file:{path}?mode=ro&uri=true",
        poolclass=sa.QueuePool,
        pool_size=connection_count,
        max_overflow=0,
        connect_args={"check_same_thread": False, "timeout": BUSY_TIMEOUT_S},
    )
    _prepare(engine, ("PRAGMA query_only=ON",), "BEGIN")
    return engine


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
