"""A checkpoint: everything that a run needs to go on from a bar to the same bits, as bytes.

Kept are the raw scores, the state of the loop, and what the loop has written up to there. Features
are not: they take more room than all of it, and less time than reading them back would.

    8 bytes   "BACKLANE"
    u64       length of the header
    header    JSON: the format, what the checkpoint is bound to, name, dtype and shape of each array
    arrays    their little-endian bytes, one after the other
    u32       CRC-32 of everything before it

All numbers are little-endian. Magic, header and CRC keep their places in every later version, so
that each version can tell a foreign checkpoint from a damaged one.
"""

import json
import struct
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from backlane.cycle.state import STATE_DTYPE
from backlane.errors import CheckpointCorruptError, CheckpointForeignError
from backlane.portfolio.trade import FILL_DTYPE, TRADE_DTYPE

FORMAT = "backlane.checkpoint.v1"
"""Kind and version of the bytes. A change of the layout makes it the next version."""
HEADER_BYTES_MAX = 1 << 20
"""A longer header is no header."""
CURVES = ("decision", "reason", "equity", "cash", "position")
"""What the loop writes at each bar, in `cycle.loop.Outputs`."""
Buffer = bytes | memoryview
_MAGIC = b"BACKLANE"
_LENGTH, _CRC = struct.Struct("<Q"), struct.Struct("<I")
_DTYPES = {
    "scores": np.dtype("<f4"),
    "state": STATE_DTYPE,
    "decision": np.dtype("i1"),
    "reason": np.dtype("i1"),
    "equity": np.dtype("<f8"),
    "cash": np.dtype("<f8"),
    "position": np.dtype("<f8"),
    "trades": TRADE_DTYPE,
    "fills": FILL_DTYPE,
}


@dataclass(frozen=True, slots=True)
class Binding:
    """What a checkpoint belongs to: no other run may go on from it.

    `spec_sha256` is the SHA-256 of the request as it was accepted, in hex. `versions` are those of
    everything that computes: another version may give other bits.
    """

    spec_sha256: str
    model_digest: str
    dataset_digests: Mapping[str, str] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)

    def as_document(self) -> dict[str, Any]:
        """Returns it as plain data."""
        return {
            "spec_sha256": self.spec_sha256,
            "model_digest": self.model_digest,
            "dataset_digests": dict(self.dataset_digests),
            "versions": dict(self.versions),
        }


@dataclass(frozen=True, slots=True, eq=False)
class Progress:
    """How far the loop is.

    `state` is a STATE_DTYPE record of length 1. The curves have one value for each bar from
    `first_index` up to `next_index` (exclusive); `trades` and `fills` are those made so far.
    """

    first_index: int
    state: NDArray[np.void]
    curves: Mapping[str, NDArray[Any]]
    trades: NDArray[np.void]
    fills: NDArray[np.void]

    @property
    def next_index(self) -> int:
        """Returns the bar to simulate next."""
        return int(self.state["next_index"][0])


@dataclass(frozen=True, slots=True, eq=False)
class Checkpoint:
    """A point of a run over `bar_count` bars of the base timeframe, warm-up included.

    `scores` is what the model answered, float32 of shape (rows, outputs), for the first rows;
    `progress` is None while there are fewer rows than bars.
    """

    bar_count: int
    scores: NDArray[np.float32]
    progress: Progress | None = None

    @property
    def simulated_bars(self) -> int:
        """Returns how many bars are simulated."""
        progress = self.progress
        return 0 if progress is None else progress.next_index - progress.first_index


def encode(checkpoint: Checkpoint, binding: Binding) -> Iterator[Buffer]:
    """Yields the bytes in parts, most of them views of the arrays: nothing large is copied."""
    arrays = _arrays(checkpoint)
    header = json.dumps(
        {
            "format": FORMAT,
            **binding.as_document(),
            "bar_count": checkpoint.bar_count,
            "first_index": checkpoint.progress.first_index if checkpoint.progress else 0,
            "arrays": [
                {"name": name, "dtype": _layout(array.dtype), "shape": list(array.shape)}
                for name, array in arrays.items()
            ],
        },
        sort_keys=True,
    ).encode()
    crc = 0
    opening: Buffer = _MAGIC + _LENGTH.pack(len(header)) + header
    for part in (opening, *map(_bytes_of, arrays.values())):
        crc = zlib.crc32(part, crc)
        yield part
    yield _CRC.pack(crc)


def decode(content: bytes, binding: Binding) -> Checkpoint:
    """Returns the checkpoint that the bytes hold; its arrays are views of them, read-only.

    Raises:
        CheckpointCorruptError: the bytes are damaged, cut off, or contradict themselves.
        CheckpointForeignError: they belong to another format, layout, request, model or dataset,
            or to another version of what computes; the message says what differs.

    """
    header, start = _read_header(content)
    _check_format(header)
    _check_binding(header, binding)
    arrays = _read_arrays(content, header, start)
    return _checked(header, arrays)


def _arrays(checkpoint: Checkpoint) -> dict[str, NDArray[Any]]:
    arrays: dict[str, NDArray[Any]] = {"scores": checkpoint.scores}
    if checkpoint.progress is not None:
        progress = checkpoint.progress
        arrays |= {"state": progress.state, **{name: progress.curves[name] for name in CURVES}}
        arrays |= {"trades": progress.trades, "fills": progress.fills}
    return {name: _little(array, _DTYPES[name]) for name, array in arrays.items()}


def _little(array: NDArray[Any], dtype: np.dtype[Any]) -> NDArray[Any]:
    return np.ascontiguousarray(array.view(np.ndarray).astype(dtype, copy=False))


def _bytes_of(array: NDArray[Any]) -> Buffer:
    return cast(Buffer, memoryview(cast(Any, array.reshape(-1).view(np.uint8))))


def _layout(dtype: np.dtype[Any]) -> Any:
    """Returns a dtype as plain data: a text, or a list of [field, dtype, shape]."""
    if dtype.names is None:
        return dtype.str
    fields = ((name, dtype[name]) for name in dtype.names)
    return [[name, part.base.str, list(part.shape)] for name, part in fields]


def _read_header(content: bytes) -> tuple[dict[str, Any], int]:
    start = len(_MAGIC) + _LENGTH.size
    if len(content) < start + _CRC.size or not content.startswith(_MAGIC):
        raise _corrupt(f"its {len(content)} bytes do not begin as a checkpoint does")
    body = memoryview(content)[: -_CRC.size]
    if zlib.crc32(body) != _CRC.unpack(content[-_CRC.size :])[0]:
        raise _corrupt("its CRC-32 does not fit its bytes")
    length = _LENGTH.unpack_from(content, len(_MAGIC))[0]
    if length > min(HEADER_BYTES_MAX, len(body) - start):
        raise _corrupt(f"its header would have {length} bytes")
    try:
        header = json.loads(bytes(body[start : start + length]))
    except ValueError as error:
        raise _corrupt("its header is no JSON") from error
    if not isinstance(header, dict):
        raise _corrupt("its header is no JSON object")
    return header, start + length


def _check_format(header: Mapping[str, Any]) -> None:
    if header.get("format") != FORMAT:
        raise _foreign("format", header.get("format"), FORMAT)


def _check_binding(header: Mapping[str, Any], binding: Binding) -> None:
    for name, expected in binding.as_document().items():
        found = header.get(name)
        if found == expected:
            continue
        if isinstance(found, dict) and isinstance(expected, dict):
            key = min(k for k in {*found, *expected} if found.get(k) != expected.get(k))
            raise _foreign(f"{name}.{key}", found.get(key), expected.get(key))
        raise _foreign(name, found, expected)


def _read_arrays(content: bytes, header: Mapping[str, Any], start: int) -> dict[str, NDArray[Any]]:
    arrays: dict[str, NDArray[Any]] = {}
    end = len(content) - _CRC.size
    try:
        for entry in header["arrays"]:
            name, shape = entry["name"], tuple(int(length) for length in entry["shape"])
            dtype = _DTYPES[name]
            if entry["dtype"] != _layout(dtype):
                raise _foreign(f"layout of {name}", entry["dtype"], _layout(dtype))
            count = int(np.prod(shape, dtype=np.int64))
            array = np.frombuffer(content, dtype, count, start).reshape(shape)
            arrays[name], start = array, start + array.nbytes
    except (KeyError, TypeError, ValueError) as error:
        raise _corrupt("its arrays are not those of a checkpoint") from error
    if start != end:
        raise _corrupt(f"{end - start} of its bytes belong to no array")
    return arrays


def _checked(header: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> Checkpoint:
    """Returns the checkpoint after a look at whether its parts fit each other."""
    bar_count, first_index = header.get("bar_count"), header.get("first_index")
    if not isinstance(bar_count, int) or not isinstance(first_index, int):
        raise _corrupt("it does not say how many bars it is about")
    scores = arrays.get("scores")
    if scores is None or scores.ndim != 2 or len(scores) > bar_count:
        raise _corrupt("its scores are not one row for each bar")
    if "state" not in arrays:
        return Checkpoint(bar_count, scores)
    if set(arrays) != set(_DTYPES) or arrays["state"].shape != (1,) or len(scores) != bar_count:
        raise _corrupt("it has a state, but not all that belongs to one")
    progress = Progress(
        first_index,
        arrays["state"],
        {name: arrays[name] for name in CURVES},
        arrays["trades"],
        arrays["fills"],
    )
    done = progress.next_index - first_index
    counts = (int(progress.state["trade_count"][0]), int(progress.state["fill_count"][0]))
    if (
        not 0 <= first_index <= progress.next_index <= bar_count
        or any(arrays[name].shape != (done,) for name in CURVES)
        or (progress.trades.shape, progress.fills.shape) != ((counts[0],), (counts[1],))
    ):
        raise _corrupt("its counts and its arrays contradict each other")
    return Checkpoint(bar_count, scores, progress)


def _corrupt(problem: str) -> CheckpointCorruptError:
    return CheckpointCorruptError(
        f"The checkpoint is damaged: {problem}.", metadata={"problem": problem}
    )


def _foreign(what: str, found: object, expected: object) -> CheckpointForeignError:
    found_text, expected_text = _short(found), _short(expected)
    return CheckpointForeignError(
        f"The checkpoint is not one of this run: its {what} is {found_text}, and {expected_text} "
        "was expected.",
        metadata={"field": what, "found": found_text, "expected": expected_text},
    )


def _short(value: object) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= 200 else f"{text[:197]}..."


def foreign_shape(what: str, found: int, expected: int) -> CheckpointForeignError:
    """Returns the error for a checkpoint that does not fit the bars of the run at hand."""
    return _foreign(what, found, expected)
