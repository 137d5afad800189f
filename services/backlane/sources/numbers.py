"""Turns a file's price and volume columns into float64, exactly as the digits say."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from backlane.market.finding import Finding, FindingCode

# What vendors write for "no value"; it becomes NaN, and the check of the bars refuses that.
_EMPTY_TEXTS = ("", "nan", "NaN", "NAN", "null", "NULL", "None", "NA", "N/A", "n/a", "#N/A")


def float64_column(
    name: str, column: pa.ChunkedArray
) -> tuple[NDArray[np.float64], Finding | None]:
    """Returns the column as a fresh float64 array, empty values as NaN.

    Text that is no number becomes NaN too and is counted in the finding. Decimal text is read to
    the nearest double, as Python's `float` does.
    """
    if pa.types.is_decimal(column.type):
        # Arrow's own way from decimal to double divides, and may miss the nearest one.
        column = pc.cast(column, pa.string())
    if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
        return _from_text(name, column)
    if not (pa.types.is_integer(column.type) or pa.types.is_floating(column.type)):
        # Arrow would read true as 1.
        message = f"The column {name} holds {column.type}, which is no number."
        finding = Finding(
            FindingCode.NOT_A_NUMBER, len(column), str(column.type), message, subject=name
        )
        return np.full(len(column), np.nan), finding
    return _to_numpy(pc.cast(column, pa.float64(), safe=False)), None


def _from_text(name: str, column: pa.ChunkedArray) -> tuple[NDArray[np.float64], Finding | None]:
    text = pc.utf8_trim_whitespace(column)
    text = pc.if_else(pc.is_in(text, pa.array(_EMPTY_TEXTS)), None, text)
    try:
        return _to_numpy(pc.cast(text, pa.float64())), None
    except pa.ArrowInvalid:
        values = np.array([_float_or_nan(value) for value in text.to_pylist()])
    bad = np.isnan(values) & np.asarray(pc.is_valid(text))
    first = int(bad.argmax())
    finding = Finding(
        FindingCode.NOT_A_NUMBER,
        int(bad.sum()),
        f"row {first + 1}: {name} {column[first].as_py()[:40]!r}",
        f"The column {name} holds text that is no number.",
        subject=name,
    )
    return values, finding


def _float_or_nan(text: str | None) -> float:
    # The slow path, for a file that is refused anyway.
    try:
        return float("nan" if text is None else text)
    except ValueError:
        return float("nan")


def _to_numpy(numbers: pa.ChunkedArray) -> NDArray[np.float64]:
    # A copy: what Arrow lends is read-only, which compiled code takes for another type.
    return np.array(numbers.to_numpy(), dtype=np.float64)
