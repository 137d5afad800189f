"""Matrices of float32 on the wire: packed little-endian, row by row, with a shape."""

import numpy as np
from numpy.typing import NDArray

from backlane.api.models.v1 import models_service_pb2 as pb
from backlane.errors import FieldViolation, TensorMismatchError

_WIRE = np.dtype("<f4")


def tensor_to_proto(values: NDArray[np.float32]) -> pb.Tensor:
    """The message for a matrix of shape (rows, columns)."""
    return pb.Tensor(shape=values.shape, float32_le=values.astype(_WIRE, copy=False).tobytes())


def tensor_from_proto(message: pb.Tensor, *, field: str = "features") -> NDArray[np.float32]:
    """The matrix of a message, read-only: it is a view of the message's own bytes.

    Raises TensorMismatchError, naming `field`, when the shape is not (rows, columns) or the bytes
    are not those of the shape.
    """
    shape = tuple(message.shape)
    if len(shape) != 2 or shape[0] < 0 or shape[1] < 1:
        raise _mismatch(
            f"{field}.shape", f"is {list(shape)}; write [rows, columns]", "two sizes", str(shape)
        )
    expected_bytes, found_bytes = 4 * shape[0] * shape[1], len(message.float32_le)
    if found_bytes != expected_bytes:
        raise _mismatch(
            f"{field}.float32_le",
            f"has {found_bytes} bytes; the shape {list(shape)} takes {expected_bytes}, 4 for each "
            "value",
            f"{expected_bytes} bytes",
            f"{found_bytes} bytes",
        )
    values: NDArray[np.float32] = np.frombuffer(message.float32_le, dtype=_WIRE).reshape(shape)
    return values.astype(np.float32, copy=False)


def _mismatch(field: str, description: str, expected: str, found: str) -> TensorMismatchError:
    return TensorMismatchError(
        f"{field} {description}.",
        metadata={"expected": expected, "got": found},
        violations=(FieldViolation(field, description),),
    )
