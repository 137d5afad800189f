"""Calls over a real loopback socket: what a servicer raises is what the client gets."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import aclosing

import grpc
import pytest
import pytest_asyncio
from structlog.testing import capture_logs

from backlane import errors
from backlane.api.models.v1 import models_service_pb2, models_service_pb2_grpc
from backlane.client.connection import DEFAULT_DEADLINE_S, AioConnection, Connection
from backlane.errors import FieldViolation
from backlane.rpc.error_catalog import CATALOG
from backlane.testing.servers import running, wait_until_async
from tests.unit.rpc.sample_client import SERVING, Client, connected
from tests.unit.rpc.sample_service import (
    MODELS,
    SECRET,
    SampleServicer,
    SampleSettings,
    sample_server,
)


@pytest_asyncio.fixture
async def servicer() -> SampleServicer:
    return SampleServicer()


@pytest_asyncio.fixture
async def client(servicer: SampleServicer) -> AsyncIterator[Client]:
    async with connected(sample_server(servicer)) as found:
        yield found


# --- errors ------------------------------------------------------------------------------------


@pytest.mark.asyncio
async def test_every_error_arrives_as_it_was_raised(servicer: SampleServicer, client: Client):
    violations = (FieldViolation("spec.initial_cash", "-1 is not above 0"),)
    for cls in CATALOG:
        sent = cls("12 · 7 ≠ 85", metadata={"rows": "12"}, violations=violations,
                   retry_delay_s=0.25)  # fmt: skip
        servicer.errors["this"] = sent
        with pytest.raises(cls) as caught:
            await client.get("this")
        assert vars(caught.value) == vars(sent)


@pytest.mark.asyncio
async def test_an_error_in_mid_stream_comes_after_what_was_sent(client: Client):
    responses = client.predict("first", "missing")
    assert (await anext(responses)).opened.name == "first"
    with pytest.raises(errors.ModelNotFoundError) as caught:
        await anext(responses)
    assert caught.value.metadata == {"model": "missing"}


@pytest.mark.asyncio
@pytest.mark.parametrize("name", ["crash", "not a message"])
async def test_an_unforeseen_error_leaves_an_id_and_nothing_else(client: Client, name: str):
    with capture_logs() as logs, pytest.raises(errors.InternalError) as caught:
        await client.get(name)
    (error_id,) = caught.value.metadata.values()
    rpc_error = caught.value.__cause__
    assert isinstance(rpc_error, grpc.aio.AioRpcError)
    assert SECRET not in f"{caught.value} {rpc_error!r} {rpc_error.trailing_metadata()}"
    assert error_id in str(caught.value)
    (entry,) = [log for log in logs if log["event"] == "unforeseen error"]
    assert entry["error_id"] == error_id
    assert isinstance(entry["exc_info"], Exception)


@pytest.mark.asyncio
async def test_an_unforeseen_error_in_a_stream_leaks_no_text(client: Client):
    with capture_logs(), pytest.raises(errors.InternalError) as caught:
        async for _ in client.predict("crash"):
            pass
    assert SECRET not in repr(caught.value.__cause__)


@pytest.mark.asyncio
async def test_the_largest_error_arrives_every_time(servicer: SampleServicer, client: Client):
    # Uncapped, 12 KB of trailers are lost in about half of all calls.
    servicer.errors["long"] = errors.FeatureMismatchError(
        "\N{EURO SIGN}" * 5000,
        metadata={f"feature_{i}": "x" * 400 for i in range(200)},
        violations=tuple(FieldViolation(f"features[{i}]", "y" * 400) for i in range(200)),
    )
    for _ in range(30):
        with pytest.raises(errors.FeatureMismatchError):
            await client.get("long")


@pytest.mark.asyncio
async def test_a_status_of_the_servicers_own_passes(client: Client):
    with pytest.raises(errors.InternalError, match="FAILED_PRECONDITION: own words"):
        await client.get("aborted")


@pytest.mark.asyncio
async def test_a_method_that_is_not_written_says_so(client: Client):
    request = models_service_pb2.LoadModelRequest(name="any")
    with pytest.raises(errors.InternalError, match="UNIMPLEMENTED"):
        await client.connection.call(client.models.LoadModel, request)


@pytest.mark.asyncio
async def test_bytes_that_are_no_message_are_an_invalid_request(client: Client):
    raw_call = client.connection.stub(lambda channel: channel.unary_unary(f"/{MODELS}/GetModel"))
    with pytest.raises(errors.InvalidRequestError, match="GetModel"):
        await client.connection.call(raw_call, b"\xff\xff\xff")
    raw_stream = client.connection.stub(
        lambda channel: channel.stream_stream(f"/{MODELS}/PredictStream")
    )

    async def requests() -> AsyncIterator[bytes]:
        yield b"\xff\xff\xff"

    with pytest.raises(errors.InvalidRequestError, match="PredictStream"):
        async for _ in client.connection.exchange(raw_stream, requests()):
            pass


@pytest.mark.asyncio
async def test_a_request_over_the_limit_is_refused_by_name():
    settings = SampleSettings(receive_bytes_max=2048)
    async with connected(sample_server(settings=settings)) as client:
        # The name field costs 3 bytes: a tag, and a length above 127 takes two.
        assert (await client.get("x" * 2045)).model.name == "x" * 2045
        with pytest.raises(errors.PayloadTooLargeError, match=r"2049 vs\. 2048"):
            await client.get("x" * 2046)


@pytest.mark.asyncio
async def test_nobody_there_says_who_where_and_what_to_do(unused_port: int):
    async with AioConnection("models", f"127.0.0.1:{unused_port}") as connection:
        with pytest.raises(errors.ServiceUnavailableError) as caught:
            await Client(connection).get("any")
    assert f"model_service at 127.0.0.1:{unused_port}" in caught.value.message
    assert "backlane up" in caught.value.message


@pytest.fixture
def unused_port() -> int:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        port: int = bound.getsockname()[1]
    return port


# --- calls -------------------------------------------------------------------------------------


@pytest.mark.asyncio
async def test_a_default_deadline_reaches_the_servicer(servicer: SampleServicer, client: Client):
    await client.get("any")
    (left_s,) = servicer.deadlines_s
    assert left_s is not None
    # gRPC sends the time left in two to three digits, rounded up: by 1 % at 10 s.
    assert DEFAULT_DEADLINE_S - 5 < left_s <= DEFAULT_DEADLINE_S * 1.01


@pytest.mark.asyncio
async def test_a_call_over_its_deadline_times_out(client: Client):
    with pytest.raises(errors.CallTimeoutError, match="model_service"):
        await client.get("wait", deadline_s=0.05)


@pytest.mark.asyncio
async def test_an_unavailable_server_is_asked_again_when_it_said(servicer: SampleServicer):
    servicer.errors["busy"] = errors.StoreUnavailableError("disk full", retry_delay_s=0.02)
    async with connected(sample_server(servicer), retried=True) as client:
        with pytest.raises(errors.StoreUnavailableError):
            await client.get("busy")
    assert servicer.calls_begun_count == 5


@pytest.mark.asyncio
async def test_an_error_that_a_retry_cannot_mend_is_not_retried(servicer: SampleServicer):
    servicer.errors["bad"] = errors.InvalidRequestError("always wrong")
    async with connected(sample_server(servicer), retried=True) as client:
        with pytest.raises(errors.InvalidRequestError):
            await client.get("bad")
    assert servicer.calls_begun_count == 1


@pytest.mark.asyncio
async def test_a_reader_that_goes_away_ends_the_servicers_stream(
    servicer: SampleServicer, client: Client
):
    async with aclosing(client.predict("a", "wait")) as responses:
        assert (await anext(responses)).opened.name == "a"
        assert servicer.streams_open_count == 1
    await wait_until_async(lambda: servicer.streams_open_count == 0)


@pytest.mark.asyncio
async def test_blocked_streams_starve_neither_health_nor_calls(
    servicer: SampleServicer, client: Client
):
    reading = [asyncio.create_task(anext(client.predict("wait"))) for _ in range(50)]
    await wait_until_async(lambda: servicer.streams_open_count == 50)
    assert await client.status() == SERVING
    assert (await client.get("still answered")).model.name == "still answered"
    servicer.release.set()
    assert len(await asyncio.gather(*reading)) == 50


@pytest.mark.asyncio
async def test_the_stream_beyond_the_limit_is_refused_and_health_is_not(servicer: SampleServicer):
    settings = SampleSettings(stream_concurrent_max=2, unary_concurrent_max=1)
    async with connected(sample_server(servicer, settings)) as client:
        reading = [asyncio.create_task(anext(client.predict("wait"))) for _ in range(2)]
        await wait_until_async(lambda: servicer.streams_open_count == 2)
        with pytest.raises(errors.LimitExceededError) as caught:
            await anext(client.predict("wait"))
        assert caught.value.metadata == {"limit_name": "stream", "limit": "2"}
        assert await client.status() == SERVING
        servicer.release.set()
        await asyncio.gather(*reading)


@pytest.mark.asyncio
async def test_threads_get_the_same_answers_and_errors(servicer: SampleServicer):
    servicer.errors["missing"] = errors.ModelNotFoundError("none", metadata={"model": "missing"})

    def talk(address: str) -> list[str]:
        with Connection("models", address, [MODELS]) as connection:
            stub = connection.stub(models_service_pb2_grpc.ModelsServiceStub)
            request = models_service_pb2.GetModelRequest
            found = connection.call(stub.GetModel, request(name="there"))
            with pytest.raises(errors.ModelNotFoundError) as caught:
                connection.call(stub.GetModel, request(name="missing"))
            with pytest.raises(errors.CallTimeoutError):
                connection.call(stub.GetModel, request(name="wait"), deadline_s=0.05)
            opening = models_service_pb2.PredictStreamRequest
            streamed = connection.exchange(
                stub.PredictStream, [opening(open=opening.Open(name="a"))]
            )
            return [
                found.model.name,
                caught.value.metadata["model"],
                *(response.opened.name for response in streamed),
            ]

    async with running(sample_server(servicer)) as address:
        assert await asyncio.to_thread(talk, address) == ["there", "missing", "a"]


@pytest.mark.asyncio
async def test_a_proxy_in_the_environment_does_not_stand_before_loopback(
    client: Client, monkeypatch: pytest.MonkeyPatch, unused_port: int
):
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{unused_port}")
    address = client.connection.address
    async with grpc.aio.insecure_channel(address) as plain:
        stub = models_service_pb2_grpc.ModelsServiceStub(plain)
        with pytest.raises(grpc.aio.AioRpcError):
            await stub.GetModel(models_service_pb2.GetModelRequest(name="any"), timeout=5)
    async with AioConnection("models", address) as connection:
        assert (await Client(connection).get("any")).model.name == "any"
