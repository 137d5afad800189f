"""F-01, F-03 and F-14: named cases that no other test is there for."""

import asyncio
import random
from collections import Counter
from collections.abc import Awaitable
from contextlib import aclosing
from pathlib import Path

import pytest

from backlane.client.operations import watch_request
from backlane.clock import SystemClock
from backlane.errors import BacklaneError
from backlane.operations.commands import Stopped, Succeeded, TelemetryBatch
from backlane.operations.events import StateChanged
from backlane.operations.operation import Operation, Progress, State
from backlane.operations.watching import StartAt
from backlane.testing.operations import RESULT, claim, log, request
from tests.contract.stores import sqlite_store
from tests.operations_server import RESULT as RESULT_SERVED
from tests.operations_server import both, served, started
from tests.proofs.checker import WatchChecker, told

pytestmark = [pytest.mark.slow, pytest.mark.asyncio]

NOTE_CHARACTERS, NOTES = 4_000, 20
BATCHES = 40
"""Together 3.2 MB: more than three pages, and less than the notes that are kept."""

RACES, AT_ONCE = 10_000, 500


def batch(number: int) -> TelemetryBatch:
    notes = tuple(f"{number} {note}".ljust(NOTE_CHARACTERS) for note in range(NOTES))
    progress = Progress(number, number, BATCHES, "bar", "simulation", number)
    return TelemetryBatch(number, notes=notes, progress=progress)


async def test_no_message_says_more_than_it_brings(tmp_path: Path) -> None:
    """F-01 (etcd #15220): reports of progress and signs of life come between the events."""
    async with (
        served(tmp_path, bookmark_interval_s=0.1) as address,
        both(address) as (client, worker),
    ):
        name, epoch = await started(client, worker)
        checker = WatchChecker("reader")

        async def read() -> None:
            asked = watch_request(name, start=StartAt.OLDEST, progress_interval_s=0.1)
            checker.connected(with_token=False)
            async with aclosing(client.watch(asked)) as messages:
                async for message in messages:
                    checker.accept(message)

        reading = asyncio.create_task(read())
        for number in range(1, BATCHES + 1):
            await worker.append(name, epoch, batch(number))
        await worker.complete(name, epoch, Succeeded(RESULT_SERVED))
        await reading
    assert not told([checker.problems])
    assert checker.deliveries == 2 + BATCHES * NOTES + 1


async def test_a_starved_watcher_gets_everything(tmp_path: Path) -> None:
    """F-03 (etcd #17529): it stands still while others write and read pages of events."""
    async with served(tmp_path) as address, both(address) as (client, worker):
        name, epoch = await started(client, worker)
        checkers = [WatchChecker(f"reader {number}") for number in range(3)]
        is_written = asyncio.Event()

        async def read(checker: WatchChecker, *, is_starved: bool) -> None:
            checker.connected(with_token=False)
            asked = watch_request(name, start=StartAt.OLDEST)
            async with aclosing(client.watch(asked)) as messages:
                async for message in messages:
                    checker.accept(message)
                    if is_starved:
                        await is_written.wait()

        readings = [
            asyncio.create_task(read(checker, is_starved=number == 0))
            for number, checker in enumerate(checkers)
        ]
        for number in range(1, BATCHES + 1):
            await worker.append(name, epoch, batch(number))
        await worker.complete(name, epoch, Succeeded(RESULT_SERVED))
        is_written.set()
        await asyncio.gather(*readings)
    assert not told(checker.problems for checker in checkers)
    assert {checker.deliveries for checker in checkers} == {2 + BATCHES * NOTES + 1}


@pytest.mark.chaos
@pytest.mark.timeout(300)
async def test_cancel_races_with_complete_10_000_times(tmp_path: Path) -> None:
    """F-14: one end, told once; and whoever comes late learns of it."""
    chance = random.Random(14)
    ended: Counter[str] = Counter()
    states: Counter[State] = Counter()
    async with sqlite_store(tmp_path / "operations.sqlite", SystemClock()) as store:
        for first in range(1, RACES + 1, AT_ONCE):
            numbers = range(first, first + AT_ONCE)
            await asyncio.gather(*(store.create(request(number)) for number in numbers))
            held = await asyncio.gather(*(store.claim(claim(number)) for number in numbers))
            before = store.revision
            calls: list[Awaitable[Operation]] = []
            for one in held:
                calls.append(store.request_cancel(one.name, "now"))
                calls.append(store.complete(one.name, one.epoch, Succeeded(RESULT)))
                calls.append(store.complete(one.name, one.epoch, Stopped()))
            chance.shuffle(calls)
            answers = await asyncio.gather(*calls, return_exceptions=True)
            broken = [one for one in answers if not isinstance(one, Operation | BacklaneError)]
            assert not broken
            for event in await log(store, after=before):
                body = event.body
                if isinstance(body, StateChanged) and body.to_state.is_terminal:
                    ended[event.operation] += 1
                    states[body.to_state] += 1
            rest = [one.name for one in held if one.name not in ended]
            assert not rest, "every one was completed, so every one has ended"
    assert set(ended.values()) == {1}
    assert len(ended) == RACES
    assert min(states.values()) > RACES / 10, states
