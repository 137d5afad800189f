"""operations_service over real sockets, with the real clients: what clients and workers see."""

import asyncio
import re
import uuid
from contextlib import aclosing
from pathlib import Path

import pytest

from backlane.client.operations import AsyncOperationsClient, OperationsClient, watch_request
from backlane.errors import (
    InvalidPageTokenError,
    InvalidRequestError,
    LeaseLostError,
    OperationNotFoundError,
    RequestIdReusedError,
    StoreUnavailableError,
)
from backlane.operations.commands import Failed, Stopped, Succeeded, TelemetryBatch
from backlane.operations.directives import Action
from backlane.operations.events import MetricPoint
from backlane.operations.operation import OperationError, Progress, State
from backlane.operations.selection import Selection
from backlane.operations.store import Renewal
from backlane.operations.watching import StartAt, WatchMessage
from operations_service.app import build
from operations_service.settings import OperationsServiceSettings
from tests.operations_server import (
    KIND,
    RESULT,
    SPEC,
    both,
    moves_of,
    served,
    started,
)

pytestmark = pytest.mark.asyncio


# --- create, get, list, wait, cancel, delete ---------------------------------------------------


async def test_eight_callers_with_one_request_id_make_one_operation(tmp_path: Path) -> None:
    request_id = str(uuid.uuid4())
    async with served(tmp_path) as address, AsyncOperationsClient(address) as client:
        made = await asyncio.gather(
            *(client.create(KIND, SPEC, request_id=request_id) for _ in range(8))
        )
        with pytest.raises(RequestIdReusedError) as raised:
            await client.create("other.run", SPEC, request_id=request_id)
        assert raised.value.metadata["differing_fields"] == "kind"
        listed = [one async for one in client.list_operations()]
    assert {one.name for one in made} == {listed[0].name}
    assert len(listed) == 1


async def test_all_that_is_wrong_with_a_request_is_said_at_once(tmp_path: Path) -> None:
    async with served(tmp_path) as address, AsyncOperationsClient(address) as client:
        with pytest.raises(InvalidRequestError) as raised:
            await client.create("Bad Kind", SPEC, request_id="1", labels={"": "x"}, max_attempts=-1)
    fields = [violation.field for violation in raised.value.violations]
    assert fields == ["request_id", "kind", "labels[]", "max_attempts"]


async def test_a_run_from_create_to_result(tmp_path: Path) -> None:
    async with served(tmp_path) as address, both(address) as (client, worker):
        name, epoch = await started(client, worker)
        waiting = asyncio.create_task(client.wait(name))
        points = tuple(MetricPoint("equity", n, n / 3) for n in range(5))
        progress = Progress(1, 5, 10, "bar", "simulation")
        assert await worker.append(name, epoch, TelemetryBatch(1, points, progress=progress)) == 5
        assert (await client.get(name)).progress == progress
        await worker.complete(name, epoch, Succeeded(RESULT))
        ended = await waiting
        assert (ended.state, ended.result, ended.attempt) == (State.SUCCEEDED, RESULT, 1)
        read = [point async for point in client.list_metric_points(name)]
        assert [point.value for point in read] == [n / 3 for n in range(5)]
        await client.delete(name)
        with pytest.raises(OperationNotFoundError):
            await client.get(name)
        await client.delete(name, allow_missing=True)


async def test_a_wait_that_is_over_returns_the_operation_as_it_is(tmp_path: Path) -> None:
    async with served(tmp_path) as address, AsyncOperationsClient(address) as client:
        made = await client.create(KIND, SPEC)
        assert (await client.wait(made.name, timeout_s=0.05)).state is State.QUEUED


async def test_pages_of_a_list_belong_to_their_filter(tmp_path: Path) -> None:
    async with served(tmp_path) as address, AsyncOperationsClient(address) as client:
        made = [await client.create(KIND, SPEC, labels={"n": str(n)}) for n in range(5)]
        page = await client.list_page(page_size=2)
        with pytest.raises(InvalidPageTokenError):
            await client.list_page(
                Selection(kinds=frozenset({KIND})), page_token=page.next_page_token
            )
        listed = [one.name async for one in client.list_operations(limit=4)]
    assert listed == [one.name for one in reversed(made)][:4]


async def test_the_synchronous_client_does_the_same(tmp_path: Path) -> None:
    def use(address: str) -> list[WatchMessage]:
        with OperationsClient(address) as client:
            made = client.create(KIND, SPEC)
            assert client.get(made.name) == made
            assert list(client.list_operations(limit=1)) == [made]
            assert client.cancel(made.name, "enough").state is State.CANCELLED
            assert client.wait(made.name).state is State.CANCELLED
            assert list(client.list_metric_points(made.name)) == []
            messages = list(client.watch(watch_request(made.name, start=StartAt.OLDEST)))
            client.delete(made.name)
            return messages

    async with served(tmp_path) as address:
        messages = await asyncio.to_thread(use, address)
    assert moves_of(messages) == [State.QUEUED, State.CANCELLED]


# --- workers -----------------------------------------------------------------------------------


async def test_an_idle_worker_gets_work_as_soon_as_there_is_some(tmp_path: Path) -> None:
    async with served(tmp_path) as address, both(address) as (client, worker):
        waiting = asyncio.create_task(worker.acquire([KIND], wait_s=30))
        assert await worker.acquire(["other.run"], wait_s=0) is None
        made = await client.create(KIND, SPEC)
        assignment = await waiting
    assert assignment is not None
    assert (assignment.operation.name, assignment.hold.epoch) == (made.name, 1)
    assert (assignment.hold.ttl_s, assignment.hold.renew_interval_s) == (15.0, 5.0)


async def test_a_worker_that_goes_silent_loses_the_run(tmp_path: Path) -> None:
    async with served(tmp_path, lease_ttl_s=0.3) as address, both(address) as (client, worker):
        name, epoch = await started(client, worker)
        ended = await client.wait(name)
        assert ended.state is State.FAILED
        assert ended.error is not None
        assert (ended.error.reason, ended.error.code) == ("WORKER_LOST", 14)
        with pytest.raises(LeaseLostError):
            await worker.append(name, epoch, TelemetryBatch(1, notes=("late",)))
        (directive,) = await worker.renew([Renewal(name, epoch)])
        assert directive.action is Action.ABANDON


@pytest.mark.slow
async def test_a_worker_that_renews_keeps_the_run(tmp_path: Path) -> None:
    async with served(tmp_path, lease_ttl_s=0.6) as address, both(address) as (client, worker):
        name, epoch = await started(client, worker)
        loop = asyncio.get_running_loop()
        ends_s = loop.time() + 1.5
        while loop.time() < ends_s:
            (directive,) = await worker.renew([Renewal(name, epoch)])
            assert directive.action is Action.CONTINUE
            await client.wait(name, timeout_s=0.1)
        assert (await client.get(name)).state is State.RUNNING


async def test_cancel_is_pushed_to_the_worker_with_its_reason(tmp_path: Path) -> None:
    async with served(tmp_path) as address, both(address) as (client, worker):
        name, epoch = await started(client, worker)
        async with aclosing(worker.watch_directives()) as directives:
            first = asyncio.create_task(anext(directives))
            assert (await client.cancel(name, "wrong strategy")).state is State.CANCELLING
            directive = await first
        assert (directive.operation, directive.action) == (name, Action.CANCEL)
        assert (directive.reason, directive.grace_s) == ("wrong strategy", 10.0)
        (renewed,) = await worker.renew([Renewal(name, epoch)])
        assert renewed == directive
        ended = await worker.complete(name, epoch, Stopped())
        assert ended.state is State.CANCELLED
        assert ended.error is not None
        assert (ended.error.reason, ended.error.code) == ("CANCEL_REQUESTED", 1)


async def test_an_error_of_the_worker_arrives_as_it_was(tmp_path: Path) -> None:
    error = OperationError("OUT_OF_MEMORY", "The run needed 9 GiB.", {"needed": "9 GiB"}, 8)
    async with served(tmp_path) as address, both(address) as (client, worker):
        name, epoch = await started(client, worker)
        await worker.complete(name, epoch, Failed(error))
        assert (await client.get(name)).error == error


async def test_a_second_server_on_the_same_folder_does_not_start(tmp_path: Path) -> None:
    async with served(tmp_path):
        second = build(OperationsServiceSettings(port=0, data_dir=tmp_path))
        with pytest.raises(StoreUnavailableError, match=re.escape(str(tmp_path))):
            await second.start()
