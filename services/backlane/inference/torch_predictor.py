"""Predicts in this process, with torch on the CPU.

The bits of a row never depend on its neighbours. A matrix product in torch picks its kernel by the
number of rows, and another kernel sums in another order: one row alone gives other last bits than
the same row among a thousand (seen with MKL for 1 to 15 rows). So every product runs with exactly
`slice_rows` rows, the last slice padded with zeros, on one thread, and every row begins at a whole
vector (`networks.AlignedNetwork`): then each row takes the same path wherever it stands in its
slice. tests/unit/inference/test_torch_predictor.py holds this over
random networks and cuts.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import torch
from numpy.lib.stride_tricks import sliding_window_view
from torch import nn

from backlane.inference.model_info import ModelInfo
from backlane.inference.predictor import Rows, check_features

# Rows of one matrix product: large enough to be fast, small enough that one row costs 0.2 ms.
MLP_SLICE_ROWS = 2048
# Windows of one recurrent pass; each has sequence_length rows.
SEQUENCE_SLICE_ROWS = 128
# Rows between two calls of on_progress: some milliseconds for an mlp, a second for a large lstm.
MLP_PROGRESS_ROWS = 16_384
SEQUENCE_PROGRESS_ROWS = 1024


class TorchPredictor:
    """A `Predictor` over a network in memory. Safe to use from several threads at once.

    `network` must be that of `info`, frozen and in evaluation mode.
    """

    def __init__(self, info: ModelInfo, network: nn.Module) -> None:
        self._info = info
        self._network = network

    @property
    def info(self) -> ModelInfo:
        """The bundle that predicts."""
        return self._info

    def session(self) -> "PredictorSession":
        """Starts a prediction whose rows come in chunks."""
        return PredictorSession(self._info, self._network)

    def predict(self, features: Rows, on_progress: Callable[[int], None] | None = None) -> Rows:
        """Returns the outputs of every row; see `Predictor.predict`."""
        return self.session().predict(features, on_progress)


class PredictorSession:
    """One matrix, predicted chunk by chunk; for one thread at a time.

    Between chunks it keeps the last `sequence_length - 1` rows, so that the bits are those of the
    whole matrix predicted at once.
    """

    def __init__(self, info: ModelInfo, network: nn.Module) -> None:
        self._info = info
        self._network = network
        self._carried = np.empty((0, len(info.features)), dtype=np.float32)

    def predict(self, features: Rows, on_progress: Callable[[int], None] | None = None) -> Rows:
        """Returns the outputs of the next rows, float32 of shape (rows, output_count).

        `on_progress` is called with the number of these rows done, and may raise to stop. Raises
        TensorMismatchError when the columns are not those of the model.
        """
        check_features(self._info, features)
        is_mlp = self._info.architecture == "mlp"
        step = MLP_PROGRESS_ROWS if is_mlp else SEQUENCE_PROGRESS_ROWS
        row_count = len(features)
        outputs = np.empty((row_count, self._info.head.output_count), dtype=np.float32)
        for start in range(0, row_count, step):
            stop = min(start + step, row_count)
            rows = features[start:stop]
            outputs[start:stop] = self._predict_rows(rows) if is_mlp else self._go_on(rows)
            if on_progress is not None:
                on_progress(stop)
        return outputs

    def _go_on(self, rows: Rows) -> Rows:
        """The outputs of the next rows of a sequence; NaN while there is no full window."""
        length = self._info.sequence_length
        known = np.concatenate([self._carried, rows])
        outputs = np.full((len(rows), self._info.head.output_count), np.nan, np.float32)
        if len(known) >= length:
            predicted = self._predict_windows(known)
            outputs[len(rows) - len(predicted) :] = predicted
        self._carried = known[max(0, len(known) - (length - 1)) :].copy()
        return outputs

    def _predict_rows(self, rows: Rows) -> Rows:
        outputs = self._run(rows, MLP_SLICE_ROWS)
        # The minimum is NaN when anything is, and takes a tenth of the time of looking at each row.
        if np.isnan(rows.min(initial=np.inf)):
            outputs[np.isnan(rows).any(axis=1)] = np.nan
        return outputs

    def _predict_windows(self, rows: Rows) -> Rows:
        """The outputs of every full window over `rows`; needs at least one."""
        length = self._info.sequence_length
        windows = sliding_window_view(rows, length, axis=0).transpose(0, 2, 1)
        outputs = self._run(windows, SEQUENCE_SLICE_ROWS)
        incomplete = np.isnan(rows).any(axis=1)
        outputs[sliding_window_view(incomplete, length).any(axis=1)] = np.nan
        return outputs

    def _run(self, inputs: Rows, slice_rows: int) -> Rows:
        """Runs the network over the first axis of `inputs`, always `slice_rows` at a time."""
        outputs = np.empty((len(inputs), self._info.head.output_count), dtype=np.float32)
        # Allocated by torch, which aligns to 64 bytes: MKL may choose its code by alignment.
        buffer = torch.zeros((slice_rows, *inputs.shape[1:]))
        rows = buffer.numpy()
        with one_thread(), torch.inference_mode():
            for start in range(0, len(inputs), slice_rows):
                part = inputs[start : start + slice_rows]
                rows[: len(part)] = part
                rows[len(part) :] = 0.0
                predicted = self._network(buffer).numpy()
                outputs[start : start + len(part)] = predicted[: len(part)]
        return outputs


@contextmanager
def one_thread() -> Iterator[None]:
    """Runs torch on the calling thread alone: threads that split a product change its bits."""
    before = torch.get_num_threads()
    if before == 1:
        yield
        return
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
