"""operations_service over real sockets, with the real clients: what clients and workers see."""

import asyncio
import re
import uuid
from contextlib import aclosing, suppress
from pathlib import Path
from typing import Any

import pytest

from backlane.api.operations.v1.operations_service_pb2_grpc import OperationsServiceStub
from backlane.client.operations import AsyncOperationsClient, OperationsClient, watch_request
from backlane.client.replicas import default_client_name
from backlane.errors import (
    CheckpointOutOfOrderError,
    InvalidPageTokenError,
    InvalidRequestError,
    LeaseLostError,
    NothingToResumeError,
    OperationNotFoundError,
    OperationNotTerminalError,
    QueueFullError,
    RateLimitError,
    RequestIdReusedError,
    StoreUnavailableError,
    WatchLimitError,
)
from backlane.operations.commands import Failed, NewOperation, Stopped, Succeeded, TelemetryBatch
from backlane.operations.directives import Action
from backlane.operations.events import MetricPoint
from backlane.operations.operation import Checkpoint, OperationError, Progress, State
from backlane.operations.selection import ListOrder, Selection
from backlane.operations.store import Renewal
from backlane.operations.watching import Phase, StartAt, WatchMessage
from backlane.rpc.channel import aio_channel
from backlane.testing.servers import wait_until_async
from backlane.wire.operation_requests import new_operation_to_proto
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


# --- attempts, checkpoints, and going on -------------------------------------------------------

LOST = Failed(OperationError("WORKER_LOST", "The process died.", {}, 14), is_retryable=True)


def checkpoint(number: int) -> Checkpoint:
    return Checkpoint(
        number=number,
        uri=f"home:checkpoints/x/{number:06d}.ckpt",
        sha256=bytes([number]) * 32,
        size_bytes=100 * number,
        completed_units=1_000 * number,
        format="test/1",
        spec_sha256=b"s" * 32,
    )


async def test_an_attempt_that_failed_is_tried_again_after_its_pause(tmp_path: Path) -> None:
    """The worker that waits gets it when the pause lapses, without anything else happening."""
    async with served(tmp_path) as address, both(address) as (client, worker):
        made = await client.create(KIND, SPEC, max_attempts=2)
        first = await worker.acquire([KIND], wait_s=5)
        assert first is not None
        queued = await worker.complete(made.name, first.hold.epoch, LOST)
        assert (queued.state, queued.next_attempt_ns is not None) == (State.QUEUED, True)
        second = await worker.acquire([KIND], wait_s=30)
        assert second is not None
        assert (second.operation.name, second.operation.attempt) == (made.name, 2)
        ended = await worker.complete(made.name, second.hold.epoch, LOST)
        assert ended.state is State.FAILED
        assert [one.attempt for one in ended.failures] == [1, 2]


async def test_a_run_that_failed_is_resumed_from_its_newest_checkpoint(tmp_path: Path) -> None:
    request_id = str(uuid.uuid4())
    async with served(tmp_path) as address, both(address) as (client, worker):
        name, epoch = await started(client, worker)
        for number in (1, 2, 3):
            reply = await worker.commit_checkpoint(name, epoch, checkpoint(number))
        assert reply.checkpoint.attempt == 1
        assert [one.number for one in reply.dropped] == [1]
        with pytest.raises(CheckpointOutOfOrderError):
            await worker.commit_checkpoint(name, epoch, checkpoint(5))
        with pytest.raises(OperationNotTerminalError):
            await client.resume(name)
        await worker.complete(name, epoch, Failed(OperationError("X_Y", "no", {}, 13)))
        resumed = await client.resume(name, request_id=request_id)
        again = await client.resume(name, request_id=request_id)
        assert again.name == resumed.name != name
        assert resumed.resumed_from == name
        assert [one.number for one in resumed.checkpoints] == [3, 2]
        assignment = await worker.acquire([KIND], wait_s=5)
        assert assignment is not None
        assert assignment.operation.checkpoints == resumed.checkpoints
        given_back = await worker.release(resumed.name, assignment.hold.epoch, "draining")
        assert (given_back.state, given_back.attempt) == (State.QUEUED, 1)
        ended = await client.create("other.run", SPEC)
        await client.cancel(ended.name)
        with pytest.raises(NothingToResumeError):
            await client.resume(ended.name)


async def test_what_has_ended_is_pruned_when_it_is_old_enough(tmp_path: Path) -> None:
    async with served(tmp_path) as address, AsyncOperationsClient(address) as client:
        live = await client.create(KIND, SPEC)
        for _ in range(3):
            await client.cancel((await client.create(KIND, SPEC)).name)
        assert (await client.prune()).operation_count == 0  # the retention is seven days
        counted = await client.prune(older_than_s=0, is_dry_run=True)
        assert (counted.operation_count, counted.has_more) == (3, False)
        assert (await client.prune(older_than_s=0)).operation_count == 3
        assert [one.name async for one in client.list_operations()] == [live.name]


async def test_retention_removes_what_is_too_old_by_itself(tmp_path: Path) -> None:
    settings = {"retention_days": 0.0, "retention_interval_s": 0.1}
    async with served(tmp_path, **settings) as address, AsyncOperationsClient(address) as client:
        made = await client.create(KIND, SPEC)
        await client.cancel(made.name)

        async def is_gone() -> bool:
            return [one async for one in client.list_operations()] == []

        await wait_until_async(is_gone)


async def test_the_oldest_come_first_when_that_is_asked_for(tmp_path: Path) -> None:
    async with served(tmp_path) as address, AsyncOperationsClient(address) as client:
        made = [(await client.create(KIND, SPEC)).name for _ in range(5)]
        order = ListOrder.OLDEST_FIRST
        assert [one.name async for one in client.list_operations(order=order)] == made
        page = await client.list_page(page_size=2, order=order)
        with pytest.raises(InvalidPageTokenError):
            await client.list_page(page_token=page.next_page_token)


async def test_metric_points_are_followed_to_the_end_without_asking_again(tmp_path: Path) -> None:
    async with served(tmp_path) as address, both(address) as (client, worker):
        name, epoch = await started(client, worker)

        async def follow() -> list[float]:
            return [point.value async for point in client.follow_metric_points(name)]

        following = asyncio.create_task(follow())
        waiting = asyncio.create_task(client.metric_page(name, after_index=2, wait_s=30))
        for number in range(1, 4):
            points = (MetricPoint("equity", number, number / 3),)
            await worker.append(name, epoch, TelemetryBatch(number, points))
        assert [point.step for point in (await waiting).points] == [3]
        late = asyncio.create_task(client.metric_page(name, after_index=3, wait_s=30))
        await worker.complete(name, epoch, Succeeded(RESULT))
        assert await following == [1 / 3, 2 / 3, 1.0]
        assert (await late).is_complete
        assert (await client.metric_page(name, after_index=3)).is_complete


# --- clients and their limits --------------------------------------------------------------------


async def test_an_operation_tells_who_asked_for_it(tmp_path: Path) -> None:
    async with (
        served(tmp_path) as address,
        AsyncOperationsClient(address) as unnamed,
        AsyncOperationsClient(address, client_name="nightly sweep") as named,
        aio_channel(address) as plain,
    ):
        assert (await unnamed.create(KIND, SPEC)).client == default_client_name()
        assert (await named.create(KIND, SPEC)).client == "nightly sweep"
        assert (await named.create(KIND, SPEC, client_name="for me")).client == "for me"
        request = new_operation_to_proto(NewOperation(str(uuid.uuid4()), KIND, SPEC))
        stub: Any = OperationsServiceStub(plain)
        assert (await stub.CreateOperation(request)).operation.client == "127.0.0.1"


async def test_a_client_that_asks_too_fast_is_told_when_to_ask_again(tmp_path: Path) -> None:
    limits = {"client_calls_per_s": 0.5, "client_calls_burst": 3}
    async with (
        served(tmp_path, **limits) as address,
        both(address) as (client, worker),
        AsyncOperationsClient(address, client_name="another") as another,
    ):
        for _ in range(3):
            await client.list_page()
        with pytest.raises(RateLimitError) as raised:
            await client.list_page()
        assert 1.0 < (raised.value.retry_delay_s or 0.0) <= 2.0
        await another.list_page()
        # Workers are not rated: their leases must not lapse because they are many.
        for _ in range(5):
            assert await worker.acquire([KIND], wait_s=0) is None


async def test_a_client_has_only_so_many_watches(tmp_path: Path) -> None:
    async with (
        served(tmp_path, watches_per_client_max=2) as address,
        AsyncOperationsClient(address) as client,
        AsyncOperationsClient(address, client_name="another") as another,
    ):
        watches = [client.watch(watch_request()) for _ in range(2)]
        for watch in watches:
            await anext(watch)
        refused = client.watch(watch_request(), reconnect_deadline_s=0)
        with pytest.raises(WatchLimitError) as raised:
            await anext(refused)
        assert raised.value.retry_delay_s == 0.5
        elsewhere = another.watch(watch_request())
        await anext(elsewhere)
        await watches[0].aclose()

        async def is_free() -> bool:
            async with aclosing(client.watch(watch_request(), reconnect_deadline_s=0)) as third:
                with suppress(WatchLimitError):
                    return (await anext(third)).phase is Phase.SYNCED
            return False

        await wait_until_async(is_free)  # once the server has noticed
        for watch in (watches[1], elsewhere):
            await watch.aclose()


async def test_a_full_queue_is_told_to_the_client(tmp_path: Path) -> None:
    async with (
        served(tmp_path, live_per_client_max=2) as address,
        AsyncOperationsClient(address) as client,
        AsyncOperationsClient(address, client_name="another") as another,
    ):
        request_id = str(uuid.uuid4())
        first = await client.create(KIND, SPEC, request_id=request_id)
        await client.create(KIND, SPEC)
        with pytest.raises(QueueFullError) as raised:
            await client.create(KIND, SPEC)
        assert raised.value.retry_delay_s == 1.0
        # A retry of what was accepted is no new operation.
        assert (await client.create(KIND, SPEC, request_id=request_id)).name == first.name
        await another.create(KIND, SPEC)
        await client.cancel(first.name)
        await client.create(KIND, SPEC)
