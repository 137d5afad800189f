"""Runs the simulation: chaos for so many steps, then quiet until all has ended, then judgement."""

from dataclasses import dataclass

from tests.proofs.actors import HABITS, Client, Watcher, Worker
from tests.proofs.checker import Ledger, Problems
from tests.proofs.laws import ENDED
from tests.proofs.simulation import Faults, Registry, World

CLIENTS, WORKERS = 4, 3
EPISODE_STEPS = 20_000
"""Steps of chaos with one seed: enough for hundreds of operations, and for a log of many pages."""
SETTLING_STEPS_MAX = 400_000
QUIET = Faults(0, 0, 0.05, 0, 1, 0, 0, 0, 0, 0, 0)


@dataclass(frozen=True)
class Outcome:
    """What an episode came to."""

    seed: int
    steps: int
    digest: str
    operations: int
    events: int
    deliveries: int
    acknowledged: int
    crashes: int
    reconnects: int
    problems: int
    told: tuple[str, ...]


class Episode:
    """One seed's world."""

    def __init__(
        self,
        seed: int,
        registry_type: type[Registry] = Registry,
        faults: Faults | None = None,
        settling_steps_max: int = SETTLING_STEPS_MAX,
    ) -> None:
        self.seed = seed
        self.settling_steps_max = settling_steps_max
        self.world = World(seed, faults or Faults())
        self.registry = registry_type(self.world)
        self.ledger = Ledger()
        parts = (self.world, self.registry, self.ledger)
        self.clients = [Client(f"client-{number}", *parts) for number in range(CLIENTS)]
        self.workers = [Worker(f"worker-{number}", *parts) for number in range(WORKERS)]
        self.watchers = [Watcher(habit, self.world, self.registry) for habit in HABITS]
        for actor in (*self.clients, *self.workers, *self.watchers):
            self.world.after(self.world.random.random(), actor.begin)

    def run(self, steps: int = EPISODE_STEPS) -> Outcome:
        """Runs it to its end, and judges it."""
        self.world.run(steps)
        self._settle()
        for request_id in (one for client in self.clients for one in client.refused):
            if request_id in self.registry.requests:
                self.ledger.created(request_id, self.registry.requests[request_id])
        checkers = [
            checker for watcher in self.watchers for checker in (*watcher.earlier, watcher.checker)
        ]
        whole = next(w.checker for w in self.watchers if w.habit.name == "steady")
        found: list[Problems] = [checker.problems for checker in checkers]
        found.append(self.ledger.problems_in(whole.operations))
        return Outcome(
            seed=self.seed,
            steps=self.world.steps,
            digest=self.world.digest,
            operations=len(self.registry.operations),
            events=len(self.registry.log),
            deliveries=sum(checker.deliveries for checker in checkers),
            acknowledged=self.ledger.acknowledged,
            crashes=self.registry.crashes,
            reconnects=sum(watcher.reconnects for watcher in self.watchers),
            problems=sum(one.count for one in found),
            told=tuple(line for one in found for line in one.told[:5])[:20],
        )

    def _settle(self) -> None:
        """Ends the chaos, and lets everything come to its end."""
        self.world.faults = QUIET
        for client in self.clients:
            client.is_closing = True
        for _ in range(self.settling_steps_max // 1_000):
            self.world.run(1_000)
            if self._is_over():
                return
        self.ledger.problems.add("it never came to an end")

    def _is_over(self) -> bool:
        states = (one.state for one in self.registry.operations.values())
        return (
            all(client.is_closed for client in self.clients)
            and all(state in ENDED for state in states)
            and all(w.checker.revision == self.registry.published for w in self.watchers)
        )
