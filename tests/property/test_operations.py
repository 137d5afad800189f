"""The state machine under all interleavings: late, lost and repeated messages of two workers.

The registry here is the smallest one that can be: a dictionary and a list. What the workers send
goes into a pool that messages are taken from in any order, any number of times, or never. Each
change is held against the laws of tests/proofs/laws.py, and against a model of what was accepted.
The exhaustive search of tests/proofs goes through every interleaving of one operation; this goes
deeper, with several operations, real times and any number of resumes.
"""

import math
import os
from dataclasses import dataclass, field, replace

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    invariant,
    multiple,
    precondition,
    rule,
)

from backlane.errors import (
    BacklaneError,
    NothingToResumeError,
    OperationNotTerminalError,
)
from backlane.operations import checkpoints, telemetry, transitions
from backlane.operations.commands import (
    Claim,
    Failed,
    NewOperation,
    Outcome,
    Resumption,
    Stopped,
    Succeeded,
    TelemetryBatch,
)
from backlane.operations.events import Deleted, MetricPoint, MetricsAppended, OperationEvent
from backlane.operations.lease import Instant, LeaseTerms
from backlane.operations.operation import Checkpoint, Operation, OperationError, Payload, State
from backlane.operations.transitions import Change
from tests.proofs.laws import check_log, check_standing, check_step, check_writer

OPERATIONS = 3
TTL_S = 10.0
TERMS = LeaseTerms(ttl_s=TTL_S, renew_interval_s=3.0, grace_s=5.0, cancel_margin_s=1.0)
BROKEN = OperationError("BROKEN", "it broke")
OUTCOMES: tuple[Outcome, ...] = (
    Succeeded(Payload("result", b"1")),
    Succeeded(Payload("result", b"2")),
    Failed(BROKEN),
    Failed(BROKEN, is_retryable=True),
    Stopped(),
)
TIMEOUTS = st.sampled_from([None, TTL_S / 2, 3 * TTL_S])


@dataclass
class Message:
    """What a worker sent with the lease that it believes to hold."""

    operation: str
    worker: str
    epoch: int
    kind: str
    number: int = 0
    value: float = 0.0
    outcome: Outcome | None = None


@dataclass
class Registry:
    """Keeps operations and the log; applies each change whole or not at all."""

    operations: dict[str, Operation] = field(default_factory=dict)
    log: list[OperationEvent] = field(default_factory=list)
    points: dict[str, dict[tuple[str, int], float]] = field(default_factory=dict)

    def apply(self, change: Change) -> Operation:
        before = self.operations.get(change.operation.name)
        if before is not None and before.is_deleted:
            assert change == Change(before)
        elif not change.operation.is_deleted:
            check_step(before, change)
        placed = transitions.committed(change, len(self.log))
        self.operations[placed.operation.name] = placed.operation
        self.log.extend(placed.events)
        known = self.points.setdefault(placed.operation.name, {})
        for event in placed.events:
            if isinstance(event.body, MetricsAppended):
                known.update({(p.series, p.step): p.value for p in event.body.points})
        return placed.operation


class Interleavings(RuleBasedStateMachine):
    names = Bundle("names")
    leases = Bundle("leases")
    messages = Bundle("messages")

    def __init__(self) -> None:
        super().__init__()
        self.registry = Registry()
        self.now_s = 0.0
        self.wall_offset_s = 0.0
        self.writes: dict[str, list[int]] = {}
        self.batches: dict[tuple[str, int], int] = {}
        self.terminal: dict[str, Operation] = {}

    @property
    def now(self) -> Instant:
        return Instant(round((self.now_s + self.wall_offset_s) * 1e9), self.now_s)

    def fresh_name(self) -> str:
        return f"operations/{len(self.registry.operations)}"

    @precondition(lambda self: len(self.registry.operations) < OPERATIONS)
    @rule(
        target=names,
        max_attempts=st.integers(1, 3),
        queue_timeout_s=TIMEOUTS,
        attempt_timeout_s=TIMEOUTS,
    )
    def submit(
        self, max_attempts: int, queue_timeout_s: float | None, attempt_timeout_s: float | None
    ) -> str:
        name = self.fresh_name()
        request = NewOperation(name, "test.run", Payload("spec", b""), {}, max_attempts)
        request = replace(
            request, queue_timeout_s=queue_timeout_s, attempt_timeout_s=attempt_timeout_s
        )
        return self.registry.apply(transitions.create(request, name, name, self.now)).name

    @rule(target=names, source=names)
    def resume(self, source: str) -> object:
        operation, name = self.registry.operations[source], self.fresh_name()
        can_resume = operation.checkpoints and operation.state in (State.FAILED, State.CANCELLED)
        try:
            change = transitions.resume(operation, Resumption(name, source), name, name, self.now)
        except (NothingToResumeError, OperationNotTerminalError):
            assert not can_resume
            return multiple()
        assert can_resume
        made = self.registry.apply(change)
        assert (made.resumed_from, made.checkpoints) == (source, operation.checkpoints)
        return name

    @rule(target=leases, name=names, worker=st.sampled_from(["w1", "w2"]))
    def claim(self, name: str, worker: str) -> object:
        operation = self.registry.operations[name]
        if not transitions.is_claimable(operation, self.now):
            return multiple()
        claim = Claim("request", worker, ("test.run",))
        held = self.registry.apply(transitions.grant(operation, claim, TERMS, self.now))
        assert held.epoch == operation.epoch + 1
        assert held.lease is not None
        assert held.lease.expires_at_s == self.now_s + TTL_S
        return (name, worker, held.epoch)

    @rule(
        target=messages,
        lease=leases,
        kind=st.sampled_from(["renew", "append", "append", "commit", "commit", "release"]),
        number=st.integers(1, 3),
        value=st.sampled_from([0.0, 0.0, 0.0, math.nan, -0.0]),
    )
    def send(self, lease: tuple[str, str, int], kind: str, number: int, value: float) -> Message:
        return Message(*lease, kind, number, value)

    @rule(target=messages, lease=leases, outcome=st.sampled_from(OUTCOMES))
    def send_end(self, lease: tuple[str, str, int], outcome: Outcome) -> Message:
        return Message(*lease, "complete", outcome=outcome)

    @rule(message=messages)
    def deliver_and_keep(self, message: Message) -> None:
        """A copy stays under way: it will come again, or late."""
        self.deliver(message)

    @rule(message=consumes(messages))
    def deliver_once(self, message: Message) -> None:
        self.deliver(message)

    @rule(name=names)
    def cancel(self, name: str) -> None:
        operation = self.registry.operations[name]
        self.registry.apply(transitions.request_cancel(operation, "asked", self.now))

    @rule(name=names)
    def delete(self, name: str) -> None:
        operation = self.registry.operations[name]
        try:
            self.registry.apply(transitions.delete(operation, self.now))
        except OperationNotTerminalError:
            assert not operation.state.is_terminal
        else:
            assert operation.state.is_terminal
            self.terminal[name] = self.registry.operations[name]

    @rule(seconds=st.sampled_from([0.2, 1.0, TTL_S / 2, TTL_S]))
    def let_time_pass(self, seconds: float) -> None:
        self.now_s += seconds

    @rule(seconds=st.sampled_from([-3600.0, 3600.0]))
    def let_the_wall_clock_jump(self, seconds: float) -> None:
        self.wall_offset_s += seconds

    @rule(name=names)
    def scan(self, name: str) -> None:
        before = self.registry.operations[name]
        after = self.registry.apply(transitions.expire(before, TERMS, self.now))
        if before.lease is not None:
            is_due = self.is_due(before)
            assert (after.state is not before.state) == is_due
        if after.state is State.QUEUED:
            assert after.failure_count < after.max_attempts  # there is one left to give out

    def is_due(self, one: Operation) -> bool:
        lease = one.lease
        assert lease is not None
        if self.now_s >= lease.expires_at_s:
            return True
        if lease.cancel_at_s is not None:
            return self.now_s >= lease.cancel_at_s + TERMS.grace_s + TERMS.cancel_margin_s
        overdue_s = lease.granted_at_s + (one.attempt_timeout_s or math.inf)
        return self.now_s >= overdue_s

    def deliver(self, message: Message) -> None:
        before = self.registry.operations[message.operation]
        try:
            change = self.decide(before, message)
        except BacklaneError:
            return
        check_writer(before, change, message.epoch, message.worker, self.now_s)
        self.registry.apply(change)
        if message.kind == "append":
            self.check_batch(message, before, change)
        if message.kind == "renew":
            assert change.operation.lease is not None
            assert change.operation.lease.expires_at_s == self.now_s + TTL_S
        if change.operation != before:
            self.writes.setdefault(message.operation, []).append(message.epoch)

    def check_batch(self, message: Message, before: Operation, change: Change) -> None:
        """Batches are applied in order, and each one once; a point that differs ends it all."""
        key = (message.operation, message.epoch)
        newest = self.batches.get(key, 0)
        assert message.number <= newest + 1
        if message.number <= newest:
            assert change == Change(before)
            return
        after = change.operation
        self.batches[key] = message.number
        if after.state is State.FAILED:
            assert after.error is not None
            assert after.error.reason == "NONDETERMINISTIC_REPLAY"
        else:
            assert repr(self.registry.points[after.name][("x", message.number)]) == repr(
                message.value
            )

    def decide(self, operation: Operation, message: Message) -> Change:
        epoch, now = message.epoch, self.now
        if message.kind == "renew":
            return transitions.renew(operation, message.worker, epoch, TERMS, now)
        if message.kind == "release":
            return transitions.release(operation, epoch, "drain", now)
        if message.kind == "commit":
            number = operation.checkpoint_number + message.number - 1
            checkpoint = Checkpoint(number, "home:x", b"s" * 32, 1, 1, "t", b"s" * 32)
            return checkpoints.commit(operation, epoch, checkpoint, now)[0]
        if message.outcome is not None:
            return transitions.complete(operation, epoch, message.outcome, now)
        points = (MetricPoint("x", message.number, message.value),)
        batch = TelemetryBatch(message.number, points)
        known = self.registry.points[operation.name]
        recorded = {key: known[key] for key in telemetry.replayed_points(operation, batch)}
        return telemetry.append(operation, epoch, batch, now, recorded)

    @invariant()
    def every_operation_stands(self) -> None:
        for operation in self.registry.operations.values():
            if not operation.is_deleted:
                check_standing(operation)

    @invariant()
    def terminal_means_terminal(self) -> None:
        for name, operation in self.registry.operations.items():
            if operation.state.is_terminal:
                assert self.terminal.setdefault(name, operation) == operation

    def teardown(self) -> None:
        """What the log says as a whole."""
        check_log(self.registry.log)
        for name, operation in self.registry.operations.items():
            mine = [event for event in self.registry.log if event.operation == name]
            assert [event.sequence for event in mine] == list(range(1, len(mine) + 1))
            assert operation.revision == mine[-1].revision
            deletes = [event for event in mine if isinstance(event.body, Deleted)]
            assert deletes in ([], mine[-1:])
        for epochs in self.writes.values():
            assert epochs == sorted(epochs)  # an old holder never writes after a new one


TestInterleavings = Interleavings.TestCase
TestInterleavings.settings = settings(
    max_examples=int(os.environ.get("PROVE_EXAMPLES", "150")),
    stateful_step_count=50,
    deadline=None,
)
