"""The feature matrix: what the model sees, bar by bar."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True, eq=False)
class FeatureMatrix:
    """Features of every bar of the base timeframe.

    `values` is float32 of shape (bars, features), C-contiguous, NaN where a feature is not known
    yet. `names` are the columns in order. `valid_from` is the index of the first row without any
    NaN, or the number of bars when there is none.
    """

    values: NDArray[np.float32]
    names: tuple[str, ...]
    valid_from: int
