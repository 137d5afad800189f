"""Clients of operations_service: what is running, how far it is, and how it ended."""

# grpc's callables are generic in types-grpcio alone.
from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Mapping
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Self

from backlane.api.operations.v1 import operations_service_pb2 as pb
from backlane.api.operations.v1.operations_service_pb2_grpc import OperationsServiceStub
from backlane.client.connection import DEFAULT_DEADLINE_S, AioConnection, Connection
from backlane.client.watching import (
    RECONNECT_DEADLINE_S,
    SILENT_BOOKMARKS,
    Continuity,
    OnLost,
    OnReconnect,
    Recovery,
    Watchdog,
    read_promptly,
    silent,
)
from backlane.clock import Clock, SystemClock
from backlane.errors import BacklaneError
from backlane.operations.commands import NewOperation
from backlane.operations.events import MetricPoint
from backlane.operations.operation import Operation, Payload
from backlane.operations.selection import Selection
from backlane.operations.store import MetricPage
from backlane.operations.watching import (
    BOOKMARK_INTERVAL_S_DEFAULT,
    PROGRESS_INTERVAL_S_MIN,
    StartAt,
    WatchMessage,
    WatchRequest,
)
from backlane.wire.operation_checks import WAIT_S_MAX
from backlane.wire.operation_requests import (
    PAGE_SIZE_MAX,
    POINTS_PAGE_SIZE_MAX,
    ListRequest,
    MetricsRequest,
    list_to_proto,
    metrics_to_proto,
    new_operation_to_proto,
    watch_to_proto,
)
from backlane.wire.operations import (
    operation_from_proto,
    point_from_proto,
    watch_message_from_proto,
)
from backlane.wire.times import duration_to_proto

if TYPE_CHECKING:
    from backlane.api.operations.v1.operations_service_pb2_grpc import OperationsServiceAsyncStub

SERVICE_NAME = pb.DESCRIPTOR.services_by_name["OperationsService"].full_name
WAIT_MARGIN_S = 10.0
"""Time that a waiting call gets beyond what it waits for."""
EVERYTHING = Selection()


@dataclass(frozen=True, slots=True)
class ListPage:
    """A page of operations, newest first; `next_page_token` is empty at the end.

    A watch of the same selection from the first page's `resume_token` misses nothing.
    """

    operations: tuple[Operation, ...]
    next_page_token: str
    resume_token: str


def watch_request(
    *names: str,
    selection: Selection = EVERYTHING,
    resume_token: str = "",
    start: StartAt = StartAt.SNAPSHOT,
    bookmark_interval_s: float = BOOKMARK_INTERVAL_S_DEFAULT,
    progress_interval_s: float = PROGRESS_INTERVAL_S_MIN,
) -> WatchRequest:
    """Returns a wish to follow the named operations, or those of a selection."""
    return WatchRequest(
        selection=replace(selection, names=frozenset(names)) if names else selection,
        resume_token=resume_token,
        start=start,
        bookmark_interval_s=bookmark_interval_s,
        progress_interval_s=progress_interval_s,
    )


class OperationsClient:
    """Calls to operations_service from threads. Raises BacklaneError; see backlane.errors."""

    def __init__(self, address: str, *, clock: Clock | None = None) -> None:
        self._connection = Connection("operations", address, [SERVICE_NAME])
        self._clock = clock or SystemClock()

    def create(
        self,
        kind: str,
        spec: Payload,
        *,
        request_id: str | None = None,
        labels: Mapping[str, str] | None = None,
        max_attempts: int = 1,
    ) -> Operation:
        """Has something run; with the same request_id again, returns the same operation."""
        request = _new_operation(kind, spec, request_id, labels, max_attempts)
        response = self._call(self._stub.CreateOperation, new_operation_to_proto(request))
        return operation_from_proto(response.operation)

    def get(self, name: str) -> Operation:
        """Returns an operation as it is now."""
        response = self._call(self._stub.GetOperation, pb.GetOperationRequest(name=name))
        return operation_from_proto(response.operation)

    def list_page(
        self, selection: Selection = EVERYTHING, *, page_size: int = 0, page_token: str = ""
    ) -> ListPage:
        """Returns one page, newest first; a page may hold less than its size."""
        request = list_to_proto(ListRequest(selection, page_size, page_token))
        return _list_page(self._call(self._stub.ListOperations, request))

    def list_operations(
        self, selection: Selection = EVERYTHING, *, limit: int | None = None
    ) -> Iterator[Operation]:
        """Yields operations, newest first, page by page; at most `limit`."""
        token, left = "", limit
        while left is None or left > 0:
            page = self.list_page(selection, page_size=_page_size(left), page_token=token)
            yield from page.operations[:left]
            left = None if left is None else left - len(page.operations)
            token = page.next_page_token
            if not token:
                return

    def wait(
        self,
        name: str,
        *,
        timeout_s: float | None = None,
        reconnect_deadline_s: float = RECONNECT_DEADLINE_S,
    ) -> Operation:
        """Returns the operation at its end, or as it is after `timeout_s`; outlasts a restart."""
        recovery = Recovery(self._clock, reconnect_deadline_s, None)
        ends_s = None if timeout_s is None else self._clock.monotonic_s() + timeout_s
        while True:
            wait_s = _left_s(ends_s, self._clock)
            request = pb.WaitOperationRequest(name=name, timeout=duration_to_proto(wait_s))
            try:
                response = self._call(
                    self._stub.WaitOperation, request, deadline_s=wait_s + WAIT_MARGIN_S
                )
            except BacklaneError as error:
                time.sleep(recovery.pause_s(error))
                continue
            recovery.succeeded()
            operation = operation_from_proto(response.operation)
            if operation.state.is_terminal or _left_s(ends_s, self._clock) == 0:
                return operation

    def cancel(self, name: str, reason: str = "") -> Operation:
        """Asks for cancel, and returns the operation as it is now."""
        request = pb.CancelOperationRequest(name=name, reason=reason)
        return operation_from_proto(self._call(self._stub.CancelOperation, request).operation)

    def delete(self, name: str, *, allow_missing: bool = False) -> None:
        """Deletes a terminal operation."""
        request = pb.DeleteOperationRequest(name=name, allow_missing=allow_missing)
        self._call(self._stub.DeleteOperation, request)

    def metric_page(
        self,
        name: str,
        *,
        after_index: int = 0,
        series: frozenset[str] = frozenset(),
        page_size: int = 0,
    ) -> MetricPage:
        """Returns metric points after an index; pass `through_index` on to read further."""
        request = metrics_to_proto(MetricsRequest(name, after_index, series, page_size))
        return _metric_page(self._call(self._stub.ListMetricPoints, request))

    def list_metric_points(
        self, name: str, *, after_index: int = 0, series: frozenset[str] = frozenset()
    ) -> Iterator[MetricPoint]:
        """Yields all metric points that there are by now, in index order."""
        while True:
            page = self.metric_page(
                name, after_index=after_index, series=series, page_size=POINTS_PAGE_SIZE_MAX
            )
            yield from page.points
            if page.is_complete or page.through_index == after_index or not page.points:
                return
            after_index = page.through_index

    def watch(
        self,
        request: WatchRequest,
        *,
        on_reconnect: OnReconnect | None = None,
        on_lost: OnLost | None = None,
        reconnect_deadline_s: float = RECONNECT_DEADLINE_S,
    ) -> Iterator[WatchMessage]:
        """Yields what happens, without gap or repeat, over restarts of the server.

        Ends when names were given and all of them have ended. A connection that is lost, or
        silent for three bookmarks, is made anew from the last message, until
        `reconnect_deadline_s` has passed without one.
        """
        continuity = Continuity(request)
        recovery = Recovery(self._clock, reconnect_deadline_s, on_reconnect, on_lost)
        while True:
            try:
                for message in self._watch_once(continuity.next_request()):
                    continuity.accept(message)
                    recovery.succeeded(continuity.revision)
                    yield message
            except BacklaneError as error:
                time.sleep(recovery.pause_s(error))
            else:
                return

    def _watch_once(self, request: WatchRequest) -> Iterator[WatchMessage]:
        stub = self._connection.stub(OperationsServiceStub, "watch")
        silence_s = _silence_s(request)
        with self._connection.errors():
            call: Any = stub.WatchOperations(watch_to_proto(request))
            watchdog = Watchdog(call, silence_s)
            try:
                while True:
                    with watchdog:
                        response = next(call, None)
                    if response is None:
                        return
                    yield watch_message_from_proto(response)
            except BaseException:
                if watchdog.has_bitten:
                    raise silent(self._peer, silence_s) from None
                raise
            finally:
                call.cancel()

    @property
    def _stub(self) -> OperationsServiceStub:
        return self._connection.stub(OperationsServiceStub)

    @property
    def _peer(self) -> str:
        return f"operations_service at {self._connection.address}"

    def _call(self, method: Any, request: Any, deadline_s: float = DEFAULT_DEADLINE_S) -> Any:
        return self._connection.call(method, request, deadline_s=deadline_s)

    def close(self) -> None:
        """Closes the connection to the service."""
        self._connection.close()

    def __enter__(self) -> Self:
        """Returns itself."""
        return self

    def __exit__(self, *_error: object) -> None:
        """Closes the connection to the service."""
        self.close()


class AsyncOperationsClient:
    """Calls to operations_service from one event loop; otherwise as OperationsClient."""

    def __init__(self, address: str, *, clock: Clock | None = None) -> None:
        self._connection = AioConnection("operations", address, [SERVICE_NAME])
        self._clock = clock or SystemClock()

    async def create(
        self,
        kind: str,
        spec: Payload,
        *,
        request_id: str | None = None,
        labels: Mapping[str, str] | None = None,
        max_attempts: int = 1,
    ) -> Operation:
        """Has something run; with the same request_id again, returns the same operation."""
        request = _new_operation(kind, spec, request_id, labels, max_attempts)
        response = await self._call(self._stub.CreateOperation, new_operation_to_proto(request))
        return operation_from_proto(response.operation)

    async def get(self, name: str) -> Operation:
        """Returns an operation as it is now."""
        response = await self._call(self._stub.GetOperation, pb.GetOperationRequest(name=name))
        return operation_from_proto(response.operation)

    async def list_page(
        self, selection: Selection = EVERYTHING, *, page_size: int = 0, page_token: str = ""
    ) -> ListPage:
        """Returns one page, newest first; a page may hold less than its size."""
        request = list_to_proto(ListRequest(selection, page_size, page_token))
        return _list_page(await self._call(self._stub.ListOperations, request))

    async def list_operations(
        self, selection: Selection = EVERYTHING, *, limit: int | None = None
    ) -> AsyncIterator[Operation]:
        """Yields operations, newest first, page by page; at most `limit`."""
        token, left = "", limit
        while left is None or left > 0:
            page = await self.list_page(selection, page_size=_page_size(left), page_token=token)
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
        reconnect_deadline_s: float = RECONNECT_DEADLINE_S,
    ) -> Operation:
        """Returns the operation at its end, or as it is after `timeout_s`; outlasts a restart."""
        recovery = Recovery(self._clock, reconnect_deadline_s, None)
        ends_s = None if timeout_s is None else self._clock.monotonic_s() + timeout_s
        while True:
            wait_s = _left_s(ends_s, self._clock)
            request = pb.WaitOperationRequest(name=name, timeout=duration_to_proto(wait_s))
            try:
                response = await self._call(
                    self._stub.WaitOperation, request, deadline_s=wait_s + WAIT_MARGIN_S
                )
            except BacklaneError as error:
                await asyncio.sleep(recovery.pause_s(error))
                continue
            recovery.succeeded()
            operation = operation_from_proto(response.operation)
            if operation.state.is_terminal or _left_s(ends_s, self._clock) == 0:
                return operation

    async def cancel(self, name: str, reason: str = "") -> Operation:
        """Asks for cancel, and returns the operation as it is now."""
        request = pb.CancelOperationRequest(name=name, reason=reason)
        response = await self._call(self._stub.CancelOperation, request)
        return operation_from_proto(response.operation)

    async def delete(self, name: str, *, allow_missing: bool = False) -> None:
        """Deletes a terminal operation."""
        request = pb.DeleteOperationRequest(name=name, allow_missing=allow_missing)
        await self._call(self._stub.DeleteOperation, request)

    async def metric_page(
        self,
        name: str,
        *,
        after_index: int = 0,
        series: frozenset[str] = frozenset(),
        page_size: int = 0,
    ) -> MetricPage:
        """Returns metric points after an index; pass `through_index` on to read further."""
        request = metrics_to_proto(MetricsRequest(name, after_index, series, page_size))
        return _metric_page(await self._call(self._stub.ListMetricPoints, request))

    async def list_metric_points(
        self, name: str, *, after_index: int = 0, series: frozenset[str] = frozenset()
    ) -> AsyncIterator[MetricPoint]:
        """Yields all metric points that there are by now, in index order."""
        while True:
            page = await self.metric_page(
                name, after_index=after_index, series=series, page_size=POINTS_PAGE_SIZE_MAX
            )
            for point in page.points:
                yield point
            if page.is_complete or page.through_index == after_index or not page.points:
                return
            after_index = page.through_index

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
        recovery = Recovery(self._clock, reconnect_deadline_s, on_reconnect, on_lost)
        while True:
            try:
                async with aclosing(self._watch_once(continuity.next_request())) as messages:
                    async for message in messages:
                        continuity.accept(message)
                        recovery.succeeded(continuity.revision)
                        yield message
            except BacklaneError as error:
                await asyncio.sleep(recovery.pause_s(error))
            else:
                return

    async def _watch_once(self, request: WatchRequest) -> AsyncGenerator[WatchMessage, None]:
        stub: Any = self._connection.stub(OperationsServiceStub, "watch")
        peer = f"operations_service at {self._connection.address}"
        with self._connection.errors():
            call = stub.WatchOperations(watch_to_proto(request))
            async with aclosing(read_promptly(call, _silence_s(request), peer)) as responses:
                async for response in responses:
                    yield watch_message_from_proto(response)

    @property
    def _stub(self) -> OperationsServiceAsyncStub:
        stub: Any = self._connection.stub(OperationsServiceStub)
        return stub  # type: ignore[no-any-return]

    async def _call(self, method: Any, request: Any, deadline_s: float = DEFAULT_DEADLINE_S) -> Any:
        return await self._connection.call(method, request, deadline_s=deadline_s)

    async def close(self) -> None:
        """Closes the connection to the service."""
        await self._connection.close()

    async def __aenter__(self) -> Self:
        """Returns itself."""
        return self

    async def __aexit__(self, *_error: object) -> None:
        """Closes the connection to the service."""
        await self.close()


def _new_operation(
    kind: str,
    spec: Payload,
    request_id: str | None,
    labels: Mapping[str, str] | None,
    max_attempts: int,
) -> NewOperation:
    return NewOperation(
        request_id=request_id or str(uuid.uuid4()),
        kind=kind,
        spec=spec,
        labels=labels or {},
        max_attempts=max_attempts,
    )


def _list_page(response: pb.ListOperationsResponse) -> ListPage:
    operations = tuple(map(operation_from_proto, response.operations))
    return ListPage(operations, response.next_page_token, response.resume_token)


def _metric_page(response: pb.ListMetricPointsResponse) -> MetricPage:
    points = tuple(map(point_from_proto, response.points))
    return MetricPage(points, response.through_index, response.complete)


def _page_size(left: int | None) -> int:
    return PAGE_SIZE_MAX if left is None else min(left, PAGE_SIZE_MAX)


def _left_s(ends_s: float | None, clock: Clock) -> float:
    """Returns how long one call may wait: until the end, and no longer than the server lets it."""
    if ends_s is None:
        return WAIT_S_MAX
    return min(max(ends_s - clock.monotonic_s(), 0.0), WAIT_S_MAX)


def _silence_s(request: WatchRequest) -> float:
    return SILENT_BOOKMARKS * (request.bookmark_interval_s or BOOKMARK_INTERVAL_S_DEFAULT)
