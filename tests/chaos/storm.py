"""One storm: everything is started, hit for a while, left alone, and looked at."""

import random
import sqlite3
import sys
import tempfile
import threading
import time
import traceback
from collections import Counter
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from backlane.client.operations import OperationsClient
from backlane.operations.operation import State
from tests.chaos.calls import insist
from tests.chaos.faults import Faults, Lane
from tests.chaos.runs import Run, Runs
from tests.chaos.stand import Stand
from tests.chaos.traffic import Traffic
from tests.chaos.watchers import BACKTESTS, ColdWatcher, Goal, SleepyWatcher, Watcher
from tests.proofs.checker import Ledger, Seen

SETTLE_S = 240.0
"""For everything to end once the faults are over: more than the longest pause before an attempt."""

LANE_END_S = 120.0
"""For the fault that is under way to be over, with everything started again."""

READ_ON_S = 120.0
"""For the watchers to reach the end of the log after that."""

WRITES_PER_FAULT_MIN = 20.0
"""The traffic floor: acknowledged writes for each fault, on average. So many could be lost or
doubled by one of them; a slower machine takes longer, and no less has to go on."""

LOGS_KEPT_CHARACTERS = 60_000


@dataclass(frozen=True, slots=True)
class Plan:
    """When a storm has done enough, and when it must end all the same."""

    seed: int
    faults_min: int
    runs_min: int
    storm_s_max: float
    pause_s: float = 0.4
    writers: int = 4


@dataclass(slots=True)
class Outcome:
    """What a storm came to. It counts only when `is_conclusive`."""

    store: str
    plan: Plan
    faults: Counter[str] = field(default_factory=Counter)
    missed: Counter[str] = field(default_factory=Counter)
    runs: int = 0
    runs_hit: int = 0
    storm_s: float = 0.0
    settle_s: float = 0.0
    acknowledged: int = 0
    deliveries: int = 0
    reconnects: int = 0
    cold_reads: int = 0
    resumed: int = 0
    latency_s: dict[str, float] = field(default_factory=dict)
    lost: list[str] = field(default_factory=list)
    doubled: list[str] = field(default_factory=list)
    stuck: list[str] = field(default_factory=list)
    differing: list[str] = field(default_factory=list)
    watch_problems: list[str] = field(default_factory=list)
    other: list[str] = field(default_factory=list)
    logs: str = ""

    @property
    def fault_count(self) -> int:
        """How many faults took place."""
        return sum(self.faults.values())

    @property
    def writes_per_s(self) -> float:
        """Acknowledged writes per second of storm."""
        return self.acknowledged / self.storm_s if self.storm_s else 0.0

    @property
    def writes_per_fault(self) -> float:
        """Acknowledged writes for each fault that took place."""
        return self.acknowledged / max(self.fault_count, 1)

    @property
    def problems(self) -> list[str]:
        """Everything that should not be."""
        return [
            *(f"lost: {one}" for one in self.lost),
            *(f"doubled: {one}" for one in self.doubled),
            *(f"stuck: {one}" for one in self.stuck),
            *(f"differs: {one}" for one in self.differing),
            *(f"watch: {one}" for one in self.watch_problems),
            *self.other,
        ]

    @property
    def is_conclusive(self) -> bool:
        """Whether enough went on for the absence of problems to mean something."""
        return not self.shortfalls

    @property
    def shortfalls(self) -> list[str]:
        """Says of what there was too little for the absence of problems to mean something."""
        plan = self.plan
        wanted = {
            "faults": (self.fault_count, plan.faults_min),
            "runs": (self.runs, plan.runs_min),
            "acknowledged writes for each fault": (self.writes_per_fault, WRITES_PER_FAULT_MIN),
        }
        return [
            f"{found:.4g} {what} in {self.storm_s:.0f} s, {least:g} are the least"
            for what, (found, least) in wanted.items()
            if found < least
        ]


def storm(plan: Plan, store_url: sa.URL | None) -> Outcome:
    """Runs one storm on SQLite, or on the PostgreSQL schema of the URL."""
    outcome = Outcome("postgresql" if store_url is not None else "sqlite", plan)
    with (
        tempfile.TemporaryDirectory(prefix="chaos-") as folder,
        Stand(Path(folder), store_url) as stand,
    ):
        try:
            _Storm(plan, stand, outcome).run()
        finally:
            if outcome.problems:
                outcome.logs = stand.logs()[-LOGS_KEPT_CHARACTERS:]
    return outcome


class _Storm:
    def __init__(self, plan: Plan, stand: Stand, outcome: Outcome) -> None:
        self._plan, self._stand, self._outcome = plan, stand, outcome
        self._ledger = Ledger()
        addresses = stand.addresses()
        self._runs = Runs(addresses, plan.seed, self._ledger)
        self._traffic = Traffic(addresses.operations, plan.writers, self._ledger)
        self._goal = Goal()
        self._watchers = self._make_watchers(addresses.operations)

    def run(self) -> None:
        self._runs.run_undisturbed()
        everything = [*self._watchers, self._traffic, self._runs]
        for thread in everything:
            thread.start()
        faults = Faults(self._stand)
        self._blow(faults)
        self._settle()
        outcome = self._outcome
        outcome.faults, outcome.missed = faults.counts, faults.missed
        outcome.other += faults.problems
        self._judge()
        self._runs.close()

    def _make_watchers(self, addresses: str) -> list[Watcher]:
        chance = random.Random(f"{self._plan.seed} watchers")
        live = [
            Watcher(f"live on {number}", proxy.address, self._goal)
            for number, proxy in enumerate(self._stand.client_proxies, 1)
        ]
        return [
            *live,
            Watcher("filtered", addresses, self._goal, kind=BACKTESTS),
            SleepyWatcher("sleepy", addresses, self._goal, chance),
            ColdWatcher("cold", addresses, self._goal),
        ]

    def _blow(self, faults: Faults) -> None:
        plan, is_over = self._plan, threading.Event()
        lanes = [
            Lane(name, menu, faults, plan.seed, is_over, plan.pause_s)
            for name, menu in faults.lanes().items()
        ]
        begun_s = time.monotonic()
        written = self._ledger.acknowledged
        for lane in lanes:
            lane.start()
        while time.monotonic() - begun_s < plan.storm_s_max and not self._is_enough(
            faults, self._ledger.acknowledged - written
        ):
            time.sleep(0.2)
        is_over.set()
        for lane in lanes:
            lane.join(LANE_END_S)
            if lane.is_alive():
                self._outcome.stuck.append(f"the thread of the {lane.name}")
        self._outcome.storm_s = time.monotonic() - begun_s
        self._outcome.acknowledged = self._ledger.acknowledged - written

    def _is_enough(self, faults: Faults, writes: int) -> bool:
        count = sum(faults.counts.values())
        return (
            count >= self._plan.faults_min
            and len(self._runs.runs) >= self._plan.runs_min
            and writes >= WRITES_PER_FAULT_MIN * count
        )

    def _settle(self) -> None:
        begun_s = time.monotonic()
        self._traffic.stop()
        self._runs.stop(SETTLE_S)
        for thread in (self._runs, self._traffic):
            thread.join(max(0.0, begun_s + SETTLE_S + 10 - time.monotonic()))
            if thread.is_alive():
                self._outcome.stuck.append(f"the thread of the {thread.name}")
        with OperationsClient(self._stand.addresses().operations, client_name="chaos") as client:
            listed = insist(lambda: list(client.list_operations()))
        for operation in listed:
            if not operation.state.is_terminal:
                self._outcome.stuck.append(
                    f"{operation.name} is {operation.state} in attempt {operation.attempt}, "
                    f"after {[one.reason for one in operation.failures]}"
                )
        names = {operation.name for operation in listed}
        made = set(self._ledger.requests.values())
        self._outcome.lost += [f"{name} is not listed" for name in sorted(made - names)]
        self._outcome.doubled += [f"{name}: nobody was told of it" for name in sorted(names - made)]
        self._goal.revision = max(operation.revision for operation in listed)
        self._outcome.settle_s = time.monotonic() - begun_s
        ends_s = time.monotonic() + READ_ON_S
        for watcher in self._watchers:
            watcher.join(max(0.0, ends_s - time.monotonic()))
        self._goal.is_given_up.set()
        for watcher in self._watchers:
            if watcher.is_alive():
                told = f"watcher {watcher.name} at {watcher.checker.revision}, {watcher.last_error}"
                self._outcome.stuck.append(f"{told}\n{_stack_of(watcher)}")

    def _judge(self) -> None:
        outcome = self._outcome
        outcome.runs = len(self._runs.runs)
        outcome.runs_hit = sum(run.attempt > 1 for run in self._runs.runs)
        for watcher in self._watchers:
            outcome.watch_problems += watcher.checker.problems.told
            outcome.deliveries += watcher.checker.deliveries
            outcome.reconnects += watcher.reconnects
            if isinstance(watcher, ColdWatcher):
                outcome.cold_reads = watcher.reads
        whole = [watcher for watcher in self._watchers if not watcher.checker.is_filtered]
        logs = {watcher.name: watcher.checker.operations for watcher in whole}
        first = logs[whole[0].name]
        for name, log in logs.items():
            if log != first:
                outcome.watch_problems.append(f"{name} saw something else than {whole[0].name}")
        for run in self._runs.runs:
            self._judge_run(run, first)
        # Runs say where they go on from, which may be the same place twice.
        backtests = {run.name for run in (*self._runs.runs, *self._runs.undisturbed.values())}
        for name in backtests & first.keys():
            goes_on = [note for note in first[name].notes if note.startswith("Going on from")]
            outcome.resumed += len(goes_on)
            first[name].notes.clear()
        found = self._ledger.problems_in(first)
        for told in found.told:
            kind = outcome.doubled if "times" in told or "and then" in told else outcome.lost
            kind.append(told)
        live = [s for watcher in whole if type(watcher) is Watcher for s in watcher.latencies_s]
        outcome.latency_s = _quantiles(live)
        if not self._stand.is_shared:
            outcome.other += _integrity(self._stand.registry_disk.folder / "operations.sqlite")

    def _judge_run(self, run: Run, log: dict[str, Seen]) -> None:
        told = f"{run.name} (to {run.end}, {run.state}, attempt {run.attempt}, {run.failures})"
        if run.state is State.CANCELLED and run.is_cancelled:
            return
        if run.state is not State.SUCCEEDED:
            if run.state.is_terminal:
                self._outcome.lost.append(told)
            return
        expected = self._runs.undisturbed[run.end]
        if run.digest != expected.digest:
            self._outcome.differing.append(f"{told}: {run.digest} is not {expected.digest}")
        seen, wanted = log.get(run.name), log[expected.name]
        if seen is None:
            self._outcome.lost.append(f"{told}: no watcher saw it")
        elif (seen.steps, seen.trades) != (wanted.steps, wanted.trades):
            self._outcome.differing.append(f"{told}: its points or trades are others")


def _quantiles(values: Sequence[float]) -> dict[str, float]:
    if not values:
        return {}
    ordered = sorted(values)
    return {
        name: ordered[min(int(len(ordered) * part), len(ordered) - 1)]
        for name, part in (("p50", 0.5), ("p99", 0.99), ("worst", 1.0))
    }


def _stack_of(thread: threading.Thread) -> str:
    frame = sys._current_frames().get(thread.ident or 0)
    return "".join(traceback.format_stack(frame)[-6:]) if frame is not None else ""


def _integrity(path: Path) -> list[str]:
    with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)) as connection:
        rows: list[Any] = connection.execute("PRAGMA integrity_check").fetchall()
    return [] if rows == [("ok",)] else [f"integrity_check: {rows}"]
