"""What a run reports while it runs: metric points, trades and notes into the log, and progress.

An attempt that begins from a checkpoint reports what it goes over again. The log keeps one copy:
points are known by series and step, which grows within a series; trades by their number. A point
that comes again with other bits proves that the run is not deterministic, and ends it.
"""

import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from backlane.errors import BatchOutOfOrderError, NondeterministicReplayError
from backlane.operations.commands import TelemetryBatch
from backlane.operations.events import EventBody, MetricPoint, MetricsAppended, Note, TradesAppended
from backlane.operations.lease import Instant, Lease
from backlane.operations.limits import (
    METRIC_POINTS_PER_OPERATION_MAX,
    NOTES_PER_OPERATION_MAX,
    POINTS_PER_EVENT_MAX,
    SERIES_PER_OPERATION_MAX,
    TRADES_PER_EVENT_MAX,
    TRADES_PER_OPERATION_MAX,
)
from backlane.operations.operation import Operation, OperationError, Progress
from backlane.operations.records import replace
from backlane.operations.transitions import Change, fail, fence, logged

_T = TypeVar("_T")

PointKey = tuple[str, int]
"""Series and step: what a point is known by within its operation."""


def replayed_points(operation: Operation, batch: TelemetryBatch) -> tuple[PointKey, ...]:
    """Returns which points of the batch lie at or before the last step of their series."""
    last = operation.counts.last_steps
    return tuple(
        (point.series, point.step)
        for point in batch.points
        if point.series in last and point.step <= last[point.series]
    )


def append(
    operation: Operation,
    epoch: int,
    batch: TelemetryBatch,
    now: Instant,
    recorded: Mapping[PointKey, float],
) -> Change:
    """Adds a batch to the log; a batch that was already added changes nothing but progress.

    `recorded` holds the values of those `replayed_points` that the log has. Where one of them
    differs from the batch, the operation ends as FAILED with NONDETERMINISTIC_REPLAY.

    Raises:
        LeaseLostError: the lease is not the operation's newest, or its time ran out.
        BatchOutOfOrderError: a batch before this one is missing; metadata holds `expected`.

    """
    lease = fence(operation, epoch, now)
    reported = _with_progress(operation, batch.progress)
    if batch.batch_number <= lease.batch_number:
        return Change(reported)
    _check_order(lease, batch.batch_number)
    differing = next(_differing(batch.points, recorded), None)
    if differing is not None:
        return fail(reported, _nondeterministic(operation, differing, recorded), now)
    news = _news(operation, batch)
    points, steps, dropped_points = _kept_points(operation, news.points)
    trades, notes = _kept_trades(operation, news.trades), _kept_notes(operation, batch.notes)
    counts = replace(
        operation.counts,
        dropped_points=operation.counts.dropped_points + dropped_points,
        dropped_trades=operation.counts.dropped_trades + len(news.trades) - len(trades),
        dropped_notes=operation.counts.dropped_notes + len(batch.notes) - len(notes),
        trades=operation.counts.trades + len(trades),
        notes=operation.counts.notes + len(notes),
        last_steps=steps,
    )
    grown = replace(
        reported,
        lease=replace(lease, batch_number=batch.batch_number),
        metric_index=operation.metric_index + len(points),
        counts=counts,
    )
    bodies: list[EventBody] = [
        *(MetricsAppended(part) for part in _parts(points, POINTS_PER_EVENT_MAX)),
        *(TradesAppended(part) for part in _parts(trades, TRADES_PER_EVENT_MAX)),
        *(Note(text) for text in notes),
        *(Note(text) for text in _first_drops(operation, grown)),
    ]
    return logged(grown, bodies, now)


def _news(operation: Operation, batch: TelemetryBatch) -> TelemetryBatch:
    """Returns the batch without what an earlier attempt has reported already."""
    replayed = set(replayed_points(operation, batch))
    known = max(0, operation.counts.trades + 1 - batch.first_trade)
    if not replayed and not (known and batch.trades):
        return batch
    points = tuple(one for one in batch.points if (one.series, one.step) not in replayed)
    return replace(batch, points=points, trades=batch.trades[known:])


def _differing(
    points: tuple[MetricPoint, ...], recorded: Mapping[PointKey, float]
) -> Iterator[MetricPoint]:
    for point in points:
        known = recorded.get((point.series, point.step))
        # Bits, not values: NaN equals itself here, and 0.0 is not -0.0.
        if known is not None and struct.pack("<d", known) != struct.pack("<d", point.value):
            yield point


def _nondeterministic(
    operation: Operation, point: MetricPoint, recorded: Mapping[PointKey, float]
) -> OperationError:
    known = recorded[(point.series, point.step)]
    return OperationError(
        reason=NondeterministicReplayError.reason,
        message=(
            f"Attempt {operation.attempt} got {point.value!r} for {point.series} at step "
            f"{point.step}, where an earlier attempt got {known!r}. The same run must always give "
            "the same bits: report it, with the request."
        ),
        metadata={
            "series": point.series,
            "step": str(point.step),
            "value": repr(point.value),
            "recorded_value": repr(known),
        },
    )


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


def _kept_points(
    operation: Operation, points: tuple[MetricPoint, ...]
) -> tuple[tuple[MetricPoint, ...], Mapping[str, int], int]:
    """Returns the points that there is room for, numbered; each series' last step; the excess."""
    steps = dict(operation.counts.last_steps)
    kept: list[MetricPoint] = []
    room = METRIC_POINTS_PER_OPERATION_MAX - operation.metric_index
    dropped = 0
    for point in points:
        is_new_series = point.series not in steps
        if not is_new_series and point.step <= steps[point.series]:
            continue  # steps grow within a series: this one repeats, and no limit is met
        if len(kept) >= room or (is_new_series and len(steps) >= SERIES_PER_OPERATION_MAX):
            dropped += 1
            continue
        steps[point.series] = point.step
        index = operation.metric_index + len(kept) + 1
        # Half the time of replace(), and there are thousands of points in a batch.
        kept.append(MetricPoint(point.series, point.step, point.value, point.time_ns, index))
    return tuple(kept), steps, dropped


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
    """Returns one line for each kind of telemetry that meets its limit for the first time."""
    counts = after.counts
    if not (counts.dropped_points or counts.dropped_trades or counts.dropped_notes):
        return iter(())  # nearly always, and the texts below are not free
    drops = (
        _Drop(
            before.counts.dropped_points,
            after.counts.dropped_points,
            f"The limit of {METRIC_POINTS_PER_OPERATION_MAX} metric points, or of "
            f"{SERIES_PER_OPERATION_MAX} series, is reached: points beyond it are dropped.",
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
