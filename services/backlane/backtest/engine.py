"""One run over history: bars -> features -> scores -> the compiled loop -> metrics -> result.

The engine knows no files, services or watchers. It is handed bars, a predictor, an observer that is
told what happens, and a progress slot, through which the loop says where it is and is stopped.
"""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from backlane.backtest.assemble import assemble_run
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
) -> BacktestRun:
    """Runs a request to its end.

    `bars` holds every timeframe of the model's strategy, from before the start where the dataset
    goes back so far; `dataset_digests` says what they are. `slot` is a float64 array of SLOT_COUNT.

    Raises CancelledRunError when the slot's CANCEL is set; ModelNotTradableError,
    FeatureMismatchError, DataRangeEmptyError, NotEnoughBarsError and NanFeaturesError for what
    cannot be run.
    """
    watcher = observer or SilentObserver()
    progress = new_slot() if slot is None else slot
    prepared = prepare(request, predictor, bars, watcher, progress)
    state, outputs = simulate(request, prepared, watcher, progress)
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
) -> tuple[NDArray[np.void], Outputs]:
    """Runs the loop, slice by slice, and closes what is open at the end."""
    inputs, bar_count = prepared.inputs, len(prepared.window.base)
    state = new_state(prepared.first_index, request.initial_cash)
    outputs = Outputs.empty(bar_count)
    slice_bars = max(MIN_SLICE_BARS, -(-bar_count // SLICES_PER_RUN))
    observer.entered("simulation", bar_count - prepared.first_index)
    reported = 0
    for stop in range(prepared.first_index + slice_bars, bar_count + slice_bars, slice_bars):
        if not run_until(state, prepared.rules, inputs, outputs, slot, min(stop, bar_count)):
            raise_if_cancelled(slot)
        index, count = int(state["next_index"][0]) - 1, int(state["trade_count"][0])
        observer.simulated(
            index,
            int(inputs.time_ns[index]),
            float(state["equity"][0]),
            outputs.trades[reported:count],
        )
        reported = count
    if close_out(state, prepared.rules, inputs, outputs):
        observer.simulated(
            bar_count - 1,
            int(inputs.time_ns[-1]),
            float(state["cash"][0]),
            outputs.trades[reported : reported + 1],
        )
    return state, outputs
