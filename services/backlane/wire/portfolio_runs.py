"""Portfolio runs on the wire: requests and summaries as messages, and back. Light: no numpy."""

import re
from collections.abc import Mapping
from typing import Any

from google.protobuf.message import DecodeError

from backlane.api.backtest.v1 import backtest_pb2
from backlane.api.portfolios.v1 import portfolio_service_pb2 as pb
from backlane.backtest.portfolio_request import PortfolioRequest
from backlane.backtest.portfolio_summary import PortfolioSummary
from backlane.backtest.summary import ResultFile
from backlane.errors import FieldViolation, InvalidRequestError, ResultNotFoundError
from backlane.operations.operation import Payload
from backlane.wire.plain_data import plain_from_struct, struct_from_plain
from backlane.wire.times import (
    duration_from_proto,
    duration_to_proto,
    optional_timestamp_to_proto,
    timestamp_from_proto,
)
from backlane.wire.violations import Violations

SPEC_TYPE_URL = f"type.googleapis.com/{pb.PortfolioSpec.DESCRIPTOR.full_name}"
RESULT_TYPE_URL = f"type.googleapis.com/{pb.PortfolioResult.DESCRIPTOR.full_name}"
CONFIG_FIELD, FILES_FIELD = "spec.config", "spec.files"
SPEC_BYTES_MAX = 256 * 1024
"""Size of a spec; a configuration has some hundred bytes."""
FILES_MAX = 100
FILE_NAME_CHARACTERS_MAX = 1_024
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_DIGEST_HELP = "accepted is sha256: and 64 lower-case hex digits"


def check_digest(found: Violations, field: str, digest: str) -> None:
    """Notes a text that is no digest of a file."""
    is_digest = _DIGEST.fullmatch(digest) is not None
    found.check(is_digest, field, f"is {digest[:80]!r}; {_DIGEST_HELP}")


def spec_from_request(request: PortfolioRequest) -> pb.PortfolioSpec:
    """Returns the message for a request; raises InvalidRequestError for what none can hold."""
    config = struct_from_plain(request.config, "config")
    return pb.PortfolioSpec(config=config, files=dict(sorted(request.files.items())))


def request_from_spec(spec: pb.PortfolioSpec) -> PortfolioRequest:
    """Returns the request of a message from outside; what the configuration says is not looked at.

    Raises InvalidRequestError with a violation for each mistake.
    """
    found = Violations()
    size = spec.ByteSize()
    found.check(size <= SPEC_BYTES_MAX, "spec", f"has {size} bytes; at most {SPEC_BYTES_MAX}")
    found.raise_if_any()
    count = len(spec.files)
    found.check(count <= FILES_MAX, FILES_FIELD, f"holds {count}; at most {FILES_MAX}")
    for name in sorted(spec.files)[:FILES_MAX]:
        field = file_field(name)
        found.check(
            0 < len(name) <= FILE_NAME_CHARACTERS_MAX,
            field,
            f"its name has {len(name)} characters; accepted is 1 to {FILE_NAME_CHARACTERS_MAX}",
        )
        check_digest(found, field, spec.files[name])
    config = plain_from_struct(spec.config, CONFIG_FIELD, found)
    found.raise_if_any()
    return PortfolioRequest(config, dict(sorted(spec.files.items())))


def file_field(name: str) -> str:
    """Returns the path of a file in a request that has a spec."""
    return f"{FILES_FIELD}[{name[:80]}]"


def as_config_error(error: InvalidRequestError) -> InvalidRequestError:
    """Returns the error of a configuration with its fields by their paths in the request."""
    renamed = tuple(
        FieldViolation(
            CONFIG_FIELD if found.field == "config" else f"{CONFIG_FIELD}.{found.field}",
            found.description,
        )
        for found in error.violations
    )
    return InvalidRequestError(error.message, metadata=error.metadata, violations=renamed)


def request_to_payload(request: PortfolioRequest) -> Payload:
    """Returns what an operation carries to say what to run; the same request, the same bytes."""
    spec = spec_from_request(request)
    return Payload(SPEC_TYPE_URL, spec.SerializeToString(deterministic=True))


def request_from_payload(payload: Payload) -> PortfolioRequest:
    """Returns the request that an operation carries.

    Raises InvalidRequestError where it carries something else.
    """
    if payload.type_url != SPEC_TYPE_URL:
        raise InvalidRequestError(
            f"The operation asks for {payload.type_url}, which is no portfolio run.",
            metadata={"type_url": payload.type_url},
        )
    try:
        spec = pb.PortfolioSpec.FromString(payload.value)
    except DecodeError as error:
        raise InvalidRequestError("The bytes of the operation's spec are no message.") from error
    return request_from_spec(spec)


def result_to_proto(summary: PortfolioSummary) -> pb.PortfolioResult:
    """Returns the message for a summary."""
    return pb.PortfolioResult(
        spec=spec_from_request(summary.request),
        metrics=[
            backtest_pb2.Metric(id=name, value=value) for name, value in summary.metrics.items()
        ],
        final_equity=summary.final_equity,
        total_cost=summary.total_cost,
        bar_count=summary.bar_count,
        symbol_count=summary.symbol_count,
        first_time=optional_timestamp_to_proto(summary.first_time_ns),
        last_time=optional_timestamp_to_proto(summary.last_time_ns),
        counts=dict(summary.counts),
        files=[
            backtest_pb2.ResultFile(name=file.name, size_bytes=file.size_bytes, digest=file.digest)
            for file in summary.files
        ],
        timings=[
            backtest_pb2.PhaseTiming(phase=phase, duration=duration_to_proto(seconds))
            for phase, seconds in summary.timings.items()
        ],
        versions=dict(summary.versions),
    )


def result_from_proto(message: pb.PortfolioResult) -> PortfolioSummary:
    """Returns the summary of a message that a service made."""
    return PortfolioSummary(
        request=request_from_spec(message.spec),
        metrics={
            each.id: each.value if each.HasField("value") else None for each in message.metrics
        },
        final_equity=message.final_equity,
        total_cost=message.total_cost,
        bar_count=message.bar_count,
        symbol_count=message.symbol_count,
        first_time_ns=_optional_time(message, "first_time"),
        last_time_ns=_optional_time(message, "last_time"),
        counts=_sorted(message.counts),
        files=tuple(ResultFile(each.name, each.size_bytes, each.digest) for each in message.files),
        timings={each.phase: duration_from_proto(each.duration) for each in message.timings},
        versions=_sorted(message.versions),
    )


def result_to_payload(summary: PortfolioSummary) -> Payload:
    """Returns what an operation carries once the run has succeeded."""
    message = result_to_proto(summary)
    return Payload(RESULT_TYPE_URL, message.SerializeToString(deterministic=True))


def result_from_payload(payload: Payload) -> PortfolioSummary:
    """Returns the summary that a succeeded operation carries.

    Raises ResultNotFoundError where it carries something else.
    """
    if payload.type_url != RESULT_TYPE_URL:
        raise ResultNotFoundError(
            f"The operation's result is a {payload.type_url}, not that of a portfolio run.",
            metadata={"type_url": payload.type_url},
        )
    return result_from_proto(pb.PortfolioResult.FromString(payload.value))


def _optional_time(message: pb.PortfolioResult, name: Any) -> int | None:
    return timestamp_from_proto(getattr(message, name)) if message.HasField(name) else None


def _sorted(values: Mapping[str, Any]) -> dict[str, Any]:
    return dict(sorted(values.items()))
