"""Backtests on the wire: requests and summaries as messages, and back.

Light: no numpy; and pydantic, which takes a third of the SDK's import, with the first request.
"""

from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, Any

from google.protobuf.message import DecodeError
from google.protobuf.timestamp_pb2 import Timestamp

from backlane.api.backtest.v1 import backtest_pb2 as pb
from backlane.api.models.v1 import model_pb2
from backlane.backtest.funnel import FunnelStage
from backlane.backtest.summary import (
    MetricSummary,
    ProvenanceSummary,
    ResultFile,
    ResultSummary,
)
from backlane.backtest.switches import PROFILES, EndDate
from backlane.errors import (
    BacklaneError,
    FieldViolation,
    InvalidRequestError,
    ResultNotFoundError,
)
from backlane.inference.model_name import ModelName
from backlane.operations.operation import Payload
from backlane.wire.switches import switches_from_proto, switches_to_proto
from backlane.wire.times import (
    duration_from_proto,
    duration_to_proto,
    is_valid_timestamp,
    timestamp_from_proto,
    timestamp_to_proto,
)
from backlane.wire.trading_rules import proto_path, put_trading_rules, trading_rules_content

if TYPE_CHECKING:
    from backlane.backtest.request import BacktestRequest, DecisionChoice

SPEC_TYPE_URL = f"type.googleapis.com/{pb.BacktestSpec.DESCRIPTOR.full_name}"
RESULT_TYPE_URL = f"type.googleapis.com/{pb.BacktestResult.DESCRIPTOR.full_name}"

_NUMBERS = ("initial_cash", "commission_rate", "slippage_rate")
_DECISION_PATHS = {
    "decisions.filters.min_signal_separation": "decisions.min_signal_separation_hours",
    "decisions.cost_model.round_trip_cost": "decisions.round_trip_cost",
    "decisions.cost_model.min_edge_multiplier": "decisions.min_edge_multiplier",
}
_PROTO_PATHS = {
    "model.name": "model",
    "model.version": "model",
    "start": "start_time",
    "end": "end_time",
    **_DECISION_PATHS,
}
"""Where a field of the request is in the proto, when its path is not the same."""


def spec_from_request(request: "BacktestRequest") -> pb.BacktestSpec:
    """Returns the message for a request; the end of a bare date is resolved by its profile.

    Raises InvalidRequestError for a request whose bundle or bars are files: those run in process
    alone.
    """
    _refuse_files(request)
    spec = pb.BacktestSpec(
        model=request.model.resource_name,
        model_digest=request.model_digest,
        symbol=request.symbol,
        timeframe=request.timeframe,
        initial_cash=request.initial_cash,
        commission_rate=request.commission_rate,
        slippage_rate=request.slippage_rate,
        profile=request.profile,
        dataset_digests=request.dataset_digests,
    )
    put_trading_rules(request, spec)
    first_ns, last_ns = request.first_bar_ns(), request.last_bar_ns()
    if first_ns is not None:
        spec.start_time.CopyFrom(timestamp_to_proto(first_ns))
    if last_ns is not None:
        spec.end_time.CopyFrom(timestamp_to_proto(last_ns))
    if request.switches:
        spec.switches.CopyFrom(switches_to_proto(request.switches))
    decisions = _decisions_to_proto(request.decisions)
    if decisions.ListFields():
        spec.decisions.CopyFrom(decisions)
    return spec


def request_from_spec(spec: pb.BacktestSpec) -> "BacktestRequest":
    """Returns the request of a message from outside.

    Raises InvalidRequestError with a violation, by its path in the proto, for each mistake.
    """
    from backlane.backtest.request import parse_request

    violations: list[FieldViolation] = []
    content = _content(spec, violations)
    try:
        request = parse_request(content, root="spec")
    except InvalidRequestError as error:
        seen = {violation.field for violation in violations}
        found = (_with_proto_path(violation) for violation in error.violations)
        violations += [violation for violation in found if violation.field not in seen]
    if violations:
        lines = "; ".join(f"{each.field}: {each.description}" for each in violations)
        raise InvalidRequestError(
            f"The request is not valid. {lines}", violations=tuple(violations)
        )
    return request


def spec_to_payload(request: "BacktestRequest") -> Payload:
    """Returns what an operation carries to say what to run; the same request, the same bytes."""
    spec = spec_from_request(request)
    return Payload(SPEC_TYPE_URL, spec.SerializeToString(deterministic=True))


def request_from_payload(payload: Payload) -> "BacktestRequest":
    """Returns the request that an operation carries.

    Raises InvalidRequestError where it carries something else.
    """
    if payload.type_url != SPEC_TYPE_URL:
        raise InvalidRequestError(
            f"The operation asks for {payload.type_url}, which is no backtest.",
            metadata={"type_url": payload.type_url},
        )
    try:
        spec = pb.BacktestSpec.FromString(payload.value)
    except DecodeError as error:
        raise InvalidRequestError("The bytes of the operation's spec are no message.") from error
    return request_from_spec(spec)


def _refuse_files(request: "BacktestRequest") -> None:
    violations = []
    if request.model.path is not None:
        violations.append(FieldViolation("model.path", "a service runs served models alone"))
    if request.data.files:
        violations.append(FieldViolation("data.files", "a service reads its catalog alone"))
    if violations:
        fields = " and ".join(violation.field for violation in violations)
        raise InvalidRequestError(
            f"The request names files of this machine ({fields}), which no service reads. "
            "Run it with --local, or give model.name and import the bars into the catalog.",
            violations=tuple(violations),
        )


def _decisions_to_proto(choice: "DecisionChoice") -> model_pb2.Decisions:
    return model_pb2.Decisions(
        confidence_threshold=choice.confidence_threshold,
        position_awareness=choice.position_awareness,
        allow_short_from_flat=choice.allow_short_from_flat,
        min_signal_separation_hours=choice.filters.min_signal_separation,
        round_trip_cost=choice.cost_model.round_trip_cost,
        min_edge_multiplier=choice.cost_model.min_edge_multiplier,
    )


def _content(spec: pb.BacktestSpec, violations: list[FieldViolation]) -> dict[str, Any]:
    """Returns the spec as plain data, as a request file would hold it; absent fields left out."""
    content: dict[str, Any] = {
        "model": _model(spec.model, violations),
        "symbol": spec.symbol,
        "timeframe": spec.timeframe,
        "profile": spec.profile or "default",
        "switches": switches_from_proto(spec.switches, violations),
        "decisions": _decisions(spec.decisions),
        "model_digest": spec.model_digest,
        "dataset_digests": dict(sorted(spec.dataset_digests.items())),
    }
    for name in _NUMBERS:
        if spec.HasField(name):  # type: ignore[arg-type]
            content[name] = getattr(spec, name)
    content |= trading_rules_content(spec)
    if spec.HasField("start_time"):
        content["start"] = _moment(spec.start_time, "spec.start_time", violations)
    if spec.HasField("end_time"):
        content["end"] = _end(spec, content["switches"], violations)
    return content


def _model(name: str, violations: list[FieldViolation]) -> dict[str, str]:
    try:
        parsed = ModelName.parse(name, field="spec.model")
    except BacklaneError as error:
        violations.append(FieldViolation("spec.model", error.message))
        return {"name": "unknown"}
    return {"name": parsed.model, "version": parsed.version}


def _decisions(message: model_pb2.Decisions) -> dict[str, Any]:
    plain: dict[str, Any] = {field.name: value for field, value in message.ListFields()}
    filters = {"min_signal_separation": plain.pop("min_signal_separation_hours", None)}
    costs = {name: plain.pop(name, None) for name in ("round_trip_cost", "min_edge_multiplier")}
    return {**plain, "filters": filters, "cost_model": costs}


def _end(
    spec: pb.BacktestSpec, switches: dict[str, Any], violations: list[FieldViolation]
) -> date | datetime | None:
    """Returns the end; the last nanosecond of a day is that day, where the profile means it so."""
    from backlane.backtest.request import DAY_NS

    time_ns = timestamp_from_proto(spec.end_time)
    profile = PROFILES.get(spec.profile or "default", PROFILES["default"])
    whole_day = switches.get("end_date", profile.end_date.value) == EndDate.WHOLE_DAY.value
    if whole_day and time_ns % DAY_NS == DAY_NS - 1 and is_valid_timestamp(spec.end_time):
        return datetime.fromtimestamp(spec.end_time.seconds, UTC).date()
    return _moment(spec.end_time, "spec.end_time", violations)


def _moment(message: Timestamp, field: str, violations: list[FieldViolation]) -> datetime | None:
    if not is_valid_timestamp(message):
        violations.append(FieldViolation(field, "is no time between the years 1678 and 2262"))
    elif message.nanos % 1000:
        description = "is finer than a microsecond; give whole microseconds"
        violations.append(FieldViolation(field, description))
    else:
        whole = datetime.fromtimestamp(message.seconds, UTC)
        return whole.replace(microsecond=message.nanos // 1000)
    return None


def as_spec_error(error: InvalidRequestError) -> InvalidRequestError:
    """Returns the error of a request with its fields by their paths in a message that has a spec.

    Of errors that come up after the message was read, and know the request alone.
    """
    renamed = tuple(
        _with_proto_path(FieldViolation(f"spec.{found.field}", found.description))
        for found in error.violations
    )
    return InvalidRequestError(error.message, metadata=error.metadata, violations=renamed)


def _with_proto_path(violation: FieldViolation) -> FieldViolation:
    path = violation.field.removeprefix("spec.")
    renamed = _PROTO_PATHS.get(path, proto_path(path))
    field = violation.field if renamed == path else f"spec.{renamed}"
    return FieldViolation(field, violation.description)


def result_to_proto(summary: ResultSummary) -> pb.BacktestResult:
    """Returns the message for a summary."""
    provenance = summary.provenance
    return pb.BacktestResult(
        result_digest=summary.result_digest,
        metrics=[
            pb.Metric(
                id=metric.id,
                value=metric.value,
                undefined_reason=metric.undefined_reason,
                annualization=metric.annualization,
                sample_count=metric.sample_count,
            )
            for metric in summary.metrics
        ],
        funnel=pb.Funnel(stages=[_stage_to_proto(stage) for stage in summary.funnel]),
        provenance=pb.Provenance(
            dataset_digests=provenance.dataset_digests,
            model_digest=provenance.model_digest,
            config_digest=provenance.config_digest,
            order_digest=provenance.order_digest,
            versions=provenance.versions,
        ),
        spec=spec_from_request(summary.request),
        first_bar_time=timestamp_to_proto(summary.first_bar_ns),
        last_bar_time=timestamp_to_proto(summary.last_bar_ns),
        files=[
            pb.ResultFile(name=file.name, size_bytes=file.size_bytes, digest=file.digest)
            for file in summary.files
        ],
        timings=[
            pb.PhaseTiming(phase=phase, duration=duration_to_proto(seconds))
            for phase, seconds in summary.timings.items()
        ],
    )


def result_from_proto(message: pb.BacktestResult) -> ResultSummary:
    """Returns the summary of a message that a service made."""
    return ResultSummary(
        result_digest=message.result_digest,
        metrics=tuple(
            MetricSummary(
                metric.id,
                metric.value if metric.HasField("value") else None,
                metric.undefined_reason,
                metric.annualization,
                metric.sample_count,
            )
            for metric in message.metrics
        ),
        funnel=tuple(_stage_from_proto(stage) for stage in message.funnel.stages),
        provenance=ProvenanceSummary(
            dict(sorted(message.provenance.dataset_digests.items())),
            message.provenance.model_digest,
            message.provenance.config_digest,
            message.provenance.order_digest,
            dict(sorted(message.provenance.versions.items())),
        ),
        request=request_from_spec(message.spec),
        first_bar_ns=timestamp_from_proto(message.first_bar_time),
        last_bar_ns=timestamp_from_proto(message.last_bar_time),
        files=tuple(ResultFile(file.name, file.size_bytes, file.digest) for file in message.files),
        timings={each.phase: duration_from_proto(each.duration) for each in message.timings},
    )


def result_to_payload(summary: ResultSummary) -> Payload:
    """Returns what an operation carries once the run has succeeded."""
    message = result_to_proto(summary)
    return Payload(RESULT_TYPE_URL, message.SerializeToString(deterministic=True))


def result_from_payload(payload: Payload) -> ResultSummary:
    """Returns the summary that a succeeded operation carries.

    Raises ResultNotFoundError where it carries something else.
    """
    if payload.type_url != RESULT_TYPE_URL:
        raise ResultNotFoundError(
            f"The operation's result is a {payload.type_url}, not that of a backtest.",
            metadata={"type_url": payload.type_url},
        )
    return result_from_proto(pb.BacktestResult.FromString(payload.value))


def _stage_to_proto(stage: FunnelStage) -> pb.Funnel.Stage:
    return pb.Funnel.Stage(
        name=stage.name,
        entered_count=stage.entered_count,
        passed_count=stage.passed_count,
        drops=[pb.Funnel.Drop(reason=reason, count=count) for reason, count in stage.drops.items()],
    )


def _stage_from_proto(message: pb.Funnel.Stage) -> FunnelStage:
    return FunnelStage(
        message.name,
        message.entered_count,
        message.passed_count,
        {drop.reason: drop.count for drop in message.drops},
    )
