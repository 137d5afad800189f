"""The durable facts about an operation: what the log holds and a watch delivers."""

from dataclasses import dataclass

from backlane.operations.operation import Checkpoint, OperationError, Payload, State

EVENT_OVERHEAD_BYTES = 96
"""Estimated bytes that any event needs on the wire beside its content."""

CHECKPOINT_BYTES = 160
"""Estimated bytes of a checkpoint's record on the wire, beside its URI."""

POINT_BYTES = 40
"""Estimated bytes of a metric point on the wire, beside the name of its series."""


@dataclass(frozen=True, slots=True)
class MetricPoint:
    """One value of a series. `index` counts 1, 2, 3, ... within the operation; 0 until it is set.

    `step` is the position within the series, such as the bar number; `value` is never rounded.
    """

    series: str
    step: int
    value: float
    time_ns: int | None = None
    index: int = 0


@dataclass(frozen=True, slots=True)
class StateChanged:
    """The state moved; `from_state` is None for the first event.

    `reason` is UPPER_SNAKE_CASE. `error` comes with FAILED and CANCELLED, and with QUEUED after an
    attempt that ended badly; `result` comes with SUCCEEDED.
    """

    from_state: State | None
    to_state: State
    reason: str
    error: OperationError | None = None
    result: Payload | None = None


@dataclass(frozen=True, slots=True)
class MetricsAppended:
    """Metric points were appended, in index order."""

    points: tuple[MetricPoint, ...]


@dataclass(frozen=True, slots=True)
class TradesAppended:
    """Trades were closed; each is a serialized backlane.api.portfolio.v1.Trade."""

    trades: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Note:
    """A line for people."""

    text: str


@dataclass(frozen=True, slots=True)
class Deleted:
    """The record was deleted; nothing follows."""


@dataclass(frozen=True, slots=True)
class CheckpointCommitted:
    """From now on a next attempt begins here."""

    checkpoint: Checkpoint


EventBody = StateChanged | MetricsAppended | TradesAppended | Note | Deleted | CheckpointCommitted


@dataclass(frozen=True, slots=True)
class OperationEvent:
    """One entry of the log.

    `sequence` counts 1, 2, 3, ... within the operation. `revision` counts 1, 2, 3, ... within the
    registry in the order of commit; it is 0 until a store has given it. `attempt` is 0 before the
    first. `time_ns` is the registry's wall clock.
    """

    operation: str
    sequence: int
    attempt: int
    time_ns: int
    body: EventBody
    revision: int = 0


def wire_bytes(event: OperationEvent) -> int:
    """Returns about how many bytes the event takes in a message; never much too few."""
    body = event.body
    size = EVENT_OVERHEAD_BYTES + len(event.operation)
    if isinstance(body, StateChanged):
        if body.result is not None:
            size += len(body.result.value) + len(body.result.type_url)
        if body.error is not None:
            size += 4 * len(body.error.message)
            size += sum(4 * (len(key) + len(value)) for key, value in body.error.metadata.items())
    elif isinstance(body, MetricsAppended):
        size += sum(POINT_BYTES + len(point.series) for point in body.points)
    elif isinstance(body, TradesAppended):
        size += sum(4 + len(trade) for trade in body.trades)
    elif isinstance(body, Note):
        size += 4 * len(body.text)
    elif isinstance(body, CheckpointCommitted):
        size += CHECKPOINT_BYTES + 4 * len(body.checkpoint.uri)
    return size
