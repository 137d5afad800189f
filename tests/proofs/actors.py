"""Who takes part in the simulation: clients, workers and watchers, each with habits of its own."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from backlane.errors import BacklaneError
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
from backlane.operations.events import MetricPoint
from backlane.operations.operation import Checkpoint, Operation, OperationError, Payload, State
from backlane.operations.watching import WatchMessage
from tests.proofs.checker import Ledger, WatchChecker
from tests.proofs.simulation import TERMS, Connection, Registry, World, is_lost

UNITS_MAX = 6
RETRY_S = 0.7
SPEC = Payload("spec", b"spec")


class Caller:
    """Someone who asks the registry again and again until there is an answer."""

    def __init__(self, world: World, registry: Registry, ledger: Ledger) -> None:
        self.world = world
        self.registry = registry
        self.ledger = ledger
        self._asked = 0

    def ask(self, command: Callable[[], Any], then: Callable[[Any], None]) -> None:
        """Asks until there is an answer that is one; a late answer to an older question is none."""
        self._asked += 1
        number = self._asked
        world, registry = self.world, self.registry

        def answered(reply: Any) -> None:
            if self._asked != number:
                return
            if isinstance(reply, BacklaneError) and reply.reason == "STORE_UNAVAILABLE":
                return  # the question is asked again
            self._asked += 1
            then(reply)

        def again() -> None:
            if self._asked == number:
                world.send(lambda: registry.call(command, answered))
                world.after(RETRY_S, again)

        again()

    def forget(self) -> None:
        """Asks no further."""
        self._asked += 1


class Client(Caller):
    """Submits, looks, and now and then cancels, resumes or deletes."""

    def __init__(self, name: str, world: World, registry: Registry, ledger: Ledger) -> None:
        super().__init__(world, registry, ledger)
        self.name = name
        self.mine: list[str] = []
        self.count = 0
        self.is_closing = False
        self.is_closed = False
        self.refused: list[str] = []
        """Requests that were refused: a copy of one may come later, when there is no reason to."""

    def begin(self) -> None:
        """Does the next thing."""
        if self.is_closing:
            self.is_closed = True
            return
        world = self.world
        chance = world.random.random()
        if chance < 0.55 or not self.mine:
            self._submit()
            return
        name = world.random.choice(self.mine)
        if chance < 0.65:
            self.ask(lambda: self.registry.cancel(name), lambda reply: self._cancelled(name, reply))
        elif chance < 0.85:
            self._resume(name)
        elif chance < 0.92:
            self.ask(lambda: self.registry.delete(name), lambda reply: self._deleted(name, reply))
        else:
            self.ask(lambda: self.registry.get(name), self._seen)

    def _submit(self) -> None:
        self.count += 1
        chance = self.world.random
        request = NewOperation(
            f"{self.name}-{self.count}",
            "test.run",
            SPEC,
            max_attempts=chance.randint(1, 4),
            queue_timeout_s=chance.choice([None, None, 60.0]),
            attempt_timeout_s=chance.choice([None, None, 20.0]),
        )
        self.ask(
            lambda: self.registry.create(request), lambda made: self._made(request.request_id, made)
        )

    def _resume(self, name: str) -> None:
        self.count += 1
        request = Resumption(f"{self.name}-{self.count}", name)
        self.ask(
            lambda: self.registry.resume(request), lambda made: self._made(request.request_id, made)
        )

    def _made(self, request_id: str, made: Any) -> None:
        if isinstance(made, Operation):
            self.ledger.created(request_id, made.name)
            if made.name not in self.mine:
                self.mine.append(made.name)
            del self.mine[:-20]
        else:
            self.refused.append(request_id)
        self._rest()

    def _cancelled(self, name: str, reply: Any) -> None:
        if isinstance(reply, Operation):
            self.ledger.cancelled(name)
        self._rest()

    def _deleted(self, name: str, reply: Any) -> None:
        if reply is None:
            self.ledger.deleted(name)
        if not isinstance(reply, BacklaneError) or reply.reason == "OPERATION_NOT_FOUND":
            self.mine = [one for one in self.mine if one != name]
        self._rest()

    def _seen(self, reply: Any) -> None:
        self.world.trace(self.name, reply.state.value if isinstance(reply, Operation) else "-")
        self._rest()

    def _rest(self) -> None:
        self.world.after(self.world.random.expovariate(1 / 2.0), self.begin)


@dataclass
class Attempt:
    """A run in a worker's hands."""

    name: str
    epoch: int
    units: int
    total: int
    emitted: int = 0
    batch_number: int = 0
    is_told: bool = False


class Worker(Caller):
    """Takes work, reports, commits, ends; crashes, pauses, and wakes up as a zombie."""

    def __init__(self, name: str, world: World, registry: Registry, ledger: Ledger) -> None:
        super().__init__(world, registry, ledger)
        self.name = name
        self.life = 1
        self.claims = 0
        self.attempt: Attempt | None = None
        world.after(TERMS.renew_interval_s, self._renew)

    @property
    def worker_id(self) -> str:
        """New for each start of the process."""
        return f"{self.name}.{self.life}"

    def begin(self) -> None:
        """Claims something; a claim that gets no answer is asked again under its request_id."""
        self.attempt = None
        self.claims += 1
        claim = Claim(f"{self.name}-{self.claims}", self.worker_id, ("test.run",))
        granted: list[str] = []

        def command() -> Operation | None:
            if granted:
                return self.registry.claim_again(claim, granted[0])
            operation = self.registry.claim(claim)
            if operation is not None:
                granted.append(operation.name)
            return operation

        self.ask(command, self._claimed)

    def _claimed(self, operation: Any) -> None:
        if not isinstance(operation, Operation):
            self.world.after(0.5, self.begin)
            return
        newest = operation.checkpoints[0].completed_units if operation.checkpoints else 0
        total = 1 + int(operation.name.rpartition("/")[2]) % UNITS_MAX
        self.attempt = Attempt(operation.name, operation.epoch, newest, max(total, newest))
        self._go_on()

    def _go_on(self) -> None:
        """Does the next unit, unless something comes in between."""
        world, attempt = self.world, self.attempt
        assert attempt is not None
        chance = world.random.random()
        faults = world.faults
        if chance < faults.worker_crash:
            self._crash()
        elif chance < faults.worker_crash + faults.worker_pause:
            self._rest(world.random.uniform(0, 4 * TERMS.ttl_s), self._report)
        elif attempt.is_told:
            self._end(Stopped())
        elif chance > 0.985:
            self._release()
        elif chance > 0.94:
            error = OperationError("BROKEN", f"unit {attempt.units} of {attempt.epoch}")
            self._end(Failed(error, is_retryable=chance > 0.965))
        else:
            self._rest(world.random.expovariate(1 / 0.3), self._report)

    def _rest(self, seconds: float, then: Callable[[], None]) -> None:
        attempt = self.attempt

        def go() -> None:
            if self.attempt is attempt:
                then()

        self.world.after(seconds, go)

    def _report(self) -> None:
        """Reports a unit; the first report of an attempt goes over all units before it again."""
        attempt = self.attempt
        assert attempt is not None
        if attempt.units >= attempt.total:
            self._end(Succeeded(Payload("result", attempt.name.encode())))
            return
        steps = range(attempt.emitted + 1, attempt.units + 2)
        attempt.batch_number += 1
        attempt.emitted = attempt.units + 1
        batch = TelemetryBatch(
            attempt.batch_number,
            tuple(MetricPoint("equity", step, step / 7) for step in steps),
            tuple(f"trade {step}".encode() for step in steps),
            steps[0],
            (f"{self.worker_id} epoch {attempt.epoch} batch {attempt.batch_number}",),
        )

        def then(reply: Any) -> None:
            if isinstance(reply, Operation):
                if reply.state is State.FAILED:
                    self._wonder(f"{attempt.name}: equal bits were refused")
                self.ledger.appended(attempt.name, batch)
                self._commit()
            else:
                self._lost(reply)

        self.ask(lambda: self.registry.append(attempt.name, attempt.epoch, batch), then)

    def _commit(self) -> None:
        attempt = self.attempt
        assert attempt is not None
        number = attempt.units + 1
        sha256 = bytes([number]) * 32
        checkpoint = Checkpoint(number, f"home:{number}", sha256, 9, number, "t", b"s" * 32)

        def then(reply: Any) -> None:
            if isinstance(reply, Operation):
                self.ledger.committed(attempt.name, number, sha256)
                attempt.units = number
                self._go_on()
            else:
                self._lost(reply)

        self.ask(lambda: self.registry.commit(attempt.name, attempt.epoch, checkpoint), then)

    def _end(self, outcome: Outcome) -> None:
        attempt = self.attempt
        assert attempt is not None

        def then(reply: Any) -> None:
            if isinstance(reply, Operation):
                self.ledger.completed(attempt.name, reply.state)
                self.begin()
            else:
                self._lost(reply)

        self.ask(lambda: self.registry.complete(attempt.name, attempt.epoch, outcome), then)

    def _release(self) -> None:
        attempt = self.attempt
        assert attempt is not None
        command = lambda: self.registry.release(attempt.name, attempt.epoch)  # noqa: E731
        self.ask(command, lambda reply: self.begin())

    def _renew(self) -> None:
        """Renews beside the work, without asking twice; a zombie does it, too."""
        attempt, worker_id = self.attempt, self.worker_id
        if attempt is not None:
            self.world.send(
                lambda: self.registry.call(
                    lambda: self.registry.renew(attempt.name, worker_id, attempt.epoch),
                    lambda reply: self._renewed(attempt, reply),
                )
            )
        self.world.after(TERMS.renew_interval_s, self._renew)

    def _renewed(self, attempt: Attempt, reply: Any) -> None:
        if self.attempt is not attempt:
            return
        if isinstance(reply, Operation) and reply.epoch == attempt.epoch:
            attempt.is_told = attempt.is_told or reply.state is State.CANCELLING

    def _lost(self, reply: Any) -> None:
        if not is_lost(reply):
            self._wonder(f"{self.worker_id}: {reply!r}")
        self.begin()

    def _wonder(self, what: str) -> None:
        self.ledger.problems.add(what)

    def _crash(self) -> None:
        self.forget()
        self.attempt = None
        self.life += 1
        self.world.after(self.world.random.uniform(0.1, 10.0), self.begin)


@dataclass(frozen=True)
class Habit:
    """How a watcher watches."""

    name: str
    from_snapshot: bool = False
    sleeps_s: float = 0.0
    """Stays away for about so long after each connection."""
    starts_over: float = 0.0
    """Chance of beginning anew, from the oldest event or a snapshot, instead of at the token."""


HABITS = (
    Habit("steady"),
    Habit("cold", starts_over=0.5),
    Habit("sleepy", sleeps_s=40.0),
    Habit("crossing", sleeps_s=5.0),
    Habit("snapshot", from_snapshot=True, starts_over=0.3),
)


class Watcher:
    """Follows everything, over connections that break."""

    def __init__(self, habit: Habit, world: World, registry: Registry) -> None:
        self.habit = habit
        self.world = world
        self.registry = registry
        self.checker = WatchChecker(habit.name)
        self.reconnects = 0
        self.earlier: list[WatchChecker] = []
        self._connection: Connection | None = None

    def begin(self) -> None:
        """Opens a connection: from the token, or from the beginning."""
        token = self.checker.token
        if self.world.happens(self.habit.starts_over):
            self.earlier.append(self.checker)
            self.checker = WatchChecker(self.habit.name)
            token = ""
        self.checker.connected(with_token=bool(token))
        if not token and not self.habit.from_snapshot:
            self.checker.revision = 0
        self._connection = Connection(self.registry, self._take, self._lost)
        try:
            self._connection.open(token, from_snapshot=self.habit.from_snapshot)
        except BacklaneError as error:
            self.checker.problems.add(f"{self.habit.name}: its token was refused: {error.reason}")
            self.checker.token = ""
            self._connection.end()

    def _take(self, connection: Connection, message: WatchMessage) -> None:
        if connection is not self._connection:
            return
        self.checker.accept(message)
        self.world.trace(self.habit.name, message.through_revision)
        if self.world.happens(self.world.faults.watch_breaks):
            connection.end()

    def _lost(self, connection: Connection) -> None:
        if connection is not self._connection:
            return
        self._connection = None
        self.reconnects += 1
        sleeps_s = self.habit.sleeps_s or 0.2
        self.world.after(self.world.random.expovariate(1 / sleeps_s), self.begin)
