"""Metric points in one blob: a thousand rows for the price of one.

The blob is a JSON list of the names of series, as long as the first four bytes say, and then four
columns, little-endian: which series (uint16), step (int64), time (int64) and value (float64). The
value keeps its bits: NaN, infinities and the negative zero come back as they were.
"""

import json
import struct
from collections.abc import Sequence
from functools import lru_cache
from itertools import count

from backlane.operations.events import MetricPoint

_LENGTH = struct.Struct("<I")
_POINT_BYTES = 2 + 8 + 8 + 8
_NO_TIME_NS = -(1 << 63)


def pack(points: Sequence[MetricPoint]) -> bytes:
    """Returns the blob of points; their index is not in it."""
    numbers: dict[str, int] = {}
    which = [numbers.setdefault(point.series, len(numbers)) for point in points]
    names = _names_text(tuple(numbers))
    size = len(points)
    columns = struct.pack(
        f"<{size}H{size}q{size}q{size}d",
        *which,
        *(point.step for point in points),
        *(_NO_TIME_NS if point.time_ns is None else point.time_ns for point in points),
        *(point.value for point in points),
    )
    return _LENGTH.pack(len(names)) + names + columns


@lru_cache(maxsize=256)
def _names_text(names: tuple[str, ...]) -> bytes:
    """Returns the JSON list of names; a run reports the same few series again and again."""
    return json.dumps(names).encode()


def unpack(blob: bytes, first_index: int) -> tuple[MetricPoint, ...]:
    """Returns the points of a blob, numbered from `first_index`."""
    (length,) = _LENGTH.unpack_from(blob)
    start = _LENGTH.size + length
    names = json.loads(blob[_LENGTH.size : start])
    size = (len(blob) - start) // _POINT_BYTES
    columns = struct.unpack_from(f"<{size}H{size}q{size}q{size}d", blob, start)
    which, steps = columns[:size], columns[size : 2 * size]
    times, values = columns[2 * size : 3 * size], columns[3 * size :]
    return tuple(
        MetricPoint(names[one], step, value, None if time_ns == _NO_TIME_NS else time_ns, index)
        for one, step, value, time_ns, index in zip(
            which, steps, values, times, count(first_index), strict=False
        )
    )
