"""Operations and events as rows, both ways."""

import json
import math
import struct
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict
from typing import Any, Protocol

from backlane.operations.events import (
    CheckpointCommitted,
    Deleted,
    EventBody,
    MetricsAppended,
    Note,
    OperationEvent,
    StateChanged,
    TradesAppended,
)
from backlane.operations.lease import Lease
from backlane.operations.operation import (
    AttemptFailure,
    Checkpoint,
    Operation,
    OperationError,
    Payload,
    Progress,
    State,
    TelemetryCounts,
)
from operations_service import packing

Values = dict[str, Any]
_LENGTH = struct.Struct("<I")
_NS_PER_S = 1_000_000_000
_NOTHING_COUNTED = TelemetryCounts()

DELETED = "DELETED"
"""What `operation_labels.state` says of a tombstone."""


class Row(Protocol):
    """A row of a result, read by the name of a column."""

    def __getitem__(self, column: str, /) -> Any:
        """Returns the value of the column."""
        ...

    def keys(self) -> Iterable[str]:
        """Returns the names of the columns."""
        ...

    def __iter__(self) -> Iterator[Any]:
        """Yields the values, in the order of the names; where the row is a dict, the names."""
        ...


def operation_values(operation: Operation, row_id: int, request_id: str) -> Values:
    """Returns the row of an operation, without its payloads and its lease."""
    return {
        "id": row_id,
        "name": operation.name,
        "uid": operation.uid,
        "request_id": request_id,
        "kind": operation.kind,
        "client": operation.client,
        "priority": operation.priority,
        "max_attempts": operation.max_attempts,
        "queue_timeout_s": operation.queue_timeout_s,
        "attempt_timeout_s": operation.attempt_timeout_s,
        "resumed_from": operation.resumed_from,
        "create_time_ns": operation.create_time_ns,
        **changing_values(operation),
    }


def changing_values(operation: Operation) -> Values:
    """Returns the columns of an operation's row that a command may change."""
    is_queued = operation.state is State.QUEUED
    return {
        **reported_values(operation),
        "state": operation.state.value,
        "is_deleted": operation.is_deleted,
        "is_waiting": is_queued and operation.next_attempt_ns is not None,
        "attempt": operation.attempt,
        "epoch": operation.epoch,
        "failure_count": operation.failure_count,
        "release_count": operation.release_count,
        "failures": _failures_text(operation.failures),
        "start_time_ns": operation.start_time_ns,
        "end_time_ns": operation.end_time_ns,
        "expire_time_ns": operation.expire_time_ns,
        "next_attempt_ns": operation.next_attempt_ns,
        "queue_deadline_ns": _queue_deadline_ns(operation) if is_queued else None,
        "cancel_reason": operation.cancel_reason,
        # That of a run is in its lease.
        "progress": None if operation.state.is_held else progress_text(operation.progress),
        "error": _error_text(operation.error),
    }


def reported_values(operation: Operation) -> Values:
    """Returns the columns that change while the state does not: by telemetry and checkpoints."""
    return {
        "checkpoint_number": operation.checkpoint_number,
        "checkpoints": _checkpoints_text(operation.checkpoints),
        "event_sequence": operation.event_sequence,
        "metric_index": operation.metric_index,
        "counts": _counts_text(operation.counts),
        "revision": operation.revision,
    }


REPORTED_COLUMNS = (
    "checkpoint_number",
    "checkpoints",
    "event_sequence",
    "metric_index",
    "counts",
    "revision",
)
"""The columns of `reported_values`. None is in an index: SQLite makes every index anew that holds
a column which an UPDATE names, changed or not."""

CHANGING_COLUMNS = (
    *REPORTED_COLUMNS,
    "state",
    "is_deleted",
    "is_waiting",
    "attempt",
    "epoch",
    "failure_count",
    "release_count",
    "failures",
    "start_time_ns",
    "end_time_ns",
    "expire_time_ns",
    "next_attempt_ns",
    "queue_deadline_ns",
    "cancel_reason",
    "progress",
    "error",
)
"""The columns of `changing_values`."""


def payload_values(operation: Operation) -> Values:
    """Returns the row of an operation's payloads, without its id."""
    return {
        "labels": json.dumps(dict(operation.labels)) if operation.labels else "{}",
        "spec_type_url": operation.spec.type_url,
        "spec_value": operation.spec.value,
        "result_type_url": operation.result.type_url if operation.result else None,
        "result_value": operation.result.value if operation.result else None,
    }


def label_values(operation: Operation, row_id: int) -> list[Values]:
    """Returns the rows of an operation's labels."""
    return [
        {
            "operation_id": row_id,
            "key": key,
            "value": value,
            "state": listed_state(operation),
            "kind": operation.kind,
        }
        for key, value in operation.labels.items()
    ]


def listed_state(operation: Operation) -> str:
    """Returns what `operation_labels.state` says of an operation."""
    return DELETED if operation.is_deleted else operation.state.value


def operation_from(row: Row, lease: Lease | None = None) -> Operation:
    """Returns the operation of a row that is joined with its payloads."""
    if not isinstance(row, dict):
        # sqlite3.Row goes through all names at each look, of which there are three dozen here.
        row = dict(zip(row.keys(), row, strict=True))
    result_type_url = row["result_type_url"]
    return Operation(
        name=row["name"],
        uid=row["uid"],
        kind=row["kind"],
        state=State(row["state"]),
        spec=Payload(row["spec_type_url"], row["spec_value"]),
        create_time_ns=row["create_time_ns"],
        labels=json.loads(row["labels"]),
        max_attempts=row["max_attempts"],
        attempt=row["attempt"],
        epoch=row["epoch"],
        lease=lease,
        event_sequence=row["event_sequence"],
        metric_index=row["metric_index"],
        counts=_counts_from(row["counts"]),
        revision=row["revision"],
        start_time_ns=row["start_time_ns"],
        end_time_ns=row["end_time_ns"],
        cancel_reason=row["cancel_reason"],
        priority=row["priority"],
        client=row["client"],
        queue_timeout_s=row["queue_timeout_s"],
        attempt_timeout_s=row["attempt_timeout_s"],
        next_attempt_ns=row["next_attempt_ns"],
        expire_time_ns=row["expire_time_ns"],
        failure_count=row["failure_count"],
        release_count=row["release_count"],
        failures=_failures_from(row["failures"]),
        checkpoints=_checkpoints_from(row["checkpoints"]),
        checkpoint_number=row["checkpoint_number"],
        resumed_from=row["resumed_from"],
        progress=progress_from(row["progress"]),
        result=None if result_type_url is None else Payload(result_type_url, row["result_value"]),
        error=None if row["error"] is None else OperationError(**json.loads(row["error"])),
        is_deleted=bool(row["is_deleted"]),
    )


def lease_values(lease: Lease) -> Values:
    """Returns the row of a lease, without the operation's id, progress and change_number."""
    return {
        "epoch": lease.epoch,
        "worker_id": lease.worker_id,
        "request_id": lease.request_id,
        "batch_number": lease.batch_number,
        "renewal_number": lease.renewal_number,
    }


def event_values(event: OperationEvent, row_id: int, state: State) -> Values:
    """Returns the row of an event; `state` is the operation's right after it."""
    body, payload = _body_columns(event.body)
    from_state = event.body.from_state if isinstance(event.body, StateChanged) else None
    return {
        "revision": event.revision,
        "operation_id": row_id,
        "sequence": event.sequence,
        "attempt": event.attempt,
        "time_ns": event.time_ns,
        "state": state.value,
        "from_state": from_state.value if from_state else None,
        "body": json.dumps(body),
        "payload": payload,
        "first_index": body.get("first_index"),
    }


def chunk_values(body: MetricsAppended, row_id: int) -> Values:
    """Returns the row of the points of one event."""
    steps = [point.step for point in body.points]
    return {
        "operation_id": row_id,
        "first_index": body.points[0].index,
        "last_index": body.points[-1].index,
        "first_step": min(steps),
        "last_step": max(steps),
        "points": packing.pack(body.points),
    }


def event_from(row: Row) -> OperationEvent:
    """Returns the event of a row that is joined with the operation's name and the points."""
    return OperationEvent(
        operation=row["name"],
        sequence=row["sequence"],
        attempt=row["attempt"],
        time_ns=row["time_ns"],
        body=_body_from(row),
        revision=row["revision"],
    )


def progress_text(progress: Progress | None) -> str | None:
    """Returns progress as JSON."""
    if progress is None:
        return None
    equity = progress.equity
    return json.dumps(
        {
            "version": progress.version,
            "completed_units": progress.completed_units,
            "total_units": progress.total_units,
            "unit": progress.unit,
            "phase": progress.phase,
            "report_time_ns": progress.report_time_ns,
            "simulated_time_ns": progress.simulated_time_ns,
            # Infinities and NaN are no JSON; Python's float() reads their text back.
            "equity": equity if math.isfinite(equity) else repr(equity),
            "trade_count": progress.trade_count,
        }
    )


def progress_from(text: str | None) -> Progress | None:
    """Returns the progress of a column."""
    if text is None:
        return None
    values = json.loads(text)
    return Progress(**{**values, "equity": float(values["equity"])})


def _queue_deadline_ns(operation: Operation) -> int | None:
    if operation.queue_timeout_s is None or operation.attempt:
        return None
    return operation.create_time_ns + int(operation.queue_timeout_s * _NS_PER_S)


def _counts_text(counts: TelemetryCounts) -> str:
    if counts == _NOTHING_COUNTED:
        return "{}"
    return json.dumps(
        {
            "trades": counts.trades,
            "notes": counts.notes,
            "last_steps": dict(counts.last_steps),
            "dropped_points": counts.dropped_points,
            "dropped_trades": counts.dropped_trades,
            "dropped_notes": counts.dropped_notes,
        }
    )


def _counts_from(text: str) -> TelemetryCounts:
    # Most of a list has none of the three below: to look costs less than to parse nothing.
    return _NOTHING_COUNTED if text == "{}" else TelemetryCounts(**json.loads(text))


def _failures_from(text: str) -> tuple[AttemptFailure, ...]:
    return () if text == "[]" else tuple(AttemptFailure(**one) for one in json.loads(text))


def _checkpoints_from(text: str) -> tuple[Checkpoint, ...]:
    return () if text == "[]" else tuple(map(_checkpoint_from, json.loads(text)))


def _failures_text(failures: tuple[AttemptFailure, ...]) -> str:
    return json.dumps([asdict(one) for one in failures]) if failures else "[]"


def _checkpoints_text(checkpoints: tuple[Checkpoint, ...]) -> str:
    return json.dumps([_checkpoint_json(one) for one in checkpoints]) if checkpoints else "[]"


def _checkpoint_json(checkpoint: Checkpoint) -> Values:
    return {
        "number": checkpoint.number,
        "uri": checkpoint.uri,
        "sha256": checkpoint.sha256.hex(),
        "size_bytes": checkpoint.size_bytes,
        "completed_units": checkpoint.completed_units,
        "format": checkpoint.format,
        "spec_sha256": checkpoint.spec_sha256.hex(),
        "attempt": checkpoint.attempt,
        "commit_time_ns": checkpoint.commit_time_ns,
    }


def _checkpoint_from(values: Mapping[str, Any]) -> Checkpoint:
    digests = {name: bytes.fromhex(values[name]) for name in ("sha256", "spec_sha256")}
    return Checkpoint(**{**values, **digests})


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
        case CheckpointCommitted():
            return {"type": "checkpoint", "checkpoint": _checkpoint_json(body.checkpoint)}, None


def _body_from(row: Row) -> EventBody:
    body, payload = json.loads(row["body"]), row["payload"]
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
            return MetricsAppended(packing.unpack(row["points"], row["first_index"]))
        case "trades":
            return TradesAppended(tuple(_unframed(payload or b"")))
        case "note":
            return Note(body["text"])
        case "deleted":
            return Deleted()
        case "checkpoint":
            return CheckpointCommitted(_checkpoint_from(body["checkpoint"]))
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


def _error_text(error: OperationError | None) -> str | None:
    return None if error is None else json.dumps(_error_json(error))


def _error_json(error: OperationError) -> Values:
    return {
        "reason": error.reason,
        "message": error.message,
        "metadata": dict(error.metadata),
        "code": error.code,
    }
