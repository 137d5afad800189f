"""Everything that a portfolio run computes, as columns that can be compared."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from backlane.audit.compare import differing, largest_difference
from backlane.audit.portfolio_stamp import ACCOUNT, FEATURES, FILLS, ORDERS, SIGNALS, TARGETS
from backlane.backtest.portfolio_cycle import RunPlan, run_plan
from backlane.backtest.portfolio_result import PortfolioRun
from backlane.cycle.strategy_stages import StrategyTable, features_of, tables_of
from backlane.cycle.universe_stage import members, seen_panel
from backlane.panel.events import Events
from backlane.panel.panel import Panel

MEMBER = "universe"
ROWS_COMPARED_MAX = 256
"""Bars, up to the one in question, whose signals of a strategy that proposes trades are compared.

Each is made in Python. What they lead to, orders and fills, is compared at every bar.
"""
ORDER_FIELDS = ("time_index", "quantity", "price")
FILL_FIELDS = ("time_index", "quantity", "price", "cost")
_LEFT_OUT = frozenset({"symbol"})

Column = NDArray[np.generic]


@dataclass(frozen=True, slots=True, eq=False)
class Recording:
    """What a run computed: grids (times, symbols) or (times,) by (stage, column), and the run.

    `tables` are what the strategies say at every bar, by their labels. `run` is None where the book
    was not asked for.
    """

    panel: Panel
    grids: Mapping[tuple[str, str], Column]
    tables: Mapping[str, StrategyTable]
    run: PortfolioRun | None = None

    def columns(self) -> dict[str, tuple[str, ...]]:
        """Returns, by stage, what is compared."""
        names: dict[str, list[str]] = {}
        for stage, column in self.grids:
            names.setdefault(stage, []).append(column)
        rows = [f"{label}.*" for label, table in self.tables.items() if table.rows is not None]
        if rows:
            names.setdefault(SIGNALS, []).extend(rows)
        if self.run is not None:
            names |= {ORDERS: list(ORDER_FIELDS), FILLS: list(FILL_FIELDS)}
        return {stage: tuple(each) for stage, each in names.items()}


@dataclass(frozen=True, slots=True)
class PortfolioDifference:
    """The first bar at which a column of an instrument differs; see PortfolioFinding.

    `last_row` is the last row at which it does, of those that were compared.
    """

    stage: str
    column: str
    instrument: str
    first_ns: int
    size: float | None
    last_row: int = -1


def record_strategies(plan: RunPlan, panel: Panel, events: Mapping[str, Events]) -> Recording:
    """Returns what features and strategies give, without the book; raises what a strategy does."""
    seen = seen_panel(panel, plan.universe)
    features = features_of(plan.strategies, seen, events)
    tables = tables_of(plan.strategies, seen, events, features)
    labels = [each.label for each in plan.strategies]
    grids: dict[tuple[str, str], Column] = {
        (FEATURES, name): np.asarray(values) for name, values in features.items()
    }
    grids[FEATURES, MEMBER] = members(panel, plan.universe)
    for label, table in zip(labels, tables, strict=True):
        if table.targets is not None:
            grids[SIGNALS, f"{label}.direction"] = table.targets.direction
            grids[SIGNALS, f"{label}.score"] = table.targets.score
    for label, table in zip(labels, tables, strict=True):
        if table.targets is not None:
            grids[TARGETS, f"{label}.weight"] = table.targets.weights
    return Recording(panel, grids, dict(zip(labels, tables, strict=True)))


def record_run(plan: RunPlan, panel: Panel, events: Mapping[str, Events]) -> Recording:
    """Returns what a whole run gives; raises what `run_plan` and the strategies raise."""
    before = record_strategies(plan, panel, events)
    run = run_plan(plan, panel, events)
    account: dict[tuple[str, str], Column] = {
        (ACCOUNT, "equity"): run.equity,
        (ACCOUNT, "cash"): run.cash,
    }
    return Recording(panel, {**before.grids, **account}, before.tables, run)


def compare_recordings(
    whole: Recording, replay: Recording, until_row: int
) -> list[PortfolioDifference]:
    """Returns what differs at `until_row` and before, to the bit; both begin at the same bar."""
    found = [
        each
        for (stage, column), values in whole.grids.items()
        for each in _grid_differences(
            whole.panel, stage, column, values, replay.grids.get((stage, column)), until_row
        )
    ]
    first = max(0, until_row + 1 - ROWS_COMPARED_MAX)
    for label, table in whole.tables.items():
        if table.rows is not None:
            ours, theirs = (
                signal_grids(each.tables[label], each.panel, range(first, until_row + 1))
                for each in (whole, replay)
            )
            found += signal_differences(whole.panel, label, ours, theirs, first)
    if whole.run is not None and replay.run is not None:
        for stage, names in ((ORDERS, ORDER_FIELDS), (FILLS, FILL_FIELDS)):
            ours, theirs = (getattr(each.run, stage) for each in (whole, replay))
            found += _record_differences(whole.panel, stage, names, ours, theirs, until_row)
    return found


def grid_rows(
    panel: Panel, stage: str, column: str, pair: tuple[Column, Column], first: int
) -> list[PortfolioDifference]:
    """Returns the instruments in which two grids of the same rows differ; `first` is their row."""
    return unequal_cells(panel, stage, column, pair, differing(*pair), first)


def _grid_differences(
    panel: Panel, stage: str, column: str, values: Column, again: Column | None, until_row: int
) -> list[PortfolioDifference]:
    if again is None or again.shape[1:] != values.shape[1:] or len(again) <= until_row:
        return [PortfolioDifference(stage, column, "", int(panel.time_ns[0]), None)]
    pair = (values[: until_row + 1], again[: until_row + 1])
    return grid_rows(panel, stage, column, pair, 0)


def unequal_cells(
    panel: Panel,
    stage: str,
    column: str,
    pair: tuple[Column, Column],
    is_unequal: NDArray[np.bool_],
    first: int,
) -> list[PortfolioDifference]:
    """Returns a difference for each instrument that has an unequal cell.

    The pair and `is_unequal` have the same rows, of which the first is row `first` of the panel.
    """
    if not is_unequal.any():
        return []
    has_symbols = is_unequal.ndim == 2 and is_unequal.shape[1] == len(panel.symbols)
    flat = is_unequal if has_symbols else is_unequal.reshape(len(is_unequal), -1)
    left, right = (each.reshape(len(each), -1) for each in pair)
    found = []
    for place in np.flatnonzero(flat.any(axis=0)):
        rows = np.flatnonzero(flat[:, place])
        size = largest_difference(left[rows, place], right[rows, place])
        name = panel.symbols[place] if has_symbols else ""
        first_ns = int(panel.time_ns[first + rows[0]])
        found.append(
            PortfolioDifference(stage, column, name, first_ns, size, first + int(rows[-1]))
        )
    return found


# --- signals of strategies that propose trades ------------------------------------------------


def signal_grids(table: StrategyTable, panel: Panel, bars: range) -> dict[str, Column]:
    """Returns the signals at some bars as grids (bars, symbols) by field; NaN where there is none.

    What is no number counts as a number that stands for it.
    """
    grids: dict[str, Column] = {}
    columns = {symbol: place for place, symbol in enumerate(panel.symbols)}
    for row, bar in enumerate(bars):
        for signal in () if table.rows is None else table.rows.row(bar):
            place = columns.get(str(getattr(signal, "symbol", "")), 0)
            for name, value in _numbers(signal):
                grid = grids.setdefault(name, np.full((len(bars), len(columns)), np.nan))
                grid[row, place] = value
    return grids


def signal_differences(
    panel: Panel,
    label: str,
    ours: Mapping[str, Column],
    theirs: Mapping[str, Column],
    first: int,
) -> list[PortfolioDifference]:
    """Returns the fields and instruments in which the signals of a strategy differ."""
    found = []
    for name in dict.fromkeys((*ours, *theirs)):
        none = np.full_like(ours[name] if name in ours else theirs[name], np.nan)
        pair = (ours.get(name, none), theirs.get(name, none))
        found += grid_rows(panel, SIGNALS, f"{label}.{name}", pair, first)
    return found


def _numbers(signal: object) -> Sequence[tuple[str, float]]:
    if not is_dataclass(signal):
        return (("signal", float(crc32(repr(signal).encode()))),)
    names = [each.name for each in fields(signal) if each.name not in _LEFT_OUT]
    return [(name, _number(getattr(signal, name))) for name in names]


def _number(value: object) -> float:
    if isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    return float(crc32(repr(value).encode()))


# --- orders and fills --------------------------------------------------------------------------


def _record_differences(
    panel: Panel,
    stage: str,
    names: tuple[str, ...],
    ours: NDArray[np.void],
    theirs: NDArray[np.void],
    until_row: int,
) -> list[PortfolioDifference]:
    """Returns for each instrument the first record that differs; later ones follow from it."""
    found = []
    left, right = (each[each["time_index"] <= until_row] for each in (ours, theirs))
    for place in np.union1d(left["symbol"], right["symbol"]):
        mine, other = (each[each["symbol"] == place] for each in (left, right))
        symbol = panel.symbols[int(place)]
        shared = min(len(mine), len(other))
        unequal = {
            name: differing(
                np.ascontiguousarray(mine[name][:shared]),
                np.ascontiguousarray(other[name][:shared]),
            )
            for name in names
        }
        rows = np.flatnonzero(np.logical_or.reduce(list(unequal.values())))
        if len(rows):
            at = int(rows[0])
            bar = int(min(mine["time_index"][at], other["time_index"][at]))
            for name in (each for each in names if unequal[each][at]):
                size = abs(float(mine[name][at]) - float(other[name][at]))
                when_ns = int(panel.time_ns[bar])
                found.append(PortfolioDifference(stage, name, symbol, when_ns, size, bar))
        elif len(mine) != len(other):
            bar = int((mine if len(mine) > shared else other)["time_index"][shared])
            said = "one more or less"
            found.append(
                PortfolioDifference(stage, said, symbol, int(panel.time_ns[bar]), None, bar)
            )
    return found
