"""What a run reports: order, limits and what is said when one is reached."""

from dataclasses import replace

import pytest

from backlane.errors import BatchOutOfOrderError
from backlane.operations import telemetry
from backlane.operations.commands import TelemetryBatch
from backlane.operations.events import MetricPoint, MetricsAppended, Note, TradesAppended
from backlane.operations.limits import (
    METRIC_POINTS_PER_OPERATION_MAX,
    NOTES_PER_OPERATION_MAX,
    TRADES_PER_OPERATION_MAX,
)
from backlane.operations.operation import Operation, Progress, TelemetryCounts
from tests.unit.operations.test_transitions import at, held


def points(count: int) -> tuple[MetricPoint, ...]:
    return tuple(MetricPoint("equity", step, float(step)) for step in range(count))


def append(operation: Operation, batch: TelemetryBatch) -> telemetry.Change:
    return telemetry.append(operation, 1, batch, at(2))


def test_points_are_numbered_on_from_the_last_one() -> None:
    grown = append(held(), TelemetryBatch(1, points(2))).operation
    change = append(grown, TelemetryBatch(2, points(3)))
    (event,) = change.events
    assert isinstance(event.body, MetricsAppended)
    assert [point.index for point in event.body.points] == [3, 4, 5]
    assert change.operation.metric_index == 5


def test_a_batch_that_was_applied_changes_nothing_but_newer_progress() -> None:
    grown = append(held(), TelemetryBatch(1, points(2))).operation
    assert append(grown, TelemetryBatch(1, points(2))) == telemetry.Change(grown)
    change = append(grown, TelemetryBatch(1, points(2), progress=Progress(7)))
    assert change.events == ()
    assert change.operation == replace(grown, progress=Progress(7))


def test_a_batch_that_comes_too_early_says_which_one_is_expected() -> None:
    grown = append(held(), TelemetryBatch(1, points(1))).operation
    with pytest.raises(BatchOutOfOrderError) as raised:
        append(grown, TelemetryBatch(3, points(1)))
    assert raised.value.metadata["expected"] == "2"


def test_progress_alone_needs_no_number_and_older_progress_is_ignored() -> None:
    reported = append(held(), TelemetryBatch(0, progress=Progress(5, 50))).operation
    assert reported.progress == Progress(5, 50)
    assert append(reported, TelemetryBatch(0, progress=Progress(4, 40))).operation == reported
    assert append(reported, TelemetryBatch(0, progress=Progress(5, 51))).operation == reported


def test_a_large_batch_becomes_events_that_fit_a_page() -> None:
    """2,001 points at 1,000 an event are 3 events; 501 trades at 500 are 2."""
    batch = TelemetryBatch(1, points(2_001), tuple(b"t" for _ in range(501)), ("a", "b"))
    change = append(held(), batch)
    bodies = [event.body for event in change.events]
    sizes = [len(body.points) for body in bodies if isinstance(body, MetricsAppended)]
    assert sizes == [1_000, 1_000, 1]
    assert [len(b.trades) for b in bodies if isinstance(b, TradesAppended)] == [500, 1]
    assert bodies[5:] == [Note("a"), Note("b")]
    assert [event.sequence for event in change.events] == [3, 4, 5, 6, 7, 8, 9]


@pytest.mark.parametrize(
    ("full", "more", "said"),
    [
        (
            {"counts": TelemetryCounts(trades=TRADES_PER_OPERATION_MAX - 1)},
            {"trades": (b"1", b"2")},
            "limit of 10000 trades",
        ),
        (
            {"metric_index": METRIC_POINTS_PER_OPERATION_MAX - 1},
            {"points": points(2)},
            "limit of 100000 metric points",
        ),
        (
            {"counts": TelemetryCounts(notes=NOTES_PER_OPERATION_MAX - 1)},
            {"notes": ("1", "2")},
            "limit of 1000 notes",
        ),
    ],
    ids=["trades", "points", "notes"],
)
def test_beyond_a_limit_one_note_says_so_and_the_rest_is_dropped(
    full: dict[str, object], more: dict[str, object], said: str
) -> None:
    """One more fits, the other does not."""
    nearly = replace(held(), **full)  # type: ignore[arg-type]
    change = append(nearly, TelemetryBatch(1, **more))  # type: ignore[arg-type]
    assert len(change.events) == 2
    assert isinstance(change.events[1].body, Note)
    assert said in change.events[1].body.text
    again = append(change.operation, TelemetryBatch(2, **more))  # type: ignore[arg-type]
    assert again.events == ()
    counts = again.operation.counts
    assert counts.dropped_points + counts.dropped_trades + counts.dropped_notes == 3
