"""google.longrunning.Operations over a real socket, with Google's own clients."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.api_core import exceptions, operation, operation_async
from google.api_core.operations_v1 import OperationsAsyncClient, OperationsClient
from google.longrunning import operations_pb2 as lro_pb
from google.longrunning.operations_pb2_grpc import OperationsStub
from google.protobuf.duration_pb2 import Duration
from google.rpc import error_details_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from backlane.api.operations.v1 import operation_pb2 as pb
from backlane.client.operations import AsyncOperationsClient
from backlane.client.workers import AsyncWorkerClient
from backlane.errors import InvalidRequestError
from backlane.operations.commands import Failed, Stopped, Succeeded
from backlane.operations.operation import OperationError, State
from backlane.operations.selection import Selection
from backlane.rpc.channel import aio_channel, channel
from backlane.wire import longrunning as wire
from backlane.wire.operations import payload_of
from tests.operations_server import KIND, SPEC, both, served, started

RESULT = Duration(seconds=42)
"""Any message may be a result; this one every client knows."""


@asynccontextmanager
async def googles(
    folder: Path,
) -> AsyncIterator[tuple[OperationsAsyncClient, AsyncOperationsClient, AsyncWorkerClient]]:
    async with (
        served(folder) as address,
        both(address) as (client, worker),
        aio_channel(address) as connection,
    ):
        yield OperationsAsyncClient(connection), client, worker


def metadata_of(message: lro_pb.Operation) -> pb.Operation:
    metadata = pb.OperationMetadata()
    assert message.metadata.Unpack(metadata)
    return metadata.operation


@pytest.mark.asyncio
async def test_get_tells_how_it_stands_and_wait_brings_the_result(tmp_path: Path) -> None:
    async with googles(tmp_path) as (google, client, worker):
        name, epoch = await started(client, worker)
        running = await google.get_operation(name)
        assert (running.name, running.done) == (name, False)
        assert metadata_of(running).state == pb.Operation.STATE_RUNNING
        future = operation_async.from_gapic(
            running, google, Duration, metadata_type=pb.OperationMetadata
        )
        assert future.metadata.operation.kind == KIND
        await worker.complete(name, epoch, Succeeded(payload_of(RESULT)))
        assert await future.result(timeout=20) == RESULT
        ended = await google.get_operation(name)
        assert ended.done
        assert not metadata_of(ended).HasField("result")


@pytest.mark.asyncio
async def test_the_synchronous_client_does_the_same(tmp_path: Path) -> None:
    def use(address: str, name: str) -> Duration:
        with channel(address) as connection:
            google = OperationsClient(connection)
            future = operation.from_gapic(
                google.get_operation(name), google, Duration, metadata_type=pb.OperationMetadata
            )
            assert [one.name for one in google.list_operations("operations", "")] == [name]
            result = future.result(timeout=20)
            google.delete_operation(name)
            with pytest.raises(exceptions.NotFound) as raised:
                google.get_operation(name)
            assert raised.value.reason == "OPERATION_NOT_FOUND"
            assert raised.value.domain == "backlane"
            return result

    async with served(tmp_path) as address, both(address) as (client, worker):
        name, epoch = await started(client, worker)
        using = asyncio.create_task(asyncio.to_thread(use, address, name))
        await worker.complete(name, epoch, Succeeded(payload_of(RESULT)))
        assert await using == RESULT


@pytest.mark.asyncio
async def test_cancel_ends_with_code_one_and_a_second_cancel_changes_nothing(
    tmp_path: Path,
) -> None:
    async with googles(tmp_path) as (google, client, worker):
        name, epoch = await started(client, worker)
        await google.cancel_operation(name)
        cancelling = await google.get_operation(name)
        assert metadata_of(cancelling).state == pb.Operation.STATE_CANCELLING
        assert metadata_of(cancelling).cancel_reason
        await worker.complete(name, epoch, Stopped())
        await google.cancel_operation(name)
        cancelled = await google.get_operation(name)
        assert (cancelled.done, cancelled.error.code) == (True, grpc.StatusCode.CANCELLED.value[0])


@pytest.mark.asyncio
async def test_an_error_of_the_run_is_the_error_of_the_future(tmp_path: Path) -> None:
    error = OperationError("OUT_OF_MEMORY", "The run needed 9 GiB.", {"needed": "9 GiB"}, 8)
    async with googles(tmp_path) as (google, client, worker):
        name, epoch = await started(client, worker)
        await worker.complete(name, epoch, Failed(error))
        ended = await google.get_operation(name)
        raised = await operation_async.from_gapic(ended, google, Duration).exception()
        in_threads = operation.from_gapic(ended, google, Duration).exception()
    assert raised.message == "The run needed 9 GiB."
    assert isinstance(in_threads, exceptions.ResourceExhausted)
    info = error_details_pb2.ErrorInfo()
    assert ended.error.details[0].Unpack(info)
    assert (info.reason, dict(info.metadata)) == ("OUT_OF_MEMORY", {"needed": "9 GiB"})


@pytest.mark.asyncio
async def test_wait_answers_at_the_end_and_not_before(tmp_path: Path) -> None:
    async with served(tmp_path) as address, both(address) as (client, worker):
        name, epoch = await started(client, worker)
        async with aio_channel(address) as connection:
            stub: Any = OperationsStub(connection)
            early = await stub.WaitOperation(
                lro_pb.WaitOperationRequest(name=name, timeout=Duration(nanos=10_000_000))
            )
            assert not early.done
            waiting = asyncio.ensure_future(
                stub.WaitOperation(lro_pb.WaitOperationRequest(name=name))
            )
            await worker.complete(name, epoch, Succeeded(payload_of(RESULT)))
            assert (await waiting).done


@pytest.mark.asyncio
async def test_delete_of_a_live_one_is_refused_and_lists_can_be_narrowed(tmp_path: Path) -> None:
    async with googles(tmp_path) as (google, client, _worker):
        live = await client.create(KIND, SPEC, labels={"owner": "me"})
        ended = await client.create("train.run", SPEC, labels={"owner": "me"})
        await client.cancel(ended.name)
        with pytest.raises(exceptions.FailedPrecondition) as raised:
            await google.delete_operation(live.name)
        assert raised.value.reason == "OPERATION_NOT_TERMINAL"
        with pytest.raises(exceptions.NotFound):
            await google.cancel_operation("operations/none0000")
        with pytest.raises(exceptions.InvalidArgument):
            await google.get_operation("nonsense")

        async def names(filter_: str) -> list[str]:
            pager = await google.list_operations("operations", filter_)
            return [one.name async for one in pager]

        assert await names("") == [ended.name, live.name]
        assert await names("done = false") == [live.name]
        assert await names('kind="train.run" AND labels.owner = "me" AND done=true') == [ended.name]
        assert await names("state=QUEUED kind=train.run") == []
        with pytest.raises(exceptions.InvalidArgument) as refused:
            await names("size > 3")
        assert refused.value.reason == "VALIDATION_FAILED"


@pytest.mark.asyncio
async def test_pages_go_through_the_whole_list(tmp_path: Path) -> None:
    async with served(tmp_path) as address, both(address) as (client, _worker):
        made = [(await client.create(KIND, SPEC)).name for _ in range(5)]
        async with aio_channel(address) as connection:
            stub: Any = OperationsStub(connection)
            token, sizes, names = "", [], []
            while True:
                request = lro_pb.ListOperationsRequest(page_size=2, page_token=token)
                page = await stub.ListOperations(request)
                sizes.append(len(page.operations))
                names.extend(one.name for one in page.operations)
                token = page.next_page_token
                if not token:
                    break
    assert names == made[::-1]
    assert sizes == [2, 2, 1]


@pytest.mark.asyncio
async def test_health_and_reflection_know_it(tmp_path: Path) -> None:
    service = "google.longrunning.Operations"
    async with served(tmp_path) as address, aio_channel(address) as connection:
        health: Any = health_pb2_grpc.HealthStub(connection)
        answer = await health.Check(health_pb2.HealthCheckRequest(service=service))
        assert answer.status == health_pb2.HealthCheckResponse.SERVING
        reflection: Any = reflection_pb2_grpc.ServerReflectionStub(connection)
        call = reflection.ServerReflectionInfo()
        await call.write(reflection_pb2.ServerReflectionRequest(file_containing_symbol=service))
        described = await call.read()
        await call.done_writing()
        call.cancel()
    assert described.WhichOneof("message_response") == "file_descriptor_response"


@pytest.mark.parametrize(
    ("text", "selection"),
    [
        ("", Selection()),
        ("  ", Selection()),
        ("state = STATE_RUNNING", Selection(states=frozenset({State.RUNNING}))),
        ("done=true AND state=FAILED", Selection(states=frozenset({State.FAILED}))),
        ('labels.a.b-c = "x y"', Selection(labels={"a.b-c": "x y"})),
        ("labels.AND=AND AND kind=a.b", Selection(kinds=frozenset({"a.b"}), labels={"AND": "AND"})),
    ],
)
def test_a_filter_is_read(text: str, selection: Selection) -> None:
    assert (
        wire.lro_list_from_proto(lro_pb.ListOperationsRequest(filter=text)).selection == selection
    )


@pytest.mark.parametrize(
    "text",
    [
        "state",
        "state = ",
        "state = SLEEPING",
        "done = maybe",
        "done = true AND state = RUNNING",
        "kind = a.b AND kind = c.d",
        "kind = Bad",
        "state = RUNNING OR state = QUEUED",
        "NOT done = true",
        "x" * 5_000,
        'labels.x = "unclosed',
    ],
)
def test_a_filter_that_is_not_understood_is_refused(text: str) -> None:
    with pytest.raises(InvalidRequestError) as raised:
        wire.lro_list_from_proto(lro_pb.ListOperationsRequest(filter=text))
    assert {violation.field for violation in raised.value.violations} == {"filter"}
