"""Taking checkpoints of a run, and going on from one."""

from collections.abc import Callable
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from backlane.backtest.checkpoint import CURVES, Checkpoint, Progress, foreign_shape
from backlane.cycle.loop import FIRST_RECORDS, Outputs
from backlane.errors import BacklaneError
from backlane.features.matrix import FeatureMatrix
from backlane.inference.predictor import Predictor

BLOCK_ROWS = 262_144
"""Rows that are predicted between two looks at whether a checkpoint is due."""
SEQUENCE_BLOCK_ROWS = 16_384
"""The same for a sequence model, each of whose rows takes a hundred times as long."""
_RECORDS_MARGIN = 8
"""More records than one bar can make."""


class CheckpointTaker(Protocol):
    """Decides when a checkpoint is due, and keeps it. It has the clock that the engine has not."""

    def is_due(self, simulated_bars: int) -> bool:
        """Says whether one is due now, so many bars of the loop being done."""
        ...

    def take(self, checkpoint: Checkpoint, *, is_final: bool = False) -> None:
        """Takes it; its arrays are views that nobody changes any more. A failure is its own.

        With `is_final` the run ends here, and this is the one to go on from.
        """
        ...


class NoCheckpoints:
    """Takes no checkpoint at all."""

    def is_due(self, simulated_bars: int) -> bool:  # noqa: ARG002 - the protocol's name
        """Says that none is due."""
        return False

    def take(self, checkpoint: Checkpoint, *, is_final: bool = False) -> None:
        """Lets it go: nothing is written."""


def predict(
    predictor: Predictor,
    features: FeatureMatrix,
    on_progress: Callable[[int], None],
    resume: Checkpoint | None,
    taker: CheckpointTaker | None,
) -> NDArray[np.float32]:
    """Returns the outputs for every row, those that `resume` holds without asking again.

    With a taker the rows are predicted block by block, with a checkpoint where one is due, and one
    of all whole blocks when the run is cancelled or the model is out of reach. A predictor gives
    the same bits however the rows are cut.
    """
    values, known = features.values, None
    if resume is not None:
        known = _scores_for(resume, predictor, len(values))
    if known is None and taker is None:
        return predictor.predict(values, on_progress)
    row_count, before = len(values), predictor.info.sequence_length - 1
    outputs = np.empty((row_count, predictor.info.head.output_count), dtype=np.float32)
    done = first = 0 if known is None else len(known)
    if known is not None:
        outputs[:done] = known
        on_progress(done)
    block_rows = BLOCK_ROWS if before == 0 else SEQUENCE_BLOCK_ROWS
    taker = taker or NoCheckpoints()
    try:
        for start in range(first, row_count, block_rows):
            stop = min(start + block_rows, row_count)
            begin = max(0, start - before)  # the windows of the first rows reach back
            part = predictor.predict(values[begin:stop], _shifted(on_progress, begin))
            outputs[start:stop] = part[start - begin :]
            done = stop
            if taker.is_due(0):
                taker.take(Checkpoint(row_count, outputs[:done]))
    except BacklaneError:
        if done > first:
            taker.take(Checkpoint(row_count, outputs[:done]), is_final=True)
        raise
    return outputs


def _shifted(on_progress: Callable[[int], None], start: int) -> Callable[[int], None]:
    return lambda done: on_progress(start + done)


def checkpoint_of(
    scores: NDArray[np.float32], first_index: int, state: NDArray[np.void], outputs: Outputs
) -> Checkpoint:
    """Returns a checkpoint of the loop as it stands: the state is copied, the rest are views."""
    done = slice(first_index, int(state["next_index"][0]))
    progress = Progress(
        first_index,
        state.copy(),
        {name: getattr(outputs, name)[done] for name in CURVES},
        outputs.trades[: int(state["trade_count"][0])],
        outputs.fills[: int(state["fill_count"][0])],
    )
    return Checkpoint(len(outputs.decision), scores, progress)


def restore(
    checkpoint: Checkpoint, progress: Progress, first_index: int, bar_count: int
) -> tuple[NDArray[np.void], Outputs]:
    """Returns the state and the outputs from which the loop goes on.

    Raises CheckpointForeignError when the run has other bars.
    """
    if checkpoint.bar_count != bar_count:
        raise foreign_shape("number of bars", checkpoint.bar_count, bar_count)
    if progress.first_index != first_index:
        raise foreign_shape("first simulated bar", progress.first_index, first_index)
    record_count = FIRST_RECORDS
    while record_count < max(len(progress.trades), len(progress.fills)) + _RECORDS_MARGIN:
        record_count *= 2
    outputs = Outputs.empty(bar_count, record_count)
    for name in CURVES:
        getattr(outputs, name)[first_index : progress.next_index] = progress.curves[name]
    outputs.trades[: len(progress.trades)] = progress.trades
    outputs.fills[: len(progress.fills)] = progress.fills
    return progress.state.copy(), outputs


def standing_at(
    state: NDArray[np.void], outputs: Outputs, stop: int, initial_cash: float
) -> tuple[float, int]:
    """Returns the equity and the number of trades as they were when bar `stop` was next.

    The same for bars that were just simulated and for those of a checkpoint.
    """
    trades = outputs.trades["exit_index"][: int(state["trade_count"][0])]
    count = int(np.searchsorted(trades, stop - 1, side="right"))
    if not np.isnan(outputs.equity[stop - 1]):
        return float(outputs.equity[stop - 1]), count
    marked = np.flatnonzero(~np.isnan(outputs.equity[:stop]))
    return float(outputs.equity[marked[-1]]) if len(marked) else initial_cash, count


def _scores_for(
    resume: Checkpoint, predictor: Predictor, row_count: int
) -> NDArray[np.float32] | None:
    if resume.bar_count != row_count:
        raise foreign_shape("number of bars", resume.bar_count, row_count)
    output_count = predictor.info.head.output_count
    if resume.scores.shape[1] != output_count:
        raise foreign_shape("number of outputs", resume.scores.shape[1], output_count)
    return resume.scores
