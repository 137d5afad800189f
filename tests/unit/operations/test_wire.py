"""Operations on the wire: there and back, and what untrusted requests may not hold."""

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backlane.api.operations.v1 import operation_pb2, operations_service_pb2
from backlane.errors import (
    AttemptTimeoutError,
    CancelledRunError,
    InvalidRequestError,
    NondeterministicReplayError,
    QueueTimeoutError,
    WorkerLostError,
)
from backlane.execution.order import ExitReason
from backlane.operations import limits
from backlane.operations.commands import NewOperation, Resumption
from backlane.operations.directives import Action, Directive, Hold
from backlane.operations.events import (
    CheckpointCommitted,
    Deleted,
    MetricPoint,
    MetricsAppended,
    Note,
    OperationEvent,
    StateChanged,
    TradesAppended,
    wire_bytes,
)
from backlane.operations.operation import (
    AttemptFailure,
    Checkpoint,
    Operation,
    OperationError,
    Payload,
    Progress,
    State,
)
from backlane.operations.selection import ListOrder, Selection
from backlane.operations.watching import Phase, StartAt, WatchMessage, WatchRequest
from backlane.portfolio.position import PositionSide
from backlane.portfolio.records import EquityPoint, TradeRecord
from backlane.rpc.error_catalog import code_of
from backlane.wire import operation_requests as requests
from backlane.wire import operations as wire
from backlane.wire import portfolio
from backlane.wire.directives import directive_from_proto, directive_to_proto
from backlane.wire.times import (
    duration_from_proto,
    duration_to_proto,
    timestamp_from_proto,
    timestamp_to_proto,
)

SPEC = Payload("type.googleapis.com/test.Spec", b"\x0a\x01x")
UUID = "123e4567-e89b-42d3-a456-426614174000"
NAME = "operations/0123456789abcdef"
TRADE = TradeRecord(
    number=1,
    entry_time_ns=1_700_000_000_000_000_001,
    exit_time_ns=1_700_000_003_600_000_000,
    side=PositionSide.SHORT,
    quantity=2.5,
    entry_price=1.1,
    exit_price=1.0,
    gross_pnl=0.25,
    net_pnl=0.2,
    commission=0.05,
    slippage=0.01,
    exit_reason=ExitReason.END_OF_DATA,
    mae=-0.1,
    mfe=0.3,
)
CHECKPOINT = Checkpoint(
    number=4,
    uri="home:checkpoints/operations/0123/000004-abc.ckpt",
    sha256=b"\x01" * 32,
    size_bytes=1_000,
    completed_units=70_000,
    format="backtest/1",
    spec_sha256=b"\x02" * 32,
    attempt=2,
    commit_time_ns=1_700_000_001_500_000_000,
)
OPERATION = Operation(
    name=NAME,
    uid="uid",
    kind="backtest.run",
    state=State.FAILED,
    spec=SPEC,
    create_time_ns=1_700_000_000_123_456_789,
    labels={"sweep": "a"},
    max_attempts=3,
    attempt=2,
    event_sequence=9,
    metric_index=7,
    revision=100,
    start_time_ns=1_700_000_001_000_000_000,
    end_time_ns=1_700_000_002_000_000_000,
    cancel_reason="why",
    progress=Progress(3, 10, 20, "bar", "simulation", 5, -6, 99.5, 4),
    result=Payload("type.googleapis.com/test.Result", b""),
    error=OperationError("OUT_OF_MEMORY", "too much", {"limit": "1"}, 8),
    priority=-7,
    client="me@here",
    queue_timeout_s=60.5,
    attempt_timeout_s=3600.0,
    next_attempt_ns=1_700_000_003_000_000_000,
    expire_time_ns=1_700_600_000_000_000_000,
    failures=(AttemptFailure(1, "worker-1", "WORKER_LOST", "gone", 1_700_000_001_000_000_000),),
    checkpoints=(CHECKPOINT, replace(CHECKPOINT, number=3)),
    resumed_from="operations/fedcba9876543210",
)


def event(body: object) -> OperationEvent:
    return OperationEvent(NAME, 3, 1, 1_700_000_000_000_000_007, body, 12)  # type: ignore[arg-type]


BODIES = [
    StateChanged(None, State.QUEUED, "CREATED"),
    StateChanged(State.RUNNING, State.SUCCEEDED, "COMPLETED", result=SPEC),
    StateChanged(State.RUNNING, State.FAILED, "X", error=OperationError("X", "y", {"a": "b"}, 3)),
    MetricsAppended((MetricPoint("equity", 1, -0.0, 5, 1), MetricPoint("loss", 2, 0.1, None, 2))),
    TradesAppended((portfolio.trade_to_bytes(TRADE),)),
    Note("hello"),
    Deleted(),
    CheckpointCommitted(CHECKPOINT),
]


def violated(call: object, *arguments: object) -> list[str]:
    with pytest.raises(InvalidRequestError) as raised:
        call(*arguments)  # type: ignore[operator]
    return [violation.field for violation in raised.value.violations]


@pytest.mark.parametrize("state", list(State))
def test_every_state_has_a_number(state: State) -> None:
    number = wire.state_to_proto(state)
    assert operation_pb2.Operation.State.Name(number) == f"STATE_{state}"
    assert wire.state_from_proto(number) is state


@pytest.mark.parametrize("body", BODIES, ids=lambda body: type(body).__name__)
def test_an_event_comes_back_as_it_was(body: object) -> None:
    there = wire.event_to_proto(event(body))
    assert repr(wire.event_from_proto(there)) == repr(event(body))


@pytest.mark.parametrize("body", BODIES, ids=lambda body: type(body).__name__)
def test_an_event_is_never_much_larger_than_estimated(body: object) -> None:
    size = wire.event_to_proto(event(body)).ByteSize()
    assert size <= wire_bytes(event(body)) + 64


@pytest.mark.parametrize("phase", list(Phase))
def test_a_message_of_a_watch_comes_back_as_it_was(phase: Phase) -> None:
    message = WatchMessage(
        phase, 3, 7, "token", 5, (event(Note("x")),), (OPERATION,), {NAME: Progress(1)}
    )
    assert wire.watch_message_from_proto(wire.watch_message_to_proto(message)) == message


def test_nan_and_the_negative_zero_survive() -> None:
    for value in (math.nan, -0.0, math.inf, 5e-324):
        point = wire.point_from_proto(wire.point_to_proto(MetricPoint("x", 1, value)))
        assert math.copysign(1, point.value) == math.copysign(1, value)
        assert repr(point.value) == repr(value)


def test_causes_of_the_registry_have_the_code_of_the_catalog() -> None:
    causes = (
        AttemptTimeoutError,
        CancelledRunError,
        NondeterministicReplayError,
        QueueTimeoutError,
        WorkerLostError,
    )
    assert {error.reason: code_of(error) for error in causes} == wire.REGISTRY_ERROR_CODES
    lost = wire.error_to_proto(OperationError("WORKER_LOST", "gone"))
    assert lost.code == 14


def test_a_trade_and_a_point_of_equity_come_back_as_they_were() -> None:
    assert portfolio.trade_from_bytes(portfolio.trade_to_bytes(TRADE)) == TRADE
    point = EquityPoint(1_700_000_000_000_000_000, 100.5, 50.25, -2.0)
    assert portfolio.equity_point_from_proto(portfolio.equity_point_to_proto(point)) == point


@pytest.mark.parametrize("action", list(Action))
def test_a_directive_comes_back_as_it_was(action: Action) -> None:
    grace_s = 10.0 if action is Action.CANCEL else 0.0
    hold = None if action is Action.ABANDON else Hold(NAME, 3, 15.0, 5.0)
    directive = Directive(NAME, action, hold, grace_s, "why")
    assert directive_from_proto(directive_to_proto(directive)) == directive


@given(st.integers(-(2**63) + 1, 2**63 - 1))
def test_times_are_exact_to_the_nanosecond(time_ns: int) -> None:
    message = timestamp_to_proto(time_ns)
    assert timestamp_from_proto(message) == time_ns
    assert 0 <= message.nanos < 10**9


@given(st.integers(-(10**15), 10**15))
def test_durations_keep_their_microseconds(duration_us: int) -> None:
    """binary64 holds 10^15 us = 10^9 s with a spacing of 2^-23 s, about 0.1 us."""
    message = duration_to_proto(duration_us / 1e6)
    assert round(duration_from_proto(message) * 1e6) == duration_us
    assert message.seconds * message.nanos >= 0


def test_requests_of_clients_come_back_as_they_were() -> None:
    for made in (
        NewOperation(UUID, "backtest.run", SPEC, {"a": "b"}, 2),
        NewOperation(UUID, "backtest.run", SPEC, priority=-3, queue_timeout_s=1.5),
        NewOperation(UUID, "backtest.run", SPEC, attempt_timeout_s=0.25),
    ):
        assert requests.new_operation_from_proto(requests.new_operation_to_proto(made)) == made
    for asked in (
        WatchRequest(Selection(names=frozenset({NAME})), "token", bookmark_interval_s=2.0),
        WatchRequest(Selection(states=frozenset({State.QUEUED})), progress_interval_s=0.5),
        WatchRequest(Selection(labels={"a": "b"}), start=StartAt.OLDEST),
    ):
        assert requests.watch_from_proto(requests.watch_to_proto(asked)) == asked
    for order in ListOrder:
        listed = requests.ListRequest(Selection(kinds=frozenset({"a.b"})), 7, "token", order)
        assert requests.list_from_proto(requests.list_to_proto(listed)) == listed
    for wait_s in (0.0, 12.5):
        metrics = requests.MetricsRequest(NAME, 3, frozenset({"equity"}), 9, wait_s)
        assert requests.metrics_from_proto(requests.metrics_to_proto(metrics)) == metrics
    for older_than_s in (None, 0.0, 86_400.0):
        prune = requests.PruneRequest(Selection(labels={"a": "b"}), older_than_s, is_dry_run=True)
        assert requests.prune_from_proto(requests.prune_to_proto(prune)) == prune


def test_who_asks_is_told_by_the_call_and_not_by_the_request() -> None:
    made = requests.new_operation_to_proto(NewOperation(UUID, "backtest.run", SPEC))
    assert requests.new_operation_from_proto(made, "me@here").client == "me@here"
    resumed = operations_service_pb2.ResumeOperationRequest(request_id=UUID.upper(), name=NAME)
    assert requests.resumption_from_proto(resumed, "me@here") == Resumption(UUID, NAME, "me@here")


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"request_id": "123e4567e89b42d3a456426614174000"}, "request_id"),
        ({"request_id": ""}, "request_id"),
        ({"kind": "Backtest"}, "kind"),
        ({"kind": ""}, "kind"),
        ({"spec": Payload("", b"")}, "spec"),
        ({"spec": Payload("x", b"0" * (limits.PAYLOAD_BYTES_MAX + 1))}, "spec"),
        ({"labels": {str(n): "" for n in range(limits.LABELS_MAX + 1)}}, "labels"),
        ({"labels": {"k" * (limits.LABEL_CHARACTERS_MAX + 1): "v"}}, f"labels[{'k' * 32}]"),
        ({"labels": {"k": "v" * (limits.LABEL_CHARACTERS_MAX + 1)}}, "labels[k]"),
        ({"max_attempts": limits.ATTEMPTS_MAX + 1}, "max_attempts"),
        ({"priority": limits.PRIORITY_MAX + 1}, "priority"),
        ({"priority": -limits.PRIORITY_MAX - 1}, "priority"),
        ({"queue_timeout_s": 0.0}, "queue_timeout"),
        ({"queue_timeout_s": limits.TIMEOUT_S_MAX + 1}, "queue_timeout"),
        ({"attempt_timeout_s": -1.0}, "attempt_timeout"),
    ],
)
def test_a_new_operation_is_refused_beyond_each_limit(
    fields: dict[str, object], field: str
) -> None:
    good = NewOperation(UUID, "backtest.run", SPEC)
    bad = requests.new_operation_to_proto(replace(good, **fields))  # type: ignore[arg-type]
    assert violated(requests.new_operation_from_proto, bad) == [field]


def test_a_new_operation_is_accepted_at_each_limit() -> None:
    longest = "k" * limits.LABEL_CHARACTERS_MAX
    labels = {f"{n:03}{longest[3:]}": longest for n in range(limits.LABELS_MAX)}
    spec = Payload("x", b"0" * limits.PAYLOAD_BYTES_MAX)
    made = NewOperation(
        UUID,
        "a.b_c.d",
        spec,
        labels,
        limits.ATTEMPTS_MAX,
        limits.PRIORITY_MAX,
        limits.TIMEOUT_S_MAX,
        limits.TIMEOUT_S_MAX,
    )
    assert requests.new_operation_from_proto(requests.new_operation_to_proto(made)) == made


@pytest.mark.parametrize(
    "name", ["", "operations/", "operations/abc", "operations/ABCD", f"{NAME}/x", "../abcd", "abcd"]
)
def test_a_name_that_is_none_is_refused(name: str) -> None:
    assert violated(requests.name_from_proto, name) == ["name"]


def test_sizes_of_pages_are_made_to_fit() -> None:
    for asked, got in ((0, 50), (7, 7), (1000, 1000), (5000, 1000)):
        message = operations_service_pb2.ListOperationsRequest(page_size=asked)
        assert requests.list_from_proto(message).page_size == got
    for asked, got in ((0, 1000), (10_000, 10_000), (10_001, 10_000)):
        message = operations_service_pb2.ListMetricPointsRequest(operation=NAME, page_size=asked)
        assert requests.metrics_from_proto(message).page_size == got
    negative = operations_service_pb2.ListOperationsRequest(page_size=-1)
    assert violated(requests.list_from_proto, negative) == ["page_size"]


def test_a_watch_is_checked_in_every_field() -> None:
    message = operations_service_pb2.WatchOperationsRequest(
        names=["bad"],
        filter=operations_service_pb2.OperationFilter(states=[0, 99], kinds=["Bad"]),
        bookmark_interval=duration_to_proto(0.5),
        min_progress_interval=duration_to_proto(61),
    )
    assert violated(requests.watch_from_proto, message) == [
        "names[0]",
        "filter",
        "filter.kinds[0]",
        "filter.states[0]",
        "filter.states[1]",
        "bookmark_interval",
        "min_progress_interval",
    ]


def test_progress_cannot_be_asked_for_more_often_than_ten_times_a_second() -> None:
    message = operations_service_pb2.WatchOperationsRequest(
        min_progress_interval=duration_to_proto(0.001)
    )
    assert requests.watch_from_proto(message).progress_interval_s == 0.1


def test_a_wait_is_cut_to_thirty_seconds() -> None:
    for timeout, got in ((None, 30.0), (5, 5.0), (0, 0.0), (31, 30.0)):
        message = operations_service_pb2.WaitOperationRequest(name=NAME)
        if timeout is not None:
            message.timeout.CopyFrom(duration_to_proto(timeout))
        assert requests.wait_from_proto(message) == (NAME, got)
    message.timeout.CopyFrom(duration_to_proto(-1))
    assert violated(requests.wait_from_proto, message) == ["timeout"]


def test_an_operation_comes_back_as_it_was() -> None:
    assert wire.operation_from_proto(wire.operation_to_proto(OPERATION)) == OPERATION
    bare = Operation(NAME, "uid", "backtest.run", State.QUEUED, SPEC, 1_700_000_000_123_456_789)
    assert wire.operation_from_proto(wire.operation_to_proto(bare)) == bare


def test_only_what_has_ended_can_be_pruned() -> None:
    message = operations_service_pb2.PruneOperationsRequest(older_than=duration_to_proto(-1))
    message.filter.states.append(wire.state_to_proto(State.RUNNING))
    assert violated(requests.prune_from_proto, message) == ["filter.states", "older_than"]
    too_long = operations_service_pb2.PruneOperationsRequest(older_than=duration_to_proto(1.6e9))
    assert violated(requests.prune_from_proto, too_long) == ["older_than"]


def test_an_order_that_is_none_is_refused() -> None:
    message = operations_service_pb2.ListOperationsRequest()
    assert requests.list_from_proto(message).order is ListOrder.NEWEST_FIRST
    message.order = 9  # type: ignore[assignment]
    assert violated(requests.list_from_proto, message) == ["order"]


def test_a_request_id_in_capitals_is_the_same_one() -> None:
    made = NewOperation(UUID.upper(), "backtest.run", SPEC)
    checked = requests.new_operation_from_proto(requests.new_operation_to_proto(made))
    assert checked.request_id == UUID
