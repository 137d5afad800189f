"""Operations and events as rows, both ways."""

import math
import struct
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict
from typing import Any

import sqlalchemy as sa

from backlane.operations.events import (
    Deleted,
    EventBody,
    MetricPoint,
    MetricsAppended,
    Note,
    OperationEvent,
    StateChanged,
    TradesAppended,
)
from backlane.operations.lease import Lease
from backlane.operations.operation import (
    Operation,
    OperationError,
    Payload,
    Progress,
    State,
    TelemetryCounts,
)

Values = dict[str, Any]
_LENGTH = struct.Struct("<I")
_DOUBLE = struct.Struct("<d")


def operation_values(operation: Operation) -> Values:
    """Returns the row of an operation, without its id and its lease."""
    return {
        "name": operation.name,
        "uid": operation.uid,
        "kind": operation.kind,
        "spec_type_url": operation.spec.type_url,
        "labels": dict(operation.labels),
        "max_attempts": operation.max_attempts,
        "create_time_ns": operation.create_time_ns,
        **changing_values(operation),
    }


def changing_values(operation: Operation) -> Values:
    """Returns the columns that a command may change."""
    return {
        "state": operation.state.value,
        "is_deleted": operation.is_deleted,
        "attempt": operation.attempt,
        "epoch": operation.epoch,
        "event_sequence": operation.event_sequence,
        "metric_index": operation.metric_index,
        "counts": asdict(operation.counts),
        "revision": operation.revision,
        "start_time_ns": operation.start_time_ns,
        "end_time_ns": operation.end_time_ns,
        "cancel_reason": operation.cancel_reason,
        "progress": None if operation.progress is None else _progress_json(operation.progress),
        "result_type_url": operation.result.type_url if operation.result else None,
        "result_value": operation.result.value if operation.result else None,
        "error": None if operation.error is None else _error_json(operation.error),
        # A tombstone lets go of it.
        "spec_value": operation.spec.value,
    }


CHANGING_COLUMNS = (
    "state",
    "is_deleted",
    "attempt",
    "epoch",
    "event_sequence",
    "metric_index",
    "counts",
    "revision",
    "start_time_ns",
    "end_time_ns",
    "cancel_reason",
    "progress",
    "result_type_url",
    "result_value",
    "error",
    "spec_value",
)
"""The columns of `changing_values`."""


def operation_from(row: sa.RowMapping, lease: Lease | None = None) -> Operation:
    """Returns the operation of a row."""
    result_type_url = row["result_type_url"]
    return Operation(
        name=row["name"],
        uid=row["uid"],
        kind=row["kind"],
        state=State(row["state"]),
        spec=Payload(row["spec_type_url"], row["spec_value"]),
        create_time_ns=row["create_time_ns"],
        labels=row["labels"],
        max_attempts=row["max_attempts"],
        attempt=row["attempt"],
        epoch=row["epoch"],
        lease=lease,
        event_sequence=row["event_sequence"],
        metric_index=row["metric_index"],
        counts=TelemetryCounts(**row["counts"]),
        revision=row["revision"],
        start_time_ns=row["start_time_ns"],
        end_time_ns=row["end_time_ns"],
        cancel_reason=row["cancel_reason"],
        progress=None if row["progress"] is None else _progress_from(row["progress"]),
        result=None if result_type_url is None else Payload(result_type_url, row["result_value"]),
        error=None if row["error"] is None else OperationError(**row["error"]),
        is_deleted=row["is_deleted"],
    )


def lease_values(lease: Lease) -> Values:
    """Returns the row of a lease, without the operation's id."""
    return {
        "epoch": lease.epoch,
        "worker_id": lease.worker_id,
        "request_id": lease.request_id,
        "batch_number": lease.batch_number,
    }


def lease_from(name: str, row: sa.RowMapping, expires_at_s: float) -> Lease:
    """Returns the lease of a row, good until `expires_at_s`."""
    return Lease(
        operation=name,
        epoch=row["epoch"],
        worker_id=row["worker_id"],
        request_id=row["request_id"],
        expires_at_s=expires_at_s,
        batch_number=row["batch_number"],
    )


def event_values(event: OperationEvent, state: State) -> Values:
    """Returns the row of an event, without the operation's id; `state` is the one right after."""
    body, payload = _body_columns(event.body)
    from_state = event.body.from_state if isinstance(event.body, StateChanged) else None
    return {
        "revision": event.revision,
        "sequence": event.sequence,
        "attempt": event.attempt,
        "time_ns": event.time_ns,
        "state": state.value,
        "from_state": from_state.value if from_state else None,
        "body": body,
        "payload": payload,
    }


def event_from(row: sa.RowMapping, points: tuple[MetricPoint, ...] = ()) -> OperationEvent:
    """Returns the event of a row that is joined with the operation's name."""
    return OperationEvent(
        operation=row["name"],
        sequence=row["sequence"],
        attempt=row["attempt"],
        time_ns=row["time_ns"],
        body=_body_from(row["body"], row["payload"], points),
        revision=row["revision"],
    )


def points_range(body: Mapping[str, Any]) -> tuple[int, int] | None:
    """Returns the first and last index of the points that an event's row refers to, if any."""
    if body["type"] != "metrics":
        return None
    first = int(body["first_index"])
    return first, first + int(body["count"]) - 1


def point_values(point: MetricPoint) -> Values:
    """Returns the row of a metric point, without the operation's id."""
    return {
        "index": point.index,
        "series": point.series,
        "step": point.step,
        "time_ns": point.time_ns,
        # Its eight bytes: SQLite would turn NaN into NULL, and -0.0 into 0.0.
        "value": _DOUBLE.pack(point.value),
    }


def point_from(row: sa.RowMapping) -> MetricPoint:
    """Returns the metric point of a row."""
    (value,) = _DOUBLE.unpack(row["value"])
    return MetricPoint(
        series=row["series"],
        step=row["step"],
        value=value,
        time_ns=row["time_ns"],
        index=row["index"],
    )


def _body_columns(body: EventBody) -> tuple[Values, bytes | None]:
    match body:
        case StateChanged():
            result = body.result
            values = {
                "type": "state",
                "from": body.from_state.value if body.from_state else None,
                "to": body.to_state.value,
                "reason": body.reason,
                "error": _error_json(body.error) if body.error else None,
                "result_type_url": result.type_url if result else None,
            }
            return values, result.value if result else None
        case MetricsAppended():
            first = body.points[0].index
            return {"type": "metrics", "first_index": first, "count": len(body.points)}, None
        case TradesAppended():
            return {"type": "trades"}, b"".join(_framed(body.trades))
        case Note():
            return {"type": "note", "text": body.text}, None
        case Deleted():
            return {"type": "deleted"}, None


def _body_from(
    body: Mapping[str, Any], payload: bytes | None, points: tuple[MetricPoint, ...]
) -> EventBody:
    match body["type"]:
        case "state":
            result_type_url = body["result_type_url"]
            return StateChanged(
                from_state=State(body["from"]) if body["from"] else None,
                to_state=State(body["to"]),
                reason=body["reason"],
                error=OperationError(**body["error"]) if body["error"] else None,
                result=Payload(result_type_url, payload or b"") if result_type_url else None,
            )
        case "metrics":
            return MetricsAppended(points)
        case "trades":
            return TradesAppended(tuple(_unframed(payload or b"")))
        case "note":
            return Note(body["text"])
        case "deleted":
            return Deleted()
        case other:
            raise ValueError(f"unknown type of event in the store: {other}")


def _framed(messages: Iterable[bytes]) -> Iterator[bytes]:
    for message in messages:
        yield _LENGTH.pack(len(message))
        yield message


def _unframed(data: bytes) -> Iterator[bytes]:
    start = 0
    while start < len(data):
        (size,) = _LENGTH.unpack_from(data, start)
        start += _LENGTH.size
        yield data[start : start + size]
        start += size


def _error_json(error: OperationError) -> Values:
    return {
        "reason": error.reason,
        "message": error.message,
        "metadata": dict(error.metadata),
        "code": error.code,
    }


def _progress_json(progress: Progress) -> Values:
    # Infinities and NaN are no JSON; Python's float() reads their text back.
    values = asdict(progress)
    if not math.isfinite(progress.equity):
        values["equity"] = repr(progress.equity)
    return values


def _progress_from(values: Mapping[str, Any]) -> Progress:
    return Progress(**{**values, "equity": float(values["equity"])})
