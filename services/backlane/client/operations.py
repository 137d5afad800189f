"""Clients of operations_service: what is running, how far it is, and how it ended."""

# grpc's callables are generic in types-grpcio alone.
from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, Self, TypeVar, Unpack

from backlane.api.operations.v1.operations_service_pb2_grpc import OperationsServiceStub
from backlane.client import operation_calls as calls
from backlane.client.async_operations import AsyncOperationsClient
from backlane.client.connection import READY_S, Connection
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
    PromptReader,
    Recovery,
    silence_s,
)
from backlane.clock import Clock, SystemClock
from backlane.errors import BacklaneError
from backlane.operations.events import MetricPoint
from backlane.operations.operation import Operation, Payload
from backlane.operations.selection import ListOrder, Selection
from backlane.operations.store import Compaction, MetricPage
from backlane.operations.watching import (
    BOOKMARK_INTERVAL_S_DEFAULT,
    PROGRESS_INTERVAL_S_MIN,
    StartAt,
    WatchMessage,
    WatchRequest,
)
from backlane.wire.operation_requests import POINTS_PAGE_SIZE_MAX, MetricsRequest, watch_to_proto
from backlane.wire.operations import watch_message_from_proto

__all__ = ["AsyncOperationsClient", "OperationsClient", "watch_request"]

_T = TypeVar("_T")


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
    """Calls to operations_service from threads. Raises BacklaneError; see backlane.errors.

    `address` may list replicas, `host1:port,host2:port`: when one does not answer, the next one is
    asked. `client_name` is what the service counts limits by; user@host without one.
    """

    def __init__(
        self, address: str, *, client_name: str | None = None, clock: Clock | None = None
    ) -> None:
        self._connection = Connection("operations", address, [SERVICE_NAME], client=client_name)
        self._clock = clock or SystemClock()

    def create(
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
        return self._do(calls.create(kind, spec, request_id, client_name, options))

    def resume(
        self, name: str, *, request_id: str | None = None, client_name: str | None = None
    ) -> Operation:
        """Goes on from the newest checkpoint of an operation that failed or was cancelled.

        Returns a new operation; with the same request_id again, the same one.
        """
        return self._do(calls.resume(name, request_id, client_name))

    def get(self, name: str) -> Operation:
        """Returns an operation as it is now."""
        return self._do(calls.get(name))

    def list_page(
        self,
        selection: Selection = EVERYTHING,
        *,
        page_size: int = 0,
        page_token: str = "",
        order: ListOrder = ListOrder.NEWEST_FIRST,
    ) -> ListPage:
        """Returns one page; it may hold less than its size."""
        return self._do(calls.list_page(selection, page_size, page_token, order))

    def list_operations(
        self,
        selection: Selection = EVERYTHING,
        *,
        limit: int | None = None,
        order: ListOrder = ListOrder.NEWEST_FIRST,
    ) -> Iterator[Operation]:
        """Yields operations, page by page; at most `limit`."""
        token, left = "", limit
        while left is None or left > 0:
            size = calls.page_size(left)
            page = self.list_page(selection, page_size=size, page_token=token, order=order)
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
        on_reconnect: OnReconnect | None = None,
        on_lost: OnLost | None = None,
        reconnect_deadline_s: float = RECONNECT_DEADLINE_S,
    ) -> Operation:
        """Returns the operation at its end, or as it is after `timeout_s`; outlasts a restart."""
        recovery = self._recovery(reconnect_deadline_s, on_reconnect, on_lost)
        ends_s = None if timeout_s is None else self._clock.monotonic_s() + timeout_s
        while True:
            try:
                operation = self._do(calls.wait(name, calls.wait_part_s(ends_s, self._clock)))
            except BacklaneError as error:
                time.sleep(recovery.pause_s(error))
                continue
            recovery.succeeded(operation.revision, self._connection.replicas.current)
            if operation.state.is_terminal or calls.wait_part_s(ends_s, self._clock) == 0:
                return operation

    def cancel(self, name: str, reason: str = "") -> Operation:
        """Asks for cancel, and returns the operation as it is now."""
        return self._do(calls.cancel(name, reason))

    def delete(self, name: str, *, allow_missing: bool = False) -> None:
        """Deletes a terminal operation."""
        self._do(calls.delete(name, allow_missing=allow_missing))

    def prune(
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
        return self._do(calls.prune(selection, older_than_s, is_dry_run=is_dry_run))

    def metric_page(
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
        return self._do(calls.metric_page(asked))

    def list_metric_points(
        self, name: str, *, after_index: int = 0, series: frozenset[str] = frozenset()
    ) -> Iterator[MetricPoint]:
        """Yields all metric points that there are by now, in index order."""
        size = POINTS_PAGE_SIZE_MAX
        while True:
            page = self.metric_page(name, after_index=after_index, series=series, page_size=size)
            yield from page.points
            if page.is_complete or page.through_index == after_index or not page.points:
                return
            after_index = page.through_index

    def follow_metric_points(
        self,
        name: str,
        *,
        after_index: int = 0,
        series: frozenset[str] = frozenset(),
        reconnect_deadline_s: float = RECONNECT_DEADLINE_S,
    ) -> Iterator[MetricPoint]:
        """Yields metric points as they come, to the end of the operation; outlasts a restart."""
        recovery = self._recovery(reconnect_deadline_s, None, None)
        size = POINTS_PAGE_SIZE_MAX
        while True:
            asked = MetricsRequest(name, after_index, series, size, WAIT_PART_S)
            try:
                page = self._do(calls.metric_page(asked))
            except BacklaneError as error:
                time.sleep(recovery.pause_s(error))
                continue
            recovery.succeeded()
            yield from page.points
            after_index = page.through_index
            if page.is_complete:
                return

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
        silent for three bookmarks, is made anew from the last message, to the same server or the
        next replica, until `reconnect_deadline_s` has passed without one.
        """
        continuity = Continuity(request)
        recovery = self._recovery(reconnect_deadline_s, on_reconnect, on_lost, first_s=READY_S)
        while True:
            address = self._connection.replicas.current
            try:
                for message in self._watch_once(continuity.next_request()):
                    continuity.accept(message)
                    recovery.succeeded(continuity.revision, address)
                    yield message
            except BacklaneError as error:
                pause_s = recovery.pause_s(error)
                self._connection.replicas.leave(address)
                time.sleep(pause_s)
            else:
                return

    def _watch_once(self, request: WatchRequest) -> Iterator[WatchMessage]:
        stub = self._connection.stub(OperationsServiceStub, "watch")
        address = self._connection.replicas.current
        with self._connection.errors():
            call: Any = stub.WatchOperations(
                watch_to_proto(request), metadata=self._connection.metadata()
            )
            reader = PromptReader(call, silence_s(request), f"operations_service at {address}")
            try:
                with reader:
                    for response in reader:
                        yield watch_message_from_proto(response)
            finally:
                if reader.is_stuck:
                    self._connection.abandon("watch", address)

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

    def _do(self, call: Call[_T]) -> _T:
        response = self._connection.ask(
            OperationsServiceStub,
            call.method,
            call.request,
            deadline_s=call.deadline_s,
            ready_s=call.ready_s,
            client=call.client,
        )
        return call.decode(response)

    def close(self) -> None:
        """Closes the connection to the service."""
        self._connection.close()

    def __enter__(self) -> Self:
        """Returns itself."""
        return self

    def __exit__(self, *_error: object) -> None:
        """Closes the connection to the service."""
        self.close()
