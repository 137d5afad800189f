"""Predictors for replays: one that remembers, one that asks no more than a replay needs.

A replay computes the same bars again with other data around them, so nearly all of its rows are
the rows of the whole run, bit for bit. Equal windows give equal outputs: that is the contract of
a Predictor, and it makes forty replays cheap. Around the bar that an audit looks at, rows are
predicted anew even so, because whether the contract is kept is one of the questions.
"""

from collections.abc import Callable
from typing import cast

import numpy as np
from numpy.typing import NDArray

from backlane.inference.model_info import ModelInfo
from backlane.inference.predictor import Predictor, Rows

EDGE_ROWS = 64
"""Rows before the edge, and after it, that are predicted anew in each replay."""


class RecordingPredictor:
    """Predicts, and keeps the rows and their outputs."""

    def __init__(self, predictor: Predictor) -> None:
        self._predictor = predictor
        self.features: Rows = np.empty((0, len(predictor.info.features)), np.float32)
        self.outputs: Rows = np.empty((0, predictor.info.head.output_count), np.float32)

    @property
    def info(self) -> ModelInfo:
        """The bundle that predicts."""
        return self._predictor.info

    def predict(self, features: Rows, on_progress: Callable[[int], None] | None = None) -> Rows:
        """Returns the outputs of every row; see `Predictor.predict`."""
        self.features = features
        self.outputs = self._predictor.predict(features, on_progress)
        return self.outputs


class ReplayPredictor:
    """Takes the outputs of rows whose window is known, and predicts the others.

    `place` says, for the number of rows asked, which known row the first of them is. With `edge`,
    the index of a row, the rows around it are always predicted, and those far behind it get NaN:
    nobody looks at what a replay does there.
    """

    def __init__(
        self,
        predictor: Predictor,
        known: RecordingPredictor,
        *,
        place: Callable[[int], int],
        edge: int | None = None,
    ) -> None:
        self._predictor = predictor
        self._known = known
        self._place = place
        self._edge = edge

    @property
    def info(self) -> ModelInfo:
        """The bundle that predicts."""
        return self._predictor.info

    def predict(self, features: Rows, on_progress: Callable[[int], None] | None = None) -> Rows:
        """Returns the outputs of the rows; see `Predictor.predict`."""
        outputs = np.full((len(features), self.info.head.output_count), np.nan, np.float32)
        first = self._place(len(features))
        is_known = self._known_windows(features, first)
        rows = np.flatnonzero(is_known)
        outputs[rows] = self._known.outputs[rows + first]
        wanted = ~is_known
        wanted[: self.info.sequence_length - 1] = False  # no full window: NaN by contract
        if self._edge is not None:
            wanted[self._edge + EDGE_ROWS :] = False
            wanted[max(0, self._edge - EDGE_ROWS) : self._edge + EDGE_ROWS] = True
        asked = np.flatnonzero(wanted)
        if len(asked):
            begin, stop = int(asked[0]), int(asked[-1]) + 1
            context = max(0, begin - (self.info.sequence_length - 1))
            piece = np.ascontiguousarray(features[context:stop])
            outputs[begin:stop] = self._predictor.predict(piece)[begin - context :]
        if on_progress is not None:
            on_progress(len(features))
        return outputs

    def _known_windows(self, features: Rows, first: int) -> NDArray[np.bool_]:
        """Whether each row, and the rows of its window before it, are known to the bit."""
        is_known = np.zeros(len(features), np.bool_)
        begin = max(0, -first)
        stop = min(len(features), len(self._known.features) - first)
        if stop <= begin:
            return is_known
        mine = np.ascontiguousarray(features[begin:stop]).view(np.uint32)
        theirs = self._known.features[begin + first : stop + first]
        is_known[begin:stop] = (mine == np.ascontiguousarray(theirs).view(np.uint32)).all(axis=1)
        length = self.info.sequence_length
        if length == 1:
            return is_known
        # Rows up to here that are known, less those up to a window ago: all `length` of them?
        total = np.concatenate([np.zeros(1, np.int64), np.cumsum(is_known)])
        windows = np.zeros_like(is_known)
        windows[length - 1 :] = total[length:] - total[: len(total) - length] == length
        return cast(NDArray[np.bool_], windows)
