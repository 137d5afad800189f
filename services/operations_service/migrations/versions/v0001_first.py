"""Version 1: operations, their log and their leases, as first released."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


# What was stored as JSON was never anything but text to us, and PostgreSQL would hand out objects.
_Json = sa.JSON().with_variant(sa.Text(), "postgresql")
_Key = sa.BigInteger().with_variant(sa.Integer, "sqlite")


def upgrade() -> None:
    """Makes the tables of version 1; nobody has older ones."""
    big, text = sa.BigInteger(), sa.Text()
    op.create_table(
        "registry",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("schema_version", sa.Integer, nullable=False),
        sa.Column("registry_uid", text, nullable=False),
        sa.Column("revision", big, nullable=False),
        sa.Column("oldest_revision", big, nullable=False),
        sa.Column("probe_count", big, nullable=False),
    )
    _make_operations()
    _make_parts()


def _make_operations() -> None:
    big, text = sa.BigInteger(), sa.Text()
    op.create_table(
        "operations",
        sa.Column("id", _Key, primary_key=True, autoincrement=True),
        sa.Column("name", text, nullable=False, unique=True),
        sa.Column("uid", text, nullable=False, unique=True),
        sa.Column("kind", text, nullable=False),
        sa.Column("state", text, nullable=False),
        sa.Column("is_deleted", sa.Boolean, nullable=False),
        sa.Column("spec_type_url", text, nullable=False),
        sa.Column("spec_value", sa.LargeBinary, nullable=False),
        sa.Column("labels", _Json, nullable=False),
        sa.Column("max_attempts", sa.Integer, nullable=False),
        sa.Column("attempt", sa.Integer, nullable=False),
        sa.Column("epoch", big, nullable=False),
        sa.Column("event_sequence", big, nullable=False),
        sa.Column("metric_index", big, nullable=False),
        sa.Column("counts", _Json, nullable=False),
        sa.Column("revision", big, nullable=False),
        sa.Column("create_time_ns", big, nullable=False),
        sa.Column("start_time_ns", big),
        sa.Column("end_time_ns", big),
        sa.Column("cancel_reason", text, nullable=False),
        sa.Column("progress", _Json),
        sa.Column("result_type_url", text),
        sa.Column("result_value", sa.LargeBinary),
        sa.Column("error", _Json),
        sqlite_autoincrement=True,
    )
    op.create_index("operations_by_state", "operations", ["state", "kind", "id"])
    op.create_index("operations_by_kind", "operations", ["kind", "id"])


def _of_operation(*, is_key: bool) -> sa.Column[int]:
    key = sa.ForeignKey("operations.id", ondelete="CASCADE")
    return sa.Column("operation_id", _Key, key, primary_key=is_key, nullable=False)


def _make_parts() -> None:
    big, text = sa.BigInteger(), sa.Text()
    op.create_table(
        "operation_labels",
        sa.Column("key", text, primary_key=True),
        sa.Column("value", text, primary_key=True),
        _of_operation(is_key=True),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "leases",
        _of_operation(is_key=True),
        sa.Column("epoch", big, nullable=False),
        sa.Column("worker_id", text, nullable=False),
        sa.Column("request_id", text, nullable=False),
        sa.Column("batch_number", big, nullable=False),
    )
    op.create_table(
        "request_ids",
        sa.Column("request_id", text, primary_key=True),
        _of_operation(is_key=False),
        sa.Column("digests", _Json, nullable=False),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "events",
        sa.Column("revision", _Key, primary_key=True),
        _of_operation(is_key=False),
        sa.Column("sequence", big, nullable=False),
        sa.Column("attempt", sa.Integer, nullable=False),
        sa.Column("time_ns", big, nullable=False),
        sa.Column("state", text, nullable=False),
        sa.Column("from_state", text),
        sa.Column("body", _Json, nullable=False),
        sa.Column("payload", sa.LargeBinary),
        sa.UniqueConstraint("operation_id", "sequence"),
    )
    op.create_index("events_by_operation", "events", ["operation_id", "revision"])
    op.create_table(
        "metric_points",
        _of_operation(is_key=True),
        sa.Column("index", big, primary_key=True),
        sa.Column("series", text, nullable=False),
        sa.Column("step", big, nullable=False),
        sa.Column("time_ns", big),
        sa.Column("value", sa.LargeBinary(8), nullable=False),
        sqlite_with_rowid=False,
    )
