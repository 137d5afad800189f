"""The desk of single cycles: what it does when its process hangs, dies, or is asked too much."""

import asyncio
from pathlib import Path
from typing import cast

import pytest

from backlane.backtest.checkpoint_policy import CheckpointPolicy
from backlane.backtest.cycle_outcome import CycleOutcome, CycleRequest
from backlane.backtest.portfolio_request import PortfolioRequest
from backlane.errors import (
    CallTimeoutError,
    DataRefusedError,
    LimitExceededError,
    WorkerLostError,
)
from backtest_service import cycle_desk
from backtest_service.cycle_desk import CycleDesk
from backtest_service.messages import (
    CycleDecided,
    FromWorker,
    NoteWritten,
    RunFailed,
    StartCycle,
    WorkerSetup,
)
from backtest_service.portfolio_validation import PortfolioValidator
from backtest_service.worker import Worker, WorkerDied

pytestmark = pytest.mark.asyncio
REQUEST = CycleRequest(PortfolioRequest({}), 5)
OUTCOME = CycleOutcome(5, None, 1.0, 1.0)


class Anything:
    async def validate(self, request: PortfolioRequest) -> None:
        assert request is REQUEST.portfolio


class FakeWorker:
    """Answers with what it is given; hangs when nothing is left."""

    def __init__(self, *answers: FromWorker | WorkerDied) -> None:
        self.answers = list(answers)
        self.sent: list[object] = []
        self.killed = self.started = 0
        self.was_asked = asyncio.Event()

    async def ensure_started(self) -> None:
        self.started += 1

    async def send(self, message: object) -> None:
        self.sent.append(message)
        self.was_asked.set()

    async def receive(self) -> FromWorker:
        if not self.answers:
            await asyncio.Event().wait()
        answer = self.answers.pop(0)
        if isinstance(answer, WorkerDied):
            raise answer
        return answer

    def kill(self) -> None:
        self.killed += 1


def desk_with(worker: FakeWorker) -> CycleDesk:
    setup = WorkerSetup(Path("unused"), "", 1, CheckpointPolicy(), "info", "console")
    desk = CycleDesk(cast(PortfolioValidator, Anything()), setup, start_timeout_s=1.0)
    desk._worker = cast(Worker, worker)
    return desk


async def test_it_asks_and_gets_an_answer() -> None:
    worker = FakeWorker(NoteWritten("by the way"), CycleDecided(OUTCOME))
    assert await desk_with(worker).decide(REQUEST) is OUTCOME
    assert worker.sent == [StartCycle(REQUEST)]
    assert (worker.started, worker.killed) == (1, 0)


async def test_an_error_of_the_cycle_is_its_answer() -> None:
    worker = FakeWorker(RunFailed("DATA_REFUSED", "no", {"a": "b"}))
    with pytest.raises(DataRefusedError) as caught:
        await desk_with(worker).decide(REQUEST)
    assert caught.value.metadata == {"a": "b"}


async def test_one_that_hangs_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cycle_desk, "CYCLE_S_MAX", 0.01)
    worker = FakeWorker()
    with pytest.raises(CallTimeoutError):
        await desk_with(worker).decide(REQUEST)
    assert worker.killed == 1


async def test_one_that_dies_is_told() -> None:
    with pytest.raises(WorkerLostError, match="killed by SIGKILL"):
        await desk_with(FakeWorker(WorkerDied("it was killed by SIGKILL"))).decide(REQUEST)


async def test_a_caller_who_goes_away_takes_the_process_along() -> None:
    worker = FakeWorker()
    desk = desk_with(worker)
    calls = [asyncio.create_task(desk.decide(REQUEST)) for _ in range(2)]
    await worker.was_asked.wait()
    calls[0].cancel()
    worker.answers.append(CycleDecided(OUTCOME))
    assert await calls[1] is OUTCOME
    assert worker.killed == 1


async def test_one_too_many_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cycle_desk, "WAITING_MAX", 1)
    worker = FakeWorker()
    desk = desk_with(worker)
    call = asyncio.create_task(desk.decide(REQUEST))
    await worker.was_asked.wait()
    with pytest.raises(LimitExceededError):
        await desk.decide(REQUEST)
    worker.answers.append(CycleDecided(OUTCOME))
    call.cancel()
    await asyncio.gather(call, return_exceptions=True)
