"""The tables of the registry.

Column names follow the fields of `backlane.operations`. Times are UTC nanoseconds. What changes
with every report of a run is in narrow rows, apart from the spec and the result. JSON is text that
`rows` writes and reads: the writer hands it to the driver as it is.
"""

import sqlalchemy as sa

from backlane.operations.operation import State

SCHEMA_VERSION = 2
"""Grows with every change of a table: `migrations` holds the steps. A higher one is refused."""

metadata = sa.MetaData()

# INTEGER in SQLite is 64 bits wide, and BIGINT would be no alias of the row's own key.
_Key = sa.BigInteger().with_variant(sa.Integer, "sqlite")

registry = sa.Table(
    "registry",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("schema_version", sa.Integer, nullable=False),
    sa.Column("registry_uid", sa.Text, nullable=False),
    sa.Column("revision", sa.BigInteger, nullable=False),
    sa.Column("oldest_revision", sa.BigInteger, nullable=False),
    sa.Column("change_number", sa.BigInteger, nullable=False, server_default="0"),
    sa.Column("queued_count", sa.BigInteger, nullable=False, server_default="0"),
    sa.Column("ended_count", sa.BigInteger, nullable=False, server_default="0"),
    comment="One row. `change_number` grows with every transaction that changed anything.",
)

operations = sa.Table(
    "operations",
    metadata,
    sa.Column("id", _Key, primary_key=True, autoincrement=False),
    sa.Column("name", sa.Text, nullable=False, unique=True),
    sa.Column("uid", sa.Text, nullable=False, unique=True),
    sa.Column("request_id", sa.Text, nullable=False),
    sa.Column("kind", sa.Text, nullable=False),
    sa.Column("client", sa.Text, nullable=False),
    sa.Column("state", sa.Text, nullable=False),
    sa.Column("is_deleted", sa.Boolean, nullable=False),
    sa.Column("is_waiting", sa.Boolean, nullable=False),
    sa.Column("priority", sa.Integer, nullable=False),
    sa.Column("max_attempts", sa.Integer, nullable=False),
    sa.Column("queue_timeout_s", sa.Double),
    sa.Column("attempt_timeout_s", sa.Double),
    sa.Column("resumed_from", sa.Text, nullable=False),
    sa.Column("attempt", sa.Integer, nullable=False),
    sa.Column("epoch", sa.BigInteger, nullable=False),
    sa.Column("failure_count", sa.Integer, nullable=False),
    sa.Column("release_count", sa.Integer, nullable=False),
    sa.Column("failures", sa.Text, nullable=False),
    sa.Column("checkpoint_number", sa.BigInteger, nullable=False),
    sa.Column("checkpoints", sa.Text, nullable=False),
    sa.Column("event_sequence", sa.BigInteger, nullable=False),
    sa.Column("metric_index", sa.BigInteger, nullable=False),
    sa.Column("counts", sa.Text, nullable=False),
    sa.Column("revision", sa.BigInteger, nullable=False),
    sa.Column("create_time_ns", sa.BigInteger, nullable=False),
    sa.Column("start_time_ns", sa.BigInteger),
    sa.Column("end_time_ns", sa.BigInteger),
    sa.Column("expire_time_ns", sa.BigInteger),
    sa.Column("next_attempt_ns", sa.BigInteger),
    sa.Column("queue_deadline_ns", sa.BigInteger),
    sa.Column("cancel_reason", sa.Text, nullable=False),
    sa.Column("progress", sa.Text),
    sa.Column("error", sa.Text),
    comment=(
        "`id` is the revision of the operation's first event. `is_waiting`: queued, and its next "
        "attempt is not due yet. `queue_deadline_ns`: until when somebody must begin."
    ),
)
_is_listed = operations.c.is_deleted.is_(False)
_is_claimable = sa.and_(
    operations.c.state == sa.literal_column(f"'{State.QUEUED.value}'"),
    operations.c.is_waiting.is_(False),
)


def _index(name: str, *columns: object, where: sa.ColumnElement[bool]) -> sa.Index:
    return sa.Index(name, *columns, sqlite_where=where)  # type: ignore[arg-type]


_index("operations_by_state", operations.c.state, operations.c.id, where=_is_listed)
_index("operations_by_kind", operations.c.kind, operations.c.id, where=_is_listed)
_index(
    "operations_by_state_and_kind",
    operations.c.state,
    operations.c.kind,
    operations.c.id,
    where=_is_listed,
)
_index(
    "operations_claimable",
    operations.c.kind,
    operations.c.priority.desc(),
    operations.c.id,
    where=_is_claimable,
)
_index(
    "operations_waiting",
    operations.c.kind,
    operations.c.next_attempt_ns,
    where=operations.c.is_waiting.is_(True),
)
_index(
    "operations_by_queue_deadline",
    operations.c.queue_deadline_ns,
    where=operations.c.queue_deadline_ns.is_not(None),
)
_index(
    "operations_by_end",
    operations.c.end_time_ns,
    operations.c.id,
    where=operations.c.end_time_ns.is_not(None),
)


def add_postgresql() -> None:
    """Lets the indexes have their conditions in PostgreSQL, too.

    To name them loads its dialect, which who uses SQLite does not wait for at each start.
    """
    for table in metadata.tables.values():
        for index in table.indexes:
            options = index.dialect_kwargs
            options["postgresql_where"] = options.get("sqlite_where")


def _of_operation(*, is_key: bool) -> sa.Column[int]:
    return sa.Column(
        "operation_id",
        _Key,
        sa.ForeignKey("operations.id", ondelete="CASCADE"),
        primary_key=is_key,
        nullable=False,
        autoincrement=False,
    )


payloads = sa.Table(
    "payloads",
    metadata,
    _of_operation(is_key=True),
    sa.Column("labels", sa.Text, nullable=False),
    sa.Column("spec_type_url", sa.Text, nullable=False),
    sa.Column("spec_value", sa.LargeBinary, nullable=False),
    sa.Column("result_type_url", sa.Text),
    sa.Column("result_value", sa.LargeBinary),
    comment="What is large and seldom changes, one row for each operation.",
)

operation_labels = sa.Table(
    "operation_labels",
    metadata,
    _of_operation(is_key=True),
    sa.Column("key", sa.Text, primary_key=True),
    sa.Column("value", sa.Text, nullable=False),
    sa.Column("state", sa.Text, nullable=False),
    sa.Column("kind", sa.Text, nullable=False),
    sqlite_with_rowid=False,
    comment=(
        "The labels once more, so that a filter finds them by an index. `state` is that of the "
        "operation, or DELETED."
    ),
)
sa.Index(
    "operation_labels_by_value",
    operation_labels.c.key,
    operation_labels.c.value,
    operation_labels.c.state,
    operation_labels.c.operation_id,
)
sa.Index(
    "operation_labels_by_kind",
    operation_labels.c.key,
    operation_labels.c.value,
    operation_labels.c.kind,
    operation_labels.c.state,
    operation_labels.c.operation_id,
)

leases = sa.Table(
    "leases",
    metadata,
    _of_operation(is_key=True),
    sa.Column("epoch", sa.BigInteger, nullable=False),
    sa.Column("worker_id", sa.Text, nullable=False),
    sa.Column("request_id", sa.Text, nullable=False),
    sa.Column("batch_number", sa.BigInteger, nullable=False),
    sa.Column("renewal_number", sa.BigInteger, nullable=False, server_default="0"),
    sa.Column("progress", sa.Text),
    sa.Column("change_number", sa.BigInteger, nullable=False, server_default="0"),
    comment=(
        "No time: it is counted in memory, and anew by whoever takes over. `change_number` is the "
        "registry's at the last change of the row."
    ),
)
sa.Index("leases_by_change", leases.c.change_number)

request_ids = sa.Table(
    "request_ids",
    metadata,
    sa.Column("request_id", sa.Text, primary_key=True),
    sa.Column("name", sa.Text, nullable=False),
    sa.Column("digests", sa.Text, nullable=False),
    sa.Column("expire_time_ns", sa.BigInteger),
    sqlite_with_rowid=False,
    comment="Outlives its operation until `expire_time_ns`, which is set when that is removed.",
)
_index(
    "request_ids_by_expiry",
    request_ids.c.expire_time_ns,
    where=request_ids.c.expire_time_ns.is_not(None),
)

clients = sa.Table(
    "clients",
    metadata,
    sa.Column("client", sa.Text, primary_key=True),
    sa.Column("live_count", sa.BigInteger, nullable=False),
    sqlite_with_rowid=False,
    comment="How many operations of each client have not ended; none is left out.",
)

events = sa.Table(
    "events",
    metadata,
    sa.Column("revision", _Key, primary_key=True, autoincrement=False),
    _of_operation(is_key=False),
    sa.Column("sequence", sa.BigInteger, nullable=False),
    sa.Column("attempt", sa.Integer, nullable=False),
    sa.Column("time_ns", sa.BigInteger, nullable=False),
    sa.Column("state", sa.Text, nullable=False),
    sa.Column("from_state", sa.Text),
    sa.Column("body", sa.Text, nullable=False),
    sa.Column("payload", sa.LargeBinary),
    sa.Column("first_index", sa.BigInteger),
    sa.UniqueConstraint("operation_id", "sequence"),
    comment=(
        "The log. `state` is that of the operation right after the event; `first_index` names the "
        "chunk with its metric points."
    ),
)
sa.Index("events_by_operation", events.c.operation_id, events.c.revision)

point_chunks = sa.Table(
    "point_chunks",
    metadata,
    _of_operation(is_key=True),
    sa.Column("first_index", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("last_index", sa.BigInteger, nullable=False),
    sa.Column("first_step", sa.BigInteger, nullable=False),
    sa.Column("last_step", sa.BigInteger, nullable=False),
    sa.Column("points", sa.LargeBinary, nullable=False),
    comment=(
        "The metric points of one event, packed by `packing`. The steps are the lowest and the "
        "highest of any series in it."
    ),
)
