"""Real backtests, submitted and looked after by a client that never gives up."""

import random
import threading
import time
import uuid
from dataclasses import dataclass, field

from backlane.backtest.request import BacktestRequest
from backlane.client.backlane_client import Client
from backlane.client.backtests import RunOptions
from backlane.client.connection import Addresses
from backlane.errors import NothingToResumeError
from backlane.operations.operation import State
from tests.chaos.calls import insist
from tests.chaos.stand import MODEL
from tests.e2e.stack import short_request
from tests.proofs.checker import Ledger

ENDS = ("2015-01-11", "2015-01-14", "2015-01-17")
"""Where the kinds of runs end: of 9 to 17 thousand bars."""

LIVE_MAX = 6
CANCEL_CHANCE, TWICE_CHANCE = 0.12, 0.3
OPTIONS = RunOptions(max_attempts=100)


def request_of(end: str) -> BacktestRequest:
    """The run that ends there."""
    return short_request(model={"name": MODEL, "version": 1}, end=end)


@dataclass(slots=True)
class Run:
    """One accepted run: what it should come to, and what has been asked of it."""

    name: str
    end: str
    is_cancelled: bool = False
    state: State = State.QUEUED
    digest: str = ""
    attempt: int = 0
    failures: list[str] = field(default_factory=list)


class Runs(threading.Thread):
    """Keeps some runs going until `stop`; then waits for the end of all."""

    def __init__(self, addresses: Addresses, seed: int, ledger: Ledger) -> None:
        super().__init__(name="runs", daemon=True)
        self.runs: list[Run] = []
        self.is_over = threading.Event()
        self.deadline_s = 0.0
        self.undisturbed: dict[str, Run] = {}
        self._client = Client(addresses, client_name="chaos")
        self._chance = random.Random(f"{seed} runs")
        self._ledger = ledger

    def run_undisturbed(self) -> None:
        """One run of each kind before anything happens."""
        for end in ENDS:
            run = self._submit(end)
            self._client.operations.wait(run.name, timeout_s=60)
            self._look(run)
            assert run.state is State.SUCCEEDED, run
            self.undisturbed[end] = run

    def stop(self, settle_s: float) -> None:
        """Submits no more; what is under way has so long to end."""
        self.deadline_s = time.monotonic() + settle_s
        self.is_over.set()

    def run(self) -> None:
        """Submits and looks after."""
        try:
            self._run()
        except Exception as error:  # noqa: BLE001 - it is what the storm is about
            self._ledger.problems.add(f"the client ended with {type(error).__name__}: {error}")

    def close(self) -> None:
        """Lets go of the connections."""
        self._client.close()

    def _run(self) -> None:
        live: list[Run] = []
        while True:
            if self.is_over.is_set():
                if not live or time.monotonic() > self.deadline_s:
                    return
            elif len(live) < LIVE_MAX:
                live.append(self._submit(self._chance.choice(ENDS)))
                self.runs.append(live[-1])
            for run in tuple(live):
                self._look(run)
                if run.state.is_terminal:
                    live.remove(run)
                    live += self._resumed(run)
                elif not run.is_cancelled and self._chance.random() < CANCEL_CHANCE / 10:
                    run.is_cancelled = True
                    insist(lambda name=run.name: self._client.operations.cancel(name))  # type: ignore[misc]
                    self._ledger.cancelled(run.name)
            time.sleep(0.1)

    def _submit(self, end: str) -> Run:
        request_id = str(uuid.UUID(int=self._chance.getrandbits(128), version=4))
        for _ in range(2 if self._chance.random() < TWICE_CHANCE else 1):
            made = insist(
                lambda: self._client.backtests.run(
                    request_of(end), request_id=request_id, options=OPTIONS
                )
            )
            self._ledger.created(request_id, made.name)
        return Run(made.name, end)

    def _resumed(self, run: Run) -> list[Run]:
        """What was cancelled and has a checkpoint goes on."""
        if run.state is not State.CANCELLED:
            return []
        request_id = str(uuid.UUID(int=self._chance.getrandbits(128), version=4))
        try:
            made = insist(lambda: self._client.backtests.resume(run.name, request_id=request_id))
        except NothingToResumeError:
            return []
        self._ledger.created(request_id, made.name)
        self.runs.append(Run(made.name, run.end))
        return self.runs[-1:]

    def _look(self, run: Run) -> None:
        operation = insist(lambda: self._client.operations.get(run.name))
        run.state, run.attempt = operation.state, operation.attempt
        run.failures = [one.reason for one in operation.failures]
        if operation.error is not None:
            run.failures.append(f"{operation.error.reason}: {operation.error.message}")
        if operation.state is State.SUCCEEDED:
            run.digest = insist(lambda: self._client.backtests.get_result(run.name)).result_digest
