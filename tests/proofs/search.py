"""Every interleaving of two workers, a client, the scanner and a bad network, one by one.

A situation is an operation, what each worker believes, and the messages under way. A message stays
under way until it is lost: so it may come late, often, or never, and so may its answer. Workers
crash at any time, and pause at any time, because none of them ever has to go on.

A claim may be late, lost or doubled as well: so at any time an operation that waits can be given
out, to a worker that learns of it, or to one that does not.
"""

from array import array
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

from tests.proofs.laws import ENDED, ViolationError, require
from tests.proofs.world import UNITS, WORKERS, Answer, Message, World


class Worker(NamedTuple):
    """What a worker believes. `doing` is idle, or the kind of message that it says next.

    The attempt began with `base` units done, and `units` are done now.
    """

    doing: str = "idle"
    epoch: int = 0
    base: int = 0
    units: int = 0
    is_told: bool = False


IDLE = Worker()
ENDINGS = ("retry", "fatal", "stop", "release")


class Situation(NamedTuple):
    """Where everything stands."""

    operation: int
    workers: tuple[Worker, Worker]
    messages: tuple[Message, ...] = ()


@dataclass(frozen=True)
class Found:
    """What the search saw."""

    situations: int
    steps: int
    operations: int
    ended: int


class Search:
    """Explores all situations, breadth first.

    With `keeps_zombies` what is believed and under way under a lease that is gone is kept; without,
    it is dropped, because `world.probe` has tried all of it on every operation, and the epoch never
    goes back. Both must find the same; the second can go further.
    """

    def __init__(
        self, world: World, in_flight_max: int = 3, *, keeps_zombies: bool = False
    ) -> None:
        self.world = world
        self.in_flight_max = in_flight_max
        self.keeps_zombies = keeps_zombies

    def run(self, starts: Iterable[int] = (), situations_max: int = 3_000_000) -> Found:
        """Explores all that can come of the operations `starts`, or of a new one.

        Raises ViolationError, with the shortest way to the law that is broken as its note.
        """
        firsts = [Situation(one, (IDLE, IDLE)) for one in starts or [self.world.first()]]
        number = {first: place for place, first in enumerate(firsts)}
        parents = array("i", [-1] * len(firsts))
        origins, targets = array("i"), array("i")
        queue = deque(firsts)
        while queue:
            here = queue.popleft()
            place = number[here]
            try:
                cancelled = self._settled(self.world.cancel(here.operation), *here[1:])
                for there in {cancelled, *self._steps(here)}:
                    index = number.setdefault(there, len(number))
                    if index == len(parents):
                        parents.append(place)
                        queue.append(there)
                    if there is not cancelled:
                        origins.append(place)
                        targets.append(index)
            except ViolationError as error:
                error.add_note(self._way(place, list(number), parents))
                raise
            require("the search is bounded", len(number) <= situations_max, len(number))
        ended = [
            place
            for there, place in number.items()
            if self.world.operations[there.operation].state in ENDED
        ]
        _check_every_end_is_near(len(number), origins, targets, ended)
        return Found(len(number), len(origins), len(self.world.operations), len(ended))

    def _steps(self, here: Situation) -> Iterator[Situation]:
        """Yields every situation that can come next."""
        operation, workers, messages = here
        for after in self.world.drift(operation):
            yield self._settled(after, workers, messages)
        for index, message in enumerate(messages):
            yield Situation(operation, workers, messages[:index] + messages[index + 1 :])
            yield from self._deliver(here, message)
        for index, worker in enumerate(workers):
            if worker.doing == "idle":
                yield from self._claim(here, index)
            else:
                yield from self._act(here, index, worker)
        self._check_holders(here)

    def _claim(self, here: Situation, index: int) -> Iterator[Situation]:
        after, answer = self.world.deliver(here.operation, Message("claim", WORKERS[index]))
        if answer.kind != "ok":
            return
        if after != here.operation:
            yield self._settled(after, here.workers, here.messages)  # and nobody learns of it
        worker = _at_work(Worker("append", answer.epoch, answer.units, answer.units))
        yield self._settled(after, _with(here.workers, index, worker), here.messages)

    def _act(self, here: Situation, index: int, worker: Worker) -> Iterator[Situation]:
        operation, workers, messages = here
        yield Situation(operation, _with(workers, index, IDLE), messages)  # it crashes
        if len(messages) < self.in_flight_max:
            for message in _sayings(worker, WORKERS[index]):
                if message not in messages:
                    yield Situation(operation, workers, tuple(sorted((*messages, message))))
        if worker.doing not in ENDINGS:
            for ending in ENDINGS:
                if ending != "stop" or worker.is_told:
                    changed = _with(workers, index, worker._replace(doing=ending))
                    yield Situation(operation, changed, messages)

    def _deliver(self, here: Situation, message: Message) -> Iterator[Situation]:
        after, answer = self.world.deliver(here.operation, message)
        if after != here.operation:
            yield self._settled(after, here.workers, here.messages)  # and the answer is lost
        index = WORKERS.index(message.worker)
        worker = _told(here.workers[index], message, answer)
        if worker != here.workers[index]:
            yield self._settled(after, _with(here.workers, index, worker), here.messages)

    def _settled(
        self, operation: int, workers: tuple[Worker, Worker], messages: tuple[Message, ...]
    ) -> Situation:
        mirrored = self.world.mirrored(operation)
        if mirrored != operation:
            operation, workers = mirrored, (workers[1], workers[0])
            messages = tuple(sorted(message.mirrored() for message in messages))
        if self.keeps_zombies:
            return Situation(operation, workers, messages)
        one = self.world.operations[operation]
        epoch = one.epoch if one.lease is not None else -1
        first, second = (worker if worker.epoch == epoch else IDLE for worker in workers)
        live = tuple(message for message in messages if message.epoch == epoch)
        return Situation(operation, (first, second), live)

    def _check_holders(self, here: Situation) -> None:
        """At most one worker believes in a lease that the registry takes writes under."""
        accepted = [
            worker
            for name, worker in zip(WORKERS, here.workers, strict=True)
            if worker.doing != "idle"
            and self.world.deliver(here.operation, Message("renew", name, worker.epoch))[1].kind
            == "ok"
        ]
        require("never two live holders", len(accepted) <= 1, accepted)

    def _way(self, place: int, situations: list[Situation], parents: "array[int]") -> str:
        """Returns the shortest way to a situation, for people."""
        way: list[str] = []
        while place >= 0:
            at = situations[place]
            one = self.world.operations[at.operation]
            believed = [f"{worker.doing} {worker.epoch}" for worker in at.workers]
            sent = [f"{m.kind} {m.epoch}.{m.number} of {m.worker}" for m in at.messages]
            way.append(f"{one.state} epoch {one.epoch}; workers: {believed}; under way: {sent}")
            place = parents[place]
        return "\n".join(reversed(way))


def _check_every_end_is_near(
    count: int, origins: "array[int]", targets: "array[int]", ended: list[int]
) -> None:
    """From every situation an end can be reached, though nobody cancels (AG EF terminal)."""
    before: list[list[int]] = [[] for _ in range(count)]
    for origin, target in zip(origins, targets, strict=True):
        before[target].append(origin)
    seen = bytearray(count)
    stack = list(ended)
    for place in stack:
        seen[place] = 1
    while stack:
        for origin in before[stack.pop()]:
            if not seen[origin]:
                seen[origin] = 1
                stack.append(origin)
    require("an end can always be reached", all(seen), count - sum(seen))


def _sayings(worker: Worker, name: str) -> Iterator[Message]:
    """Yields what a worker may send now."""
    yield Message("renew", name, worker.epoch)
    if worker.doing == "append":
        number = worker.units - worker.base + 1
        yield Message("append", name, worker.epoch, number, worker.base)
    elif worker.doing == "commit":
        yield Message("commit", name, worker.epoch, worker.units + 1)
    else:
        yield Message(worker.doing, name, worker.epoch)


def _told(worker: Worker, message: Message, answer: Answer) -> Worker:
    """Returns what a worker believes after an answer; one to another question it ignores."""
    if worker.doing == "idle" or worker.epoch != message.epoch:
        return worker
    if answer.kind == "lost":
        return IDLE
    if answer.kind != "ok":
        return worker
    if message.kind == "renew":
        return worker._replace(is_told=answer.is_cancelling)
    if message.kind != worker.doing:
        return worker
    if message.kind == "append":
        is_asked = message.number == worker.units - worker.base + 1
        return worker._replace(doing="commit") if is_asked else worker
    if message.kind == "commit":
        is_asked = message.number == worker.units + 1
        return _at_work(worker._replace(units=worker.units + 1)) if is_asked else worker
    return IDLE


def _at_work(worker: Worker) -> Worker:
    return worker._replace(doing="append" if worker.units < UNITS else "done")


def _with(workers: tuple[Worker, Worker], index: int, worker: Worker) -> tuple[Worker, Worker]:
    return (worker, workers[1]) if index == 0 else (workers[0], worker)
