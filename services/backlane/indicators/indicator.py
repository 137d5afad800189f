"""What an indicator is: names, parameters, the function that computes it, how much it remembers.

The functions are named here and loaded on first use: strategies are read where nothing is computed,
and no compiler is loaded.
"""

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from importlib import import_module
from typing import Generic

import numpy as np
from numpy.typing import NDArray

from backlane.indicators.fields import P
from backlane.market.bars import BarSeries

Values = NDArray[np.float64]

ALL_BARS = 2**62
"""As a number of bars: all that there are."""


class Memory(Enum):
    """What a value depends on besides its own bar, at the default parameters."""

    WINDOW = "window"
    """The last `lookback_bars` bars alone: with them, every bit is the same."""

    FADING = "fading"
    """All bars, but what lies before the lookback weighs nothing (`settling`)."""

    START = "start"
    """The first bar that was loaded, for ever or until some later move makes it forget."""


@dataclass(frozen=True, slots=True)
class IndicatorType(Generic[P]):
    """One indicator.

    `definition` names formula and revision (`rsi.wilder.v1`): the same id always gives the same
    numbers. `outputs` is empty for a single unnamed output; otherwise the first output is what a
    bare reference means. `function`, as in `momentum.relative_strength`, makes one array for each
    output of bars and parameters. `minimum_bars` is the least number of bars that it is computed
    from. `lookback` is behind `lookback_bars`. `known_from` is, for each output, the index of the
    first bar at which it means something: a recursive mean has a value from its first bar on, but
    before it has seen a period of them, that is little more than the first price.

    What ktrdr does otherwise: it knows no `known_from`; `filler` is what it puts in place of NaN;
    `from_start` computes what it shows before the windows are full; `reference` computes what it
    gives by mistake. `looks_ahead` marks what is no input for a model, as values change when later
    bars come.
    """

    name: str
    aliases: tuple[str, ...]
    definition: str
    parameters: type[P]
    function: str
    minimum_bars: Callable[[P], int]
    lookback: Callable[[P, float], int]
    memory: Memory = Memory.WINDOW
    known_from: Callable[[P], tuple[int, ...]] | None = None
    outputs: tuple[str, ...] = ()
    filler: float | None = None
    from_start: str = ""
    reference: str = ""
    looks_ahead: bool = False

    def outputs_of(
        self,
        bars: BarSeries,
        parameters: P,
        *,
        warmup_fillers: bool = False,
        reference_indicators: bool = False,
    ) -> tuple[Values, ...]:
        """Computes every output, float64 of shape (bars,) each; the two rules as in FeatureRules.

        Every NaN is the same one: the sign that arithmetic leaves on it differs between compilers.
        """
        name = self.function
        if warmup_fillers and self.from_start:
            name = self.from_start
        if reference_indicators and self.reference:
            name = self.reference
        missing = self.filler if warmup_fillers and self.filler is not None else np.nan
        values = _load(name)(bars, parameters)
        if self.known_from is not None and not warmup_fillers:
            values = tuple(map(_blank_until, values, self.known_from(parameters)))
        return tuple(np.where(np.isnan(value), missing, value) for value in values)

    def lookback_bars(self, parameters: P, gain: float = 1.0) -> int:
        """Returns how many bars, the newest included, a value depends on, as `memory` allows.

        `gain` is that of `settling.bars_to_settle`: how steeply a feature follows the value.
        """
        return self.lookback(parameters, gain)

    def output_index(self, output: str | None) -> int | None:
        """Returns the place of an output; None means the first. Unknown outputs give None."""
        if output is None:
            return 0
        return self.outputs.index(output) if output in self.outputs else None


def _blank_until(values: Values, first: int) -> Values:
    return np.where(np.arange(len(values)) < first, np.nan, values)


def _load(function: str) -> Callable[[BarSeries, object], tuple[Values, ...]]:
    module, name = function.split(".")
    found: Callable[[BarSeries, object], tuple[Values, ...]] = getattr(
        import_module(f"backlane.indicators.{module}"), name
    )
    return found
