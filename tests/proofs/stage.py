"""The service that the machine of test_live.py plays on, and what it knows by itself."""

import asyncio
from collections import Counter
from collections.abc import Coroutine
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from typing import Any

from backlane.client.operations import AsyncOperationsClient
from backlane.client.workers import AsyncWorkerClient
from backlane.clock import ManualClock
from backlane.operations.commands import Failed, Outcome, Stopped, Succeeded, TelemetryBatch
from backlane.operations.events import MetricPoint
from backlane.operations.operation import Checkpoint, OperationError, Payload, State
from backlane.testing.servers import running
from backlane.wire.portfolio import trade_to_bytes
from operations_service.app import build
from operations_service.settings import OperationsServiceSettings
from tests.unit.operations.test_wire import TRADE

TTL_S = 0.3
"""Of the test's own clock; the service looks for what is overdue each sixth of it in real time."""
SPEC = Payload("type.googleapis.com/test.Spec", b"\x0a\x01x")
WORKERS = ("w1", "w2")
PAUSES_S = (0.2, 0.8)
"""After the first and the second failure."""
ON_A_NAME = {"cancel", "resume", "delete", "submit_again", "look"}
ON_A_LEASE = {
    *("append", "append_other_bits", "commit", "complete", "release"),
    *("renew", "renew_as_another", "claim_again", "hand_over", "fail_and_resume"),
}
DEEDS = (
    *("submit 1", "submit 2", "submit 3", "cancel", "cancel", "resume", "resume", "delete"),
    *("submit_again", "look", "list_all", "watch 1", "watch 2", "watch 9", "restart"),
    *("let_time_pass 0.05", "let_time_pass 0.2", "let_time_pass 0.3", "let_time_pass 0.2"),
    *("claim w1", "claim w2", "claim w1", "claim w2", "claim w1", "claim w2"),
    *("append next", "append next", "append next", "append next", "append next"),
    *("append next", "append again", "append ahead", "append_other_bits"),
    *("commit next", "commit next", "commit again", "commit ahead", "append_other_bits"),
    *("complete retryable", "complete retryable", "complete failed", "complete succeeded"),
    *("complete stopped", "complete stopped", "release", "renew", "renew_as_another"),
    *("claim_again", "hand_over", "hand_over", "fail_and_resume"),
)
"""What is done; what is named often is done often."""
EXPECTED = {
    *("LEASE_LOST", "BATCH_OUT_OF_ORDER", "CHECKPOINT_OUT_OF_ORDER", "NONDETERMINISTIC_REPLAY"),
    *("REQUEST_ID_REUSED", "OPERATION_NOT_FOUND", "OPERATION_NOT_TERMINAL", "NOTHING_TO_RESUME"),
    *("VALIDATION_FAILED", "resumed", "a replay", "expired", "the same end again", *State),
}
"""What a run must have met, or it has proved little."""
RESTARTS_MAX = 2
"""Restarts in one example: each takes as long as a hundred calls."""

Lease = tuple[str, str, int]
"""Operation, worker and epoch."""


class Stage:
    """One service for all examples, with its clients; each example has a kind of its own."""

    def __init__(self, store_url: str) -> None:
        self.clock = ManualClock(1_700_000_000_000_000_000)
        self.restarts = 0
        self.seen: Counter[str] = Counter()
        self._settings = OperationsServiceSettings(
            port=0,
            store_url=store_url,
            lease_ttl_s=TTL_S,
            drain_grace_s=1.0,
            client_calls_per_s=1e9,
            client_calls_burst=10**9,
        )
        self._runner = asyncio.Runner()
        self._stack = AsyncExitStack()

    def run(self, call: Coroutine[Any, Any, Any]) -> Any:
        return self._runner.run(call)

    def open(self) -> None:
        self.run(self._open())

    def restart(self) -> None:
        self.restarts += 1
        self.run(self._stack.aclose())
        self._stack = AsyncExitStack()
        self.open()

    def close(self) -> None:
        self.run(self._stack.aclose())
        self._runner.close()

    async def _open(self) -> None:
        enter = self._stack.enter_async_context
        address = await enter(running(build(self._settings, self.clock)))
        self.client = await enter(AsyncOperationsClient(address))
        self.workers = {name: await enter(AsyncWorkerClient(address, name)) for name in WORKERS}


@dataclass
class Known:
    """What the model knows of an operation."""

    name: str
    order: int
    max_attempts: int
    priority: int
    state: State = State.QUEUED
    epoch: int = 0
    holder: str = ""
    expires_s: float = 0.0
    due_s: float = 0.0
    failures: int = 0
    last_failure: str = ""
    batch: int = 0
    steps: set[int] = field(default_factory=set)
    checkpoint: int = 0
    is_deleted: bool = False

    def is_claimable(self, now_s: float) -> bool:
        return self.state is State.QUEUED and now_s >= self.due_s

    def was_told(self, kind: str, epoch: int) -> bool:
        """Whether this end was recorded before, so that it changes nothing to say it again."""
        if epoch != self.epoch or self.holder:
            return False
        if kind in ("failed", "retryable"):
            is_there = self.state in (State.FAILED, State.QUEUED)
            return is_there and self.last_failure == f"epoch {epoch}"
        return self.state is (State.SUCCEEDED if kind == "succeeded" else State.CANCELLED)

    def fail(self, message: str, now_s: float, *, is_retryable: bool) -> None:
        """Ends an attempt badly."""
        self.failures += 1
        self.holder, self.last_failure = "", message
        if is_retryable and self.failures < self.max_attempts:
            self.state = State.QUEUED
            self.due_s = now_s + PAUSES_S[self.failures - 1]
        else:
            self.state = State.FAILED


def batch_of(epoch: int, number: int, value: float | None = None) -> TelemetryBatch:
    """Two points, of which the next batch repeats one, a trade, and a note of its own."""
    steps = (number, number + 1) if value is None else (number,)
    points = tuple(MetricPoint("x", step, step / 7 if value is None else value) for step in steps)
    trades = () if value is not None else (trade_to_bytes(replace(TRADE, number=number)),)
    return TelemetryBatch(number, points, trades, number, (f"batch {epoch}.{number}",))


def checkpoint_of(number: int, epoch: int) -> Checkpoint:
    sha256 = bytes([number % 256, epoch % 256]) * 16
    return Checkpoint(number, f"home:checkpoints/{number}", sha256, 1, number, "test/1", b"s" * 32)


def outcome_of(kind: str, epoch: int) -> Outcome:
    error = OperationError("BROKEN", f"epoch {epoch}")
    return {
        "succeeded": Succeeded(Payload("type.googleapis.com/test.Result", bytes([8, epoch]))),
        "failed": Failed(error),
        "retryable": Failed(error, is_retryable=True),
        "stopped": Stopped(),
    }[kind]
