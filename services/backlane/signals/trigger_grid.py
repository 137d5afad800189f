"""The triggers of a whole panel at once, and the scan of one time, which reads a row (SPEC A5)."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import isnan
from typing import Any

import numpy as np
from numpy.typing import NDArray

from backlane.panel.panel import Panel
from backlane.signals.price_regime import REGIMES, PriceRegime
from backlane.signals.trigger_cells import (
    confirm_at,
    detect,
    fill_cell_at,
    no_trigger_streaks,
    scan_cells,
)
from backlane.signals.trigger_detectors import annual_volatility, price_move
from backlane.signals.trigger_tables import (
    CELL,
    DETECTORS,
    KINDS,
    QUALIFIERS,
    Evidence,
    ScanTables,
    relaxed_moves,
    rules_record,
    threshold_table,
)
from backlane.signals.triggers import (
    ReversalQualifier,
    ScanChoice,
    TriggerKind,
    TriggerRules,
    TriggerSignal,
)

_REVERSAL = KINDS.index(TriggerKind.REVERSAL) + 1
_METRICS = tuple(name.name.lower() for name in Evidence)


@dataclass(frozen=True, slots=True)
class TriggerScan:
    """The signals of a scan, best first, at most one for each instrument.

    `streak` counts the scans in a row without a signal, this one included; the next scan needs it.
    Under `first_match` the signals keep the order of the instruments.
    """

    signals: tuple[TriggerSignal, ...]
    streak: int


@dataclass(frozen=True, slots=True, eq=False)
class TriggerGrid:
    """What fires at each time: `cells` has shape (times, symbols) and the fields of CELL.

    `regimes` (times,) indexes REGIMES. A row depends on nothing later than its time.
    """

    symbols: tuple[str, ...]
    cells: NDArray[np.void]
    evidence: NDArray[np.float64]
    regimes: NDArray[np.int8]
    rules: TriggerRules

    def scan(
        self, row: int, streak: int = 0, is_member: NDArray[np.bool_] | None = None
    ) -> TriggerScan:
        """Returns the best trigger of each member at a time, best first.

        `is_member` (symbols,) marks the instruments that are looked at, all when it is None. Equal
        scores keep the order of the symbols. When nothing fires and `streak` scans before had
        nothing either, price moves are looked for with relaxed thresholds, and the streak starts
        anew.
        """
        cells = self.cells[row]
        fires = cells["kind"] if is_member is None else cells["kind"] * is_member
        fired = fires.nonzero()[0]
        if len(fired):
            signals = _signals(self, fired.tolist(), cells[fired].tolist(), self.regime(row))
            if self.rules.choice is ScanChoice.STRONGEST:
                signals.sort(key=_rank)
            return TriggerScan(tuple(signals), 0)
        relaxed: tuple[TriggerSignal, ...] = ()
        if streak >= self.rules.fallback_streak_min:
            relaxed = self._relaxed(row, is_member)
        return TriggerScan(relaxed, 0 if relaxed else streak + 1)

    def regime(self, row: int) -> PriceRegime:
        """Returns the regime of a time."""
        return REGIMES[int(self.regimes[row])]

    def streaks(self, is_member: NDArray[np.bool_]) -> NDArray[np.int64]:
        """Returns the streak that the scan of each time begins with, (times,), one scan a row.

        `is_member` has shape (times, symbols). The streak is data: it depends on nothing but the
        scans before, so that every way to run the same bars has the same one.
        """
        rules = self.rules
        return no_trigger_streaks(
            self.cells,
            is_member,
            self.regimes,
            relaxed_moves(rules),
            rules.only_upside and not rules.fallback_allows_downside,
            rules.fallback_streak_min,
        )

    def _relaxed(self, row: int, is_member: NDArray[np.bool_] | None) -> tuple[TriggerSignal, ...]:
        """Returns the best price moves at relaxed thresholds of what passes the guards."""
        rules, cells = self.rules, self.cells[row]
        sharp, hourly = relaxed_moves(rules)[self.regimes[row]].tolist()
        only_upside = rules.only_upside and not rules.fallback_allows_downside
        looked_at = cells["passes"] if is_member is None else cells["passes"] & is_member
        made = []
        for column in np.flatnonzero(looked_at).tolist():
            cell = cells[column]
            largest, last = float(cell["largest_move"]), float(cell["last_move"])
            move = price_move(largest, last, sharp, hourly, only_upside)
            if move[0] > 0.0:
                made.append(
                    TriggerSignal(
                        self.symbols[column],
                        TriggerKind.PRICE_MOVE,
                        move[0],
                        move[1],
                        float(cell["price"]),
                        move[2],
                        float(cell["volatility"]),
                        regime=self.regime(row),
                    )
                )
        return tuple(sorted(made, key=_rank)[: rules.fallback_signals_max])


def _signals(
    grid: TriggerGrid,
    columns: Sequence[int],
    cells: Sequence[tuple[Any, ...]],
    regime: PriceRegime,
) -> list[TriggerSignal]:
    made = []
    for column, cell in zip(columns, cells, strict=True):
        kind, _, met, where, strength, confidence, price, change, ratio, volatility, *_ = cell
        reversal = _reversal(grid, met, where) if kind == _REVERSAL else ({}, {})
        made.append(
            TriggerSignal(
                grid.symbols[column],
                KINDS[kind - 1],
                strength,
                confidence,
                price,
                change,
                volatility,
                None if isnan(ratio) else ratio,
                *reversal,
                regime=regime,
            )
        )
    return made


def _reversal(
    grid: TriggerGrid, met: int, where: int
) -> tuple[dict[ReversalQualifier, bool], dict[str, float]]:
    """Returns the qualifiers of a reversal, and what is known of the evidence, by name."""
    qualifiers = {each: bool(met >> bit & 1) for bit, each in enumerate(QUALIFIERS)}
    values = zip(_METRICS, grid.evidence[where].tolist(), strict=True)
    return qualifiers, {name: value for name, value in values if not isnan(value)}


def _rank(signal: TriggerSignal) -> float:
    return -signal.strength * signal.confidence


def _grids(panel: Panel) -> NDArray[np.float64]:
    """Returns high, low, close and volume, (4, times, symbols); without volume it is 0."""
    volume = np.zeros_like(panel.close) if panel.volume is None else panel.volume
    return np.stack([panel.high, panel.low, panel.close, volume])


def trigger_grid(
    panel: Panel,
    regimes: NDArray[np.int8],
    rules: TriggerRules,
    *,
    first_row: int = 0,
    fine: Panel | None = None,
) -> TriggerGrid:
    """Returns the triggers at every time from `first_row` on, each by what was known at it.

    `regimes` has shape (times,) of the panel, codes in REGIMES. An instrument without a bar at a
    time has no trigger then; its bars lie side by side all the same. Without volume none spikes.
    `fine` are bars of five minutes of the same instruments, for the qualifiers of reversals.
    """
    known_ns = panel.known_ns[first_row:]
    cells = np.zeros((len(known_ns), len(panel.symbols)), CELL)
    for name in CELL.names or ():
        if CELL[name].kind == "f":
            cells[name] = np.nan
    cells["evidence"] = -1
    codes = np.ascontiguousarray(regimes[first_row:])
    if fine is None:
        fine_grids = np.empty((4, 0, len(panel.symbols)))
        fine_known = np.zeros(len(known_ns), np.int64)
    else:
        fine_grids = _grids(fine)
        fine_known = np.searchsorted(fine.known_ns, known_ns, side="right")
    evidence = scan_cells(
        _grids(panel),
        fine_grids,
        fine_known,
        codes,
        threshold_table(rules),
        rules_record(rules),
        first_row,
        cells,
    )
    return TriggerGrid(panel.symbols, cells, evidence, codes, rules)


def scan_triggers(
    panel: Panel, regime: PriceRegime, rules: TriggerRules, streak: int, fine: Panel | None = None
) -> TriggerScan:
    """Returns the triggers at the last time of a panel: what a grid's row of that time says.

    A panel without bars has none.
    """
    if len(panel) == 0:
        return TriggerScan((), streak + 1)
    codes = np.full(len(panel), REGIMES.index(regime), np.int8)
    grid = trigger_grid(panel, codes, rules, first_row=len(panel) - 1, fine=fine)
    return grid.scan(0, streak)


def fired_at(
    panel: Panel, column: int, row: int, leader: NDArray[np.float64], tables: ScanTables
) -> TriggerSignal | None:
    """Returns what fired for one instrument at a row: its kind, strength, confidence and change.

    It tells again why a trade was entered, by the bars until then and by the regime that the closes
    of the leader (times,) told. Guards are left aside, as they had let it pass, and where nothing
    fires by itself the relaxed price move counts. Qualifiers and volatility are not told.
    """
    close = panel.close[:, column]
    volume = close if panel.volume is None else panel.volume[:, column]
    cells = np.zeros(1, CELL)
    high, low = panel.high[:, column], panel.low[:, column]
    code = fill_cell_at(high, low, close, volume, leader, row, tables.arrays, cells)
    kind, _, _, _, strength, confidence, price, change, *_ = cells[0].item()
    if kind == 0:
        return None
    return TriggerSignal(
        panel.symbols[column],
        KINDS[kind - 1],
        strength,
        confidence,
        price,
        change,
        None,
        regime=REGIMES[code],
    )


def last_bars(panel: Panel, column: int, row: int, count: int) -> NDArray[np.float64]:
    """Returns the last bars of an instrument at a row, (4, bars), oldest first; at most `count`.

    High, low, close and volume, which is 0 where there is none.
    """
    span = count
    while True:
        rows = slice(max(0, row + 1 - span), row + 1)
        places = np.flatnonzero(~np.isnan(panel.close[rows, column]))[-count:]
        if len(places) == count or span > row:
            break
        span *= 2
    bars = np.zeros((4, len(places)))
    for which, grid in enumerate((panel.high, panel.low, panel.close, panel.volume)):
        if grid is not None:
            bars[which] = grid[rows, column][places]
    return bars


def detect_all(
    symbol: str, bars: NDArray[np.float64], regime: PriceRegime, rules: TriggerRules
) -> tuple[TriggerSignal, ...]:
    """Returns every trigger that fires at the last of some bars, guards left aside.

    `bars` (4, bars) are high, low, close and volume of one instrument, oldest first, at least one.
    A scan chooses among these; at most one of a breakout and a reversal fires.
    """
    series = np.ascontiguousarray(bars)
    high, low, close, volume = series
    code, stop = REGIMES.index(regime), bars.shape[1]
    record = rules_record(rules)[0]
    found = np.full(DETECTORS, np.zeros((), CELL))
    found["price"], found["volatility"] = close[-1], annual_volatility(close, 0, stop)
    table = threshold_table(rules)
    slope = detect(found, high, low, close, volume, 0, stop, code, table, record)
    evidence = np.empty((1, len(Evidence)))
    no_fine = np.empty((4, 0))
    is_reversal = found["kind"] == _REVERSAL
    if is_reversal.any():
        met = confirm_at(evidence[0], series, 0, stop, no_fine, 0, rules.bounce_min)
        evidence[0, Evidence.TREND_SLOPE] = slope
        found["qualifiers"][is_reversal] = met
    fired = found[found["kind"] > 0]
    regimes = np.array([code], np.int8)
    grid = TriggerGrid((symbol,), fired.reshape(1, -1), evidence, regimes, rules)
    return tuple(_signals(grid, [0] * len(fired), fired.tolist(), regime))
