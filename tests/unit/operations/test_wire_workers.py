"""Requests of workers on the wire: there and back, and what untrusted ones may not hold."""

from dataclasses import replace

from google.protobuf.timestamp_pb2 import Timestamp

from backlane.api.operations.v1 import operation_pb2, worker_service_pb2
from backlane.operations import limits
from backlane.operations.checkpoints import CheckpointReply
from backlane.operations.commands import Claim, Failed, Stopped, Succeeded, TelemetryBatch
from backlane.operations.events import MetricPoint
from backlane.operations.operation import OperationError, Progress
from backlane.operations.store import Renewal
from backlane.wire import portfolio, worker_requests
from tests.unit.operations.test_wire import CHECKPOINT, NAME, SPEC, TRADE, UUID, violated


def test_requests_of_workers_come_back_as_they_were() -> None:
    claim = Claim(UUID, "worker-1", ("backtest.run", "train.run"))
    assert worker_requests.claim_from_proto(worker_requests.claim_to_proto(claim, 5.0)) == (
        claim,
        5.0,
    )
    kept = [Renewal(NAME, 3)]
    message = worker_requests.renewals_to_proto("worker-1", kept)
    assert worker_requests.renewals_from_proto(message) == ("worker-1", kept)
    batch = TelemetryBatch(
        2,
        (MetricPoint("equity", 1, 2.0, 3),),
        tuple(portfolio.trade_to_bytes(replace(TRADE, number=n)) for n in (7, 8)),
        7,
        ("hello",),
        Progress(1),
    )
    telemetry = worker_requests.telemetry_from_proto(
        worker_requests.telemetry_to_proto(NAME, 3, batch)
    )
    assert (telemetry.operation, telemetry.epoch, telemetry.batch) == (NAME, 3, batch)
    error = OperationError("X_Y", "z", {}, 3)
    for outcome in (Succeeded(SPEC), Failed(error), Failed(error, is_retryable=True), Stopped()):
        ended = worker_requests.completion_from_proto(
            worker_requests.outcome_to_proto(NAME, 3, outcome)
        )
        assert (ended.operation, ended.epoch, ended.outcome) == (NAME, 3, outcome)


def test_a_checkpoint_and_the_answer_to_it_come_back_as_they_were() -> None:
    mine = replace(CHECKPOINT, attempt=0, commit_time_ns=0)
    message = worker_requests.checkpoint_commit_to_proto(NAME, 3, mine)
    commit = worker_requests.checkpoint_commit_from_proto(message)
    assert (commit.operation, commit.epoch, commit.checkpoint) == (NAME, 3, mine)
    for dropped in ((), (replace(CHECKPOINT, number=2),)):
        reply = CheckpointReply(CHECKPOINT, dropped)
        there = worker_requests.checkpoint_reply_to_proto(reply)
        assert worker_requests.checkpoint_reply_from_proto(there) == reply


def test_a_checkpoint_is_checked_in_every_field() -> None:
    bad = worker_service_pb2.CommitCheckpointRequest(
        operation=NAME,
        epoch=1,
        checkpoint=operation_pb2.Checkpoint(
            uri="x" * (limits.CHECKPOINT_URI_CHARACTERS_MAX + 1),
            format="two\nlines",
            sha256=b"x" * 31,
            spec_sha256=b"x" * 33,
            size_bytes=-1,
            completed_units=-1,
        ),
    )
    assert violated(worker_requests.checkpoint_commit_from_proto, bad) == [
        "checkpoint.number",
        "checkpoint.uri",
        "checkpoint.format",
        "checkpoint.sha256",
        "checkpoint.spec_sha256",
        "checkpoint.size_bytes",
        "checkpoint.completed_units",
    ]
    longest = replace(
        CHECKPOINT,
        uri="x" * limits.CHECKPOINT_URI_CHARACTERS_MAX,
        format="x" * limits.CHECKPOINT_FORMAT_CHARACTERS_MAX,
    )
    good = worker_requests.checkpoint_commit_to_proto(NAME, 1, longest)
    assert worker_requests.checkpoint_commit_from_proto(good).checkpoint == longest


def test_trades_carry_their_numbers_and_leave_none_out() -> None:
    def message(*numbers: int) -> worker_service_pb2.AppendTelemetryRequest:
        trades = tuple(portfolio.trade_to_bytes(replace(TRADE, number=n)) for n in numbers)
        return worker_requests.telemetry_to_proto(NAME, 1, TelemetryBatch(1, trades=trades))

    assert worker_requests.telemetry_from_proto(message(5, 6, 7)).batch.first_trade == 5
    for numbers in ((0,), (1, 3), (2, 1), (4, 4)):
        assert violated(worker_requests.telemetry_from_proto, message(*numbers)) == ["trades"]


def test_giving_back_and_retrying_are_checked() -> None:
    given_back = worker_service_pb2.ReleaseOperationRequest(
        operation=NAME, epoch=1, reason="r" * 512
    )
    assert worker_requests.release_from_proto(given_back).reason == "r" * 512
    given_back.reason += "r"
    assert violated(worker_requests.release_from_proto, given_back) == ["reason"]
    retried = worker_requests.outcome_to_proto(NAME, 1, Stopped())
    retried.is_retryable = True
    assert violated(worker_requests.completion_from_proto, retried) == ["is_retryable"]


def test_telemetry_is_checked_in_every_field() -> None:
    message = worker_service_pb2.AppendTelemetryRequest(
        operation="bad",
        epoch=0,
        batch_number=0,
        points=[
            operation_pb2.MetricPoint(series=""),
            operation_pb2.MetricPoint(series="x", time=Timestamp(seconds=10**12)),
        ],
        notes=["x" * (limits.NOTE_CHARACTERS_MAX + 1)],
        progress=operation_pb2.Progress(report_time=Timestamp(nanos=-1)),
    )
    assert violated(worker_requests.telemetry_from_proto, message) == [
        "operation",
        "epoch",
        "batch_number",
        "points[0].series",
        "points[1].time",
        "notes[0]",
        "progress.report_time",
    ]


def test_progress_alone_needs_no_batch_number() -> None:
    message = worker_requests.telemetry_to_proto(NAME, 1, TelemetryBatch(0, progress=Progress(1)))
    assert worker_requests.telemetry_from_proto(message).batch.batch_number == 0


def test_an_end_is_checked_in_every_field() -> None:
    missing = worker_service_pb2.CompleteOperationRequest(operation=NAME, epoch=1)
    assert violated(worker_requests.completion_from_proto, missing) == ["outcome"]
    wrong = worker_service_pb2.CompleteOperationRequest(
        operation=NAME, epoch=1, error=operation_pb2.OperationError(reason="not upper")
    )
    assert violated(worker_requests.completion_from_proto, wrong) == ["error.reason"]


def test_an_error_names_twenty_fields_at_most() -> None:
    message = worker_service_pb2.AcquireOperationRequest(
        request_id=UUID, worker_id="w", kinds=["Bad"] * 64
    )
    assert len(violated(worker_requests.claim_from_proto, message)) == 20
