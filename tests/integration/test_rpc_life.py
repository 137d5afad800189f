"""The life of a server over a real loopback socket: health, reflection, drain."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest
import pytest_asyncio
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from structlog.testing import capture_logs

from backlane import errors
from backlane.client.connection import AioConnection
from backlane.errors import BacklaneError
from backlane.rpc.exit_codes import ExitCode, StartupError
from backlane.testing.servers import running, wait_until_async
from tests.unit.rpc.sample_client import NOT_SERVING, SERVING, Client, connected
from tests.unit.rpc.sample_service import MODELS, SampleServicer, SampleSettings, sample_server


@pytest_asyncio.fixture
async def servicer() -> SampleServicer:
    return SampleServicer()


@pytest.mark.asyncio
async def test_health_follows_the_probe_under_every_name(tmp_path: Path):
    failures: list[BacklaneError] = [errors.StoreUnavailableError("not yet")]

    async def probe() -> None:
        if failures:
            raise failures[0]

    address_file = tmp_path / "run" / "address"
    settings = SampleSettings(probe_interval_s=0.01, address_file=address_file)
    server = sample_server(settings=settings, probe=probe)
    async with connected(server) as client:
        address = client.connection.address
        assert [await client.status(name) for name in ("", MODELS)] == [NOT_SERVING] * 2
        assert not address_file.exists()
        failures.clear()
        await wait_until_async(lambda: server.is_serving)
        assert [await client.status(name) for name in ("", MODELS)] == [SERVING] * 2
        assert address_file.read_text() == f"{address}\n"
        failures.append(errors.StoreUnavailableError("gone"))
        await wait_until_async(lambda: not server.is_serving)
        assert [await client.status(name) for name in ("", MODELS)] == [NOT_SERVING] * 2
    assert not address_file.exists()


@pytest.mark.asyncio
async def test_a_probe_that_hangs_is_a_probe_that_fails():
    settings = SampleSettings(probe_timeout_s=0.01)
    server = sample_server(settings=settings, probe=asyncio.Event().wait)
    async with running(server):
        assert not server.is_serving


@pytest.mark.asyncio
async def test_an_unknown_service_has_no_health():
    async with connected() as client:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await client.status("no.such.Service")
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND


@pytest.mark.asyncio
async def test_reflection_lists_every_service_and_health():

    async def requests() -> AsyncIterator[Any]:
        yield reflection_pb2.ServerReflectionRequest(list_services="")
        yield reflection_pb2.ServerReflectionRequest(file_containing_symbol=MODELS)

    async with connected() as client:
        stub = client.connection.stub(reflection_pb2_grpc.ServerReflectionStub)
        listed, described = [answer async for answer in stub.ServerReflectionInfo(requests())]
    assert {service.name for service in listed.list_services_response.service} == {
        MODELS, "grpc.health.v1.Health", "grpc.reflection.v1alpha.ServerReflection",
    }  # fmt: skip
    assert described.file_descriptor_response.file_descriptor_proto


class Recorder:
    """A background and a drain hook that write down when they are called."""

    def __init__(self, name: str, record: list[str]) -> None:
        self._name, self._record = name, record

    async def start(self) -> None:
        self._record.append(f"{self._name} starts")

    async def stop(self) -> None:
        self._record.append(f"{self._name} stops")


@pytest.mark.asyncio
async def test_a_drain_comes_in_its_order(servicer: SampleServicer):
    record: list[str] = []
    told, go_on = asyncio.Event(), asyncio.Event()

    async def tell_watches() -> None:
        record.append("watches told")
        told.set()
        await go_on.wait()

    server = sample_server(
        servicer,
        background=[Recorder("store", record), Recorder("scanner", record)],
        on_drain=[tell_watches],
    )
    await server.start()
    async with AioConnection("models", server.address) as connection:
        client = Client(connection)
        watch = client.health.Watch(health_pb2.HealthCheckRequest(service=MODELS))
        assert (await watch.read()).status == SERVING
        running_call = asyncio.create_task(client.get("wait"))
        await wait_until_async(lambda: servicer.calls_begun_count == 1)
        draining = asyncio.create_task(server.drain())
        await told.wait()
        assert (await watch.read()).status == NOT_SERVING
        assert await client.status() == NOT_SERVING
        with pytest.raises(errors.ServerDrainingError) as refused:
            await client.get("too late")
        assert refused.value.retry_delay_s == 1.0
        assert not running_call.done()
        go_on.set()
        servicer.release.set()
        assert (await running_call).model.name == "wait"
        await draining
        await server.drain()
    assert record == [
        "store starts", "scanner starts", "watches told", "scanner stops", "store stops",
    ]  # fmt: skip


@pytest.mark.asyncio
async def test_open_health_watches_do_not_hold_up_a_drain():
    server = sample_server(settings=SampleSettings(drain_grace_s=60))
    await server.start()
    async with AioConnection("models", server.address) as connection:
        watch = Client(connection).health.Watch(health_pb2.HealthCheckRequest(service=""))
        assert (await watch.read()).status == SERVING
        async with asyncio.timeout(5):
            await server.drain()


@pytest.mark.asyncio
async def test_a_call_that_does_not_end_is_cut_off_after_the_grace(servicer: SampleServicer):
    server = sample_server(servicer, SampleSettings(drain_grace_s=0.1))
    await server.start()
    async with AioConnection("models", server.address) as connection:
        call = asyncio.create_task(Client(connection).get("wait"))
        await wait_until_async(lambda: servicer.calls_begun_count == 1)
        await server.drain()
        with pytest.raises(errors.ServiceUnavailableError):
            await call


@pytest.mark.asyncio
async def test_a_failing_hook_does_not_keep_the_rest_from_ending():
    record: list[str] = []

    async def fail() -> None:
        raise RuntimeError("hook")

    async def hang() -> None:
        await asyncio.Event().wait()

    server = sample_server(
        settings=SampleSettings(drain_grace_s=0.05),
        background=[Recorder("store", record)],
        on_drain=[fail, hang],
    )
    with capture_logs() as logs:
        async with running(server):
            pass
    assert record == ["store starts", "store stops"]
    assert {"failed", "not done in time"} <= {log["event"] for log in logs}


@pytest.mark.asyncio
async def test_a_background_that_cannot_start_ends_what_had_started():
    record: list[str] = []

    class Broken(Recorder):
        async def start(self) -> None:
            raise errors.StoreUnavailableError("read-only disk")

    server = sample_server(background=[Recorder("store", record), Broken("scanner", record)])
    with pytest.raises(errors.StoreUnavailableError):
        await server.start()
    assert record == ["store starts", "store stops"]


@pytest.mark.asyncio
async def test_two_servers_cannot_share_a_port():
    async with running(sample_server()) as address:
        second = sample_server(settings=SampleSettings(port=int(address.rpartition(":")[2])))
        with pytest.raises(StartupError, match=address) as caught:
            await second.start()
    assert caught.value.exit_code is ExitCode.CANNOT_BIND


@pytest.mark.asyncio
async def test_an_address_file_that_cannot_be_written_ends_the_start(tmp_path: Path):
    (tmp_path / "file").touch()
    settings = SampleSettings(address_file=tmp_path / "file" / "address")
    with pytest.raises(StartupError, match="address_file") as caught:
        await sample_server(settings=settings).start()
    assert caught.value.exit_code is ExitCode.SETTINGS


@pytest.mark.asyncio
async def test_a_later_server_keeps_its_address_file(tmp_path: Path):
    address_file = tmp_path / "address"
    async with running(sample_server(settings=SampleSettings(address_file=address_file))):
        address_file.write_text("127.0.0.1:9\n")
    assert address_file.read_text() == "127.0.0.1:9\n"
