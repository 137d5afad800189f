"""What is done to the processes, the network and the disks: one fault at a time in each lane.

Lanes run beside each other, each with its own chance from the seed: the registry and its disk, the
runners with their workers, the network, and the rest. `all` takes the locks of everything.
"""

import os
import random
import signal
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress

from tests.chaos.stand import LEASE_TTL_S, Stand

Fault = Callable[[random.Random], None]
DRAIN_DEADLINE_S = 30.0
"""The services allow themselves 10 s, and give back what they hold; a busy machine needs longer."""
START_TRIES = 3
"""Of 30 s each: the machine may be busy with something else."""

PAUSES = {"network": 6.0}
"""How many times longer a lane pauses than the others: to cut a connection takes no time at all,
and would happen more often than all the kills together."""

CHILD_LOOKS_MAX, CHILD_LOOK_S = 40, 0.05
"""Looks for a worker that runs something, and the time between two."""


class Faults:
    """The faults that this stand can suffer. `counts` says how often each took place."""

    def __init__(self, stand: Stand) -> None:
        self._stand = stand
        self.counts: Counter[str] = Counter()
        self.missed: Counter[str] = Counter()
        """Faults that found nothing to hit, and starts that had to be tried again."""
        self.problems: list[str] = []

    def lanes(self) -> dict[str, dict[str, tuple[Fault, int]]]:
        """Per lane its faults, each with its weight."""
        registry: dict[str, tuple[Fault, int]] = {
            "kill operations": (lambda chance: self._kill(chance, self._stand.replicas()), 6),
            "term operations": (lambda chance: self._term(chance, self._stand.replicas()), 2),
            "stop operations": (lambda chance: self._stop(chance, self._stand.replicas()), 1),
        }
        if self._stand.registry_disk.is_there:
            registry["registry disk full"] = (self._fill_registry, 2)
        runners: dict[str, tuple[Fault, int]] = {
            "kill child": (lambda chance: self._hit_child(chance, signal.SIGKILL), 5),
            "term child": (lambda chance: self._hit_child(chance, signal.SIGTERM), 2),
            "stop child": (self._stop_child, 1),
            "kill runner": (lambda chance: self._kill(chance, self._stand.runners()), 2),
            "term runner": (lambda chance: self._term(chance, self._stand.runners()), 2),
            "stop runner past lease": (self._stop_runner, 1),
        }
        network: dict[str, tuple[Fault, int]] = {
            "cut clients": (self._cut_clients, 4),
            "silence clients": (self._silence_clients, 1),
        }
        if self._stand.is_shared:
            network["cut store"] = (self._cut_store, 4)
        rest: dict[str, tuple[Fault, int]] = {
            "kill models": (lambda chance: self._kill(chance, ["models"]), 1),
            "term models": (lambda chance: self._term(chance, ["models"]), 1),
            "kill all": (self._kill_all, 1),
        }
        if self._stand.checkpoints_disk.is_there:
            rest["checkpoints disk full"] = (self._fill_checkpoints, 2)
        return {"registry": registry, "runners": runners, "network": network, "rest": rest}

    def happened(self, name: str) -> None:
        """Counts one that took place."""
        self.counts[name] += 1

    def _kill(self, chance: random.Random, names: list[str]) -> None:
        name = chance.choice(names)
        with self._stand.locks[name]:
            self._stand.processes[name].kill()
            time.sleep(chance.choice((0.0, 0.0, 0.5)))
            self._start(name)

    def _term(self, chance: random.Random, names: list[str]) -> None:
        name = chance.choice(names)
        with self._stand.locks[name]:
            process = self._stand.processes[name]
            try:
                process.terminate(DRAIN_DEADLINE_S)
            except subprocess.TimeoutExpired:
                self.problems.append(f"{name} did not drain in {DRAIN_DEADLINE_S:g} s")
            process.kill()
            self._start(name)

    def _start(self, name: str) -> None:
        """Starts it, as a supervisor does: again where it did not come up in time."""
        for tries_left in reversed(range(START_TRIES)):
            try:
                self._stand.processes[name].start()
            except (TimeoutError, RuntimeError):
                if not tries_left:
                    raise
                self.missed[f"start of {name}"] += 1
            else:
                return

    def _stop(self, chance: random.Random, names: list[str]) -> None:
        name = chance.choice(names)
        with self._stand.locks[name]:
            self._stopped(self._stand.processes[name].pid, chance.uniform(0.5, LEASE_TTL_S))

    def _stop_runner(self, chance: random.Random) -> None:
        name = chance.choice(self._stand.runners())
        with self._stand.locks[name]:
            # The whole group: the supervisor that renews and the run itself, as a paused machine.
            pid = self._stand.processes[name].pid
            os.killpg(pid, signal.SIGSTOP)
            try:
                time.sleep(LEASE_TTL_S * chance.uniform(1.3, 2.0))
            finally:
                os.killpg(pid, signal.SIGCONT)

    def _stop_child(self, chance: random.Random) -> None:
        pid = self._a_child(chance)
        if pid:
            self._stopped(pid, LEASE_TTL_S * chance.uniform(0.5, 1.5))

    def _stopped(self, pid: int, duration_s: float) -> None:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGSTOP)
            time.sleep(duration_s)
            os.kill(pid, signal.SIGCONT)

    def _hit_child(self, chance: random.Random, number: signal.Signals) -> None:
        pid = self._a_child(chance)
        if pid:
            with suppress(ProcessLookupError):
                os.kill(pid, number)

    def _a_child(self, chance: random.Random) -> int:
        """A worker that runs something; waits a moment for one, raises LookupError without."""
        for _ in range(CHILD_LOOKS_MAX):
            found = self._stand.children(is_busy=True)
            if found:
                time.sleep(chance.uniform(0.0, 0.7))
                return chance.choice(found)
            time.sleep(CHILD_LOOK_S)
        raise LookupError("nothing runs")

    def _cut_store(self, chance: random.Random) -> None:
        proxy = self._stand.store_proxy
        assert proxy is not None
        away_s = chance.choice((0.0, 0.0, 0.5, 2.0))
        with self._undisturbed(self._stand.replicas()):
            proxy.refuse(away_s > 0)
            proxy.cut()
            time.sleep(away_s)
            proxy.refuse(False)

    def _cut_clients(self, chance: random.Random) -> None:
        chance.choice(self._stand.client_proxies).cut()

    def _silence_clients(self, chance: random.Random) -> None:
        proxy = chance.choice(self._stand.client_proxies)
        proxy.silence(True)
        time.sleep(chance.uniform(1.0, 5.0))
        proxy.silence(False)

    def _fill_registry(self, chance: random.Random) -> None:
        # A registry that is started on a full disk says so and ends; that is another test.
        with self._undisturbed(self._stand.replicas()):
            self._stand.registry_disk.fill()
            try:
                time.sleep(chance.uniform(0.5, 2.0))
            finally:
                self._stand.registry_disk.free()

    def _fill_checkpoints(self, chance: random.Random) -> None:
        self._stand.checkpoints_disk.fill()
        try:
            time.sleep(chance.uniform(1.0, 3.0))
        finally:
            self._stand.checkpoints_disk.free()

    def _kill_all(self, _chance: random.Random) -> None:
        names = sorted(self._stand.processes)
        with self._undisturbed(names):
            for name in names:
                self._stand.processes[name].kill()
            for name in [*self._stand.replicas(), "models", "backtests", "worker"]:
                self._start(name)

    @contextmanager
    def _undisturbed(self, names: list[str]) -> Iterator[None]:
        """Keeps other faults away from these processes."""
        with ExitStack() as stack:
            for name in sorted(names):
                stack.enter_context(self._stand.locks[name])
            yield


class Lane(threading.Thread):
    """Does one fault after the other, with pauses, until it is told that it is enough.

    Each one of its menu comes once, in an order by chance; from then on their weights decide.
    """

    def __init__(
        self,
        name: str,
        menu: dict[str, tuple[Fault, int]],
        faults: Faults,
        seed: int,
        is_over: threading.Event,
        pause_s: float,
    ) -> None:
        super().__init__(name=f"lane {name}", daemon=True)
        self._menu, self._faults = menu, faults
        self._chance = random.Random(f"{seed} {name}")
        self._is_over = is_over
        self._pause_s = pause_s * PAUSES.get(name, 1.0)

    def run(self) -> None:
        """Lets one of the faults happen after the other."""
        names = list(self._menu)
        weights = [weight for _, weight in self._menu.values()]
        first = self._chance.sample(names, len(names))
        while not self._is_over.wait(self._chance.uniform(0.2, 2.0) * self._pause_s):
            name = first.pop() if first else self._chance.choices(names, weights)[0]
            try:
                self._menu[name][0](self._chance)
            except LookupError:
                self._faults.missed[name] += 1
            except Exception as error:  # noqa: BLE001 - a service that does not start again
                told = f"{type(error).__name__}: {error}"
                self._faults.problems.append(f"{name}: {told[-3000:]}")
            else:
                self._faults.happened(name)
