"""The checker finds what it is for: by hand-made messages, and by systems that are wrong.

Each mutant is a registry with one defect that a real one had, or could have. The simulation with
it must end in problems; without, in none.
"""

from dataclasses import replace
from typing import Any

import pytest

from backlane.errors import StoreUnavailableError
from backlane.operations import telemetry, transitions
from backlane.operations.commands import NewOperation, TelemetryBatch
from backlane.operations.events import (
    CheckpointCommitted,
    Deleted,
    MetricPoint,
    MetricsAppended,
    Note,
    OperationEvent,
    StateChanged,
    TradesAppended,
)
from backlane.operations.operation import Checkpoint, Operation, Payload, State
from backlane.operations.watching import Phase, WatchMessage
from tests.proofs.checker import Ledger, Problems, Seen, WatchChecker, told
from tests.proofs.episodes import Episode
from tests.proofs.mutants import MUTANTS
from tests.proofs.simulation import Faults, Registry

NAME = "operations/1"
Q, R, S = State.QUEUED, State.RUNNING, State.SUCCEEDED
RESULT = Payload("r", b"")
STORY: tuple[object, ...] = (
    StateChanged(None, Q, "CREATED"),
    StateChanged(Q, R, "LEASE_GRANTED"),
    MetricsAppended((MetricPoint("x", 1, 0.5, None, 1), MetricPoint("x", 2, 0.5, None, 2))),
    TradesAppended((b"trade 1",)),
    Note("hello"),
    CheckpointCommitted(Checkpoint(1, "u", b"1" * 32, 1, 1, "f", b"s" * 32)),
    StateChanged(R, S, "COMPLETED", result=RESULT),
    Deleted(),
)
"""Eight events of one operation, at the revisions 1 to 8."""


def event(number: int, **fields: Any) -> OperationEvent:
    made = OperationEvent(NAME, number, 1, 0, STORY[number - 1], number)  # type: ignore[arg-type]
    return replace(made, **fields)


def live(start: int, end: int, *events: OperationEvent) -> WatchMessage:
    shown = events or tuple(event(number) for number in range(start + 1, end + 1))
    return WatchMessage(Phase.LIVE, start, end, f"token {end}", 0, shown)


def problems_of(*messages: WatchMessage) -> list[str]:
    checker = WatchChecker("w")
    checker.connected(with_token=False)
    checker.revision = 0
    for message in messages:
        checker.accept(message)
    return checker.problems.told


def test_a_whole_story_is_right_in_any_parts() -> None:
    for cut in range(9):
        assert problems_of(live(0, cut) if cut else live(0, 0), live(cut, 8)) == []
    checker = WatchChecker("w")
    checker.connected(with_token=False)
    checker.revision = 0
    checker.accept(live(0, 5))
    checker.connected(with_token=True)
    checker.accept(live(5, 8))
    assert not checker.problems
    assert (checker.revision, checker.token, checker.deliveries) == (8, "token 8", 8)
    assert checker.operations[NAME].trades == [b"trade 1"]


@pytest.mark.parametrize(
    ("messages", "expected"),
    [
        ([live(0, 2), live(3, 5)], "it does not follow revision 2"),
        ([live(0, 3), live(2, 5)], "it does not follow revision 3"),
        ([live(0, 2), live(2, 4, event(3))], "1 events are missing"),
        ([live(0, 2, event(2), event(1))], "out of order"),
        ([live(0, 2, event(1), event(3))], "an event outside of it"),
        ([live(0, 2, event(1), event(2, sequence=3))], "it does not follow 1"),
        ([live(0, 1), live(1, 2, event(2, sequence=1))], "it does not follow 1"),
        ([live(0, 1), live(1, 2, event(2, body=STORY[6]))], "it leaves RUNNING, but it was QUEUED"),
        (
            [live(0, 1), live(1, 2, event(2, body=StateChanged(Q, S, "X", result=RESULT)))],
            "no such move",
        ),
        ([live(0, 7), live(7, 8, event(8, body=Note("late")))], "it follows the end"),
        ([live(0, 2), live(2, 3, event(3, body=Deleted()))], "a delete before the end"),
        (
            [live(0, 3), live(3, 4, event(4, body=STORY[2]))],
            "point 1 follows 2",
        ),
        (
            [live(0, 6), live(6, 7, event(7, body=StateChanged(R, S, "COMPLETED")))],
            "result and state do not fit",
        ),
        ([live(0, 4), live(4, 5, event(5, body=STORY[3]))], "a trade comes again"),
        ([live(0, 2), replace(live(2, 3), phase=Phase.SNAPSHOT)], "a snapshot in the middle"),
        ([live(0, 2), replace(live(2, 3), phase=Phase.SYNCED)], "a second beginning"),
        ([replace(live(0, 2), phase=Phase.DRAINING), live(2, 3)], "after the last one"),
        ([replace(live(0, 2), resume_token="")], "no token"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_each_breach_is_told(messages: list[WatchMessage], expected: str) -> None:
    assert expected in "\n".join(problems_of(*messages))


def test_a_snapshot_is_a_beginning_and_events_go_on_from_it() -> None:
    held = Operation(NAME, "u", "k", R, RESULT, 0, event_sequence=2, metric_index=0)
    checker = WatchChecker("w")
    checker.connected(with_token=False)
    checker.accept(WatchMessage(Phase.SNAPSHOT, 0, 0, "", 0, operations=(held,)))
    checker.accept(WatchMessage(Phase.SYNCED, 2, 2, "token 2", 0))
    checker.accept(live(2, 8))
    assert checker.problems.told == []
    late = WatchChecker("w")
    late.connected(with_token=False)
    late.accept(WatchMessage(Phase.SNAPSHOT, 0, 0, "", 0, operations=(held,)))
    late.accept(WatchMessage(Phase.SYNCED, 3, 3, "token 3", 0))
    late.accept(live(3, 4))
    assert "it does not follow 2" in late.problems.told[0]


def test_a_filtered_watch_may_pass_over_events_and_repeat_none() -> None:
    checker = WatchChecker("w", is_filtered=True)
    checker.connected(with_token=False)
    checker.accept(live(0, 4, event(2), event(4)))
    checker.accept(live(4, 8, event(7)))
    assert not checker.problems
    checker.accept(live(8, 9, event(7, revision=9)))
    assert "it comes again" in checker.problems.told[0]


BATCH = TelemetryBatch(
    1, (MetricPoint("x", 1, 0.5), MetricPoint("x", 2, 0.5)), (b"trade 1",), 1, ("hello",)
)


def ledger() -> Ledger:
    kept = Ledger()
    kept.created("request", NAME)
    kept.created("request", NAME)
    kept.appended(NAME, BATCH)
    kept.committed(NAME, 1, b"1" * 32)
    kept.completed(NAME, S)
    kept.deleted(NAME)
    return kept


def seen() -> dict[str, Seen]:
    checker = WatchChecker("w")
    checker.revision = 0
    checker.accept(live(0, 8))
    return checker.operations


def test_a_log_with_all_that_was_acknowledged_keeps_every_promise() -> None:
    assert not ledger().problems_in(seen())
    assert ledger().acknowledged == 6


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"steps": {("x", 1): 0.5}}, "point ('x', 2) is None"),
        ({"steps": {("x", 1): 0.5, ("x", 2): -0.5}}, "point ('x', 2) is -0.5"),
        ({"trades": []}, "trade 1 is lost"),
        ({"notes": []}, "note 'hello' is lost"),
        ({"notes": ["hello", "hello"]}, "note 'hello' is there 2 times"),
        ({"checkpoints": {}}, "checkpoint 1 is lost"),
        ({"state": R}, "acknowledged was SUCCEEDED"),
        ({"is_deleted": False}, "the log does not say so"),
    ],
)
def test_a_promise_that_is_broken_is_told(change: dict[str, Any], expected: str) -> None:
    log = {NAME: replace(seen()[NAME], **change)}
    assert expected in told([ledger().problems_in(log)])


def test_an_operation_too_few_or_too_many_is_told() -> None:
    assert "is not in the log" in told([ledger().problems_in({})])
    doubled = {**seen(), "operations/2": seen()[NAME]}
    assert "nobody was told of it" in told([ledger().problems_in(doubled)])
    assert not ledger().problems_in(doubled, is_settled=False)
    other = ledger()
    other.created("request", "operations/2")
    assert "request request made" in told([other.problems_in(doubled)])


def test_a_cancel_that_was_acknowledged_is_kept() -> None:
    kept = Ledger()
    kept.created("request", NAME)
    kept.cancelled(NAME)
    assert "was cancelled, and is RUNNING" in told([kept.problems_in({NAME: Seen(state=R)})])
    assert not kept.problems_in({NAME: Seen(state=State.CANCELLING)}, is_settled=False)


def test_problems_are_counted_beyond_those_that_are_kept() -> None:
    many = Problems()
    for number in range(1_500):
        many.add(str(number))
    assert (many.count, len(many.told), bool(many)) == (1_500, 1_000, True)


class TokenIsOneTooFar(Registry):
    def token(self, revision: int) -> str:
        return super().token(revision + 1)


class PageLosesItsEdge(Registry):
    def page(self, after: int) -> tuple[tuple[OperationEvent, ...], int]:
        events, through = super().page(after)
        return (events[:-1] if len(events) == self.page_events else events), through


class PageSkipsItsEdge(Registry):
    """Reads on one event after where the page ended, and says so: the messages tile."""

    def page(self, after: int) -> tuple[tuple[OperationEvent, ...], int]:
        events, through = super().page(after)
        is_full = len(events) == self.page_events and through < self.published
        return events, through + 1 if is_full else through


class PublishesBeforeCommit(Registry):
    def write(self, placed: transitions.Change) -> None:
        kept = self.operations.get(placed.operation.name)
        if kept is None or not placed.events or not self.world.happens(0.05):
            super().write(placed)
            return
        self.log.extend(placed.events)
        self.published = len(self.log)
        waiting, self.waiting = self.waiting, []
        for wake in waiting:
            wake()
        del self.log[-len(placed.events) :]
        self.published = len(self.log)
        raise StoreUnavailableError("the commit failed")


class ForgetsTheNewestAtACrash(Registry):
    """Acknowledges before the disk has it."""

    def _crash(self) -> None:
        super()._crash()
        held = [one for one in self.operations.values() if one.lease is not None]
        for operation in held[:1]:
            index = max(operation.metric_index - 1, 0)
            counts = replace(operation.counts, last_steps={"equity": index} if index else {})
            self.operations[operation.name] = replace(operation, metric_index=index, counts=counts)


class MakesASecondOne(Registry):
    def create(self, request: NewOperation) -> Operation:
        return super().create(replace(request, request_id=f"{self.world.steps}"))


class SnapshotIsBehindItsRevision(Registry):
    def snapshot(self) -> tuple[tuple[Operation, ...], int]:
        operations, revision = super().snapshot()
        return operations, max(revision - 1, 0)


class SnapshotIsAheadOfItsEvents(Registry):
    def snapshot(self) -> tuple[tuple[Operation, ...], int]:
        operations, revision = super().snapshot()
        lagging = tuple(
            replace(one, event_sequence=one.event_sequence - 1) if one.revision == revision else one
            for one in operations
        )
        return lagging, revision


class CommitsOutOfOrder(Registry):
    """Revisions come from a counter, as from a serial column: two may be seen the other way."""

    def write(self, placed: transitions.Change) -> None:
        super().write(placed)
        is_pair = len(self.log) > 2 and self.log[-1].operation != self.log[-2].operation
        if placed.events and is_pair and self.world.happens(0.1):
            self.log[-2:] = [self.log[-1], self.log[-2]]


@pytest.mark.parametrize(
    "registry_type",
    [
        TokenIsOneTooFar,
        PageLosesItsEdge,
        PageSkipsItsEdge,
        PublishesBeforeCommit,
        ForgetsTheNewestAtACrash,
        MakesASecondOne,
        SnapshotIsBehindItsRevision,
        SnapshotIsAheadOfItsEvents,
        CommitsOutOfOrder,
    ],
)
def test_a_registry_with_a_defect_is_found_out(registry_type: type[Registry]) -> None:
    assert _is_found(registry_type)


@pytest.mark.parametrize("name", ["batch_is_applied_again", "replay_is_appended_again"])
def test_a_core_with_a_defect_is_found_out(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the checker looks: the laws of each step are left out here."""
    monkeypatch.setattr("tests.proofs.simulation.check_step", lambda before, change: None)
    MUTANTS[name](monkeypatch)
    assert _is_found(Registry)


def test_without_a_defect_there_is_nothing_to_find(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.proofs.simulation.check_step", lambda before, change: None)
    assert not _is_found(Registry)
    assert telemetry.append.__module__ == "backlane.operations.telemetry"


def _is_found(registry_type: type[Registry]) -> bool:
    """Whether one of three short episodes, with more crashes than usual, has problems."""
    faults = Faults(registry_crash=0.01, watch_breaks=0.05)
    episodes = (
        Episode(seed, registry_type, faults, settling_steps_max=20_000) for seed in range(3)
    )
    return any(episode.run(6_000).problems for episode in episodes)
