"""Checks of single fields of requests to the registry; each notes what is wrong."""

import re
from collections.abc import Iterable, Mapping

from google.protobuf.any_pb2 import Any
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

from backlane.api.operations.v1 import operation_pb2 as pb
from backlane.operations import limits
from backlane.wire.times import duration_from_proto, is_valid_timestamp
from backlane.wire.violations import Violations

SHA256_BYTES = 32
WAIT_S_MAX = 30.0
"""Longest time that a call which waits is kept open, such as WaitOperation."""
RELEASE_REASON_CHARACTERS_MAX = 512
WORKER_ID_CHARACTERS_MAX = 128
ERROR_METADATA_MAX = 64

_NAME = re.compile(r"operations/[a-z0-9-]{4,63}")
_KIND = re.compile(r"[a-z][a-z0-9_]{0,31}(\.[a-z][a-z0-9_]{0,31}){0,3}")
_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", re.IGNORECASE)
_REASON = re.compile(r"[A-Z][A-Z0-9_]{1,62}")
_TIMES = "is no time between the years 1678 and 2262"


def check_request_id(found: Violations, text: str) -> None:
    """Notes a request_id that is no UUID."""
    found.check(
        _UUID.fullmatch(text) is not None,
        "request_id",
        f"is {text[:64]!r}; accepted is a UUID, made anew for each request and repeated by retries",
    )


def check_name(found: Violations, field: str, name: str) -> None:
    """Notes a text that is no name of an operation."""
    found.check(
        _NAME.fullmatch(name) is not None,
        field,
        f"is {name[:80]!r}; accepted is operations/ and 4 to 63 of a-z, 0-9 and -",
    )


def check_kind(found: Violations, field: str, kind: str) -> None:
    """Notes a text that is no kind of operation."""
    found.check(
        _KIND.fullmatch(kind) is not None,
        field,
        f"is {kind[:64]!r}; accepted is lower-case words joined by dots, such as backtest.run",
    )


def check_worker_id(found: Violations, worker_id: str) -> None:
    """Notes an id that a worker may not have."""
    found.check(
        0 < len(worker_id) <= WORKER_ID_CHARACTERS_MAX and worker_id.isprintable(),
        "worker_id",
        f"is {worker_id[:64]!r}; accepted is 1 to {WORKER_ID_CHARACTERS_MAX} printable characters",
    )


def check_epoch(found: Violations, field: str, epoch: int) -> None:
    """Notes an epoch that no lease has."""
    found.check(epoch >= 1, field, f"is {epoch}; accepted is that of the lease, from 1")


def check_labels(found: Violations, field: str, labels: Mapping[str, str]) -> None:
    """Notes labels that are too many, too long or without a key."""
    longest = limits.LABEL_CHARACTERS_MAX
    found.check(
        len(labels) <= limits.LABELS_MAX,
        field,
        f"holds {len(labels)}; at most {limits.LABELS_MAX}",
    )
    for key in sorted(labels)[: limits.LABELS_MAX]:
        found.check(
            0 < len(key) <= longest and len(labels[key]) <= longest,
            f"{field}[{key[:32]}]",
            f"has {len(key)} characters and a value of {len(labels[key])}; a key has 1 to "
            f"{longest}, a value up to {longest}",
        )


def check_payload_size(found: Violations, field: str, message: Any) -> None:
    """Notes a payload that is too large."""
    size = len(message.value)
    found.check(
        size <= limits.PAYLOAD_BYTES_MAX,
        field,
        f"has {size} bytes; at most {limits.PAYLOAD_BYTES_MAX}",
    )


def check_length(found: Violations, field: str, text: str, longest: int) -> None:
    """Notes a text with too many characters."""
    found.check(len(text) <= longest, field, f"has {len(text)} characters; at most {longest}")


def check_count(found: Violations, field: str, count: int, most: int) -> None:
    """Notes a list with too many entries."""
    found.check(count <= most, field, f"holds {count}; at most {most}")


def check_points(found: Violations, points: Iterable[pb.MetricPoint]) -> None:
    """Notes metric points that are too many or malformed."""
    listed = list(points)
    check_count(found, "points", len(listed), limits.POINTS_PER_BATCH_MAX)
    for index, point in enumerate(listed[: limits.POINTS_PER_BATCH_MAX]):
        if not 0 < len(point.series) <= limits.SERIES_CHARACTERS_MAX:
            description = f"has {len(point.series)} characters; accepted is 1 to "
            description += str(limits.SERIES_CHARACTERS_MAX)
            found.add(f"points[{index}].series", description)
        if point.HasField("time"):
            check_time(found, f"points[{index}].time", point.time)


def check_trades(found: Violations, trades: list[bytes]) -> None:
    """Notes serialized trades that are too many or too large."""
    check_count(found, "trades", len(trades), limits.TRADES_PER_BATCH_MAX)
    for index, trade in enumerate(trades[: limits.TRADES_PER_BATCH_MAX]):
        if len(trade) > limits.TRADE_BYTES_MAX:
            description = f"has {len(trade)} bytes; at most {limits.TRADE_BYTES_MAX}"
            found.add(f"trades[{index}]", description)


def check_notes(found: Violations, notes: Iterable[str]) -> None:
    """Notes lines for people that are too many or too long."""
    listed = list(notes)
    check_count(found, "notes", len(listed), limits.NOTES_PER_BATCH_MAX)
    for index, note in enumerate(listed[: limits.NOTES_PER_BATCH_MAX]):
        check_length(found, f"notes[{index}]", note, limits.NOTE_CHARACTERS_MAX)


def check_progress(found: Violations, progress: pb.Progress) -> None:
    """Notes a report of progress with texts too long or times out of range."""
    check_length(found, "progress.unit", progress.unit, limits.LABEL_CHARACTERS_MAX)
    check_length(found, "progress.phase", progress.phase, limits.LABEL_CHARACTERS_MAX)
    for field in ("report_time", "simulated_time"):
        if progress.HasField(field):
            check_time(found, f"progress.{field}", getattr(progress, field))


def check_error(found: Violations, error: pb.OperationError) -> None:
    """Notes an error without a proper reason, or too large."""
    found.check(
        _REASON.fullmatch(error.reason) is not None,
        "error.reason",
        f"is {error.reason[:64]!r}; accepted is UPPER_SNAKE_CASE",
    )
    check_length(found, "error.message", error.message, limits.ERROR_MESSAGE_CHARACTERS_MAX)
    check_count(found, "error.metadata", len(error.metadata), ERROR_METADATA_MAX)
    for key in sorted(error.metadata)[:ERROR_METADATA_MAX]:
        field = f"error.metadata[{key[:32]}]"
        check_length(found, field, error.metadata[key], limits.ERROR_MESSAGE_CHARACTERS_MAX)


def check_time(found: Violations, field: str, message: Timestamp) -> None:
    """Notes a time that nanoseconds in 64 bits cannot hold."""
    found.check(is_valid_timestamp(message), field, _TIMES)


def check_priority(found: Violations, field: str, priority: int) -> None:
    """Notes a priority beyond the limits."""
    most = limits.PRIORITY_MAX
    found.check(-most <= priority <= most, field, f"is {priority}; accepted is -{most} to {most}")


def check_attempts(found: Violations, field: str, attempts: int, default: int) -> None:
    """Notes a number of attempts beyond the limit; 0 stands for the default."""
    found.check(
        0 <= attempts <= limits.ATTEMPTS_MAX,
        field,
        f"is {attempts}; accepted is 1 to {limits.ATTEMPTS_MAX}, or 0 for {default}",
    )


def checked_timeout_s(found: Violations, message: Message, field: str) -> float | None:
    """Returns the seconds of a timeout, None where there is none, and notes one out of range."""
    if not message.HasField(field):
        return None
    timeout_s = duration_from_proto(getattr(message, field))
    found.check(
        0 < timeout_s <= limits.TIMEOUT_S_MAX,
        field,
        f"is {timeout_s:g} s; accepted is above 0 and at most {limits.TIMEOUT_S_MAX:g} s",
    )
    return timeout_s


def check_checkpoint(found: Violations, checkpoint: pb.Checkpoint) -> None:
    """Notes a checkpoint that no worker could go on from."""
    field = "checkpoint"
    found.check(checkpoint.number >= 1, f"{field}.number", f"is {checkpoint.number}, below 1")
    _check_text(found, f"{field}.uri", checkpoint.uri, limits.CHECKPOINT_URI_CHARACTERS_MAX)
    _check_text(
        found, f"{field}.format", checkpoint.format, limits.CHECKPOINT_FORMAT_CHARACTERS_MAX
    )
    for name, digest in (("sha256", checkpoint.sha256), ("spec_sha256", checkpoint.spec_sha256)):
        found.check(
            len(digest) == SHA256_BYTES,
            f"{field}.{name}",
            f"has {len(digest)} bytes; a SHA-256 has {SHA256_BYTES}",
        )
    for name in ("size_bytes", "completed_units"):
        count = getattr(checkpoint, name)
        found.check(count >= 0, f"{field}.{name}", f"is {count}, below 0")


def check_trade_numbers(found: Violations, numbers: list[int]) -> None:
    """Notes trades that are not numbered on from one another."""
    first = numbers[0] if numbers else 1
    found.check(
        first >= 1 and numbers == list(range(first, first + len(numbers))),
        "trades",
        "are not numbered on by 1 from one another, the first of a run being 1",
    )


def _check_text(found: Violations, field: str, text: str, longest: int) -> None:
    found.check(
        0 < len(text) <= longest and text.isprintable(),
        field,
        f"has {len(text)} characters; accepted is 1 to {longest}, all printable",
    )


def checked_wait_s(
    found: Violations, field: str, message: Duration | None, absent_s: float
) -> float:
    """Returns the seconds of a duration, `absent_s` for none; at most WAIT_S_MAX."""
    if message is None:
        return absent_s
    wait_s = duration_from_proto(message)
    found.check(wait_s >= 0, field, f"is {wait_s:g} s, below 0")
    return min(wait_s, WAIT_S_MAX)
