"""Judges what watchers saw and what clients were promised, after any amount of chaos.

`WatchChecker` takes the messages of one watcher as they come, over any number of connections, and
notes whatever contradicts the contract of a watch. `Ledger` takes every write that was
acknowledged, and compares it with the log that a complete watcher saw. Neither knows how the system
was run: the simulation, the property tests over real servers and the chaos suite all use them.

Problems are collected, not raised, so that a run can count them.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import pairwise

from backlane.operations.commands import TelemetryBatch
from backlane.operations.events import (
    CheckpointCommitted,
    Deleted,
    MetricsAppended,
    Note,
    OperationEvent,
    StateChanged,
    TradesAppended,
)
from backlane.operations.operation import Operation, State
from backlane.operations.watching import Phase, WatchMessage
from tests.proofs.laws import ENDED, MOVES

PROBLEMS_KEPT_MAX = 1_000
"""Problems that are told; all are counted."""


@dataclass
class Problems:
    """What was found to be wrong: how often, and the first ones in words."""

    count: int = 0
    told: list[str] = field(default_factory=list)

    def add(self, text: str) -> None:
        """Notes a problem."""
        self.count += 1
        if len(self.told) < PROBLEMS_KEPT_MAX:
            self.told.append(text)

    def __bool__(self) -> bool:
        """Whether there is any."""
        return self.count > 0


@dataclass
class Seen:
    """What a watcher knows of one operation."""

    sequence: int = 0
    state: State | None = None
    metric_index: int = 0
    checkpoint_number: int | None = None
    is_deleted: bool = False
    steps: dict[tuple[str, int], float] = field(default_factory=dict)
    trades: list[bytes] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    checkpoints: dict[int, bytes] = field(default_factory=dict)
    is_whole: bool = False
    """Whether it was followed from its first event."""


class WatchChecker:
    """Checks what one watcher is told.

    `sees_all`: it has no filter, so every revision must come. `is_filtered`: it has one by state,
    which may pass over events of an operation; any other filter takes operations whole.

    Call `connected` before the first message of each connection, with whether it goes on from a
    token, and `accept` with each message.
    """

    def __init__(self, name: str, *, sees_all: bool = True, is_filtered: bool = False) -> None:
        self.name = name
        self.sees_all = sees_all and not is_filtered
        self.is_filtered = is_filtered
        self.problems = Problems()
        self.operations: dict[str, Seen] = {}
        self.revision: int | None = None
        self.token = ""
        self.deliveries = 0
        self._is_in_snapshot = False
        self._last_phase: Phase | None = None

    def connected(self, *, with_token: bool) -> None:
        """Notes that a new connection begins: where the last one ended, or from a new beginning."""
        self._last_phase = None
        self._is_in_snapshot = False
        if not with_token:
            self.operations = {}
            self.revision = None
            self.token = ""

    def accept(self, message: WatchMessage) -> None:
        """Checks the next message."""
        if message.phase is Phase.SNAPSHOT:
            self._accept_snapshot(message)
            return
        if message.phase is Phase.SYNCED and self.revision is not None:
            self._wrong("a second beginning", message)
        if message.phase is not Phase.SYNCED and self._is_in_snapshot:
            self._wrong("a snapshot without an end", message)
        if self._last_phase is Phase.DRAINING:
            self._wrong("a message after the last one", message)
        if message.phase is Phase.SYNCED and message.events:
            self._wrong("events within the snapshot", message)
        self._is_in_snapshot = False
        self._last_phase = message.phase
        self._check_tiling(message)
        for event in message.events:
            self.deliveries += 1
            self._accept_event(event)
        self.revision = message.through_revision
        self.token = message.resume_token

    def _accept_snapshot(self, message: WatchMessage) -> None:
        if self.revision is not None:
            self._wrong("a snapshot in the middle", message)
        if message.resume_token or message.events:
            self._wrong("a snapshot with a token or events", message)
        self._is_in_snapshot = True
        for operation in message.operations:
            if operation.name in self.operations:
                self._wrong(f"{operation.name} twice in the snapshot", message)
            self.operations[operation.name] = _known_from(operation)

    def _check_tiling(self, message: WatchMessage) -> None:
        start, end = message.from_revision, message.through_revision
        if start > end:
            self._wrong("it ends before it begins", message)
        if self.revision is not None and start != self.revision:
            self._wrong(f"it does not follow revision {self.revision}", message)
        revisions = [event.revision for event in message.events]
        if any(not start < revision <= end for revision in revisions):
            self._wrong("an event outside of it", message)
        if any(b <= a for a, b in pairwise(revisions)):
            self._wrong("its events are out of order", message)
        if self.sees_all and self.revision is not None:
            expected = list(range(start + 1, end + 1))
            if revisions != expected:
                self._wrong(f"{len(expected) - len(revisions)} events are missing", message)
        if not message.resume_token:
            self._wrong("no token", message)

    def _accept_event(self, event: OperationEvent) -> None:
        seen = self.operations.get(event.operation)
        if seen is None:
            is_first = event.sequence == 1
            if not is_first and not self.is_filtered:
                self._wrong_event("it begins in the middle", event)
            seen = self.operations[event.operation] = Seen(event.sequence - 1, is_whole=is_first)
        if event.sequence != seen.sequence + 1 and not self.is_filtered:
            self._wrong_event(f"it does not follow {seen.sequence}", event)
        elif event.sequence <= seen.sequence:
            self._wrong_event(f"it comes again, after {seen.sequence}", event)
        if seen.is_deleted:
            self._wrong_event("it follows the delete", event)
        seen.sequence = event.sequence
        if isinstance(event.body, StateChanged):
            self._accept_move(seen, event, event.body)
        else:
            self._accept_content(seen, event)

    def _accept_move(self, seen: Seen, event: OperationEvent, body: StateChanged) -> None:
        knows = seen.is_whole or seen.state is not None
        if knows and not self.is_filtered and body.from_state != seen.state:
            self._wrong_event(f"it leaves {body.from_state}, but it was {seen.state}", event)
        if (body.from_state, body.to_state) not in MOVES:
            self._wrong_event("no such move", event)
        if (body.result is not None) != (body.to_state is State.SUCCEEDED):
            self._wrong_event("result and state do not fit", event)
        seen.state = body.to_state

    def _accept_content(self, seen: Seen, event: OperationEvent) -> None:
        body = event.body
        if isinstance(body, Deleted):
            if seen.state is not None and seen.state not in ENDED:
                self._wrong_event("a delete before the end", event)
            seen.is_deleted = True
            return
        if seen.state in ENDED:
            self._wrong_event("it follows the end", event)
        if isinstance(body, MetricsAppended):
            for point in body.points:
                key = (point.series, point.step)
                if point.index != seen.metric_index + 1 and not self.is_filtered:
                    self._wrong_event(f"point {point.index} follows {seen.metric_index}", event)
                if key in seen.steps:
                    self._wrong_event(f"point {key} comes again", event)
                seen.metric_index = point.index
                seen.steps[key] = point.value
        elif isinstance(body, TradesAppended):
            if len({*seen.trades, *body.trades}) != len(seen.trades) + len(body.trades):
                self._wrong_event("a trade comes again", event)
            seen.trades.extend(body.trades)
        elif isinstance(body, Note):
            seen.notes.append(body.text)
        elif isinstance(body, CheckpointCommitted):
            number = body.checkpoint.number
            last = seen.checkpoint_number
            if last is not None and number != last + 1 and not self.is_filtered:
                self._wrong_event(f"checkpoint {number} follows {last}", event)
            seen.checkpoint_number = number
            seen.checkpoints[number] = body.checkpoint.sha256

    def _wrong(self, what: str, message: WatchMessage) -> None:
        place = f"({message.from_revision}, {message.through_revision}]"
        self.problems.add(f"{self.name}: {message.phase} {place}: {what}")

    def _wrong_event(self, what: str, event: OperationEvent) -> None:
        kind = type(event.body).__name__
        place = f"{event.operation} event {event.sequence} ({kind}) at {event.revision}"
        self.problems.add(f"{self.name}: {place}: {what}")


@dataclass
class Promise:
    """What was acknowledged for one operation."""

    steps: dict[tuple[str, int], float] = field(default_factory=dict)
    notes: Counter[str] = field(default_factory=Counter)
    trades: dict[int, bytes] = field(default_factory=dict)
    checkpoints: dict[int, bytes] = field(default_factory=dict)
    end: State | None = None
    is_deleted: bool = False
    was_cancelled: bool = False


class Ledger:
    """Every acknowledged write; `problems_in` says which of them a log has lost, or doubled.

    Every note and every trade of an operation must be unlike the others, so that a double is seen.
    """

    def __init__(self) -> None:
        self.promises: dict[str, Promise] = {}
        self.requests: dict[str, str] = {}
        self.acknowledged = 0
        self.problems = Problems()

    def created(self, request_id: str, name: str) -> None:
        """A create or a resume was acknowledged: the same request must always give the same one."""
        self.acknowledged += 1
        before = self.requests.setdefault(request_id, name)
        if before != name:
            self.problems.add(f"request {request_id} made {before}, and then {name}")
        self.promises.setdefault(name, Promise())

    def appended(self, name: str, batch: TelemetryBatch) -> None:
        """A batch of telemetry was acknowledged."""
        self.acknowledged += 1
        promise = self._of(name)
        for point in batch.points:
            promise.steps[point.series, point.step] = point.value
        for number, trade in enumerate(batch.trades, batch.first_trade):
            promise.trades[number] = trade
        for note in batch.notes:
            promise.notes[note] = 1

    def committed(self, name: str, number: int, sha256: bytes) -> None:
        """A checkpoint was acknowledged."""
        self.acknowledged += 1
        self._of(name).checkpoints[number] = sha256

    def completed(self, name: str, state: State) -> None:
        """An end was acknowledged; QUEUED when the attempt alone had ended."""
        self.acknowledged += 1
        promise = self._of(name)
        if state in ENDED:
            if promise.end not in (None, state):
                self.problems.add(f"{name} ended as {promise.end}, and then as {state}")
            promise.end = state

    def cancelled(self, name: str) -> None:
        """A cancel was acknowledged: from now on it can only end."""
        self.acknowledged += 1
        self._of(name).was_cancelled = True

    def deleted(self, name: str) -> None:
        """A delete was acknowledged."""
        self.acknowledged += 1
        self._of(name).is_deleted = True

    def problems_in(self, operations: dict[str, Seen], *, is_settled: bool = True) -> Problems:
        """Compares with what a watcher from the oldest event on has seen, after all is over.

        `is_settled`: every client got its answers and everything has had the time to end. Then
        nothing is in the log that nobody was told of, and nothing is left without an end.
        """
        found = Problems(self.problems.count, list(self.problems.told))
        for name, promise in self.promises.items():
            seen = operations.get(name)
            if seen is None:
                found.add(f"{name} was acknowledged, and is not in the log")
            else:
                _compare(name, promise, seen, found)
        made = set(self.requests.values())
        for name in sorted(operations) if is_settled else ():
            if name not in made:
                found.add(f"{name} is in the log, and nobody was told of it")
            if operations[name].state not in ENDED:
                found.add(f"{name} is {operations[name].state}, and has no end")
        return found

    def _of(self, name: str) -> Promise:
        return self.promises.setdefault(name, Promise())


def _compare(name: str, promise: Promise, seen: Seen, found: Problems) -> None:
    for key, value in promise.steps.items():
        if repr(seen.steps.get(key)) != repr(value):
            found.add(f"{name}: point {key} is {seen.steps.get(key)}, acknowledged was {value}")
    for number, trade in promise.trades.items():
        if seen.trades[number - 1 : number] != [trade]:
            found.add(f"{name}: trade {number} is lost, or another one")
    notes = Counter(seen.notes)
    for note in promise.notes:
        if not notes[note]:
            found.add(f"{name}: note {note!r} is lost")
    for note, count in notes.items():
        if count > 1:
            found.add(f"{name}: note {note!r} is there {count} times")
    for number, sha256 in promise.checkpoints.items():
        if seen.checkpoints.get(number) != sha256:
            found.add(f"{name}: checkpoint {number} is lost, or another one")
    if promise.end is not None and seen.state is not promise.end:
        found.add(f"{name} is {seen.state}, acknowledged was {promise.end}")
    if promise.is_deleted and not seen.is_deleted:
        found.add(f"{name} was deleted, and the log does not say so")
    if promise.was_cancelled and seen.state not in {*ENDED, State.CANCELLING}:
        found.add(f"{name} was cancelled, and is {seen.state}")


def _known_from(operation: Operation) -> Seen:
    return Seen(
        sequence=operation.event_sequence,
        state=operation.state,
        metric_index=operation.metric_index,
        checkpoint_number=operation.checkpoint_number,
        is_deleted=operation.is_deleted,
    )


def told(problems: Iterable[Problems]) -> str:
    """Returns the first problems of several checkers, a line each; empty when there are none."""
    return "\n".join(line for one in problems for line in one.told[:20])
