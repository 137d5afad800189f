"""What a run reports: order, limits and what is said when one is reached."""

import math
from dataclasses import replace

import pytest

from backlane.errors import BatchOutOfOrderError, LeaseLostError
from backlane.operations import telemetry, transitions
from backlane.operations.commands import TelemetryBatch
from backlane.operations.events import (
    MetricPoint,
    MetricsAppended,
    Note,
    StateChanged,
    TradesAppended,
)
from backlane.operations.limits import (
    METRIC_POINTS_PER_OPERATION_MAX,
    NOTES_PER_OPERATION_MAX,
    SERIES_PER_OPERATION_MAX,
    TRADES_PER_OPERATION_MAX,
)
from backlane.operations.operation import Operation, Progress, State, TelemetryCounts
from tests.unit.operations.test_transitions import CLAIM, RESULT, TERMS, at, cancelling, held


def points(end: int, start: int = 0) -> tuple[MetricPoint, ...]:
    return tuple(MetricPoint("equity", step, float(step)) for step in range(start, end))


def append(operation: Operation, batch: TelemetryBatch) -> telemetry.Change:
    return telemetry.append(operation, 1, batch, at(2), {})


def test_points_are_numbered_on_from_the_last_one() -> None:
    grown = append(held(), TelemetryBatch(1, points(2))).operation
    change = append(grown, TelemetryBatch(2, points(5, 2)))
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
    batch = TelemetryBatch(1, points(2_001), tuple(b"t" for _ in range(501)), 1, ("a", "b"))
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
            {"trades": (b"1", b"2"), "first_trade": TRADES_PER_OPERATION_MAX},
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
        (
            {"counts": TelemetryCounts(last_steps={str(n): 1 for n in range(63)})},
            {"points": (MetricPoint("a", 1, 0.0), MetricPoint("b", 1, 0.0))},
            "or of 64 series",
        ),
    ],
    ids=["trades", "points", "notes", "series"],
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
    counts = change.operation.counts
    assert counts.dropped_points + counts.dropped_trades + counts.dropped_notes == 1
    assert SERIES_PER_OPERATION_MAX == 64
    later = {**more, "first_trade": TRADES_PER_OPERATION_MAX + 2}
    if "points" in more:
        later["points"] = tuple(MetricPoint("new", step, 0.0) for step in (8, 9))
    again = append(change.operation, TelemetryBatch(2, **later))  # type: ignore[arg-type]
    assert again.events == ()
    counts = again.operation.counts
    assert counts.dropped_points + counts.dropped_trades + counts.dropped_notes == 3


def test_a_step_that_does_not_grow_is_a_repeat_and_meets_no_limit() -> None:
    """Three points, the middle one at a step that was there: two are kept, none is excess."""
    batch = tuple(MetricPoint("equity", step, float(step)) for step in (1, 1, 2))
    change = append(held(), TelemetryBatch(1, batch))
    (event,) = change.events
    assert isinstance(event.body, MetricsAppended)
    assert [(point.step, point.index) for point in event.body.points] == [(1, 1), (2, 2)]
    assert change.operation.counts == TelemetryCounts(last_steps={"equity": 2})


@pytest.mark.parametrize("batch_number", [0, 1, 2], ids=["progress", "again", "next"])
@pytest.mark.parametrize(("epoch", "seconds"), [(0, 3), (2, 3), (1, 16)])
def test_only_the_holder_reports(batch_number: int, epoch: int, seconds: float) -> None:
    grown = append(held(), TelemetryBatch(1, points(2))).operation
    batch = TelemetryBatch(batch_number, progress=Progress(9))
    with pytest.raises(LeaseLostError):
        telemetry.append(grown, epoch, batch, at(seconds), {})
    done = transitions.complete(grown, 1, transitions.Succeeded(RESULT), at(3)).operation
    with pytest.raises(LeaseLostError):
        telemetry.append(done, 1, batch, at(3), {})


def test_a_worker_that_is_told_to_stop_may_still_report() -> None:
    change = append(cancelling(), TelemetryBatch(1, points(1)))
    assert (change.operation.state, change.operation.metric_index) == (State.CANCELLING, 1)


def second_attempt(*batches: TelemetryBatch) -> Operation:
    """Holds the lease of epoch 2, after an attempt that reported the batches and was lost."""
    operation = held(max_attempts=2)
    for batch in batches:
        operation = append(operation, batch).operation
    waiting = transitions.expire(operation, TERMS, at(16)).operation
    return transitions.grant(waiting, CLAIM, TERMS, at(20)).operation


RECORDED = {("equity", step): float(step) for step in range(3)}


def test_a_replay_is_acknowledged_and_kept_once() -> None:
    """Steps 0 to 2 were there, 3 and 4 are news: they get the indices 4 and 5."""
    again = second_attempt(TelemetryBatch(1, points(3), (b"1", b"2"), first_trade=1))
    batch = TelemetryBatch(1, points(5), (b"1", b"2", b"3"), first_trade=1)
    assert telemetry.replayed_points(again, batch) == tuple(RECORDED)
    change = telemetry.append(again, 2, batch, at(21), RECORDED)
    metrics, trades = (event.body for event in change.events)
    assert isinstance(metrics, MetricsAppended)
    assert isinstance(trades, TradesAppended)
    assert [(point.step, point.index) for point in metrics.points] == [(3, 4), (4, 5)]
    assert trades.trades == (b"3",)
    counts = change.operation.counts
    assert (change.operation.metric_index, counts.trades, counts.dropped_points) == (5, 3, 0)


def test_a_replay_of_nothing_new_leaves_no_event_and_moves_the_batch_number_on() -> None:
    again = second_attempt(TelemetryBatch(1, points(3), (b"1", b"2")))
    change = telemetry.append(again, 2, TelemetryBatch(1, points(2), (b"1",)), at(21), RECORDED)
    assert change.events == ()
    assert change.operation.lease is not None
    assert change.operation.lease.batch_number == 1
    rest = TelemetryBatch(2, points(4, 2), (b"2", b"3"), first_trade=2)
    change = telemetry.append(change.operation, 2, rest, at(21), RECORDED)
    assert (change.operation.metric_index, change.operation.counts.trades) == (4, 3)


def test_a_replay_with_other_bits_ends_the_operation() -> None:
    again = second_attempt(TelemetryBatch(1, points(3)))
    twisted = (*points(3)[:2], MetricPoint("equity", 2, 2.0000000000000004))
    change = telemetry.append(again, 2, TelemetryBatch(1, twisted), at(21), RECORDED)
    failed = change.operation
    (event,) = change.events
    assert isinstance(event.body, StateChanged)
    assert (event.body.to_state, event.body.reason) == (State.FAILED, "NONDETERMINISTIC_REPLAY")
    assert (failed.state, failed.lease, failed.failure_count) == (State.FAILED, None, 2)
    assert failed.metric_index == 3
    assert failed.error is not None
    assert failed.error.metadata == {
        "series": "equity",
        "step": "2",
        "value": "2.0000000000000004",
        "recorded_value": "2.0",
    }


@pytest.mark.parametrize(
    ("known", "value", "is_same"),
    [(math.nan, math.nan, True), (0.0, -0.0, False), (math.inf, math.inf, True)],
    ids=["nan", "zeros", "inf"],
)
def test_a_replay_is_compared_by_bits(known: float, value: float, is_same: bool) -> None:
    """NaN is the same as itself here, and 0.0 is not -0.0."""
    again = second_attempt(TelemetryBatch(1, (MetricPoint("x", 1, known),)))
    batch = TelemetryBatch(1, (MetricPoint("x", 1, value),))
    change = telemetry.append(again, 2, batch, at(21), {("x", 1): known})
    assert (change.operation.state is State.RUNNING) == is_same


def test_a_batch_that_came_before_is_not_compared() -> None:
    """It is a copy of one that was applied, whatever it says."""
    grown = append(held(), TelemetryBatch(1, points(3))).operation
    twisted = TelemetryBatch(1, (MetricPoint("equity", 0, 99.0),))
    assert telemetry.append(grown, 1, twisted, at(2), RECORDED) == transitions.Change(grown)
