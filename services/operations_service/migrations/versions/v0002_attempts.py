"""Version 2: attempts with backoff, checkpoints, priorities, limits, retention, and packed points.

The rows of operations become narrow: payloads move out. Metric points move into one blob for each
event. A request_id outlives its operation. Several processes may write: what they tell each other
is in the registry's row and in the leases.
"""

import hashlib
import json
import struct
from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"

_NO_TIME_NS = -(1 << 63)
_LIVE = "('QUEUED', 'RUNNING', 'CANCELLING')"
_PAYLOADS = ("labels", "spec_type_url", "spec_value", "result_type_url", "result_value")

_Big, _Text = sa.BigInteger(), sa.Text()
_Key = sa.BigInteger().with_variant(sa.Integer, "sqlite")


def upgrade() -> None:
    """Moves everything over, in the transaction that the connection is in."""
    op.drop_index("operations_by_state", "operations")
    op.drop_index("operations_by_kind", "operations")
    _widen_operations()
    _move_payloads()
    _move_request_ids()
    _move_labels()
    _move_points()
    _widen_leases()
    _widen_registry()
    _make_indexes()


def _of_operation() -> sa.Column[int]:
    return sa.Column(
        "operation_id",
        _Key,
        sa.ForeignKey("operations.id", ondelete="CASCADE"),
        primary_key=True,
        autoincrement=False,
    )


def _widen_operations() -> None:
    for column in (
        sa.Column("request_id", _Text, nullable=False, server_default=""),
        sa.Column("client", _Text, nullable=False, server_default=""),
        sa.Column("is_waiting", sa.Boolean, nullable=False, server_default=sa.false()),
        sa.Column("priority", sa.Integer, nullable=False, server_default="0"),
        sa.Column("queue_timeout_s", sa.Double),
        sa.Column("attempt_timeout_s", sa.Double),
        sa.Column("resumed_from", _Text, nullable=False, server_default=""),
        sa.Column("failure_count", sa.Integer, nullable=False, server_default="0"),
        sa.Column("release_count", sa.Integer, nullable=False, server_default="0"),
        sa.Column("failures", _Text, nullable=False, server_default="[]"),
        sa.Column("checkpoint_number", _Big, nullable=False, server_default="0"),
        sa.Column("checkpoints", _Text, nullable=False, server_default="[]"),
        sa.Column("expire_time_ns", _Big),
        sa.Column("next_attempt_ns", _Big),
        sa.Column("queue_deadline_ns", _Big),
    ):
        op.add_column("operations", column)
    # Each attempt but the one under way had ended badly: nothing else ended one in version 1.
    op.execute(
        "UPDATE operations SET failure_count = CASE WHEN state IN ('FAILED', 'QUEUED') "
        "THEN attempt WHEN attempt > 0 THEN attempt - 1 ELSE 0 END"
    )


def _move_payloads() -> None:
    op.create_table(
        "payloads",
        _of_operation(),
        sa.Column("labels", _Text, nullable=False),
        sa.Column("spec_type_url", _Text, nullable=False),
        sa.Column("spec_value", sa.LargeBinary, nullable=False),
        sa.Column("result_type_url", _Text),
        sa.Column("result_value", sa.LargeBinary),
    )
    op.execute(
        "INSERT INTO payloads SELECT id, labels, spec_type_url, spec_value, result_type_url, "
        "result_value FROM operations"
    )
    for column in _PAYLOADS:
        op.drop_column("operations", column)


def _move_request_ids() -> None:
    op.create_table(
        "request_ids_2",
        sa.Column("request_id", _Text, primary_key=True),
        sa.Column("name", _Text, nullable=False),
        sa.Column("digests", _Text, nullable=False),
        sa.Column("expire_time_ns", _Big),
        sqlite_with_rowid=False,
    )
    # A retry is compared field by field: this is what a request of version 1 says of the new ones.
    unasked = {
        "priority": _sha256(b"0"),
        "queue_timeout": _sha256(b"None"),
        "attempt_timeout": _sha256(b"None"),
    }
    rows = _all(
        "SELECT request_ids.request_id, name, digests FROM request_ids "
        "JOIN operations ON operations.id = request_ids.operation_id"
    )
    _run_many(
        "INSERT INTO request_ids_2 (request_id, name, digests) "
        "VALUES (:request_id, :name, :digests)",
        [{**row, "digests": json.dumps({**json.loads(row["digests"]), **unasked})} for row in rows],
    )
    op.execute(
        "UPDATE operations SET request_id = COALESCE((SELECT request_ids.request_id "
        "FROM request_ids WHERE request_ids.operation_id = operations.id), '')"
    )
    op.drop_table("request_ids")
    op.rename_table("request_ids_2", "request_ids")


def _move_labels() -> None:
    op.create_table(
        "operation_labels_2",
        _of_operation(),
        sa.Column("key", _Text, primary_key=True),
        sa.Column("value", _Text, nullable=False),
        sa.Column("state", _Text, nullable=False),
        sa.Column("kind", _Text, nullable=False),
        sqlite_with_rowid=False,
    )
    op.execute(
        "INSERT INTO operation_labels_2 SELECT l.operation_id, l.key, l.value, "
        "CASE WHEN o.is_deleted THEN 'DELETED' ELSE o.state END, o.kind "
        "FROM operation_labels l JOIN operations o ON o.id = l.operation_id"
    )
    op.drop_table("operation_labels")
    op.rename_table("operation_labels_2", "operation_labels")


def _move_points() -> None:
    op.add_column("events", sa.Column("first_index", _Big))
    op.create_table(
        "point_chunks",
        _of_operation(),
        sa.Column("first_index", _Big, primary_key=True, autoincrement=False),
        sa.Column("last_index", _Big, nullable=False),
        sa.Column("first_step", _Big, nullable=False),
        sa.Column("last_step", _Big, nullable=False),
        sa.Column("points", sa.LargeBinary, nullable=False),
    )
    for event in _all(
        "SELECT revision, operation_id, body FROM events "
        """WHERE body LIKE '{"type": "metrics"%' ORDER BY revision"""
    ):
        body = json.loads(event["body"])
        if body["type"] == "metrics":
            _move_chunk(event, body["first_index"], body["count"])
    rows = _all("SELECT DISTINCT operation_id FROM metric_points")
    for row in rows:
        _note_last_steps(row["operation_id"])
    op.drop_table("metric_points")


def _move_chunk(event: dict[str, Any], first_index: int, count: int) -> None:
    points = _all(
        "SELECT series, step, time_ns, value FROM metric_points WHERE operation_id = :id "
        'AND "index" BETWEEN :first AND :last ORDER BY "index"',
        {"id": event["operation_id"], "first": first_index, "last": first_index + count - 1},
    )
    steps = [point["step"] for point in points]
    _run_many(
        "INSERT INTO point_chunks VALUES (:id, :first, :last, :low, :high, :points)",
        [
            {
                "id": event["operation_id"],
                "first": first_index,
                "last": first_index + count - 1,
                "low": min(steps),
                "high": max(steps),
                "points": _packed(points),
            }
        ],
    )
    _run_many(
        "UPDATE events SET first_index = :first WHERE revision = :revision",
        [{"first": first_index, "revision": event["revision"]}],
    )


def _packed(points: list[dict[str, Any]]) -> bytes:
    """Returns points as version 2 keeps them: names of series, then four columns."""
    numbers: dict[str, int] = {}
    which = [numbers.setdefault(point["series"], len(numbers)) for point in points]
    names = json.dumps(list(numbers)).encode()
    times = [_NO_TIME_NS if one["time_ns"] is None else one["time_ns"] for one in points]
    size = len(points)
    columns = struct.pack(
        f"<{size}H{size}q{size}q", *which, *(point["step"] for point in points), *times
    )
    values = b"".join(point["value"] for point in points)
    return struct.pack("<I", len(names)) + names + columns + values


def _note_last_steps(operation_id: int) -> None:
    found = _all(
        "SELECT series, MAX(step) AS step FROM metric_points WHERE operation_id = :id "
        "GROUP BY series",
        {"id": operation_id},
    )
    (row,) = _all("SELECT counts FROM operations WHERE id = :id", {"id": operation_id})
    last_steps = {one["series"]: one["step"] for one in found}
    counts = json.dumps({**json.loads(row["counts"]), "last_steps": last_steps})
    _run_many(
        "UPDATE operations SET counts = :counts WHERE id = :id",
        [{"counts": counts, "id": operation_id}],
    )


def _widen_leases() -> None:
    for column in (
        sa.Column("renewal_number", _Big, nullable=False, server_default="0"),
        sa.Column("progress", _Text),
        sa.Column("change_number", _Big, nullable=False, server_default="0"),
    ):
        op.add_column("leases", column)
    op.execute(
        "UPDATE leases SET progress = (SELECT operations.progress FROM operations "
        "WHERE operations.id = leases.operation_id)"
    )


def _widen_registry() -> None:
    op.create_table(
        "clients",
        sa.Column("client", _Text, primary_key=True),
        sa.Column("live_count", _Big, nullable=False),
        sqlite_with_rowid=False,
    )
    op.execute(
        "INSERT INTO clients SELECT client, COUNT(*) FROM operations "  # noqa: S608 - constants
        f"WHERE state IN {_LIVE} GROUP BY client"
    )
    for name in ("change_number", "queued_count", "ended_count"):
        op.add_column("registry", sa.Column(name, _Big, nullable=False, server_default="0"))
    op.drop_column("registry", "probe_count")
    op.execute(
        "UPDATE registry SET schema_version = 2, "  # noqa: S608 - constants
        "queued_count = (SELECT COUNT(*) FROM operations WHERE state = 'QUEUED'), "
        f"ended_count = (SELECT COUNT(*) FROM operations WHERE state NOT IN {_LIVE})"
    )


def _make_indexes() -> None:
    listed, deadline = "is_deleted IS FALSE", "queue_deadline_ns IS NOT NULL"
    claimable = "state = 'QUEUED' AND is_waiting IS FALSE"
    if op.get_context().dialect.name == "sqlite":
        listed, claimable = "is_deleted IS 0", "state = 'QUEUED' AND is_waiting IS 0"
    waiting = "is_waiting IS 1" if "0" in listed else "is_waiting IS TRUE"
    for name, columns, where in (
        ("by_state", "state, id", listed),
        ("by_kind", "kind, id", listed),
        ("by_state_and_kind", "state, kind, id", listed),
        ("claimable", "kind, priority DESC, id", claimable),
        ("waiting", "kind, next_attempt_ns", waiting),
        ("by_queue_deadline", "queue_deadline_ns", deadline),
        ("by_end", "end_time_ns, id", "end_time_ns IS NOT NULL"),
    ):
        op.execute(f"CREATE INDEX operations_{name} ON operations ({columns}) WHERE {where}")
    for name, labels in (
        ("by_value", ["key", "value", "state", "operation_id"]),
        ("by_kind", ["key", "value", "kind", "state", "operation_id"]),
    ):
        op.create_index(f"operation_labels_{name}", "operation_labels", labels)
    op.create_index("leases_by_change", "leases", ["change_number"])
    op.execute(
        "CREATE INDEX request_ids_by_expiry ON request_ids (expire_time_ns) "
        "WHERE expire_time_ns IS NOT NULL"
    )


def _all(text: str, values: dict[str, Any] | None = None) -> list[dict[str, Any]]:
    found = op.get_bind().execute(sa.text(text), values or {})
    return [dict(row) for row in found.mappings()]


def _run_many(text: str, rows: list[dict[str, Any]]) -> None:
    if rows:
        op.get_bind().execute(sa.text(text), rows)


def _sha256(part: bytes) -> str:
    return hashlib.sha256(len(part).to_bytes(8, "big") + part).hexdigest()
