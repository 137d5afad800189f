"""The port through which everything asks a model; in process or behind model_service."""

from collections.abc import Callable
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from backlane.errors import TensorMismatchError
from backlane.inference.model_info import ModelInfo

Rows = NDArray[np.float32]


class Predictor(Protocol):
    """One model, ready to predict. `backlane.testing.contracts` has the suite that each must pass.

    An implementation must give the same bits for a row whatever other rows are asked with it,
    however the rows are cut into chunks, and whether it runs here or behind a service.
    """

    @property
    def info(self) -> ModelInfo:
        """The bundle that predicts."""
        ...

    def predict(
        self,
        features: NDArray[np.float32],
        on_progress: Callable[[int], None] | None = None,
    ) -> NDArray[np.float32]:
        """Returns the bare outputs of the network, float32 of shape (bars, output_count).

        `features` is float32 of shape (bars, features), rows oldest first, C-contiguous. A row that
        holds a NaN gives a row of NaN; so does, for a sequence model, a row whose window holds one
        or reaches before the first row. `on_progress` is called with the number of rows done, and
        may raise to stop the prediction.

        Raises TensorMismatchError when the columns are not those of `info.features`.
        """
        ...


def check_features(info: ModelInfo, features: Rows) -> None:
    """Raises TensorMismatchError unless `features` is float32 of shape (rows, features)."""
    expected = len(info.features)
    if features.dtype == np.float32 and features.ndim == 2 and features.shape[1] == expected:
        return
    found = f"{features.dtype} of shape {features.shape}"
    raise TensorMismatchError(
        f"{info.name} takes float32 of shape (rows, {expected}): {_shown(info.features)}. "
        f"It was given {found}.",
        metadata={
            "expected_features": str(expected),
            "got_features": str(features.shape[1]) if features.ndim == 2 else "none",
            "expected": f"float32 of shape (rows, {expected})",
            "got": found,
        },
    )


def _shown(names: tuple[str, ...]) -> str:
    return ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")
