"""Watches over real sockets: without gap or repeat, whatever happens to either side."""

import asyncio
from contextlib import aclosing
from pathlib import Path
from typing import Any

import grpc
import pytest

from backlane.api.operations.v1 import operations_service_pb2 as pb
from backlane.api.operations.v1.operations_service_pb2_grpc import OperationsServiceStub
from backlane.client.operations import AsyncOperationsClient, OperationsClient, watch_request
from backlane.client.watching import Reconnected
from backlane.errors import (
    InvalidResumeTokenError,
    OperationNotFoundError,
    ResumeTokenAheadError,
    ResumeTokenForeignError,
    ServerDrainingError,
    ServiceUnavailableError,
    SlowConsumerError,
)
from backlane.operations.commands import Succeeded, TelemetryBatch
from backlane.operations.events import MetricPoint, MetricsAppended
from backlane.operations.operation import Progress, State
from backlane.operations.selection import Selection
from backlane.operations.watching import Phase, StartAt, WatchMessage
from backlane.rpc.channel import aio_channel
from backlane.rpc.error_catalog import from_rpc_error
from backlane.testing.servers import ServiceProcess, running, wait_until_async
from operations_service.app import build
from operations_service.settings import OperationsServiceSettings
from tests.operations_server import (
    KIND,
    RESULT,
    SPEC,
    both,
    collect,
    events_of,
    moves_of,
    served,
    started,
)

pytestmark = pytest.mark.asyncio

WATCH = "/backlane.api.operations.v1.OperationsService/WatchOperations"


def points_of(batch_number: int) -> tuple[MetricPoint, ...]:
    """The 10,000 points of a batch, which go on from those of the batch before."""
    first = 10_000 * (batch_number - 1)
    return tuple(MetricPoint("equity", n, float(n)) for n in range(first, first + 10_000))


async def test_a_watch_from_a_snapshot_tells_the_rest(tmp_path: Path) -> None:
    async with served(tmp_path) as address, both(address) as (client, worker):
        name, epoch = await started(client, worker)
        async with aclosing(client.watch(watch_request(name))) as watch:
            snapshot, synced = await anext(watch), await anext(watch)
            await worker.complete(name, epoch, Succeeded(RESULT))
            rest = [message async for message in watch]
    assert [operation.state for operation in snapshot.operations] == [State.RUNNING]
    assert (snapshot.phase, synced.phase) == (Phase.SNAPSHOT, Phase.SYNCED)
    assert synced.through_revision == 2
    assert [event.revision for event in events_of(rest)] == [3]
    assert moves_of(rest) == [State.SUCCEEDED]


async def test_a_watch_of_what_has_ended_ends_at_once(tmp_path: Path) -> None:
    async with served(tmp_path) as address, AsyncOperationsClient(address) as client:
        made = await client.create(KIND, SPEC)
        await client.cancel(made.name)
        from_snapshot = await collect(client.watch(watch_request(made.name)))
        from_oldest = await collect(client.watch(watch_request(made.name, start=StartAt.OLDEST)))
        token = from_oldest[-1].resume_token
        from_token = await collect(client.watch(watch_request(made.name, resume_token=token)))
    assert [message.phase for message in from_snapshot] == [Phase.SNAPSHOT, Phase.SYNCED]
    assert moves_of(from_oldest) == [State.QUEUED, State.CANCELLED]
    assert events_of(from_token) == []


async def test_a_watch_from_a_list_misses_nothing(tmp_path: Path) -> None:
    mine = Selection(labels={"owner": "me"})
    async with served(tmp_path) as address, AsyncOperationsClient(address) as client:
        first = await client.create(KIND, SPEC, labels={"owner": "me"})
        page = await client.list_page(mine)
        await client.create(KIND, SPEC)
        second = await client.create(KIND, SPEC, labels={"owner": "me"})
        request = watch_request(selection=mine, resume_token=page.resume_token)
        async with aclosing(client.watch(request)) as watch:
            message = await anext(watch)
    assert [one.name for one in page.operations] == [first.name]
    assert [event.operation for event in message.events] == [second.name]
    assert (message.from_revision, message.through_revision) == (1, 3)


async def test_an_unknown_name_cannot_be_watched(tmp_path: Path) -> None:
    async with served(tmp_path) as address, AsyncOperationsClient(address) as client:
        with pytest.raises(OperationNotFoundError):
            await collect(client.watch(watch_request("operations/none")))


@pytest.mark.slow
async def test_a_cold_reader_gets_every_page_while_writers_run(tmp_path: Path) -> None:
    """The log of 40 events of about 46 kB is nearly two pages when the reader begins."""
    async with served(tmp_path) as address, both(address) as (client, worker):
        name, epoch = await started(client, worker)
        for number in range(1, 5):
            await worker.append(name, epoch, TelemetryBatch(number, points_of(number)))

        async def write() -> None:
            for number in range(5, 25):
                await worker.append(name, epoch, TelemetryBatch(number, notes=(f"{number}",)))
            await worker.complete(name, epoch, Succeeded(RESULT))

    # A new server has nothing in memory: the reader is cold on both sides.
    async with served(tmp_path) as address, both(address) as (client, worker):
        watch = asyncio.create_task(
            collect(client.watch(watch_request(name, start=StartAt.OLDEST)))
        )
        await write()
        messages = await watch
    events = events_of(messages)
    assert [event.sequence for event in events] == list(range(1, 2 + 40 + 20 + 2))
    bodies = [event.body for event in events]
    indices = [p.index for b in bodies if isinstance(b, MetricsAppended) for p in b.points]
    assert indices == list(range(1, 40_001))
    assert len(messages) >= 2
    throughs = [message.through_revision for message in messages]
    assert [message.from_revision for message in messages] == [0, *throughs[:-1]]


@pytest.mark.slow
async def test_progress_comes_at_most_ten_times_a_second(tmp_path: Path) -> None:
    async with served(tmp_path) as address, both(address) as (client, worker):
        name, epoch = await started(client, worker)
        loop = asyncio.get_running_loop()
        arrivals: list[float] = []
        versions: list[int] = []

        async def follow() -> None:
            async with aclosing(client.watch(watch_request(name))) as watch:
                async for message in watch:
                    if message.progress:
                        arrivals.append(loop.time())
                        versions.append(message.progress[name].version)

        following = asyncio.create_task(follow())
        ends_s = loop.time() + 1.0
        version = 0
        while loop.time() < ends_s:
            version += 1
            await worker.append(name, epoch, TelemetryBatch(0, progress=Progress(version, version)))
        await wait_until_async(lambda: versions[-1:] == [version])
        await worker.complete(name, epoch, Succeeded(RESULT))
        await following
    assert version > 50
    # Ten a second over a little more than one second, and the last one.
    assert 5 <= len(versions) <= 13
    assert versions == sorted(set(versions))


@pytest.mark.slow
async def test_silence_is_broken_by_bookmarks(tmp_path: Path) -> None:
    async with served(tmp_path) as address, AsyncOperationsClient(address) as client:
        request = watch_request(bookmark_interval_s=1.0)
        async with aclosing(client.watch(request)) as watch:
            first, second, third = [await anext(watch) for _ in range(3)]
    assert (first.phase, second.phase, third.phase) == (Phase.SYNCED, Phase.LIVE, Phase.LIVE)
    gap_s = (third.server_time_ns - second.server_time_ns) / 1e9
    assert 0.9 <= gap_s <= 3.0


@pytest.mark.slow
async def test_a_watch_goes_on_over_a_restart_of_the_server(tmp_path: Path) -> None:
    """The process is killed, not asked; the next one has the same file and the same port."""
    env = {"BACKLANE_OPERATIONS_DATA_DIR": str(tmp_path / "data")}
    env |= {"BACKLANE_OPERATIONS_PORT": "0", "BACKLANE_OPERATIONS_LOG_LEVEL": "warning"}
    process = ServiceProcess(
        "operations_service", env_prefix="BACKLANE_OPERATIONS_", folder=tmp_path, env=env
    )
    with process:
        process._env["BACKLANE_OPERATIONS_PORT"] = process.address.rpartition(":")[2]
        async with both(process.address) as (client, worker):
            name, epoch = await started(client, worker)
            received: list[WatchMessage] = []
            outages: list[Reconnected] = []

            async def follow() -> None:
                request = watch_request(name, start=StartAt.OLDEST)
                received.extend(await collect(client.watch(request, on_reconnect=outages.append)))

            following = asyncio.create_task(follow())
            for number in range(1, 61):
                batch = TelemetryBatch(number, notes=(f"line {number}",))
                await persist(lambda batch=batch: worker.append(name, epoch, batch))
                if number % 20 == 0:
                    process.kill()
                    await asyncio.to_thread(process.start)
            await persist(lambda: worker.complete(name, epoch, Succeeded(RESULT)))
            await following
    events = events_of(received)
    assert [event.sequence for event in events] == list(range(1, 64))
    assert [event.revision for event in events] == list(range(1, 64))
    assert len(outages) >= 1
    assert all(outage.attempts >= 1 for outage in outages)


async def persist(call: Any) -> None:
    """Makes a call until the server is there, as a worker does."""

    async def attempt() -> bool:
        try:
            await call()
        except ServiceUnavailableError:
            return False
        return True

    await wait_until_async(attempt)


async def test_a_drain_tells_open_watches_where_to_go_on(tmp_path: Path) -> None:
    server = build(OperationsServiceSettings(port=0, data_dir=tmp_path, drain_grace_s=5))
    await server.start()
    async with both(server.address) as (client, worker):
        name, _ = await started(client, worker)
        watches = [client.watch(watch_request(name), reconnect_deadline_s=0) for _ in range(50)]
        for watch in watches:
            assert (await anext(watch)).phase is Phase.SNAPSHOT
            assert (await anext(watch)).phase is Phase.SYNCED
        directives = worker.watch_directives(reconnect_deadline_s=0)
        told = asyncio.create_task(anext(directives))
        idle = asyncio.create_task(worker.acquire([KIND], wait_s=30))
        waiting = asyncio.create_task(client.wait(name, timeout_s=30, reconnect_deadline_s=0))
        await wait_until_async(lambda: server._admission._counts[WATCH] == 50)
        await wait_until_async(lambda: len(server._admission._counts) >= 4)
        loop = asyncio.get_running_loop()
        begun_s = loop.time()
        await server.drain()
        assert loop.time() - begun_s < 4
        last: list[WatchMessage] = []
        for watch in watches:
            last.append(await anext(watch))
            with pytest.raises(ServerDrainingError):
                await anext(watch)
        assert {message.phase for message in last} == {Phase.DRAINING}
        assert await idle is None
        for task in (told, waiting):
            with pytest.raises((ServerDrainingError, ServiceUnavailableError)):
                await task
    async with served(tmp_path) as address, AsyncOperationsClient(address) as client:
        await client.cancel(name)
        request = watch_request(name, resume_token=last[0].resume_token)
        async with aclosing(client.watch(request)) as watch:
            assert [event.sequence for event in (await anext(watch)).events] == [3]


@pytest.mark.slow
async def test_a_reader_that_stops_reading_is_ended_and_can_resume(tmp_path: Path) -> None:
    server = build(
        OperationsServiceSettings(port=0, data_dir=tmp_path, drain_grace_s=5, write_timeout_s=0.3)
    )
    async with running(server) as address, both(address) as (client, worker):
        name, epoch = await started(client, worker)
        for number in range(1, 10):
            await worker.append(name, epoch, TelemetryBatch(number, points_of(number)))
        request = pb.WatchOperationsRequest(names=[name], oldest=pb.WatchOperationsRequest.Oldest())
        async with aio_channel(address, purpose="watch") as channel:
            call: Any = OperationsServiceStub(channel).WatchOperations(request)
            received = [await call.read()]
            await wait_until_async(lambda: server._admission._counts[WATCH] == 0)
            with pytest.raises(grpc.aio.AioRpcError) as raised:
                await read_all(call, received)
        assert raised.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert isinstance(from_rpc_error(raised.value), SlowConsumerError)
        await worker.complete(name, epoch, Succeeded(RESULT))
        token = received[-1].resume_token
        rest = await collect(client.watch(watch_request(name, resume_token=token)))
    sequences = [event.sequence for response in received for event in response.events]
    assert sequences + [event.sequence for event in events_of(rest)] == list(range(1, 94))


async def read_all(call: Any, received: list[pb.WatchOperationsResponse]) -> None:
    while (response := await call.read()) is not grpc.aio.EOF:
        received.append(response)


async def test_resume_tokens_that_lead_nowhere_are_told_apart(tmp_path: Path) -> None:
    async with served(tmp_path / "a") as address, AsyncOperationsClient(address) as client:
        made = await client.create(KIND, SPEC)
        await client.cancel(made.name)
        (*_, last) = await collect(client.watch(watch_request(made.name)))
        other = watch_request(resume_token=last.resume_token)
        with pytest.raises(InvalidResumeTokenError):
            await collect(client.watch(other))
        with pytest.raises(InvalidResumeTokenError):
            await collect(client.watch(watch_request(resume_token="nonsense")))
        everything = (await client.list_page()).resume_token
    async with served(tmp_path / "b") as address, AsyncOperationsClient(address) as client:
        with pytest.raises(ResumeTokenForeignError):
            await collect(client.watch(watch_request(resume_token=everything)))


async def test_a_token_of_a_registry_that_went_back_in_time_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "operations.sqlite"
    async with served(tmp_path) as address, AsyncOperationsClient(address) as client:
        await client.create(KIND, SPEC)
    backup = await asyncio.to_thread(file.read_bytes)
    async with served(tmp_path) as address, AsyncOperationsClient(address) as client:
        await client.create(KIND, SPEC)
        token = (await client.list_page()).resume_token
    for name in ("operations.sqlite-wal", "operations.sqlite-shm"):
        await asyncio.to_thread((tmp_path / name).unlink, missing_ok=True)
    await asyncio.to_thread(file.write_bytes, backup)
    async with served(tmp_path) as address, AsyncOperationsClient(address) as client:
        with pytest.raises(ResumeTokenAheadError):
            await collect(client.watch(watch_request(resume_token=token)))


async def test_a_silent_server_is_noticed_and_left(tmp_path: Path) -> None:
    """It takes the call and says nothing more, as a process that is stopped does."""

    class Silent:
        async def WatchOperations(self, request: Any, context: Any) -> None:
            await context.write(
                pb.WatchOperationsResponse(phase=pb.WatchOperationsResponse.PHASE_SYNCED)
            )
            await asyncio.Event().wait()

    server = grpc.aio.server()
    handler = grpc.unary_stream_rpc_method_handler(
        Silent().WatchOperations,
        request_deserializer=pb.WatchOperationsRequest.FromString,
        response_serializer=pb.WatchOperationsResponse.SerializeToString,
    )
    name = "backlane.api.operations.v1.OperationsService"
    server.add_registered_method_handlers(name, {"WatchOperations": handler})
    server.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler(name, {"WatchOperations": handler}),)
    )
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()

    def follow() -> None:
        with OperationsClient(f"127.0.0.1:{port}") as client:
            list(client.watch(request, reconnect_deadline_s=0))

    request = watch_request(bookmark_interval_s=0.1)
    try:
        async with AsyncOperationsClient(f"127.0.0.1:{port}") as client:
            with pytest.raises(ServiceUnavailableError, match="silent"):
                await collect(client.watch(request, reconnect_deadline_s=0))
        with pytest.raises(ServiceUnavailableError, match="silent"):
            await asyncio.to_thread(follow)
    finally:
        await server.stop(None)
