"""The bytes of a checkpoint, whatever it is of: named arrays behind a header that binds them.

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
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, Protocol, TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from backlane.errors import CheckpointCorruptError, CheckpointForeignError

HEADER_BYTES_MAX = 1 << 20
"""A longer header is no header."""
Buffer = bytes | memoryview
_MAGIC = b"BACKLANE"
_LENGTH, _CRC = struct.Struct("<Q"), struct.Struct("<I")


class RunCheckpoint(Protocol):
    """What the checkpoints of all kinds of runs can say of themselves."""

    @property
    def simulated_bars(self) -> int:
        """Returns how many bars are simulated."""
        ...

    @property
    def extent(self) -> tuple[int, int]:
        """Returns how far it is; one further on is greater."""
        ...

    @property
    def reach(self) -> str:
        """Returns how far it is in words, such as `with 20 bars simulated`."""
        ...


CheckpointT = TypeVar("CheckpointT", bound=RunCheckpoint)


@dataclass(frozen=True, slots=True)
class CheckpointFormat(Generic[CheckpointT]):
    """How one kind of run writes its checkpoints, and reads them back.

    `decode` raises CheckpointCorruptError and CheckpointForeignError.
    """

    name: str
    encode: "Callable[[CheckpointT, Binding], Iterator[Buffer]]"
    decode: "Callable[[bytes, Binding], CheckpointT]"


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


def encode_arrays(
    name: str, binding: Binding, about: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]
) -> Iterator[Buffer]:
    """Yields the bytes in parts, most of them views of the arrays: nothing large is copied.

    `name` is the format, `about` more plain data for the header.
    """
    header = json.dumps(
        {
            "format": name,
            **binding.as_document(),
            **about,
            "arrays": [
                {"name": name, "dtype": layout_of(array.dtype), "shape": list(array.shape)}
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


def decode_arrays(
    content: bytes, name: str, binding: Binding, dtype_of: Callable[[str, Any], np.dtype[Any]]
) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
    """Returns header and arrays, which are views of the bytes, read-only.

    `dtype_of` returns the dtype of an array by its name and its layout in the header; it raises
    CheckpointForeignError, or KeyError, TypeError or ValueError for what is none. Raises
    CheckpointCorruptError for damaged bytes, CheckpointForeignError for another format or binding.
    """
    header, start = _read_header(content)
    if header.get("format") != name:
        raise foreign("format", header.get("format"), name)
    _check_binding(header, binding)
    return header, _read_arrays(content, header, start, dtype_of)


def layout_of(dtype: np.dtype[Any]) -> Any:
    """Returns a dtype as plain data: a text, or a list of [field, dtype, shape]."""
    if dtype.names is None:
        return dtype.str
    fields = ((name, dtype[name]) for name in dtype.names)
    return [[name, part.base.str, list(part.shape)] for name, part in fields]


def _bytes_of(array: NDArray[Any]) -> Buffer:
    return cast(Buffer, memoryview(cast(Any, array.reshape(-1).view(np.uint8))))


def _read_header(content: bytes) -> tuple[dict[str, Any], int]:
    start = len(_MAGIC) + _LENGTH.size
    if len(content) < start + _CRC.size or not content.startswith(_MAGIC):
        raise corrupt(f"its {len(content)} bytes do not begin as a checkpoint does")
    body = memoryview(content)[: -_CRC.size]
    if zlib.crc32(body) != _CRC.unpack(content[-_CRC.size :])[0]:
        raise corrupt("its CRC-32 does not fit its bytes")
    length = _LENGTH.unpack_from(content, len(_MAGIC))[0]
    if length > min(HEADER_BYTES_MAX, len(body) - start):
        raise corrupt(f"its header would have {length} bytes")
    try:
        header = json.loads(bytes(body[start : start + length]))
    except ValueError as error:
        raise corrupt("its header is no JSON") from error
    if not isinstance(header, dict):
        raise corrupt("its header is no JSON object")
    return header, start + length


def _check_binding(header: Mapping[str, Any], binding: Binding) -> None:
    for name, expected in binding.as_document().items():
        found = header.get(name)
        if found == expected:
            continue
        if isinstance(found, dict) and isinstance(expected, dict):
            key = min(k for k in {*found, *expected} if found.get(k) != expected.get(k))
            raise foreign(f"{name}.{key}", found.get(key), expected.get(key))
        raise foreign(name, found, expected)


def _read_arrays(
    content: bytes,
    header: Mapping[str, Any],
    start: int,
    dtype_of: Callable[[str, Any], np.dtype[Any]],
) -> dict[str, NDArray[Any]]:
    arrays: dict[str, NDArray[Any]] = {}
    end = len(content) - _CRC.size
    try:
        for entry in header["arrays"]:
            name, shape = entry["name"], tuple(int(length) for length in entry["shape"])
            dtype = dtype_of(name, entry["dtype"])
            count = int(np.prod(shape, dtype=np.int64))
            array = np.frombuffer(content, dtype, count, start).reshape(shape)
            arrays[name], start = array, start + array.nbytes
    except (KeyError, TypeError, ValueError) as error:
        raise corrupt("its arrays are not those of a checkpoint") from error
    if start != end:
        raise corrupt(f"{end - start} of its bytes belong to no array")
    return arrays


def corrupt(problem: str) -> CheckpointCorruptError:
    """Returns the error for a checkpoint that is damaged, or contradicts itself."""
    return CheckpointCorruptError(
        f"The checkpoint is damaged: {problem}.", metadata={"problem": problem}
    )


def foreign(what: str, found: object, expected: object) -> CheckpointForeignError:
    """Returns the error for a checkpoint of something else, and what differs."""
    found_text, expected_text = _short(found), _short(expected)
    return CheckpointForeignError(
        f"The checkpoint is not one of this run: its {what} is {found_text}, and {expected_text} "
        "was expected.",
        metadata={"field": what, "found": found_text, "expected": expected_text},
    )


def _short(value: object) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= 200 else f"{text[:197]}..."
