"""What a run reports while it runs: metric points, trades and notes into the log, and progress."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from backlane.errors import BatchOutOfOrderError
from backlane.operations.commands import TelemetryBatch
from backlane.operations.events import EventBody, MetricPoint, MetricsAppended, Note, TradesAppended
from backlane.operations.lease import Instant, Lease
from backlane.operations.limits import (
    METRIC_POINTS_PER_OPERATION_MAX,
    NOTES_PER_OPERATION_MAX,
    POINTS_PER_EVENT_MAX,
    TRADES_PER_EVENT_MAX,
    TRADES_PER_OPERATION_MAX,
)
from backlane.operations.operation import Operation, Progress
from backlane.operations.transitions import Change, fence, logged

_T = TypeVar("_T")


def append(operation: Operation, epoch: int, batch: TelemetryBatch, now: Instant) -> Change:
    """Adds a batch to the log; a batch that was already added changes nothing but progress.

    Raises:
        LeaseLostError: the lease is not the operation's newest, or its time ran out.
        BatchOutOfOrderError: a batch before this one is missing; metadata holds `expected`.

    """
    lease = fence(operation, epoch, now)
    reported = _with_progress(operation, batch.progress)
    if batch.batch_number <= lease.batch_number:
        return Change(reported)
    _check_order(lease, batch.batch_number)
    points = _kept_points(operation, batch.points)
    trades, notes = _kept_trades(operation, batch.trades), _kept_notes(operation, batch.notes)
    dropped = replace(
        operation.counts,
        dropped_points=operation.counts.dropped_points + len(batch.points) - len(points),
        dropped_trades=operation.counts.dropped_trades + len(batch.trades) - len(trades),
        dropped_notes=operation.counts.dropped_notes + len(batch.notes) - len(notes),
        trades=operation.counts.trades + len(trades),
        notes=operation.counts.notes + len(notes),
    )
    grown = replace(
        reported,
        lease=replace(lease, batch_number=batch.batch_number),
        metric_index=operation.metric_index + len(points),
        counts=dropped,
    )
    bodies: list[EventBody] = [
        *(MetricsAppended(part) for part in _parts(points, POINTS_PER_EVENT_MAX)),
        *(TradesAppended(part) for part in _parts(trades, TRADES_PER_EVENT_MAX)),
        *(Note(text) for text in notes),
        *(Note(text) for text in _first_drops(operation, grown)),
    ]
    return logged(grown, bodies, now)


def _check_order(lease: Lease, batch_number: int) -> None:
    expected = lease.batch_number + 1
    if batch_number != expected:
        raise BatchOutOfOrderError(
            f"Batch {batch_number} of {lease.operation} came before batch {expected}. "
            f"Send batch {expected} first.",
            metadata={
                "operation": lease.operation,
                "batch_number": str(batch_number),
                "expected": str(expected),
            },
        )


def _with_progress(operation: Operation, progress: Progress | None) -> Operation:
    known = operation.progress
    if progress is None or (known is not None and progress.version <= known.version):
        return operation
    return replace(operation, progress=progress)


def _kept_points(operation: Operation, points: tuple[MetricPoint, ...]) -> tuple[MetricPoint, ...]:
    room = METRIC_POINTS_PER_OPERATION_MAX - operation.metric_index
    first = operation.metric_index + 1
    return tuple(replace(point, index=first + i) for i, point in enumerate(points[:room]))


def _kept_trades(operation: Operation, trades: tuple[bytes, ...]) -> tuple[bytes, ...]:
    return trades[: TRADES_PER_OPERATION_MAX - operation.counts.trades]


def _kept_notes(operation: Operation, notes: tuple[str, ...]) -> tuple[str, ...]:
    return notes[: NOTES_PER_OPERATION_MAX - operation.counts.notes]


@dataclass(frozen=True, slots=True)
class _Drop:
    was: int
    now: int
    text: str


def _first_drops(before: Operation, after: Operation) -> Iterator[str]:
    """Yields one line for each kind of telemetry that meets its limit for the first time."""
    drops = (
        _Drop(
            before.counts.dropped_points,
            after.counts.dropped_points,
            f"The limit of {METRIC_POINTS_PER_OPERATION_MAX} metric points is reached: "
            "later points are dropped.",
        ),
        _Drop(
            before.counts.dropped_trades,
            after.counts.dropped_trades,
            f"The limit of {TRADES_PER_OPERATION_MAX} trades in the stream is reached: "
            "the full list is in the result.",
        ),
        _Drop(
            before.counts.dropped_notes,
            after.counts.dropped_notes,
            f"The limit of {NOTES_PER_OPERATION_MAX} notes is reached: later notes are dropped.",
        ),
    )
    return (drop.text for drop in drops if drop.was == 0 < drop.now)


def _parts(items: Sequence[_T], size: int) -> Iterator[tuple[_T, ...]]:
    return (tuple(items[i : i + size]) for i in range(0, len(items), size))
