"""The state machine under all interleavings: late, lost and repeated messages of two workers.

The registry here is the smallest one that can be: a dictionary and a list. What the workers send
goes into a pool that messages are taken from in any order, any number of times, or never.
"""

from dataclasses import dataclass, field

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

from backlane.errors import BacklaneError
from backlane.operations import telemetry, transitions
from backlane.operations.commands import (
    Claim,
    Failed,
    NewOperation,
    Outcome,
    Stopped,
    Succeeded,
    TelemetryBatch,
)
from backlane.operations.events import MetricPoint, MetricsAppended, OperationEvent, StateChanged
from backlane.operations.lease import Instant, LeaseTerms
from backlane.operations.operation import Operation, OperationError, Payload, State

OPERATIONS = 2
TTL_S = 10.0
TERMS = LeaseTerms(ttl_s=TTL_S, renew_interval_s=3.0, grace_s=5.0)
OUTCOMES: tuple[Outcome, ...] = (
    Succeeded(Payload("result", b"1")),
    Succeeded(Payload("result", b"2")),
    Failed(OperationError("BROKEN", "it broke")),
    Stopped(),
)


@dataclass
class Message:
    """What a worker sent with the lease that it believes to hold."""

    operation: str
    worker: str
    epoch: int
    kind: str
    batch_number: int = 0
    outcome: Outcome | None = None


@dataclass
class Registry:
    """Keeps operations and the log; applies each change whole or not at all."""

    operations: dict[str, Operation] = field(default_factory=dict)
    log: list[OperationEvent] = field(default_factory=list)

    def apply(self, change: transitions.Change) -> Operation:
        placed = transitions.committed(change, len(self.log))
        self.operations[placed.operation.name] = placed.operation
        self.log.extend(placed.events)
        return placed.operation


class Interleavings(RuleBasedStateMachine):
    names = Bundle("names")
    leases = Bundle("leases")
    messages = Bundle("messages")

    def __init__(self) -> None:
        super().__init__()
        self.registry = Registry()
        self.now_s = 0.0
        self.writes: dict[str, list[int]] = {}
        self.batches: dict[tuple[str, int], int] = {}
        self.terminal: dict[str, Operation] = {}

    @property
    def now(self) -> Instant:
        return Instant(round(self.now_s * 1e9), self.now_s)

    @precondition(lambda self: len(self.registry.operations) < OPERATIONS)
    @rule(target=names, max_attempts=st.integers(1, 3))
    def submit(self, max_attempts: int) -> str:
        name = f"operations/{len(self.registry.operations)}"
        request = NewOperation(name, "test.run", Payload("spec", b""), {}, max_attempts)
        return self.registry.apply(transitions.create(request, name, name, self.now)).name

    @rule(target=leases, name=names, worker=st.sampled_from(["w1", "w2"]))
    def claim(self, name: str, worker: str) -> object:
        operation = self.registry.operations[name]
        if operation.state is not State.QUEUED:
            return multiple()
        claim = Claim("request", worker, ("test.run",))
        held = self.registry.apply(transitions.grant(operation, claim, TERMS, self.now))
        assert held.epoch == operation.epoch + 1
        return (name, worker, held.epoch)

    @rule(
        target=messages,
        lease=leases,
        kind=st.sampled_from(["renew", "append"]),
        batch_number=st.integers(1, 3),
    )
    def send(self, lease: tuple[str, str, int], kind: str, batch_number: int) -> Message:
        return Message(*lease, kind, batch_number)

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

    @rule(seconds=st.sampled_from([0.0, 1.0, TTL_S / 2, TTL_S]))
    def let_time_pass(self, seconds: float) -> None:
        self.now_s += seconds

    @rule(name=names)
    def scan(self, name: str) -> None:
        before = self.registry.operations[name]
        after = self.registry.apply(transitions.expire(before, self.now))
        is_lapsed = before.lease is not None and not before.lease.is_live(self.now)
        assert (after.state is not before.state) == is_lapsed
        if after.state is State.QUEUED:
            assert after.attempt < after.max_attempts  # there is one left to give out

    def deliver(self, message: Message) -> None:
        before = self.registry.operations[message.operation]
        try:
            change = self.decide(before, message)
        except BacklaneError:
            return
        self.registry.apply(change)
        if message.kind == "append":
            self.check_batch(message, bool(change.events))
        if message.kind == "renew":
            assert change.operation.lease is not None
            assert change.operation.lease.expires_at_s == self.now_s + TTL_S
        if change.operation != before:
            # Whoever changes something holds the newest lease, and it is live.
            assert before.lease is not None
            assert (before.lease.epoch, before.lease.worker_id) == (message.epoch, message.worker)
            assert before.lease.is_live(self.now)
            self.writes.setdefault(message.operation, []).append(message.epoch)

    def check_batch(self, message: Message, was_applied: bool) -> None:
        """Batches are applied in order, and each one once."""
        key = (message.operation, message.epoch)
        newest = self.batches.get(key, 0)
        assert message.batch_number <= newest + 1
        assert was_applied == (message.batch_number == newest + 1)
        self.batches[key] = max(newest, message.batch_number)

    def decide(self, operation: Operation, message: Message) -> transitions.Change:
        if message.kind == "renew":
            return transitions.renew(operation, message.worker, message.epoch, TERMS, self.now)
        if message.outcome is not None:
            return transitions.complete(operation, message.epoch, message.outcome, self.now)
        points = tuple(MetricPoint("x", message.batch_number, 0.0) for _ in range(2))
        batch = TelemetryBatch(message.batch_number, points)
        return telemetry.append(operation, message.epoch, batch, self.now)

    @invariant()
    def a_lease_is_there_exactly_while_it_is_held(self) -> None:
        for operation in self.registry.operations.values():
            assert (operation.lease is not None) == operation.state.is_held
            if operation.lease is not None:
                assert operation.lease.epoch == operation.epoch == operation.attempt

    @invariant()
    def attempts_are_bounded(self) -> None:
        for operation in self.registry.operations.values():
            assert operation.attempt <= operation.max_attempts

    @invariant()
    def terminal_means_terminal(self) -> None:
        for name, operation in self.registry.operations.items():
            if operation.state.is_terminal:
                assert self.terminal.setdefault(name, operation) == operation

    @invariant()
    def a_terminal_operation_says_how_it_ended(self) -> None:
        for operation in self.terminal.values():
            assert operation.end_time_ns is not None
            assert (operation.result is not None) == (operation.state is State.SUCCEEDED)
            assert (operation.error is None) == (operation.state is State.SUCCEEDED)

    def teardown(self) -> None:
        """What the log says as a whole."""
        revisions = [event.revision for event in self.registry.log]
        assert revisions == list(range(1, len(revisions) + 1))
        for name, operation in self.registry.operations.items():
            mine = [event for event in self.registry.log if event.operation == name]
            assert [event.sequence for event in mine] == list(range(1, len(mine) + 1))
            assert operation.event_sequence == len(mine)
            assert operation.revision == mine[-1].revision
            self.check_moves(mine, operation)
        for epochs in self.writes.values():
            assert epochs == sorted(epochs)  # an old holder never writes after a new one

    def check_moves(self, events: list[OperationEvent], operation: Operation) -> None:
        state: State | None = None
        indices: list[int] = []
        for event in events:
            if isinstance(event.body, StateChanged):
                assert event.body.from_state == state
                assert (state, event.body.to_state) in transitions.LEGAL_TRANSITIONS
                state = event.body.to_state
            if isinstance(event.body, MetricsAppended):
                indices.extend(point.index for point in event.body.points)
        assert state is operation.state
        assert indices == list(range(1, operation.metric_index + 1))


TestInterleavings = Interleavings.TestCase
TestInterleavings.settings = settings(max_examples=150, stateful_step_count=50, deadline=None)
