"""The client of operations_service for asyncio; `OperationsClient` says what each method does."""

# grpc's callables are generic in types-grpcio alone.
from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from typing import Any, Self, TypeVar, Unpack

from backlane.api.operations.v1.operations_service_pb2_grpc import OperationsServiceStub
from backlane.client import operation_calls as calls
from backlane.client.connection import READY_S, AioConnection
from backlane.client.operation_calls import (
    EVERYTHING,
    SERVICE_NAME,
    WAIT_PART_S,
    Call,
    CreateOptions,
    ListPage,
)
from backlane.client.watching import (
    RECONNECT_DEADLINE_S,
    Continuity,
    OnLost,
    OnReconnect,
    Recovery,
    read_promptly,
    silence_s,
)
from backlane.clock import Clock, SystemClock
from backlane.errors import BacklaneError
from backlane.operations.events import MetricPoint
from backlane.operations.operation import Operation, Payload
from backlane.operations.selection import ListOrder, Selection
from backlane.operations.store import Compaction, MetricPage
from backlane.operations.watching import WatchMessage, WatchRequest
from backlane.wire.operation_requests import POINTS_PAGE_SIZE_MAX, MetricsRequest, watch_to_proto
from backlane.wire.operations import watch_message_from_proto

_T = TypeVar("_T")


class AsyncOperationsClient:
    """Calls to operations_service from one event loop; otherwise as OperationsClient."""

    def __init__(
        self, address: str, *, client_name: str | None = None, clock: Clock | None = None
    ) -> None:
        self._connection = AioConnection("operations", address, [SERVICE_NAME], client=client_name)
        self._clock = clock or SystemClock()

    async def create(
        self,
        kind: str,
        spec: Payload,
        *,
        request_id: str | None = None,
        client_name: str | None = None,
        **options: Unpack[CreateOptions],
    ) -> Operation:
        """Has something run; with the same request_id again, returns the same operation.

        `client_name` is for whom it is done, when that is not the program itself.
        """
        return await self._do(calls.create(kind, spec, request_id, client_name, options))

    async def resume(
        self, name: str, *, request_id: str | None = None, client_name: str | None = None
    ) -> Operation:
        """Goes on from the newest checkpoint of an operation that failed or was cancelled.

        Returns a new operation; with the same request_id again, the same one.
        """
        return await self._do(calls.resume(name, request_id, client_name))

    async def get(self, name: str) -> Operation:
        """Returns an operation as it is now."""
        return await self._do(calls.get(name))

    async def list_page(
        self,
        selection: Selection = EVERYTHING,
        *,
        page_size: int = 0,
        page_token: str = "",
        order: ListOrder = ListOrder.NEWEST_FIRST,
    ) -> ListPage:
        """Returns one page; it may hold less than its size."""
        return await self._do(calls.list_page(selection, page_size, page_token, order))

    async def list_operations(
        self,
        selection: Selection = EVERYTHING,
        *,
        limit: int | None = None,
        order: ListOrder = ListOrder.NEWEST_FIRST,
    ) -> AsyncIterator[Operation]:
        """Yields operations, page by page; at most `limit`."""
        token, left = "", limit
        while left is None or left > 0:
            size = calls.page_size(left)
            page = await self.list_page(selection, page_size=size, page_token=token, order=order)
            for operation in page.operations[:left]:
                yield operation
            left = None if left is None else left - len(page.operations)
            token = page.next_page_token
            if not token:
                return

    async def wait(
        self,
        name: str,
        *,
        timeout_s: float | None = None,
        on_reconnect: OnReconnect | None = None,
        on_lost: OnLost | None = None,
        reconnect_deadline_s: float = RECONNECT_DEADLINE_S,
    ) -> Operation:
        """Returns the operation at its end, or as it is after `timeout_s`; outlasts a restart."""
        recovery = self._recovery(reconnect_deadline_s, on_reconnect, on_lost)
        ends_s = None if timeout_s is None else self._clock.monotonic_s() + timeout_s
        while True:
            try:
                operation = await self._do(calls.wait(name, calls.wait_part_s(ends_s, self._clock)))
            except BacklaneError as error:
                await asyncio.sleep(recovery.pause_s(error))
                continue
            recovery.succeeded(operation.revision, self._connection.replicas.current)
            if operation.state.is_terminal or calls.wait_part_s(ends_s, self._clock) == 0:
                return operation

    async def cancel(self, name: str, reason: str = "") -> Operation:
        """Asks for cancel, and returns the operation as it is now."""
        return await self._do(calls.cancel(name, reason))

    async def delete(self, name: str, *, allow_missing: bool = False) -> None:
        """Deletes a terminal operation."""
        await self._do(calls.delete(name, allow_missing=allow_missing))

    async def prune(
        self,
        selection: Selection = EVERYTHING,
        *,
        older_than_s: float | None = None,
        is_dry_run: bool = False,
    ) -> Compaction:
        """Removes ended operations, up to 10,000; with `has_more`, call it again.

        Without `older_than_s`, those whose retention is over. A dry run counts, and removes
        nothing.
        """
        return await self._do(calls.prune(selection, older_than_s, is_dry_run=is_dry_run))

    async def metric_page(
        self,
        name: str,
        *,
        after_index: int = 0,
        series: frozenset[str] = frozenset(),
        page_size: int = 0,
        wait_s: float = 0.0,
    ) -> MetricPage:
        """Returns metric points after an index; pass `through_index` on to read further.

        Where there is none yet, it waits `wait_s` (at most 30) for one, or for the end.
        """
        asked = MetricsRequest(name, after_index, series, page_size, wait_s)
        return await self._do(calls.metric_page(asked))

    async def list_metric_points(
        self, name: str, *, after_index: int = 0, series: frozenset[str] = frozenset()
    ) -> AsyncIterator[MetricPoint]:
        """Yields all metric points that there are by now, in index order."""
        size = POINTS_PAGE_SIZE_MAX
        while True:
            page = await self.metric_page(
                name, after_index=after_index, series=series, page_size=size
            )
            for point in page.points:
                yield point
            if page.is_complete or page.through_index == after_index or not page.points:
                return
            after_index = page.through_index

    async def follow_metric_points(
        self,
        name: str,
        *,
        after_index: int = 0,
        series: frozenset[str] = frozenset(),
        reconnect_deadline_s: float = RECONNECT_DEADLINE_S,
    ) -> AsyncIterator[MetricPoint]:
        """Yields metric points as they come, to the end of the operation; outlasts a restart."""
        recovery = self._recovery(reconnect_deadline_s, None, None)
        size = POINTS_PAGE_SIZE_MAX
        while True:
            asked = MetricsRequest(name, after_index, series, size, WAIT_PART_S)
            try:
                page = await self._do(calls.metric_page(asked))
            except BacklaneError as error:
                await asyncio.sleep(recovery.pause_s(error))
                continue
            recovery.succeeded()
            for point in page.points:
                yield point
            after_index = page.through_index
            if page.is_complete:
                return

    async def watch(
        self,
        request: WatchRequest,
        *,
        on_reconnect: OnReconnect | None = None,
        on_lost: OnLost | None = None,
        reconnect_deadline_s: float = RECONNECT_DEADLINE_S,
    ) -> AsyncGenerator[WatchMessage, None]:
        """Yields what happens, without gap or repeat; see OperationsClient.watch.

        Leave it by closing it (`async with contextlib.aclosing(...)`), so that the call ends.
        """
        continuity = Continuity(request)
        recovery = self._recovery(reconnect_deadline_s, on_reconnect, on_lost, first_s=READY_S)
        while True:
            address = self._connection.replicas.current
            try:
                async with aclosing(self._watch_once(continuity.next_request())) as messages:
                    async for message in messages:
                        continuity.accept(message)
                        recovery.succeeded(continuity.revision, address)
                        yield message
            except BacklaneError as error:
                pause_s = recovery.pause_s(error)
                self._connection.replicas.leave(address)
                await asyncio.sleep(pause_s)
            else:
                return

    async def _watch_once(self, request: WatchRequest) -> AsyncGenerator[WatchMessage, None]:
        stub: Any = self._connection.stub(OperationsServiceStub, "watch")
        peer = f"operations_service at {self._connection.replicas.current}"
        with self._connection.errors():
            call = stub.WatchOperations(
                watch_to_proto(request), metadata=self._connection.metadata()
            )
            async with aclosing(read_promptly(call, silence_s(request), peer)) as responses:
                async for response in responses:
                    yield watch_message_from_proto(response)

    def _recovery(
        self,
        deadline_s: float,
        on_reconnect: OnReconnect | None,
        on_lost: OnLost | None,
        first_s: float = 0.0,
    ) -> Recovery:
        return Recovery(
            self._clock,
            deadline_s,
            on_reconnect,
            on_lost,
            first_s=first_s,
            was_connected=self._connection.has_answered,
        )

    async def _do(self, call: Call[_T]) -> _T:
        factory: Any = OperationsServiceStub
        response = await self._connection.ask(
            factory,
            call.method,
            call.request,
            deadline_s=call.deadline_s,
            ready_s=call.ready_s,
            client=call.client,
        )
        return call.decode(response)

    async def close(self) -> None:
        """Closes the connection to the service."""
        await self._connection.close()

    async def __aenter__(self) -> Self:
        """Returns itself."""
        return self

    async def __aexit__(self, *_error: object) -> None:
        """Closes the connection to the service."""
        await self.close()
