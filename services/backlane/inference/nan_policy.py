"""Refusing rows that hold a NaN, for callers who would rather hear of it."""

import numpy as np
from numpy.typing import NDArray

from backlane.errors import FieldViolation, NanRefusedError


def refuse_nan(
    values: NDArray[np.float32], names: tuple[str, ...], *, first_row_index: int = 0
) -> None:
    """Raises NanRefusedError, naming the first row and column that is NaN.

    `first_row_index` is where `values` begins in the matrix of a stream.
    """
    rows, columns = np.nonzero(np.isnan(values))
    if not rows.size:
        return
    row_index, column_index = first_row_index + int(rows[0]), int(columns[0])
    name = names[column_index]
    raise NanRefusedError(
        f"Row {row_index} has NaN in column {column_index} ({name}), and the NaN policy is to "
        "refuse. Leave out the rows of the warm-up, or ask for NAN_POLICY_PROPAGATE.",
        metadata={
            "row_index": str(row_index),
            "column_index": str(column_index),
            "feature": name,
            "nan_rows_in_chunk": str(len(np.unique(rows))),
        },
        violations=(FieldViolation("features", f"row {row_index}, column {column_index} is NaN"),),
    )
