"""Several servers of one registry, and clients who know all of them: who fails is left.

The replicas are real servers on one PostgreSQL database, each with a store of its own.
"""

import asyncio
import signal
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from backlane.client.operations import AsyncOperationsClient, OperationsClient, watch_request
from backlane.client.watching import Reconnected
from backlane.errors import BacklaneError, ServiceUnavailableError
from backlane.operations.commands import Succeeded, TelemetryBatch
from backlane.operations.operation import State
from backlane.operations.watching import Phase, StartAt, WatchMessage
from backlane.rpc.server import RpcServer
from backlane.testing.servers import ServiceProcess, wait_until_async
from operations_service.app import build
from operations_service.settings import OperationsServiceSettings
from tests.contract.stores import fresh_schema
from tests.operations_server import KIND, RESULT, SPEC, both, collect, events_of, served, started

pytestmark = [pytest.mark.asyncio, pytest.mark.slow]


@asynccontextmanager
async def replicas(url: sa.URL, count: int = 2) -> AsyncIterator[list[RpcServer]]:
    async with AsyncExitStack() as stack:
        servers = []
        for _ in range(count):
            settings = OperationsServiceSettings(
                port=0,
                store_url=url.render_as_string(hide_password=False),
                drain_grace_s=2.0,
            )
            server = build(settings)
            await server.start()
            stack.push_async_callback(server.drain)
            servers.append(server)
        yield servers


def both_addresses(servers: list[RpcServer]) -> str:
    return ",".join(server.address for server in servers)


async def test_a_watch_goes_over_to_another_replica_without_a_gap() -> None:
    with fresh_schema() as url:
        async with (
            replicas(url) as (first, second),
            both(both_addresses([first, second])) as (client, worker),
        ):
            name, epoch = await started(client, worker)
            lost: list[BacklaneError] = []
            again: list[Reconnected] = []
            received: list[WatchMessage] = []

            async def follow() -> None:
                watch = client.watch(
                    watch_request(name, start=StartAt.OLDEST),
                    on_lost=lambda error, _s: lost.append(error),
                    on_reconnect=again.append,
                )
                received.extend(await collect(watch))

            following = asyncio.create_task(follow())
            for number in range(1, 31):
                batch = TelemetryBatch(number, notes=(f"line {number}",))
                await worker.append(name, epoch, batch)
                if number == 15:
                    await first.drain()
            await worker.complete(name, epoch, Succeeded(RESULT))
            await following
    assert [event.sequence for event in events_of(received)] == list(range(1, 34))
    assert len(lost) == len(again) == 1
    assert again[0].address == second.address


async def test_what_one_replica_accepted_can_be_watched_at_the_other_at_once() -> None:
    """Its tokens, too: the other one waits until it has seen as much of the log."""
    with fresh_schema() as url:
        async with (
            replicas(url) as (first, second),
            AsyncOperationsClient(first.address) as one,
            AsyncOperationsClient(second.address) as other,
        ):
            for _ in range(20):
                made = await one.create(KIND, SPEC)
                token = (await one.list_page()).resume_token
                async with aclosing(other.watch(watch_request(resume_token=token))) as watch:
                    await one.cancel(made.name)
                    message = await anext(watch)
                    while not message.events:
                        message = await anext(watch)
                assert [event.sequence for event in message.events] == [2]
                snapshot = await collect(other.watch(watch_request(made.name)))
                assert snapshot[0].operations[0].state is State.CANCELLED


async def test_a_watcher_on_any_replica_sees_every_change() -> None:
    with fresh_schema() as url:
        async with (
            replicas(url) as (first, second),
            both(first.address) as (one, worker),
            AsyncOperationsClient(second.address) as other,
        ):
            name, epoch = await started(one, worker)
            watches = [
                asyncio.create_task(
                    collect(client.watch(watch_request(name, start=StartAt.OLDEST)))
                )
                for client in (one, other)
            ]
            waiting = asyncio.create_task(other.wait(name))
            for number in range(1, 6):
                await worker.append(name, epoch, TelemetryBatch(number, notes=(f"{number}",)))
            await worker.complete(name, epoch, Succeeded(RESULT))
            logs = [events_of(await watch) for watch in watches]
            assert (await waiting).state is State.SUCCEEDED
    assert logs[0] == logs[1]
    assert [event.sequence for event in logs[0]] == list(range(1, 9))


# --- clients and the addresses that they know ----------------------------------------------------


async def test_a_call_goes_to_the_next_address_when_nobody_answers(tmp_path: Path) -> None:
    async with served(tmp_path) as address:
        addresses = f"127.0.0.1:1, {address}"
        async with AsyncOperationsClient(addresses) as client:
            made = await client.create(KIND, SPEC)
            assert (await client.cancel(made.name)).state is State.CANCELLED
            assert await collect(client.watch(watch_request(made.name)))

        def use() -> State:
            with OperationsClient(addresses) as threaded:
                assert list(threaded.watch(watch_request(made.name)))
                return threaded.wait(made.name).state

        assert await asyncio.to_thread(use) is State.CANCELLED


async def test_a_submission_waits_for_a_server_that_is_about_to_start(tmp_path: Path) -> None:
    async with served(tmp_path / "a") as address:
        pass  # its port is free again
    async with AsyncOperationsClient(address) as client:
        submitting = asyncio.create_task(client.create(KIND, SPEC))
        async with served(tmp_path / "a", port=int(address.rpartition(":")[2])):
            assert (await submitting).state is State.QUEUED


async def test_a_submission_does_not_wait_for_ever() -> None:
    async with AsyncOperationsClient("127.0.0.1:1") as client:
        begun_s = time.monotonic()
        with pytest.raises(ServiceUnavailableError, match="Is it running"):
            await client.create(KIND, SPEC)
        assert time.monotonic() - begun_s < 8.0  # READY_S is 3 s; the machine may be busy


async def test_a_stopped_server_is_left_for_one_that_answers(tmp_path: Path) -> None:
    """SIGSTOP: it is there, its sockets are open, and it says nothing any more."""
    with fresh_schema() as url:
        env = {
            "BACKLANE_OPERATIONS_STORE_URL": url.render_as_string(hide_password=False),
            "BACKLANE_OPERATIONS_PORT": "0",
            "BACKLANE_OPERATIONS_LOG_LEVEL": "warning",
        }
        process = ServiceProcess(
            "operations_service", env_prefix="BACKLANE_OPERATIONS_", folder=tmp_path, env=env
        )
        with process:
            async with (
                replicas(url, 1) as (second,),
                AsyncOperationsClient(f"{process.address},{second.address}") as client,
                AsyncOperationsClient(second.address) as other,
            ):
                made = await client.create(KIND, SPEC)
                again: list[Reconnected] = []
                request = watch_request(made.name, bookmark_interval_s=1.0)
                watch: Any = client.watch(request, on_reconnect=again.append)
                async with aclosing(watch):
                    assert (await anext(watch)).operations
                    assert (await anext(watch)).phase is Phase.SYNCED
                    process.signal(signal.SIGSTOP)
                    try:
                        await other.cancel(made.name)
                        rest = [message async for message in watch]
                    finally:
                        process.signal(signal.SIGCONT)
    assert [event.sequence for event in events_of(rest)] == [2]
    assert [one.address for one in again] == [second.address]
    assert "silent" in again[0].error.message


async def test_a_wait_outlasts_a_restart_and_says_so(tmp_path: Path) -> None:
    env = {"BACKLANE_OPERATIONS_DATA_DIR": str(tmp_path / "data")}
    env |= {"BACKLANE_OPERATIONS_PORT": "0", "BACKLANE_OPERATIONS_LOG_LEVEL": "warning"}
    process = ServiceProcess(
        "operations_service", env_prefix="BACKLANE_OPERATIONS_", folder=tmp_path, env=env
    )
    with process:
        process._env["BACKLANE_OPERATIONS_PORT"] = process.address.rpartition(":")[2]
        async with AsyncOperationsClient(process.address) as client:
            made = await client.create(KIND, SPEC)
            lost: list[float] = []
            again: list[Reconnected] = []
            assert (await client.wait(made.name, timeout_s=0.05)).state is State.QUEUED
            waiting = asyncio.create_task(
                client.wait(
                    made.name,
                    on_lost=lambda _error, patience_s: lost.append(patience_s),
                    on_reconnect=again.append,
                )
            )
            await asyncio.to_thread(process.kill)
            await wait_until_async(lambda: bool(lost), 20)
            await asyncio.to_thread(process.start)
            await client.cancel(made.name)
            assert (await waiting).state is State.CANCELLED
    assert lost == [60.0]
    assert len(again) == 1
