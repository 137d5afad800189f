"""Times and durations on the wire: UTC nanoseconds and seconds, as messages and back."""

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

NS_PER_S = 1_000_000_000
TIMESTAMP_S_MIN = -62_135_596_800
"""0001-01-01T00:00:00Z, the first second that a Timestamp may hold."""
TIMESTAMP_S_MAX = 253_402_300_799
"""9999-12-31T23:59:59Z, the last one."""
TIME_NS_MAX = (1 << 63) - 1
"""The last time that 64 bits of nanoseconds hold, in the year 2262; the first is its negative."""


def timestamp_to_proto(time_ns: int) -> Timestamp:
    """Returns the message for a time in UTC nanoseconds since 1970, exact to the nanosecond."""
    seconds, nanos = divmod(time_ns, NS_PER_S)
    return Timestamp(seconds=seconds, nanos=nanos)


def optional_timestamp_to_proto(time_ns: int | None) -> Timestamp | None:
    """Returns the message for a time, and None for None: a field that stays unset."""
    return None if time_ns is None else timestamp_to_proto(time_ns)


def timestamp_from_proto(message: Timestamp) -> int:
    """Returns the UTC nanoseconds since 1970 of a message; exact."""
    return message.seconds * NS_PER_S + message.nanos


def is_valid_timestamp(message: Timestamp) -> bool:
    """Says whether a message is within its format's range, and fits 64 bits of nanoseconds."""
    return (
        TIMESTAMP_S_MIN <= message.seconds <= TIMESTAMP_S_MAX
        and 0 <= message.nanos < NS_PER_S
        and -TIME_NS_MAX <= timestamp_from_proto(message) <= TIME_NS_MAX
    )


def duration_to_proto(duration_s: float) -> Duration:
    """Returns the message for a duration in seconds, to the nearest nanosecond."""
    sign = -1 if duration_s < 0 else 1
    seconds, nanos = divmod(round(abs(duration_s) * NS_PER_S), NS_PER_S)
    return Duration(seconds=sign * seconds, nanos=sign * nanos)


def optional_duration_to_proto(duration_s: float | None) -> Duration | None:
    """Returns the message for a duration, and None for None: a field that stays unset."""
    return None if duration_s is None else duration_to_proto(duration_s)


def duration_from_proto(message: Duration) -> float:
    """Returns the seconds of a message, to the nearest binary64 number."""
    return message.seconds + message.nanos / NS_PER_S
