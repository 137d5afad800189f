"""Packs an error into a google.rpc Status that fits into the trailers of a call, and unpacks it.

Trailers beyond 8 KiB are refused at random and beyond 16 KiB always, and the status that the
caller then sees is RESOURCE_EXHAUSTED instead of the real one. Hence every text has a limit here.
"""

import grpc
from google.protobuf.duration_pb2 import Duration
from google.rpc import error_details_pb2, status_pb2

from backlane.errors import BacklaneError, FieldViolation

DOMAIN = "backlane"
DETAILS_BYTES_MAX = 4096
"""Size of the whole serialised Status; base64 makes 5.4 KiB of it on the wire."""
MESSAGE_BYTES_MAX = 512
"""Size of the plain message beside it, whose bytes may triple by percent-encoding."""
VIOLATIONS_MAX = 20
LEFT_OUT_KEY = "left_out_count"
"""Metadata key that says how many entries and violations did not fit."""

_ENTRIES_MAX = 64
_TEXT_BYTES_STEPS = (2048, 1024, 512, 256, 128, 64)
_ENTRIES_STEPS = (16, 8, 4, 2, 1, 0)


def cut_text(text: str, bytes_max: int) -> str:
    """Returns the text in at most so many UTF-8 bytes (>= 3), its end replaced by an ellipsis."""
    encoded = text.encode("utf-8", "replace")
    if len(encoded) <= bytes_max:
        return encoded.decode()
    return encoded[: bytes_max - len("…".encode())].decode("utf-8", "ignore") + "…"


def pack(error: BacklaneError, code: grpc.StatusCode) -> status_pb2.Status:
    """Returns the Status of an error, within DETAILS_BYTES_MAX.

    Long texts are shortened first, all to the same length; only when that is not enough are
    entries left out, the last ones first. The reason always stays.
    """
    for text_bytes_max in _TEXT_BYTES_STEPS:
        status = _build(error, code, text_bytes_max, _ENTRIES_MAX)
        if status.ByteSize() <= DETAILS_BYTES_MAX:
            return status
    for entries_max in _ENTRIES_STEPS:
        status = _build(error, code, _TEXT_BYTES_STEPS[-1], entries_max)
        if status.ByteSize() <= DETAILS_BYTES_MAX:
            break
    return status


def _build(
    error: BacklaneError, code: grpc.StatusCode, text_bytes_max: int, entries_max: int
) -> status_pb2.Status:
    message = cut_text(error.message, text_bytes_max)
    status = status_pb2.Status(code=code.value[0], message=message)
    entries = list(error.metadata.items())[:entries_max]
    violations = error.violations[: min(entries_max, VIOLATIONS_MAX)]
    metadata = {cut_text(key, 64): cut_text(value, text_bytes_max) for key, value in entries}
    left_out_count = len(error.metadata) - len(entries) + len(error.violations) - len(violations)
    if left_out_count:
        metadata[LEFT_OUT_KEY] = str(left_out_count)
    status.details.add().Pack(
        error_details_pb2.ErrorInfo(reason=error.reason, domain=DOMAIN, metadata=metadata)
    )
    if violations:
        status.details.add().Pack(_bad_request(violations, text_bytes_max))
    if error.retry_delay_s is not None:
        delay = Duration()
        delay.FromNanoseconds(round(error.retry_delay_s * 1e9))
        status.details.add().Pack(error_details_pb2.RetryInfo(retry_delay=delay))
    subject = cut_text(_subject(error), text_bytes_max)
    if code is grpc.StatusCode.NOT_FOUND:
        status.details.add().Pack(
            error_details_pb2.ResourceInfo(
                resource_type=_resource_type(error), resource_name=subject
            )
        )
    if code is grpc.StatusCode.FAILED_PRECONDITION:
        violation = error_details_pb2.PreconditionFailure.Violation(
            type=error.reason, subject=subject, description=cut_text(message, 256)
        )
        status.details.add().Pack(error_details_pb2.PreconditionFailure(violations=[violation]))
    return status


def _bad_request(
    violations: tuple[FieldViolation, ...], text_bytes_max: int
) -> error_details_pb2.BadRequest:
    return error_details_pb2.BadRequest(
        field_violations=[
            error_details_pb2.BadRequest.FieldViolation(
                field=cut_text(violation.field, text_bytes_max),
                description=cut_text(violation.description, text_bytes_max),
            )
            for violation in violations
        ]
    )


def _resource_type(error: BacklaneError) -> str:
    return error.reason.removesuffix("_NOT_FOUND").lower()


def _subject(error: BacklaneError) -> str:
    """Returns the name of the thing at fault: by its type, else `name`, else the first value."""
    for key in (_resource_type(error), "name"):
        if key in error.metadata:
            return error.metadata[key]
    return next(iter(error.metadata.values()), "")


class Unpacked:
    """What a Status says: empty, and `reason` None, where Backlane did not write it."""

    def __init__(self, status: status_pb2.Status) -> None:
        self.message: str = status.message
        self.reason: str | None = None
        self.metadata: dict[str, str] = {}
        self.violations: tuple[FieldViolation, ...] = ()
        self.retry_delay_s: float | None = None
        info = error_details_pb2.ErrorInfo()
        bad_request = error_details_pb2.BadRequest()
        retry = error_details_pb2.RetryInfo()
        for detail in status.details:
            if detail.Unpack(info) and info.domain == DOMAIN:
                self.reason = info.reason
                self.metadata = dict(info.metadata)
            elif detail.Unpack(bad_request):
                self.violations = tuple(
                    FieldViolation(field=violation.field, description=violation.description)
                    for violation in bad_request.field_violations
                )
            elif detail.Unpack(retry):
                self.retry_delay_s = retry.retry_delay.ToNanoseconds() / 1e9
