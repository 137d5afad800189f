"""What both clients of operations_service share: each call as data, and the answers as records."""

import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypedDict, TypeVar

from backlane.api.operations.v1 import operations_service_pb2 as pb
from backlane.client.connection import DEFAULT_DEADLINE_S, READY_S
from backlane.clock import Clock
from backlane.operations.commands import NewOperation
from backlane.operations.operation import Operation, Payload
from backlane.operations.selection import ListOrder, Selection
from backlane.operations.store import Compaction, MetricPage
from backlane.wire.operation_requests import (
    PAGE_SIZE_MAX,
    ListRequest,
    MetricsRequest,
    PruneRequest,
    list_to_proto,
    metrics_to_proto,
    new_operation_to_proto,
    prune_to_proto,
)
from backlane.wire.operations import operation_from_proto, point_from_proto
from backlane.wire.times import duration_to_proto

SERVICE_NAME = pb.DESCRIPTOR.services_by_name["OperationsService"].full_name

WAIT_PART_S = 10.0
"""Longest wait in one call: with the margin, a server that fell silent is noticed after 15 s."""

WAIT_MARGIN_S = 5.0
"""Time that a waiting call gets beyond what it waits for."""

PRUNE_DEADLINE_S = 120.0
"""One call removes up to 10,000 operations, in small transactions."""

EVERYTHING = Selection()

AnswerT = TypeVar("AnswerT")


@dataclass(frozen=True, slots=True)
class Call(Generic[AnswerT]):
    """One unary call: its method and request, what its answer means, and how long it may take.

    `ready_s` is how long to wait for a server that is not there yet; `client` is for whom the
    call is made, None for the program itself.
    """

    method: str
    request: Any
    decode: Callable[[Any], AnswerT]
    deadline_s: float = DEFAULT_DEADLINE_S
    ready_s: float = 0.0
    client: str | None = None


@dataclass(frozen=True, slots=True)
class ListPage:
    """A page of operations; `next_page_token` is empty at the end.

    A watch of the same selection from the first page's `resume_token` misses nothing.
    """

    operations: tuple[Operation, ...]
    next_page_token: str
    resume_token: str


class CreateOptions(TypedDict, total=False):
    """How an operation is queued and tried; see `NewOperation` for what each one means."""

    labels: Mapping[str, str]
    max_attempts: int
    priority: int
    queue_timeout_s: float | None
    attempt_timeout_s: float | None


def create(
    kind: str, spec: Payload, request_id: str | None, client: str | None, options: CreateOptions
) -> Call[Operation]:
    """Has something run, once for each request_id."""
    wish = NewOperation(request_id or str(uuid.uuid4()), kind, spec, **options)
    request = new_operation_to_proto(wish)
    return Call("CreateOperation", request, _operation, ready_s=READY_S, client=client)


def resume(name: str, request_id: str | None, client: str | None) -> Call[Operation]:
    """Goes on from a checkpoint, as a new operation."""
    request = pb.ResumeOperationRequest(request_id=request_id or str(uuid.uuid4()), name=name)
    return Call("ResumeOperation", request, _operation, ready_s=READY_S, client=client)


def get(name: str) -> Call[Operation]:
    """Returns an operation as it is now."""
    return Call("GetOperation", pb.GetOperationRequest(name=name), _operation)


def list_page(
    selection: Selection, page_size: int, page_token: str, order: ListOrder
) -> Call[ListPage]:
    """Returns one page of a list."""
    request = list_to_proto(ListRequest(selection, page_size, page_token, order))
    return Call("ListOperations", request, _list_page)


def wait(name: str, wait_s: float) -> Call[Operation]:
    """Waits for the end of an operation."""
    request = pb.WaitOperationRequest(name=name, timeout=duration_to_proto(wait_s))
    return Call("WaitOperation", request, _operation, deadline_s=wait_s + WAIT_MARGIN_S)


def cancel(name: str, reason: str) -> Call[Operation]:
    """Asks for cancel, with a reason."""
    return Call("CancelOperation", pb.CancelOperationRequest(name=name, reason=reason), _operation)


def delete(name: str, *, allow_missing: bool) -> Call[None]:
    """Deletes a terminal operation."""
    request = pb.DeleteOperationRequest(name=name, allow_missing=allow_missing)
    return Call("DeleteOperation", request, _nothing)


def prune(
    selection: Selection, older_than_s: float | None, *, is_dry_run: bool
) -> Call[Compaction]:
    """Removes what ended long enough ago."""
    request = prune_to_proto(PruneRequest(selection, older_than_s, is_dry_run))
    return Call("PruneOperations", request, _compaction, deadline_s=PRUNE_DEADLINE_S)


def metric_page(asked: MetricsRequest) -> Call[MetricPage]:
    """Reads metric points by cursor."""
    deadline_s = asked.wait_s + DEFAULT_DEADLINE_S
    if asked.wait_s:
        deadline_s = asked.wait_s + WAIT_MARGIN_S
    return Call("ListMetricPoints", metrics_to_proto(asked), _metric_page, deadline_s=deadline_s)


def page_size(left: int | None) -> int:
    """Returns the size of the next page of a list that may have `left` more entries."""
    return PAGE_SIZE_MAX if left is None else min(left, PAGE_SIZE_MAX)


def wait_part_s(ends_s: float | None, clock: Clock) -> float:
    """Returns how long one call may wait: until the end, and no longer than WAIT_PART_S."""
    if ends_s is None:
        return WAIT_PART_S
    return min(max(ends_s - clock.monotonic_s(), 0.0), WAIT_PART_S)


def _operation(response: Any) -> Operation:
    return operation_from_proto(response.operation)


def _nothing(_response: Any) -> None:
    return None


def _compaction(response: pb.PruneOperationsResponse) -> Compaction:
    return Compaction(response.operation_count, response.has_more)


def _list_page(response: pb.ListOperationsResponse) -> ListPage:
    operations = tuple(map(operation_from_proto, response.operations))
    return ListPage(operations, response.next_page_token, response.resume_token)


def _metric_page(response: pb.ListMetricPointsResponse) -> MetricPage:
    points = tuple(map(point_from_proto, response.points))
    return MetricPage(points, response.through_index, response.complete)
