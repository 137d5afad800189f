"""The whole registry in one thread, on a simulated clock, network and disk (SERVICES.md 4.4, L1).

The core is the real one; the store is a list that can fail as a disk does, and the network loses,
delays, doubles and reorders. Everything that happens by chance comes from one seed, so that the
same seed is the same run, to the last byte of its trace.
"""

from __future__ import annotations

import contextlib
import hashlib
import heapq
import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from backlane.errors import (
    BacklaneError,
    LeaseLostError,
    OperationNotFoundError,
    StoreUnavailableError,
)
from backlane.operations import checkpoints, telemetry, transitions
from backlane.operations.commands import Claim, NewOperation, Outcome, Resumption, TelemetryBatch
from backlane.operations.events import MetricsAppended, OperationEvent
from backlane.operations.lease import Instant, LeaseTerms
from backlane.operations.operation import Checkpoint, Operation, State
from backlane.operations.selection import Selection
from backlane.operations.tokens import ResumeToken
from backlane.operations.transitions import Change
from backlane.operations.watching import Phase, WatchMessage
from tests.proofs.laws import ENDED, check_step

TERMS = LeaseTerms(ttl_s=6.0, renew_interval_s=2.0, grace_s=3.0, cancel_margin_s=1.0)
SCAN_INTERVAL_S = 1.0
EVERYTHING = Selection()
Answer = Callable[[Any], None]


@dataclass(frozen=True)
class Faults:
    """How bad the world is: chances of each message or write, and times in seconds."""

    loss: float = 0.03
    double: float = 0.03
    delay_s: float = 0.05
    late: float = 0.02
    late_s: float = 10.0
    store_fails: float = 0.005
    answer_fails: float = 0.005
    """The write is done, and its caller is told that the store is unavailable."""
    registry_crash: float = 0.002
    worker_crash: float = 0.004
    worker_pause: float = 0.004
    watch_breaks: float = 0.02


class World:
    """The clock, the network and the trace."""

    def __init__(self, seed: int, faults: Faults) -> None:
        self.random = random.Random(seed)
        self.faults = faults
        self.now_s = 0.0
        self.steps = 0
        self._trace = hashlib.sha256()
        self._queue: list[tuple[float, int, Callable[[], None]]] = []
        self._count = 0

    @property
    def now(self) -> Instant:
        return Instant(round(self.now_s * 1e9), self.now_s)

    def after(self, delay_s: float, action: Callable[[], None]) -> None:
        """Has something happen later."""
        self._count += 1
        heapq.heappush(self._queue, (self.now_s + delay_s, self._count, action))

    def send(self, action: Callable[[], None]) -> None:
        """Has something happen at the other end of the network: once, late, twice or never."""
        faults, chance = self.faults, self.random.random()
        if chance < faults.loss:
            return
        if chance < faults.loss + faults.double:
            self.after(self._delay_s(), action)
        self.after(self._delay_s(), action)

    def happens(self, chance: float) -> bool:
        return self.random.random() < chance

    def trace(self, *what: object) -> None:
        """Adds to the digest of the run."""
        self._trace.update(repr(what).encode())

    @property
    def digest(self) -> str:
        return self._trace.hexdigest()

    def run(self, steps: int) -> None:
        """Has so many things happen."""
        for _ in range(steps):
            if not self._queue:
                return
            self.now_s, _, action = heapq.heappop(self._queue)
            self.steps += 1
            action()

    def _delay_s(self) -> float:
        faults = self.faults
        scale_s = faults.late_s if self.happens(faults.late) else faults.delay_s
        return self.random.expovariate(1 / scale_s)


@dataclass
class Row:
    """What the disk holds of one operation beside its record."""

    points: dict[tuple[str, int], float] = field(default_factory=dict)


class Registry:
    """An operation store in memory that fails as one on a disk does."""

    page_events = 25
    uid = "simulated"

    def __init__(self, world: World) -> None:
        self.world = world
        self.operations: dict[str, Operation] = {}
        self.rows: dict[str, Row] = {}
        self.requests: dict[str, str] = {}
        self.log: list[OperationEvent] = []
        self.published = 0
        self.queued: deque[str] = deque()
        self.unended: dict[str, None] = {}
        self.waiting: list[Callable[[], None]] = []
        self.connections: dict[Connection, None] = {}
        self.crashes = 0
        world.after(SCAN_INTERVAL_S, self._scan)

    def call(self, command: Callable[[], Any], answer: Answer) -> None:
        """Runs a command that arrived; the answer goes over the network."""
        world, faults = self.world, self.world.faults
        if world.happens(faults.registry_crash):
            self._crash()
            return
        reply: Any
        if world.happens(faults.store_fails):
            reply = StoreUnavailableError("the disk failed")
        else:
            try:
                reply = command()
            except BacklaneError as error:
                reply = error
            if world.happens(faults.answer_fails):
                reply = StoreUnavailableError("whether it was written is not known")
        world.send(lambda: answer(reply))

    def create(self, request: NewOperation) -> Operation:
        known = self.requests.get(request.request_id)
        if known is not None:
            return self.operations[known]
        name = f"operations/{len(self.operations) + 1}"
        return self._made(
            request.request_id, transitions.create(request, name, name, self.world.now)
        )

    def resume(self, request: Resumption) -> Operation:
        known = self.requests.get(request.request_id)
        if known is not None:
            return self.operations[known]
        name = f"operations/{len(self.operations) + 1}"
        source = self._live(request.name)
        change = transitions.resume(source, request, name, name, self.world.now)
        return self._made(request.request_id, change)

    def claim(self, claim: Claim) -> Operation | None:
        now = self.world.now
        for _ in range(len(self.queued)):
            name = self.queued[0]
            operation = self.operations[name]
            if operation.state is not State.QUEUED:
                self.queued.popleft()
            elif transitions.is_claimable(operation, now):
                self.queued.popleft()
                return self._apply(transitions.grant(operation, claim, TERMS, now))
            else:
                self.queued.rotate(-1)
        return None

    def claim_again(self, claim: Claim, name: str) -> Operation | None:
        """Answers a claim that came before."""
        lease = self.operations[name].lease
        is_mine = lease is not None and lease.request_id == claim.request_id
        return self.operations[name] if is_mine else None

    def renew(self, name: str, worker_id: str, epoch: int) -> Operation:
        change = transitions.renew(self._live(name), worker_id, epoch, TERMS, self.world.now)
        return self._apply(change)

    def append(self, name: str, epoch: int, batch: TelemetryBatch) -> Operation:
        operation = self._live(name)
        known = self.rows[name].points
        recorded = {
            key: known[key] for key in telemetry.replayed_points(operation, batch) if key in known
        }
        return self._apply(telemetry.append(operation, epoch, batch, self.world.now, recorded))

    def commit(self, name: str, epoch: int, checkpoint: Checkpoint) -> Operation:
        change, _ = checkpoints.commit(self._live(name), epoch, checkpoint, self.world.now)
        return self._apply(change)

    def release(self, name: str, epoch: int) -> Operation:
        return self._apply(transitions.release(self._live(name), epoch, "drain", self.world.now))

    def complete(self, name: str, epoch: int, outcome: Outcome) -> Operation:
        return self._apply(transitions.complete(self._live(name), epoch, outcome, self.world.now))

    def cancel(self, name: str) -> Operation:
        return self._apply(transitions.request_cancel(self._live(name), "", self.world.now))

    def delete(self, name: str) -> None:
        self._apply(transitions.delete(self._live(name), self.world.now))

    def get(self, name: str) -> Operation:
        return self._live(name)

    def page(self, after: int) -> tuple[tuple[OperationEvent, ...], int]:
        """Returns the events after a revision, one page of them, and up to where they go."""
        through = min(self.published, after + self.page_events)
        return tuple(self.log[after:through]), through

    def snapshot(self) -> tuple[tuple[Operation, ...], int]:
        alive = (one for one in self.operations.values() if not one.is_deleted)
        return tuple(alive), self.published

    def token(self, revision: int) -> str:
        return str(ResumeToken.at(self.uid, revision, EVERYTHING))

    def revision_of(self, token: str) -> int:
        """Returns where a token leads to."""
        parsed = ResumeToken.parse(token)
        parsed.check(self.uid, self.published, EVERYTHING)
        return parsed.revision

    def publish(self) -> None:
        """Lets watchers see what is committed, and wakes them."""
        self.published = len(self.log)
        waiting, self.waiting = self.waiting, []
        for wake in waiting:
            self.world.after(0.0, wake)

    def write(self, placed: Change) -> None:
        """Puts a change on the disk."""
        operation = placed.operation
        self.operations[operation.name] = operation
        self.log.extend(placed.events)
        row = self.rows.setdefault(operation.name, Row())
        for event in placed.events:
            if isinstance(event.body, MetricsAppended):
                row.points.update({(p.series, p.step): p.value for p in event.body.points})

    def _made(self, request_id: str, change: Change) -> Operation:
        made = self._apply(change)
        self.requests[request_id] = made.name
        return made

    def _live(self, name: str) -> Operation:
        operation = self.operations[name]
        if operation.is_deleted:
            raise OperationNotFoundError(name)
        return operation

    def _apply(self, change: Change) -> Operation:
        before = self.operations.get(change.operation.name)
        if before is not None and change.operation is before:
            return before
        if not (before and before.state in ENDED):
            check_step(before, change)
        placed = transitions.committed(change, len(self.log))
        self.write(placed)
        operation = placed.operation
        if placed.events:
            self.world.trace(operation.name, operation.revision, operation.state.value)
            if operation.state is State.QUEUED:
                self.queued.append(operation.name)
            if operation.state in ENDED:
                self.unended.pop(operation.name, None)
            else:
                self.unended[operation.name] = None
            self.publish()
        return operation

    def _scan(self) -> None:
        now = self.world.now
        for name in tuple(self.unended):
            with contextlib.suppress(StoreUnavailableError):  # it looks again soon
                self._apply(transitions.expire(self.operations[name], TERMS, now))
        self.world.after(SCAN_INTERVAL_S, self._scan)

    def _crash(self) -> None:
        """The process dies and is started again: progress is lost, leases get their full time."""
        self.crashes += 1
        self.world.trace("crash", len(self.log))
        self.waiting = []
        for connection in tuple(self.connections):
            connection.end()
        ends_s = self.world.now_s + TERMS.ttl_s
        for name in self.unended:
            operation = self.operations[name]
            lease = operation.lease
            if lease is not None:
                asked_s = None if lease.cancel_at_s is None else self.world.now_s
                renewed = replace(
                    lease,
                    expires_at_s=ends_s,
                    granted_at_s=self.world.now_s,
                    cancel_at_s=asked_s,
                )
                self.operations[name] = replace(operation, lease=renewed, progress=None)


class Connection:
    """A watch as the registry serves it: a cursor in the log, and nothing else."""

    def __init__(
        self,
        registry: Registry,
        take: Callable[[Connection, WatchMessage], None],
        lost: Callable[[Connection], None],
    ) -> None:
        self.registry = registry
        self.take = take
        self.lost = lost
        self.sent = 0
        self.is_broken = False
        self._arrives_s = 0.0
        registry.connections[self] = None

    def end(self) -> None:
        """Breaks; what is under way never arrives."""
        self.is_broken = True
        del self.registry.connections[self]
        self.lost(self)

    def open(self, token: str, *, from_snapshot: bool) -> None:
        """Begins at a token, at a snapshot, or at the oldest event."""
        registry = self.registry
        if token:
            self.sent = registry.revision_of(token)
        elif from_snapshot:
            operations, revision = registry.snapshot()
            self._send(WatchMessage(Phase.SNAPSHOT, 0, 0, "", 0, operations=operations))
            self.sent = revision
            self._send(self._message(Phase.SYNCED, revision, revision, ()))
        self.pump()

    def pump(self) -> None:
        """Sends what there is, a page at a time, and waits for more."""
        if self.is_broken:
            return
        while self.sent < self.registry.published:
            events, through = self.registry.page(self.sent)
            self._send(self._message(Phase.LIVE, self.sent, through, events))
            self.sent = through
        self.registry.waiting.append(self.pump)

    def _message(
        self, phase: Phase, start: int, end: int, events: tuple[OperationEvent, ...]
    ) -> WatchMessage:
        return WatchMessage(phase, start, end, self.registry.token(end), 0, events)

    def _send(self, message: WatchMessage) -> None:
        """A stream keeps its order: a message never arrives before the one sent before it."""
        world = self.registry.world
        delay_s = world.random.expovariate(1 / world.faults.delay_s)
        self._arrives_s = max(self._arrives_s, world.now_s + delay_s)
        world.after(self._arrives_s - world.now_s, lambda: self.take(self, message))


def is_lost(reply: object) -> bool:
    """Whether an answer tells a worker that its lease is gone."""
    return isinstance(reply, LeaseLostError | OperationNotFoundError)
