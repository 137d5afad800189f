"""What is known to go wrong with gRPC in Python, and the test that proves that it does not here.

| pitfall | proof |
| --- | --- |
| one thread per stream of a sync server | `test_every_server_is_asynchronous`, and blocked streams in `test_rpc` |
| memory lost with each cancelled stream | `test_a_cancelled_watch_leaves_next_to_nothing_behind` |
| a blocked write ends with another error than cancellation | `test_watches_that_break_leave_nothing_behind` |
| megabytes in buffers before a slow reader is noticed | `test_readers_that_stand_still_cost_little_memory` |
| keepalive options that do nothing | `test_every_option_exists_in_the_library`, silent server in `test_operations_watch` |
| pings that the server takes for an attack | `test_every_option_exists_in_the_library` |
| fork after grpc began | spawn alone: `tests/architecture/test_tidy` |
| a C call that holds the interpreter stops the loop | runs are processes: `test_backtest_service` |
| two servers on one port | `test_rpc_life::test_two_servers_cannot_share_a_port` |
| exception texts that leave the server | `test_rpc`: an unforeseen error leaves an id and nothing else |
| trailers beyond 8 KiB | `test_rpc::test_the_largest_error_arrives_every_time`, `test_error_catalog` |
| details that asyncio errors do not decode | `test_rpc::test_every_error_arrives_as_it_was_raised` |
| a task and a look at it for each registered method, at every call | `test_no_method_is_registered_with_the_server` |
| read() and iteration mixed on one call | `test_no_call_is_read_in_two_ways` |
| break out of `async for` leaves the stream open | `test_watches_that_break_leave_nothing_behind` |
| many event loops in one process | one `asyncio.run` per process: `test_every_server_is_asynchronous` |
| a drain that cuts watches off | `test_a_drain_of_500_watches_loses_nothing` |
| open streams that make unary calls wait | `test_watches_and_calls_have_connections_of_their_own` |
| http_proxy before loopback | `test_rpc`: a proxy does not stand before loopback |
| a connection that is silent for one call is silent for the next | `test_a_call_without_an_answer_costs_its_connection` |
| messages over the receiver's limit | `test_no_message_of_a_watch_is_larger_than_a_page` |
| interceptors that cannot abort | limits in `test_rpc` and `test_operations_service` |
| streams are not retried once they have begun | restarts in `test_operations_watch`, `test_operations_replicas` |
| reflection is v1alpha | `test_rpc_life::test_reflection_lists_every_service_and_health` |
| gencode newer than the runtime | versions in `pyproject.toml`; `make check-stubs` |
| PostgreSQL, SQLite | the contract suite of the stores |
| a unary handler is cancelled in mid-commit | `test_a_submission_cut_off_at_its_deadline_is_made_once` |
| `abort` is an exception, which a broad except swallows | ruff BLE001 in `pyproject.toml` |
"""

# ruff: noqa: E501 - rows of a table

import asyncio
import contextlib
import ctypes
import gc
import os
import re
import uuid
from contextlib import aclosing
from pathlib import Path
from typing import Any, get_args

import grpc
import psutil
import pytest
from grpc._cython import cygrpc

from backlane.api.operations.v1 import operations_service_pb2 as pb
from backlane.api.operations.v1.operations_service_pb2_grpc import OperationsServiceStub
from backlane.client.connection import AioConnection
from backlane.client.operations import AsyncOperationsClient, OperationsClient, watch_request
from backlane.errors import CallTimeoutError
from backlane.operations.commands import NewOperation, Succeeded, TelemetryBatch
from backlane.operations.events import MetricPoint
from backlane.operations.watching import Phase, StartAt, WatchMessage
from backlane.rpc.channel import Purpose, aio_channel, channel_options
from backlane.rpc.server import server_options
from backlane.testing.servers import ServiceProcess, running, wait_until_async
from backlane.wire.operation_requests import new_operation_to_proto
from operations_service.app import build
from operations_service.settings import OperationsServiceSettings
from operations_service.tail import PAGE_BYTES_MAX
from tests.operations_server import (
    KIND,
    RESULT,
    SPEC,
    both,
    events_of,
    served,
    started,
)

pytestmark = pytest.mark.asyncio

SERVICES = Path(__file__).parents[2] / "services"
WATCH = "/backlane.api.operations.v1.OperationsService/WatchOperations"
CANCELLED_WATCHES = int(os.environ.get("BACKLANE_TEST_CANCELLED_WATCHES", "1500"))
"""In the suite; the figure of 64 bytes is for 20,000: set it to that for the long version."""
LEAK_BYTES_MAX = 64
NOISE_BYTES = 150_000
"""Allocators give back in blocks: over few streams it counts, over 20,000 it is 8 bytes each."""


def sources() -> dict[Path, str]:
    files = [file for file in SERVICES.rglob("*.py") if "/api/" not in str(file)]
    return {file: file.read_text(encoding="utf-8") for file in files}


async def test_every_server_is_asynchronous() -> None:
    texts = {file.name: text for file, text in sources().items()}
    assert [name for name, text in texts.items() if re.search(r"\bgrpc\.server\(", text)] == []
    assert [name for name, text in texts.items() if "grpc.aio.server(" in text] == ["server.py"]
    loops = [name for name, text in texts.items() if "asyncio.new_event_loop" in text]
    assert loops == []


async def test_no_call_is_read_in_two_ways() -> None:
    """`read()` is used nowhere: calls are iterated over."""
    readers = [
        file.name
        for file, text in sources().items()
        if re.search(r"\b(call|context|stream)\.read\(\)", text)
    ]
    assert readers == []


async def test_every_option_exists_in_the_library() -> None:
    """gRPC ignores an option that it does not know without a word."""
    library = await asyncio.to_thread(Path(cygrpc.__file__).read_bytes)
    settings = OperationsServiceSettings(port=0, data_dir=Path("unused"))
    options = {name for name, _ in server_options(settings)}
    for purpose in ("unary", "watch"):
        options |= {name for name, _ in channel_options("127.0.0.1:1", purpose)}
    assert "grpc.http2.min_ping_interval_without_data_ms" in options
    assert [name for name in sorted(options) if name.encode() + b"\0" not in library] == []
    wrong = b"grpc.http2.min_recv_ping_interval_without_data_ms\0"
    assert wrong not in library


async def test_no_method_is_registered_with_the_server(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """22 registered methods cost a third of the calls a second; all are found by name as well."""
    registered: list[str] = []
    monkeypatch.setattr(
        "grpc.aio._server.Server.add_registered_method_handlers",
        lambda _server, name, _handlers: registered.append(name),
    )
    async with served(tmp_path) as address, both(address) as (client, _):
        made = await client.create(KIND, SPEC)
        assert await client.get(made.name) == made
    assert registered == []


async def test_watches_and_calls_have_connections_of_their_own() -> None:
    for purpose in get_args(Purpose):
        assert dict(channel_options("127.0.0.1:1", purpose))["grpc.use_local_subchannel_pool"] == 1


class Muting:
    """Passes connections on to a server; those that are open when it is muted stay silent."""

    def __init__(self, target: str) -> None:
        self._host, _, self._port = target.rpartition(":")
        self._muted: set[asyncio.StreamWriter] = set()
        self._open: set[asyncio.StreamWriter] = set()

    def mute(self) -> None:
        """Swallows what goes either way on every connection that is open now."""
        self._muted |= self._open

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Joins a client with the server."""
        there, here = await asyncio.open_connection(self._host, int(self._port)), (reader, writer)
        await asyncio.gather(self._pass(here[0], there[1]), self._pass(there[0], here[1]))

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._open.add(writer)
        with contextlib.suppress(OSError), contextlib.closing(writer):
            while content := await reader.read(1 << 16):
                if writer not in self._muted:
                    writer.write(content)


def listening_at(server: asyncio.Server) -> str:
    return f"127.0.0.1:{server.sockets[0].getsockname()[1]}"


@pytest.mark.parametrize("is_given_up", [False, True])
async def test_a_call_without_an_answer_costs_its_connection(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_given_up: bool
) -> None:
    """The wire that swallowed one call is not asked again: the next call takes a new one.

    `is_given_up`: the caller's own caller waits no longer, before the deadline of this call.
    """
    monkeypatch.setattr("backlane.client.connection.SUSPECT_S", 0.1)
    async with served(tmp_path) as address:
        front = Muting(address)
        async with (
            await asyncio.start_server(front.serve, "127.0.0.1", 0) as server,
            AsyncOperationsClient(address) as client,
            AioConnection("operations", listening_at(server)) as connection,
        ):
            request = pb.GetOperationRequest(name=(await client.create(KIND, SPEC)).name)
            await connection.ask(OperationsServiceStub, "GetOperation", request)
            front.mute()
            with pytest.raises(TimeoutError if is_given_up else CallTimeoutError):
                async with asyncio.timeout(0.3 if is_given_up else None):
                    await connection.ask(
                        OperationsServiceStub, "GetOperation", request, deadline_s=0.6
                    )
            found = await connection.ask(OperationsServiceStub, "GetOperation", request)
            assert found.operation.name == request.name


async def test_a_submission_cut_off_at_its_deadline_is_made_once(tmp_path: Path) -> None:
    """The handler is cancelled wherever it is; what it had asked of the store is done or not."""
    request_ids = [str(uuid.uuid4()) for _ in range(40)]
    async with (
        served(tmp_path) as address,
        AsyncOperationsClient(address) as client,
        aio_channel(address) as connection,
    ):
        stub: Any = OperationsServiceStub(connection)

        async def submit(request_id: str, deadline_s: float) -> None:
            request = new_operation_to_proto(NewOperation(request_id, KIND, SPEC))
            try:
                await stub.CreateOperation(request, timeout=deadline_s)
            except grpc.aio.AioRpcError as error:
                assert error.code() is grpc.StatusCode.DEADLINE_EXCEEDED  # noqa: PT017

        await asyncio.gather(
            *(submit(one, 0.0005 * n) for n, one in enumerate(request_ids, start=1))
        )
        made = [await client.create(KIND, SPEC, request_id=one) for one in request_ids]
        listed = [one.name async for one in client.list_operations()]
    assert len({one.name for one in made}) == len(request_ids)
    assert sorted(one.name for one in made) == sorted(listed)


async def test_watches_that_break_leave_nothing_behind(tmp_path: Path) -> None:
    server = build(OperationsServiceSettings(port=0, data_dir=tmp_path, drain_grace_s=5))
    router = next(one for one in server._background if type(one).__name__ == "Router")
    async with running(server) as address, both(address) as (client, worker):
        name, _ = await started(client, worker)
        for _ in range(20):
            async with aclosing(client.watch(watch_request(name))) as watch:
                async for message in watch:
                    if message.phase is Phase.SYNCED:
                        break

        def use() -> None:
            with OperationsClient(address) as threaded:
                for _ in range(5):
                    for message in threaded.watch(watch_request()):
                        if message.phase is Phase.SYNCED:
                            break

        await asyncio.to_thread(use)
        await wait_until_async(lambda: server._admission._counts[WATCH] == 0)
        assert router._all() == set()
        assert router._by_name == {}


class _Mallinfo2(ctypes.Structure):
    _fields_ = [(name, ctypes.c_size_t) for name in (
        "arena", "ordblks", "smblks", "hblks", "hblkhd", "usmblks", "fsmblks", "uordblks",
        "fordblks", "keepcost",
    )]  # fmt: skip


def allocated_bytes() -> int:
    """Returns what this process has allocated and not freed, Python's small objects aside."""
    mallinfo2 = ctypes.CDLL(None).mallinfo2
    mallinfo2.restype = _Mallinfo2
    info = mallinfo2()
    return int(info.uordblks + info.hblkhd)


@pytest.mark.slow
async def test_a_cancelled_watch_leaves_next_to_nothing_behind(tmp_path: Path) -> None:
    """Server and client are this process: what either of them loses counts."""
    if not hasattr(ctypes.CDLL(None), "mallinfo2"):
        pytest.skip("this C library does not say what is allocated")
    settings = {"client_calls_burst": 10**9}
    async with served(tmp_path, **settings) as address, both(address) as (client, worker):
        name, _ = await started(client, worker)
        async with aio_channel(address, purpose="watch") as connection:
            stub: Any = OperationsServiceStub(connection)

            async def open_and_cancel(count: int) -> None:
                for _ in range(count):
                    call = stub.WatchOperations(pb.WatchOperationsRequest(names=[name]))
                    await call.read()
                    await call.read()
                    call.cancel()

            await open_and_cancel(500)
            gc.collect()
            before = allocated_bytes()
            await open_and_cancel(CANCELLED_WATCHES)
            await asyncio.sleep(0)
            gc.collect()
            grown = allocated_bytes() - before
    assert grown < LEAK_BYTES_MAX * CANCELLED_WATCHES + NOISE_BYTES


# --- slow readers, drains ------------------------------------------------------------------------


def points_of(batch_number: int) -> tuple[MetricPoint, ...]:
    first = 10_000 * (batch_number - 1)
    return tuple(MetricPoint("equity", n, float(n)) for n in range(first, first + 10_000))


@pytest.mark.slow
async def test_no_message_of_a_watch_is_larger_than_a_page(tmp_path: Path) -> None:
    async with served(tmp_path) as address, both(address) as (client, worker):
        name, epoch = await started(client, worker)
        for number in range(1, 10):
            await worker.append(name, epoch, TelemetryBatch(number, points_of(number)))
        await worker.complete(name, epoch, Succeeded(RESULT))
        async with aio_channel(address, purpose="watch") as connection:
            stub: Any = OperationsServiceStub(connection)
            oldest = pb.WatchOperationsRequest.Oldest()
            call = stub.WatchOperations(pb.WatchOperationsRequest(names=[name], oldest=oldest))
            sizes = [message.ByteSize() async for message in call]
    assert len(sizes) > 3
    # An event is never much larger than it is estimated to be; the head takes little.
    assert max(sizes) <= PAGE_BYTES_MAX + 64 * 1024


@pytest.mark.slow
async def test_readers_that_stand_still_cost_little_memory(tmp_path: Path) -> None:
    """Forty of them, and a log of about 4 MB each: in buffers it would be 160 MB."""
    env = {"BACKLANE_OPERATIONS_DATA_DIR": str(tmp_path / "data")}
    env |= {"BACKLANE_OPERATIONS_PORT": "0", "BACKLANE_OPERATIONS_LOG_LEVEL": "warning"}
    process = ServiceProcess(
        "operations_service", env_prefix="BACKLANE_OPERATIONS_", folder=tmp_path, env=env
    )
    with process:
        async with both(process.address) as (client, worker):
            name, epoch = await started(client, worker)
            for number in range(1, 10):
                await worker.append(name, epoch, TelemetryBatch(number, points_of(number)))
            await collect_some(client, name)
            before = psutil.Process(process.pid).memory_info().rss
            async with aio_channel(process.address, purpose="watch") as connection:
                stub: Any = OperationsServiceStub(connection)
                oldest = pb.WatchOperationsRequest.Oldest()
                request = pb.WatchOperationsRequest(names=[name], oldest=oldest)
                calls = [stub.WatchOperations(request) for _ in range(40)]
                for call in calls:
                    await call.read()
                after = psutil.Process(process.pid).memory_info().rss
                for call in calls:
                    call.cancel()
    assert after - before < 60 * 2**20


async def collect_some(client: AsyncOperationsClient, name: str) -> None:
    """Reads the log once, so that what a first reader needs is not counted."""
    async with aclosing(client.watch(watch_request(name, start=StartAt.OLDEST))) as watch:
        async for message in watch:
            if message.through_revision >= 90:
                return


@pytest.mark.slow
async def test_a_drain_of_500_watches_loses_nothing(tmp_path: Path) -> None:
    """Every one is told, and every one goes on at the next server, on the same port."""
    settings = {"watches_per_client_max": 500, "drain_grace_s": 20.0}
    first = build(OperationsServiceSettings(port=0, data_dir=tmp_path, **settings))
    await first.start()
    port = int(first.address.rpartition(":")[2])
    async with both(first.address) as (client, worker):
        name, epoch = await started(client, worker)
        received: list[list[WatchMessage]] = [[] for _ in range(500)]

        async def follow(messages: list[WatchMessage]) -> None:
            request = watch_request(name, start=StartAt.OLDEST)
            async with aclosing(client.watch(request)) as watch:
                async for message in watch:
                    messages.append(message)  # noqa: PERF401 - each one as it comes

        following = [asyncio.create_task(follow(messages)) for messages in received]
        await wait_until_async(lambda: all(received), 60)
        await worker.append(name, epoch, TelemetryBatch(1, notes=("before",)))
        await first.drain()
        async with served(tmp_path, port=port, **settings):
            await worker.append(name, epoch, TelemetryBatch(2, notes=("after",)))
            await worker.complete(name, epoch, Succeeded(RESULT))
            await asyncio.gather(*following)
    for messages in received:
        assert [event.sequence for event in events_of(messages)] == [1, 2, 3, 4, 5]
    told = sum(any(one.phase is Phase.DRAINING for one in messages) for messages in received)
    assert told == 500
