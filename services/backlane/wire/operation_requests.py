"""Requests of clients to the registry: untrusted messages in, checked commands out, and back.

Each `..._from_proto` looks at every field and raises one InvalidRequestError with all that is
wrong.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from backlane.api.operations.v1 import operations_service_pb2 as service_pb
from backlane.operations import limits
from backlane.operations.commands import NewOperation, Resumption
from backlane.operations.operation import State
from backlane.operations.selection import ListOrder, Selection
from backlane.operations.watching import (
    BOOKMARK_INTERVAL_S_MAX,
    BOOKMARK_INTERVAL_S_MIN,
    PROGRESS_INTERVAL_S_MAX,
    PROGRESS_INTERVAL_S_MIN,
    StartAt,
    WatchRequest,
)
from backlane.wire.operation_checks import (
    WAIT_S_MAX,
    check_attempts,
    check_kind,
    check_labels,
    check_length,
    check_name,
    check_payload_size,
    check_priority,
    check_request_id,
    checked_timeout_s,
    checked_wait_s,
)
from backlane.wire.operations import (
    payload_from_proto,
    payload_to_proto,
    state_from_proto,
    state_to_proto,
)
from backlane.wire.times import (
    duration_from_proto,
    duration_to_proto,
    optional_duration_to_proto,
)
from backlane.wire.violations import Violations

PAGE_SIZE_DEFAULT, PAGE_SIZE_MAX = 50, 1_000
POINTS_PAGE_SIZE_DEFAULT, POINTS_PAGE_SIZE_MAX = 1_000, 10_000
OLDER_THAN_S_MAX = 50 * 365 * 86_400.0
"""The longest time that a prune may look back: 50 years."""

_ORDERS = {order: service_pb.ListOrder.Value(f"LIST_ORDER_{order.value}") for order in ListOrder}
_ORDERS_BACK = {
    service_pb.LIST_ORDER_UNSPECIFIED: ListOrder.NEWEST_FIRST,
    **{number: order for order, number in _ORDERS.items()},
}


@dataclass(frozen=True, slots=True)
class ListRequest:
    """A wish for one page of a list."""

    selection: Selection
    page_size: int
    page_token: str
    order: ListOrder = ListOrder.NEWEST_FIRST


@dataclass(frozen=True, slots=True)
class PruneRequest:
    """A wish to remove what ended longer ago than `older_than_s`; None for the retention's time."""

    selection: Selection
    older_than_s: float | None
    is_dry_run: bool


@dataclass(frozen=True, slots=True)
class MetricsRequest:
    """A wish for one page of an operation's metric points; no series means all.

    Where there is none yet, it waits `wait_s` for one.
    """

    operation: str
    after_index: int
    series: frozenset[str]
    page_size: int
    wait_s: float = 0.0


def new_operation_to_proto(request: NewOperation) -> service_pb.CreateOperationRequest:
    """Returns the message for a wish to have something run."""
    return service_pb.CreateOperationRequest(
        request_id=request.request_id,
        kind=request.kind,
        spec=payload_to_proto(request.spec),
        labels=request.labels,
        max_attempts=request.max_attempts,
        priority=request.priority,
        queue_timeout=optional_duration_to_proto(request.queue_timeout_s),
        attempt_timeout=optional_duration_to_proto(request.attempt_timeout_s),
    )


def new_operation_from_proto(
    message: service_pb.CreateOperationRequest, client: str = ""
) -> NewOperation:
    """Returns a checked wish of a client to have something run."""
    found = Violations()
    check_request_id(found, message.request_id)
    check_kind(found, "kind", message.kind)
    found.check(bool(message.spec.type_url), "spec", "is missing")
    check_payload_size(found, "spec", message.spec)
    check_labels(found, "labels", message.labels)
    check_attempts(found, "max_attempts", message.max_attempts, default=1)
    check_priority(found, "priority", message.priority)
    queue_timeout_s = checked_timeout_s(found, message, "queue_timeout")
    attempt_timeout_s = checked_timeout_s(found, message, "attempt_timeout")
    found.raise_if_any()
    return NewOperation(
        request_id=message.request_id.lower(),
        kind=message.kind,
        spec=payload_from_proto(message.spec),
        labels=dict(message.labels),
        max_attempts=message.max_attempts or 1,
        priority=message.priority,
        queue_timeout_s=queue_timeout_s,
        attempt_timeout_s=attempt_timeout_s,
        client=client,
    )


def resumption_from_proto(
    message: service_pb.ResumeOperationRequest, client: str = ""
) -> Resumption:
    """Returns a checked wish of a client to go on from where an operation stopped."""
    found = Violations()
    check_request_id(found, message.request_id)
    check_name(found, "name", message.name)
    found.raise_if_any()
    return Resumption(message.request_id.lower(), message.name, client)


def prune_from_proto(message: service_pb.PruneOperationsRequest) -> PruneRequest:
    """Returns a checked wish to remove what has ended."""
    found = Violations()
    selection = _selection(found, (), message.filter)
    found.check(
        all(state.is_terminal for state in selection.states),
        "filter.states",
        "holds one that is not terminal; accepted are SUCCEEDED, FAILED and CANCELLED",
    )
    older_than_s = None
    if message.HasField("older_than"):
        older_than_s = duration_from_proto(message.older_than)
        found.check(
            0 <= older_than_s <= OLDER_THAN_S_MAX,
            "older_than",
            f"is {older_than_s:g} s; accepted is 0 to {OLDER_THAN_S_MAX:g} s",
        )
    found.raise_if_any()
    return PruneRequest(selection, older_than_s, message.dry_run)


def prune_to_proto(request: PruneRequest) -> service_pb.PruneOperationsRequest:
    """Returns the message for a wish to remove what has ended."""
    return service_pb.PruneOperationsRequest(
        older_than=optional_duration_to_proto(request.older_than_s),
        filter=selection_to_proto(request.selection),
        dry_run=request.is_dry_run,
    )


def name_from_proto(name: str, field: str = "name") -> str:
    """Returns a checked name of an operation."""
    found = Violations()
    check_name(found, field, name)
    found.raise_if_any()
    return name


def cancel_from_proto(message: service_pb.CancelOperationRequest) -> tuple[str, str]:
    """Returns the checked name and reason of a wish to cancel."""
    found = Violations()
    check_name(found, "name", message.name)
    check_length(found, "reason", message.reason, limits.CANCEL_REASON_CHARACTERS_MAX)
    found.raise_if_any()
    return message.name, message.reason


def wait_from_proto(message: service_pb.WaitOperationRequest) -> tuple[str, float]:
    """Returns the checked name and seconds of a wish to wait."""
    found = Violations()
    check_name(found, "name", message.name)
    timeout = message.timeout if message.HasField("timeout") else None
    wait_s = checked_wait_s(found, "timeout", timeout, WAIT_S_MAX)
    found.raise_if_any()
    return message.name, wait_s


def list_from_proto(message: service_pb.ListOperationsRequest) -> ListRequest:
    """Returns a checked wish for a page; its size is made to fit."""
    found = Violations()
    selection = _selection(found, (), message.filter)
    found.check(message.page_size >= 0, "page_size", f"is {message.page_size}, below 0")
    order = _ORDERS_BACK.get(message.order)
    found.check(order is not None, "order", f"is {message.order}, which is no order")
    found.raise_if_any()
    size = min(message.page_size or PAGE_SIZE_DEFAULT, PAGE_SIZE_MAX)
    return ListRequest(selection, size, message.page_token, order or ListOrder.NEWEST_FIRST)


def list_to_proto(request: ListRequest) -> service_pb.ListOperationsRequest:
    """Returns the message for a wish for a page."""
    return service_pb.ListOperationsRequest(
        page_size=request.page_size,
        page_token=request.page_token,
        filter=selection_to_proto(request.selection),
        order=_ORDERS[request.order],
    )


def metrics_to_proto(request: MetricsRequest) -> service_pb.ListMetricPointsRequest:
    """Returns the message for a wish for metric points."""
    return service_pb.ListMetricPointsRequest(
        operation=request.operation,
        after_index=request.after_index,
        series=sorted(request.series),
        page_size=request.page_size,
        wait=duration_to_proto(request.wait_s) if request.wait_s else None,
    )


def metrics_from_proto(message: service_pb.ListMetricPointsRequest) -> MetricsRequest:
    """Returns a checked wish for metric points; the size of the page is made to fit."""
    found = Violations()
    check_name(found, "operation", message.operation)
    found.check(message.after_index >= 0, "after_index", f"is {message.after_index}, below 0")
    found.check(message.page_size >= 0, "page_size", f"is {message.page_size}, below 0")
    found.check(
        len(message.series) <= limits.SERIES_PER_OPERATION_MAX,
        "series",
        f"names {len(message.series)}; at most {limits.SERIES_PER_OPERATION_MAX}",
    )
    wait = message.wait if message.HasField("wait") else None
    wait_s = checked_wait_s(found, "wait", wait, 0.0)
    found.raise_if_any()
    size = min(message.page_size or POINTS_PAGE_SIZE_DEFAULT, POINTS_PAGE_SIZE_MAX)
    series = frozenset(message.series)
    return MetricsRequest(message.operation, message.after_index, series, size, wait_s)


def selection_to_proto(selection: Selection) -> service_pb.OperationFilter:
    """Returns the filter of a selection; names are no part of it."""
    return service_pb.OperationFilter(
        states=[state_to_proto(state) for state in sorted(selection.states)],
        kinds=sorted(selection.kinds),
        labels=selection.labels,
    )


def watch_to_proto(request: WatchRequest) -> service_pb.WatchOperationsRequest:
    """Returns the message for a wish to follow operations."""
    message = service_pb.WatchOperationsRequest(
        names=sorted(request.selection.names),
        filter=None if request.selection.names else selection_to_proto(request.selection),
        min_progress_interval=duration_to_proto(request.progress_interval_s),
    )
    if request.bookmark_interval_s is not None:
        message.bookmark_interval.CopyFrom(duration_to_proto(request.bookmark_interval_s))
    if request.resume_token:
        message.resume_token = request.resume_token
    elif request.start is StartAt.OLDEST:
        message.oldest.SetInParent()
    else:
        message.snapshot.SetInParent()
    return message


def watch_from_proto(message: service_pb.WatchOperationsRequest) -> WatchRequest:
    """Returns a checked wish to follow operations."""
    found = Violations()
    selection = _selection(found, message.names, message.filter)
    bookmark_s = None
    if message.HasField("bookmark_interval"):
        bookmark_s = duration_from_proto(message.bookmark_interval)
        found.check(
            BOOKMARK_INTERVAL_S_MIN <= bookmark_s <= BOOKMARK_INTERVAL_S_MAX,
            "bookmark_interval",
            f"is {bookmark_s:g} s; accepted is {BOOKMARK_INTERVAL_S_MIN:g} s to "
            f"{BOOKMARK_INTERVAL_S_MAX:g} s",
        )
    progress_s = duration_from_proto(message.min_progress_interval)
    found.check(
        0 <= progress_s <= PROGRESS_INTERVAL_S_MAX,
        "min_progress_interval",
        f"is {progress_s:g} s; accepted is up to {PROGRESS_INTERVAL_S_MAX:g} s",
    )
    found.raise_if_any()
    return WatchRequest(
        selection=selection,
        resume_token=message.resume_token,
        start=StartAt.OLDEST if message.WhichOneof("start") == "oldest" else StartAt.SNAPSHOT,
        bookmark_interval_s=bookmark_s,
        progress_interval_s=max(progress_s, PROGRESS_INTERVAL_S_MIN),
    )


def _selection(
    found: Violations, names: Iterable[str], message: service_pb.OperationFilter
) -> Selection:
    chosen = list(names)
    found.check(
        len(chosen) <= limits.NAMES_PER_WATCH_MAX,
        "names",
        f"holds {len(chosen)}; at most {limits.NAMES_PER_WATCH_MAX}",
    )
    for index, name in enumerate(chosen[: limits.NAMES_PER_WATCH_MAX]):
        check_name(found, f"names[{index}]", name)
    narrows = bool(message.states or message.kinds or message.labels)
    found.check(not (chosen and narrows), "filter", "comes together with names; accepted is one")
    for index, kind in enumerate(message.kinds):
        check_kind(found, f"filter.kinds[{index}]", kind)
    found.check(
        len(message.kinds) <= limits.KINDS_MAX,
        "filter.kinds",
        f"names {len(message.kinds)}; at most {limits.KINDS_MAX}",
    )
    states: set[State] = set()
    for index, number in enumerate(message.states):
        state = state_from_proto(number)
        if state is None:
            found.add(f"filter.states[{index}]", f"is {number}, which is no state")
        else:
            states.add(state)
    check_labels(found, "filter.labels", message.labels)
    return Selection(
        names=frozenset(chosen),
        states=frozenset(states),
        kinds=frozenset(message.kinds),
        labels=dict(message.labels),
    )
