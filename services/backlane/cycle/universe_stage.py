"""The universe of a cycle: which instruments of a panel may be entered now."""

from dataclasses import dataclass
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import BeforeValidator, Field

from backlane.cycle.config_record import ConfigRecord, plain_number
from backlane.cycle.context import Context
from backlane.cycle.cycle_result import CycleUniverse, Exclusion
from backlane.panel.panel import Panel

BARS_MAX = 10_000


class UniverseConfig(ConfigRecord):
    """Who may be entered; names are compared without regard to case, None is no limit.

    What is not listed, or excluded, has no bars as far as strategies see. The others must have
    `history_bars_min` bars, and have traded a mean of `traded_value_min`, close * volume in money,
    over their last `traded_value_bars` bars: until then, targets for them are flat and trades
    refused.
    """

    symbols: tuple[str, ...] | None = None
    excluded: tuple[str, ...] = ()
    history_bars_min: Annotated[int, Field(ge=0, le=BARS_MAX, strict=True)] = 0
    traded_value_min: Annotated[float, BeforeValidator(plain_number), Field(ge=0)] | None = None
    traded_value_bars: Annotated[int, Field(ge=1, le=BARS_MAX, strict=True)] = 20


def is_listed(symbols: tuple[str, ...], config: UniverseConfig) -> NDArray[np.bool_]:
    """Returns which instruments strategies see at all, shape (symbols,)."""
    listed = None if config.symbols is None else {name.upper() for name in config.symbols}
    excluded = {name.upper() for name in config.excluded}
    return np.array(
        [
            (listed is None or symbol.upper() in listed) and symbol.upper() not in excluded
            for symbol in symbols
        ],
        dtype=bool,
    )


def seen_panel(panel: Panel, config: UniverseConfig) -> Panel:
    """Returns the panel as strategies see it: without the bars of what is not listed."""
    listed = is_listed(panel.symbols, config)
    if listed.all():
        return panel

    def seen(values: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.where(listed, values, np.nan)

    return Panel(
        panel.symbols,
        panel.time_ns,
        panel.known_ns,
        seen(panel.open),
        seen(panel.high),
        seen(panel.low),
        seen(panel.close),
        None if panel.volume is None else seen(panel.volume),
    )


def members(panel: Panel, config: UniverseConfig) -> NDArray[np.bool_]:
    """Returns who may be entered at each bar, shape (times, symbols).

    A row depends on its own bar and those before. A panel without volume has traded nothing.
    """
    has_bar = np.isfinite(panel.close)
    may_enter = has_bar & is_listed(panel.symbols, config)
    if config.history_bars_min > 0:
        may_enter &= np.cumsum(has_bar, axis=0) >= config.history_bars_min
    if config.traded_value_min is not None:
        may_enter &= _traded_mean(panel, config.traded_value_bars) >= config.traded_value_min
    return may_enter


def _traded_mean(panel: Panel, bars: int) -> NDArray[np.float64]:
    """Returns the mean of close * volume over the last `bars` bars of each instrument.

    Each mean is summed afresh over its own window, so that it does not depend on where the panel
    begins or ends; with fewer bars, over those that there are.
    """
    means = np.zeros(panel.close.shape)
    if panel.volume is None:
        return means
    for column in range(panel.close.shape[1]):
        rows = np.flatnonzero(np.isfinite(panel.close[:, column]))
        value = panel.close[rows, column] * panel.volume[rows, column]
        sums = value.copy()
        for back in range(1, min(bars, len(value))):
            sums[back:] += value[:-back]
        means[rows, column] = sums / np.minimum(np.arange(1, len(value) + 1), bars)
    return means


@dataclass(frozen=True, slots=True)
class PanelUniverse:
    """The instruments of the panel that the configuration lets in."""

    config: UniverseConfig

    def __call__(self, context: Context) -> CycleUniverse:
        """Returns the members at the last bar, and why each other instrument is none."""
        is_member = members(context.panel, self.config)[-1]
        return CycleUniverse(is_member, _exclusions(context.panel, self.config, is_member))


@dataclass(frozen=True, slots=True, eq=False)
class ComputedUniverse:
    """The members at every bar, computed at once; the row of the cycle's own bar leaves it."""

    config: UniverseConfig
    is_member: NDArray[np.bool_]

    def __call__(self, context: Context) -> CycleUniverse:
        """Returns the members at the last bar, and why each other instrument is none."""
        row = self.is_member[len(context.panel) - 1]
        if row.all():
            return CycleUniverse(row)
        return CycleUniverse(row, _exclusions(context.panel, self.config, row))


def _exclusions(
    panel: Panel, config: UniverseConfig, is_member: NDArray[np.bool_]
) -> dict[str, Exclusion]:
    excluded = {name.upper() for name in config.excluded}
    listed = is_listed(panel.symbols, config)
    found = {}
    for column in np.flatnonzero(~is_member):
        symbol = panel.symbols[column]
        if symbol.upper() in excluded:
            found[symbol] = Exclusion.EXCLUDED
        elif not listed[column]:
            found[symbol] = Exclusion.NOT_LISTED
        elif np.isnan(panel.close[-1, column]):
            found[symbol] = Exclusion.NO_BAR
        elif np.count_nonzero(np.isfinite(panel.close[:, column])) < config.history_bars_min:
            found[symbol] = Exclusion.TOO_LITTLE_HISTORY
        else:
            found[symbol] = Exclusion.TOO_LITTLE_TRADED
    return found
