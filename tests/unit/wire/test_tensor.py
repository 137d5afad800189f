"""Matrices on the wire: four bytes a value, little-endian, row by row."""

import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from backlane.api.models.v1 import models_service_pb2 as pb
from backlane.errors import NanRefusedError, TensorMismatchError
from backlane.inference.nan_policy import refuse_nan
from backlane.wire.tensor import tensor_from_proto, tensor_to_proto


def test_the_bytes_are_what_another_language_packs() -> None:
    message = tensor_to_proto(np.array([[1.0, -2.5], [0.1, 3.0]], dtype=np.float32))
    assert list(message.shape) == [2, 2]
    assert message.float32_le == struct.pack("<4f", 1.0, -2.5, 0.1, 3.0)


@given(
    arrays.arrays(
        np.float32,
        st.tuples(st.integers(0, 5), st.integers(1, 5)),
        elements=st.floats(width=32),
    )
)
def test_every_bit_survives(values: np.ndarray) -> None:
    assert tensor_from_proto(tensor_to_proto(values)).tobytes() == values.tobytes()
    assert tensor_from_proto(tensor_to_proto(values[:, ::-1])).tobytes() == (
        values[:, ::-1].tobytes()
    )


@pytest.mark.parametrize("shape", [[], [4], [1, 2, 2], [-1, 4], [4, 0], [0, 0]])
def test_a_shape_that_is_no_matrix_is_refused(shape: list[int]) -> None:
    with pytest.raises(TensorMismatchError, match=r"write \[rows, columns\]") as caught:
        tensor_from_proto(pb.Tensor(shape=shape, float32_le=bytes(16)))
    assert caught.value.violations[0].field == "features.shape"


@pytest.mark.parametrize("size", [0, 12, 15, 17, 32])
def test_bytes_that_are_not_those_of_the_shape_are_refused(size: int) -> None:
    with pytest.raises(TensorMismatchError, match=f"has {size} bytes; .* takes 16") as caught:
        tensor_from_proto(pb.Tensor(shape=[2, 2], float32_le=bytes(size)))
    assert caught.value.metadata == {"expected": "16 bytes", "got": f"{size} bytes"}


def test_a_shape_of_astronomic_size_costs_nothing() -> None:
    with pytest.raises(TensorMismatchError):
        tensor_from_proto(pb.Tensor(shape=[2**40, 2**20], float32_le=bytes(16)))


def test_refusing_nan_names_the_first_row_and_column() -> None:
    values = np.zeros((4, 3), dtype=np.float32)
    refuse_nan(values, ("a", "b", "c"))
    values[2, 1] = values[3, 0] = np.nan
    with pytest.raises(NanRefusedError, match=r"Row 102 has NaN in column 1 \(b\)") as caught:
        refuse_nan(values, ("a", "b", "c"), first_row_index=100)
    assert caught.value.metadata == {
        "row_index": "102",
        "column_index": "1",
        "feature": "b",
        "nan_rows_in_chunk": "2",
    }
