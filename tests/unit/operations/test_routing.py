"""Who is woken by a change: those whom it concerns, and nobody else."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from backlane.clock import SystemClock
from backlane.errors import StoreUnavailableError
from backlane.operations.commands import TelemetryBatch
from backlane.operations.operation import Progress
from backlane.testing.operations import claim, request, running
from backlane.testing.servers import wait_until_async
from operations_service.routing import Router, Subscription
from operations_service.settings import OperationsServiceSettings
from operations_service.stores import open_store

pytestmark = pytest.mark.asyncio


@asynccontextmanager
async def routed(folder: Path) -> AsyncIterator[tuple[Any, Router]]:
    store = open_store(OperationsServiceSettings(data_dir=folder), SystemClock())
    router = Router(store)
    await store.start()
    await router.start()
    try:
        yield store, router
    finally:
        await router.stop()
        await store.stop()


def looked(*subscriptions: Subscription) -> None:
    for one in subscriptions:
        one.has_events = one.has_progress = False


async def test_an_event_is_told_to_those_who_named_its_operation_and_to_those_who_named_none(
    tmp_path: Path,
) -> None:
    async with routed(tmp_path) as (store, router):
        first, second = await store.create(request(1)), await store.create(request(2))
        with (
            router.subscribed(frozenset({first.name})) as mine,
            router.subscribed(frozenset({second.name})) as other,
            router.subscribed(frozenset({first.name, second.name})) as both,
            router.subscribed(frozenset()) as every,
        ):
            await wait_until_async(lambda: router.revision == store.revision)
            looked(mine, other, both, every)
            await store.request_cancel(first.name, "")
            await wait_until_async(lambda: router.revision == store.revision)
            told = [one.has_events for one in (mine, other, both, every)]
        assert told == [True, False, True, True]
        assert router._by_name == {}


async def test_progress_wakes_only_those_who_want_it(tmp_path: Path) -> None:
    async with routed(tmp_path) as (store, router):
        held = await running(store)
        names = frozenset({held.name})
        with (
            router.subscribed(names, wants_progress=True) as wants,
            router.subscribed(names) as not_this,
        ):
            await wait_until_async(lambda: router.revision == store.revision)
            looked(wants, not_this)
            waiting = asyncio.create_task(wants.wait(30.0))
            await asyncio.sleep(0)
            await store.append(held.name, held.epoch, TelemetryBatch(0, progress=Progress(1)))
            await waiting
            assert (wants.has_progress, wants.has_events) == (True, False)
            assert (not_this.has_progress, not_this.has_events) == (False, False)


async def test_a_wait_ends_with_its_time_or_with_a_release(tmp_path: Path) -> None:
    async with routed(tmp_path) as (_store, router):
        with router.subscribed(frozenset()) as every:
            looked(every)
            await every.wait(0.0)
            waiting = asyncio.create_task(every.wait(30.0))
            await asyncio.sleep(0)
            router.release_all()
            await waiting
            assert not every.has_events


async def test_everyone_looks_for_himself_when_the_log_cannot_be_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with routed(tmp_path) as (store, router):
        read, failures = store.read_events, []

        async def fail_once(selection: Any, after: int) -> Any:
            if not failures:
                failures.append(after)
                raise StoreUnavailableError("away")
            return await read(selection, after)

        monkeypatch.setattr(store, "read_events", fail_once)
        with router.subscribed(frozenset({"operations/none"})) as other:
            looked(other)
            await store.create(request(1))
            await wait_until_async(lambda: other.has_events)
            looked(other)
            await store.claim(claim(1))
            await wait_until_async(lambda: router.revision == store.revision)
            assert failures == [0]
            assert not other.has_events
