"""Which bars a run reads, and at which of them it starts to simulate."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from backlane.backtest.request import BacktestRequest
from backlane.backtest.switches import Switches
from backlane.errors import (
    DataRangeEmptyError,
    FieldViolation,
    InvalidRequestError,
    NotEnoughBarsError,
)
from backlane.features.history import bars_in_scope, warmup_bars
from backlane.features.matrix import FeatureMatrix
from backlane.features.strategy import Strategy
from backlane.market.bars import BarSeries


@dataclass(frozen=True, slots=True, eq=False)
class Window:
    """The bars of one run by timeframe, cut; `start_index` is the base bar of the asked start."""

    base: BarSeries
    bars: Mapping[str, BarSeries]
    start_index: int


def base_timeframe(request: BacktestRequest, strategy: Strategy) -> str:
    """Returns the timeframe that is simulated: the strategy's first. Refuses another one."""
    base = strategy.timeframes[0]
    if request.timeframe and request.timeframe != base:
        message = (
            f"The model was trained on {base} bars, not {request.timeframe}: "
            f"ask for timeframe {base}, or leave it out."
        )
        violation = FieldViolation("timeframe", message)
        raise InvalidRequestError(message, violations=(violation,))
    return base


def cut_window(
    request: BacktestRequest,
    strategy: Strategy,
    bars: Mapping[str, BarSeries],
    switches: Switches,
) -> Window:
    """Cuts every timeframe to what the run may read.

    With `history_before_start`, as many bars before the start as the indicators need to be warm
    stay; without, indicators begin cold at the start, as in the reference. Nothing after the end
    stays. Raises DataRangeEmptyError when no bar of the base timeframe lies in between.
    """
    base_label = base_timeframe(request, strategy)
    whole = bars[base_label]
    first_ns, last_ns = request.first_bar_ns(), request.last_bar_ns()
    asked = whole.between(first_ns, last_ns)
    if len(asked) == 0:
        raise _empty_range(whole, first_ns, last_ns)
    if not switches.history_before_start:
        cut = {label: series.between(first_ns, last_ns) for label, series in bars.items()}
        cut = bars_in_scope(cut, switches.feature_rules)
        return Window(cut[base_label], cut, 0)
    needed = warmup_bars(strategy, rules=switches.feature_rules)
    start = int(np.searchsorted(whole.open_time_ns, asked.open_time_ns[0]))
    base = whole.rows(max(0, start - needed[base_label]), start + len(asked))
    last_close_ns = int(base.close_time_ns[-1])
    cut = {base_label: base}
    for label, series in bars.items():
        if label != base_label:
            length_ns = series.timeframe.length_ns
            seen = int(np.searchsorted(series.open_time_ns, base.open_time_ns[0]))
            known = int(np.searchsorted(series.open_time_ns, last_close_ns - length_ns, "right"))
            begin = max(0, seen - needed[label])
            cut[label] = series.rows(begin, max(begin, known))
    return Window(base, cut, len(base) - len(asked))


def first_simulated_index(
    window: Window, features: FeatureMatrix, sequence_length: int, switches: Switches
) -> int:
    """Returns the index of the first bar to simulate.

    By default the first bar, at or after the asked start, with a complete window of features; with
    `fixed_warmup_bars`, that many bars after the first. Raises NotEnoughBarsError when none is
    left.
    """
    bar_count = len(window.base)
    if switches.fixed_warmup_bars:
        first = switches.fixed_warmup_bars
    else:
        first = max(window.start_index, features.valid_from + sequence_length - 1)
    if first < bar_count:
        return first
    message = (
        f"All of the {bar_count} bars are needed to warm up: the first complete row of features "
        f"would come after {first} bars. Ask for a longer period."
    )
    metadata = {"bar_count": str(bar_count), "warmup_bars": str(first)}
    raise NotEnoughBarsError(message, metadata=metadata)


def _empty_range(
    whole: BarSeries, first_ns: int | None, last_ns: int | None
) -> DataRangeEmptyError:
    def text(time_ns: int | None) -> str:
        return "the beginning" if time_ns is None else f"{np.datetime64(time_ns // 10**9, 's')}Z"

    there = "it has no bars at all"
    if len(whole):
        first, last = int(whole.open_time_ns[0]), int(whole.open_time_ns[-1])
        there = f"it has bars from {text(first)} to {text(last)}"
    end = "the end" if last_ns is None else text(last_ns)
    message = (
        f"{whole.symbol} {whole.timeframe} has no bars from {text(first_ns)} to {end}: {there}."
    )
    metadata = {"symbol": whole.symbol, "timeframe": whole.timeframe.label}
    return DataRangeEmptyError(message, metadata=metadata)
