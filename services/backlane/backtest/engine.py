"""One run over history: bars -> features -> scores -> the compiled loop -> metrics -> result.

The engine knows no files, services or watchers. It is handed bars, a predictor, an observer that is
told what happens, and a progress slot, through which the loop says where it is and is stopped.
"""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from backlane.backtest.assemble import assemble_run
from backlane.backtest.checkpoint import Checkpoint
from backlane.backtest.checkpointing import (
    CheckpointTaker,
    NoCheckpoints,
    checkpoint_of,
    restore,
    standing_at,
)
from backlane.backtest.observer import RunObserver, SilentObserver, raise_if_cancelled
from backlane.backtest.prepare import Prepared, prepare
from backlane.backtest.request import BacktestRequest
from backlane.backtest.result import BacktestRun
from backlane.cycle.loop import Outputs, close_out, new_slot, run_until
from backlane.cycle.state import new_state
from backlane.inference.predictor import Predictor
from backlane.market.bars import BarSeries

SLICES_PER_RUN = 64
"""Into how many slices the simulation is cut: after each, trades and equity are reported."""
MIN_SLICE_BARS = 1024


def run_backtest(
    request: BacktestRequest,
    predictor: Predictor,
    bars: Mapping[str, BarSeries],
    *,
    dataset_digests: Mapping[str, str],
    observer: RunObserver | None = None,
    slot: NDArray[np.float64] | None = None,
    versions: Mapping[str, str] | None = None,
    resume: Checkpoint | None = None,
    checkpoints: CheckpointTaker | None = None,
) -> BacktestRun:
    """Runs a request to its end.

    `bars` holds every timeframe of the model's strategy, from before the start where the dataset
    goes back so far; `dataset_digests` says what they are. `slot` is a float64 array of SLOT_COUNT.

    With `resume` the run goes on from there: the observer is told everything from the first bar on
    all the same, and the result has the bits of a run that was never interrupted. `checkpoints`
    takes them on the way, and a last one when the run is cancelled.

    Raises CancelledRunError when the slot's CANCEL is set; CheckpointForeignError when `resume` is
    not of these bars; ModelNotTradableError, FeatureMismatchError, DataRangeEmptyError,
    NotEnoughBarsError and NanFeaturesError for what cannot be run.
    """
    watcher = observer or SilentObserver()
    progress = new_slot() if slot is None else slot
    prepared = prepare(
        request, predictor, bars, watcher, progress, resume=resume, checkpoints=checkpoints
    )
    state, outputs = simulate(
        request, prepared, watcher, progress, resume=resume, checkpoints=checkpoints
    )
    bar_count = len(prepared.window.base) - prepared.first_index
    watcher.entered("metrics", bar_count)
    run = assemble_run(
        request,
        prepared,
        state,
        outputs,
        dataset_digests=dataset_digests,
        versions=versions or {},
    )
    watcher.advanced(bar_count)
    return run


def simulate(
    request: BacktestRequest,
    prepared: Prepared,
    observer: RunObserver,
    slot: NDArray[np.float64],
    *,
    resume: Checkpoint | None = None,
    checkpoints: CheckpointTaker | None = None,
) -> tuple[NDArray[np.void], Outputs]:
    """Runs the loop, slice by slice, and closes what is open at the end."""
    inputs, bar_count = prepared.inputs, len(prepared.window.base)
    first, taker = prepared.first_index, checkpoints or NoCheckpoints()
    if resume is not None and resume.progress is not None:
        state, outputs = restore(resume, resume.progress, first, bar_count)
    else:
        state, outputs = new_state(first, request.initial_cash), Outputs.empty(bar_count)
    observer.entered("simulation", bar_count - first)
    reported = 0
    for stop in _slice_ends(first, bar_count):
        if state["next_index"][0] < stop:
            if not run_until(state, prepared.rules, inputs, outputs, slot, stop):
                taker.take(checkpoint_of(prepared.raw_scores, first, state, outputs), is_final=True)
                raise_if_cancelled(slot)
            if stop < bar_count and taker.is_due(stop - first):
                taker.take(checkpoint_of(prepared.raw_scores, first, state, outputs))
        # What is open at the end closes within the last slice, so that each slice is told once.
        is_closed = stop == bar_count and close_out(state, prepared.rules, inputs, outputs)
        equity, count = standing_at(state, outputs, stop, request.initial_cash)
        if is_closed:
            equity = float(state["cash"][0])
        time_ns = int(inputs.time_ns[stop - 1])
        observer.simulated(stop - 1, time_ns, equity, outputs.trades[reported:count])
        reported = count
    return state, outputs


def _slice_ends(first_index: int, bar_count: int) -> list[int]:
    """Returns the bar after each slice: the same for a run and for what goes on from it."""
    slice_bars = max(MIN_SLICE_BARS, -(-bar_count // SLICES_PER_RUN))
    return [*range(first_index + slice_bars, bar_count, slice_bars), bar_count]
