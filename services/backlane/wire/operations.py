"""Operations on the wire: the records of `backlane.operations` as messages, and back."""

from collections.abc import Mapping

from google.protobuf.any_pb2 import Any
from google.protobuf.message import Message

from backlane.api.operations.v1 import operation_pb2 as pb
from backlane.api.operations.v1 import operations_service_pb2 as service_pb
from backlane.api.portfolio.v1 import portfolio_pb2
from backlane.errors import (
    AttemptTimeoutError,
    CancelledRunError,
    NondeterministicReplayError,
    QueueTimeoutError,
    WorkerLostError,
)
from backlane.operations.events import (
    CheckpointCommitted,
    Deleted,
    EventBody,
    MetricPoint,
    MetricsAppended,
    Note,
    OperationEvent,
    StateChanged,
    TradesAppended,
)
from backlane.operations.operation import (
    AttemptFailure,
    Checkpoint,
    Operation,
    OperationError,
    Payload,
    Progress,
    State,
)
from backlane.operations.watching import Phase, WatchMessage
from backlane.wire.times import (
    duration_from_proto,
    optional_duration_to_proto,
    optional_timestamp_to_proto,
    timestamp_from_proto,
    timestamp_to_proto,
)

REGISTRY_ERROR_CODES: Mapping[str, int] = {
    CancelledRunError.reason: 1,
    QueueTimeoutError.reason: 4,
    AttemptTimeoutError.reason: 4,
    NondeterministicReplayError.reason: 13,
    WorkerLostError.reason: 14,
}
"""Status numbers of the causes that the registry decides itself, as in `rpc.error_catalog`."""

_STATES = {state: pb.Operation.State.Value(f"STATE_{state.value}") for state in State}
_NO_STATE = pb.Operation.STATE_UNSPECIFIED
_STATES_BACK = {number: state for state, number in _STATES.items()}
_PHASES = {
    phase: service_pb.WatchOperationsResponse.Phase.Value(f"PHASE_{phase.value}") for phase in Phase
}
_PHASES_BACK = {number: phase for phase, number in _PHASES.items()}


def state_to_proto(state: State) -> pb.Operation.State.ValueType:
    """Returns the number of a state."""
    return _STATES[state]


def state_from_proto(number: int) -> State | None:
    """Returns the state of a number; None for UNSPECIFIED, and for one that is newer than this."""
    return _STATES_BACK.get(pb.Operation.State.ValueType(number))


def payload_of(message: Message) -> Payload:
    """Returns a message as a spec or a result of an operation."""
    type_url = f"type.googleapis.com/{message.DESCRIPTOR.full_name}"
    return Payload(type_url, message.SerializeToString(deterministic=True))


def payload_to_proto(payload: Payload) -> Any:
    """Returns the Any that carries a payload."""
    return Any(type_url=payload.type_url, value=payload.value)


def payload_from_proto(message: Any) -> Payload:
    """Returns what an Any carries, unopened."""
    return Payload(message.type_url, message.value)


def error_to_proto(error: OperationError) -> pb.OperationError:
    """Returns the message for an error; causes of the registry get their status number here."""
    return pb.OperationError(
        reason=error.reason,
        message=error.message,
        code=error.code or REGISTRY_ERROR_CODES.get(error.reason, 0),
        metadata=error.metadata,
    )


def error_from_proto(message: pb.OperationError) -> OperationError:
    """Returns the error of a message."""
    return OperationError(message.reason, message.message, dict(message.metadata), message.code)


def progress_to_proto(progress: Progress) -> pb.Progress:
    """Returns the message for a report of progress."""
    return pb.Progress(
        version=progress.version,
        completed_units=progress.completed_units,
        total_units=progress.total_units,
        unit=progress.unit,
        phase=progress.phase,
        report_time=optional_timestamp_to_proto(progress.report_time_ns),
        simulated_time=optional_timestamp_to_proto(progress.simulated_time_ns),
        equity=progress.equity,
        trade_count=progress.trade_count,
    )


def progress_from_proto(message: pb.Progress) -> Progress:
    """Returns the report of a message."""
    return Progress(
        version=message.version,
        completed_units=message.completed_units,
        total_units=message.total_units,
        unit=message.unit,
        phase=message.phase,
        report_time_ns=_time_ns(message, "report_time"),
        simulated_time_ns=_time_ns(message, "simulated_time"),
        equity=message.equity,
        trade_count=message.trade_count,
    )


def checkpoint_to_proto(checkpoint: Checkpoint) -> pb.Checkpoint:
    """Returns the message for a checkpoint; without a time until it is committed."""
    return pb.Checkpoint(
        number=checkpoint.number,
        uri=checkpoint.uri,
        sha256=checkpoint.sha256,
        size_bytes=checkpoint.size_bytes,
        completed_units=checkpoint.completed_units,
        format=checkpoint.format,
        spec_sha256=checkpoint.spec_sha256,
        attempt=checkpoint.attempt,
        commit_time=optional_timestamp_to_proto(checkpoint.commit_time_ns or None),
    )


def checkpoint_from_proto(message: pb.Checkpoint) -> Checkpoint:
    """Returns the checkpoint of a message."""
    return Checkpoint(
        number=message.number,
        uri=message.uri,
        sha256=message.sha256,
        size_bytes=message.size_bytes,
        completed_units=message.completed_units,
        format=message.format,
        spec_sha256=message.spec_sha256,
        attempt=message.attempt,
        commit_time_ns=_time_ns(message, "commit_time") or 0,
    )


def failure_to_proto(failure: AttemptFailure) -> pb.AttemptFailure:
    """Returns the message for an attempt that ended badly."""
    return pb.AttemptFailure(
        attempt=failure.attempt,
        worker_id=failure.worker_id,
        reason=failure.reason,
        message=failure.message,
        failure_time=timestamp_to_proto(failure.time_ns),
    )


def failure_from_proto(message: pb.AttemptFailure) -> AttemptFailure:
    """Returns the attempt of a message."""
    return AttemptFailure(
        attempt=message.attempt,
        worker_id=message.worker_id,
        reason=message.reason,
        message=message.message,
        time_ns=timestamp_from_proto(message.failure_time),
    )


def operation_to_proto(operation: Operation) -> pb.Operation:
    """Returns the message for an operation; its lease is nobody's business but the holder's."""
    return pb.Operation(
        name=operation.name,
        uid=operation.uid,
        kind=operation.kind,
        state=_STATES[operation.state],
        progress=progress_to_proto(operation.progress) if operation.progress else None,
        result=payload_to_proto(operation.result) if operation.result else None,
        error=error_to_proto(operation.error) if operation.error else None,
        attempt=operation.attempt,
        max_attempts=operation.max_attempts,
        event_sequence=operation.event_sequence,
        metric_index=operation.metric_index,
        revision=operation.revision,
        labels=operation.labels,
        create_time=timestamp_to_proto(operation.create_time_ns),
        start_time=optional_timestamp_to_proto(operation.start_time_ns),
        end_time=optional_timestamp_to_proto(operation.end_time_ns),
        cancel_reason=operation.cancel_reason,
        spec=payload_to_proto(operation.spec),
        priority=operation.priority,
        client=operation.client,
        checkpoints=map(checkpoint_to_proto, operation.checkpoints),
        resumed_from=operation.resumed_from,
        failures=map(failure_to_proto, operation.failures),
        next_attempt_time=optional_timestamp_to_proto(operation.next_attempt_ns),
        queue_timeout=optional_duration_to_proto(operation.queue_timeout_s),
        attempt_timeout=optional_duration_to_proto(operation.attempt_timeout_s),
        expire_time=optional_timestamp_to_proto(operation.expire_time_ns),
    )


def operation_from_proto(message: pb.Operation) -> Operation:
    """Returns the operation of a message, as a client knows it: without epoch and lease."""
    return Operation(
        name=message.name,
        uid=message.uid,
        kind=message.kind,
        state=_STATES_BACK[message.state],
        spec=payload_from_proto(message.spec),
        create_time_ns=timestamp_from_proto(message.create_time),
        labels=dict(message.labels),
        max_attempts=message.max_attempts,
        attempt=message.attempt,
        event_sequence=message.event_sequence,
        metric_index=message.metric_index,
        revision=message.revision,
        start_time_ns=_time_ns(message, "start_time"),
        end_time_ns=_time_ns(message, "end_time"),
        cancel_reason=message.cancel_reason,
        priority=message.priority,
        client=message.client,
        checkpoints=tuple(map(checkpoint_from_proto, message.checkpoints)),
        resumed_from=message.resumed_from,
        failures=tuple(map(failure_from_proto, message.failures)),
        next_attempt_ns=_time_ns(message, "next_attempt_time"),
        queue_timeout_s=_duration_s(message, "queue_timeout"),
        attempt_timeout_s=_duration_s(message, "attempt_timeout"),
        expire_time_ns=_time_ns(message, "expire_time"),
        progress=progress_from_proto(message.progress) if message.HasField("progress") else None,
        result=payload_from_proto(message.result) if message.HasField("result") else None,
        error=error_from_proto(message.error) if message.HasField("error") else None,
    )


def point_to_proto(point: MetricPoint) -> pb.MetricPoint:
    """Returns the message for a metric point."""
    return pb.MetricPoint(
        index=point.index,
        series=point.series,
        step=point.step,
        time=optional_timestamp_to_proto(point.time_ns),
        value=point.value,
    )


def point_from_proto(message: pb.MetricPoint) -> MetricPoint:
    """Returns the metric point of a message."""
    return MetricPoint(
        series=message.series,
        step=message.step,
        value=message.value,
        time_ns=_time_ns(message, "time"),
        index=message.index,
    )


def event_to_proto(event: OperationEvent) -> pb.OperationEvent:
    """Returns the message for an event."""
    message = pb.OperationEvent(
        revision=event.revision,
        operation=event.operation,
        sequence=event.sequence,
        attempt=event.attempt,
        event_time=timestamp_to_proto(event.time_ns),
    )
    _put_body(message, event.body)
    return message


def event_from_proto(message: pb.OperationEvent) -> OperationEvent:
    """Returns the event of a message."""
    return OperationEvent(
        operation=message.operation,
        sequence=message.sequence,
        attempt=message.attempt,
        time_ns=timestamp_from_proto(message.event_time),
        body=_body_from_proto(message),
        revision=message.revision,
    )


def phase_to_proto(phase: Phase) -> service_pb.WatchOperationsResponse.Phase.ValueType:
    """Returns the number of a phase."""
    return _PHASES[phase]


def watch_message_to_proto(message: WatchMessage) -> service_pb.WatchOperationsResponse:
    """Returns the message for one message of a watch."""
    return service_pb.WatchOperationsResponse(
        phase=_PHASES[message.phase],
        from_revision=message.from_revision,
        through_revision=message.through_revision,
        resume_token=message.resume_token,
        events=[event_to_proto(event) for event in message.events],
        operations=[operation_to_proto(operation) for operation in message.operations],
        progress={name: progress_to_proto(one) for name, one in message.progress.items()},
        server_time=timestamp_to_proto(message.server_time_ns),
    )


def watch_message_from_proto(message: service_pb.WatchOperationsResponse) -> WatchMessage:
    """Returns one message of a watch."""
    return WatchMessage(
        phase=_PHASES_BACK[message.phase],
        from_revision=message.from_revision,
        through_revision=message.through_revision,
        resume_token=message.resume_token,
        server_time_ns=timestamp_from_proto(message.server_time),
        events=tuple(event_from_proto(event) for event in message.events),
        operations=tuple(operation_from_proto(operation) for operation in message.operations),
        progress={name: progress_from_proto(message.progress[name]) for name in message.progress},
    )


def _put_body(message: pb.OperationEvent, body: EventBody) -> None:
    match body:
        case StateChanged():
            message.state_changed.CopyFrom(
                pb.OperationEvent.StateChanged(
                    from_state=_STATES[body.from_state] if body.from_state else _NO_STATE,
                    to_state=_STATES[body.to_state],
                    reason=body.reason,
                    error=error_to_proto(body.error) if body.error else None,
                    result=payload_to_proto(body.result) if body.result else None,
                )
            )
        case MetricsAppended():
            message.metrics_appended.points.extend(map(point_to_proto, body.points))
        case TradesAppended():
            trades = map(portfolio_pb2.Trade.FromString, body.trades)
            message.trades_appended.trades.extend(trades)
        case Note():
            message.note.text = body.text
        case Deleted():
            message.deleted.SetInParent()
        case CheckpointCommitted():
            message.checkpoint_committed.CopyFrom(checkpoint_to_proto(body.checkpoint))


def _body_from_proto(message: pb.OperationEvent) -> EventBody:
    kind = message.WhichOneof("kind")
    if kind == "state_changed":
        changed = message.state_changed
        return StateChanged(
            from_state=state_from_proto(changed.from_state),
            to_state=_STATES_BACK[changed.to_state],
            reason=changed.reason,
            error=error_from_proto(changed.error) if changed.HasField("error") else None,
            result=payload_from_proto(changed.result) if changed.HasField("result") else None,
        )
    if kind == "metrics_appended":
        return MetricsAppended(tuple(map(point_from_proto, message.metrics_appended.points)))
    if kind == "trades_appended":
        trades = message.trades_appended.trades
        return TradesAppended(tuple(trade.SerializeToString() for trade in trades))
    if kind == "note":
        return Note(message.note.text)
    if kind == "deleted":
        return Deleted()
    if kind == "checkpoint_committed":
        return CheckpointCommitted(checkpoint_from_proto(message.checkpoint_committed))
    raise ValueError(f"event {message.revision} of {message.operation} has a kind newer than this")


def _time_ns(message: Message, field: str) -> int | None:
    return timestamp_from_proto(getattr(message, field)) if message.HasField(field) else None


def _duration_s(message: Message, field: str) -> float | None:
    return duration_from_proto(getattr(message, field)) if message.HasField(field) else None
