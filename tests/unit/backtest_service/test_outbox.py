"""Reports reach the registry in order and once, whatever happens on the way."""

import asyncio
from collections.abc import Callable
from typing import Any, cast

import pytest

from backlane.clock import SystemClock
from backlane.errors import BacklaneError, LeaseLostError, ServiceUnavailableError
from backlane.operations.commands import TelemetryBatch
from backlane.operations.directives import Hold
from backlane.operations.events import MetricPoint
from backlane.operations.operation import Progress
from backtest_service import outbox as outbox_module
from backtest_service.lease_keeper import HeldLease
from backtest_service.outbox import TRADES_PER_BATCH, TRADES_WAITING_MAX, Outbox

CLOCK = SystemClock()


class Registry:
    """Takes batches as operations_service does: each number once, the next number alone."""

    def __init__(self, fail: Callable[[int], BacklaneError | None] = lambda _: None) -> None:
        self.applied: list[TelemetryBatch] = []
        self.progress: list[Progress] = []
        self.calls = 0
        self._fail = fail

    async def append(self, _name: str, _epoch: int, batch: TelemetryBatch) -> int:
        self.calls += 1
        await asyncio.sleep(0)
        expected = len(self.applied) + 1
        if batch.batch_number == expected:
            self.applied.append(batch)
        elif batch.batch_number:
            assert batch == self.applied[batch.batch_number - 1], "a number is never used twice"
        if batch.progress:
            self.progress.append(batch.progress)
        error = self._fail(self.calls)
        if error is not None:  # after it was applied: the answer alone is lost
            raise error
        return 0

    @property
    def trades(self) -> list[bytes]:
        return [trade for batch in self.applied for trade in batch.trades]


def outbox_to(registry: Registry) -> tuple[Outbox, HeldLease]:
    lease = HeldLease(Hold("operations/abcd", 1, 60.0, 5.0), CLOCK.monotonic_s() + 60)
    return Outbox(cast(Any, registry), lease, CLOCK), lease


def trades(first: int, count: int) -> tuple[bytes, ...]:
    return tuple(str(number).encode() for number in range(first, first + count))


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("REPORT_INTERVAL_S", "RETRY_DELAY_S_MIN", "RETRY_DELAY_S_MAX"):
        monkeypatch.setattr(outbox_module, name, 0.0)


@pytest.mark.asyncio
async def test_everything_arrives_in_order_in_batches_of_limited_size():
    registry = Registry()
    outbox, _ = outbox_to(registry)
    await outbox.add(trades(0, 2 * TRADES_PER_BATCH + 1), (MetricPoint("equity", 1, 2.0),))
    await outbox.flush()
    assert registry.trades == list(trades(0, 2 * TRADES_PER_BATCH + 1))
    assert [batch.batch_number for batch in registry.applied] == [1, 2, 3]
    assert max(len(batch.trades) for batch in registry.applied) == TRADES_PER_BATCH


@pytest.mark.asyncio
async def test_lost_answers_double_and_lose_nothing():
    registry = Registry(lambda call: ServiceUnavailableError("gone") if call % 3 else None)
    outbox, _ = outbox_to(registry)
    sending = asyncio.create_task(outbox.send_forever())
    for first in range(0, 1_000, 100):
        await outbox.add(trades(first, 100), ())
        await asyncio.sleep(0)
    sending.cancel()  # in the middle of something
    await asyncio.gather(sending, return_exceptions=True)
    await outbox.add(trades(1_000, 5), ())
    await outbox.flush()
    assert registry.trades == list(trades(0, 1_005))


@pytest.mark.asyncio
async def test_progress_alone_has_no_number_and_the_newest_wins():
    registry = Registry()
    outbox, _ = outbox_to(registry)
    for version in range(1, 5):
        outbox.report(Progress(version))
    await outbox.flush()
    assert registry.progress == [Progress(4)]
    assert registry.applied == []


@pytest.mark.asyncio
async def test_a_lost_lease_ends_the_sending():
    registry = Registry(lambda _: LeaseLostError("another has it"))
    outbox, lease = outbox_to(registry)
    await outbox.add(trades(0, 3), ())
    await outbox.flush()
    assert lease.is_lost.is_set()
    assert registry.calls == 1


@pytest.mark.asyncio
async def test_a_run_that_is_too_fast_waits_for_the_registry():
    registry = Registry()
    outbox, _ = outbox_to(registry)
    await outbox.add(trades(0, TRADES_WAITING_MAX), ())
    adding = asyncio.create_task(outbox.add(trades(TRADES_WAITING_MAX, 1), ()))
    await asyncio.sleep(0)
    assert not adding.done()
    sending = asyncio.create_task(outbox.send_forever())
    await adding
    await outbox.flush()
    sending.cancel()
    await asyncio.gather(sending, return_exceptions=True)
    await outbox.flush()
    assert registry.trades == list(trades(0, TRADES_WAITING_MAX + 1))
