"""The compiled scan of a panel for triggers: one cell for each time and instrument (SPEC A5)."""

import math

import numpy as np
from numpy.typing import NDArray

from backlane.jit import Record, compiled, kernel
from backlane.signals.price_regime import LOOKBACK_BARS, REGIMES, PriceRegime, regime_code
from backlane.signals.trigger_detectors import (
    BREAKOUT_SHARE,
    RECOVERY_FULL,
    RECOVERY_MIN,
    REVERSAL_SHARE_MAX,
    RSI_PERIOD,
    Series,
    annual_volatility,
    atr_ratios,
    bounce,
    is_outlier,
    momentum,
    pivot_lows,
    price_move,
    price_range,
    recent_moves,
    trend_slope,
    volume_ratio,
    volume_weighted_price,
    wilder_rsi,
)
from backlane.signals.trigger_tables import CELL, DETECTORS, KINDS, QUALIFIERS, Evidence
from backlane.signals.triggers import ReversalQualifier, TriggerKind

HOURLY_BOUNCE_BARS = 12
FINE_BOUNCE_BARS = 36
FINE_HOUR_BARS = 12
"""Bars of five minutes in an hour."""
FINE_LOOKBACK_BARS = LOOKBACK_BARS
_MOVE, _SPIKE, _BREAKOUT, _REVERSAL, _MOMENTUM = (
    KINDS.index(kind) + 1
    for kind in (
        TriggerKind.PRICE_MOVE,
        TriggerKind.VOLUME_SPIKE,
        TriggerKind.BREAKOUT,
        TriggerKind.REVERSAL,
        TriggerKind.MOMENTUM,
    )
)
_ABOVE_VWAP, _HIGHER_LOW, _RSI_CROSS, _BOUNCED, _TREND = (
    1 << QUALIFIERS.index(qualifier)
    for qualifier in (
        ReversalQualifier.CLOSE_ABOVE_VWAP,
        ReversalQualifier.HIGHER_LOW,
        ReversalQualifier.RSI_CROSS_50,
        ReversalQualifier.BOUNCE,
        ReversalQualifier.TREND,
    )
)
_EV_BOUNCE, _EV_SLOPE, _EV_RSI_BEFORE, _EV_RSI, _EV_PIVOT_BEFORE, _EV_PIVOT, _EV_VWAP = (
    int(column) for column in Evidence
)
_BEAR, _CRASH = REGIMES.index(PriceRegime.BEAR), REGIMES.index(PriceRegime.CRASH)
_EVIDENCE_COLUMNS = len(Evidence)
_FIRST_EVIDENCE = 256


@kernel
def _breakout_or_reversal(
    cell: Record, high: Series, low: Series, close: Series, start: int, stop: int, rules: Record
) -> float:
    """Fills a cell with a close near the high of the look-back, else a recovery from its low.

    A breakout closes at 99.5 % of the high or above. A reversal closes at most 10 % above the low,
    more than 5 % up from it, and the moving average must rise; its slope is returned.
    """
    if stop - start < rules.lookback_bars:
        return math.nan
    price = close[stop - 1]
    highest, lowest = price_range(high, low, stop, rules.lookback_bars)
    if highest == lowest:
        return math.nan
    change = (price - lowest) / lowest
    cell.price_change = change
    if price >= highest * BREAKOUT_SHARE:
        cell.kind, cell.strength, cell.confidence = _BREAKOUT, 0.7, 0.8
        return math.nan
    if price > lowest * REVERSAL_SHARE_MAX or change <= RECOVERY_MIN:
        return math.nan
    slope = trend_slope(close, start, stop, rules.trend_period, rules.trend_slope_bars)
    if slope >= rules.trend_slope_min:  # False when it is NaN
        cell.kind, cell.confidence = _REVERSAL, 0.6
        cell.strength = min(change / RECOVERY_FULL, 1.0)
    return slope


@kernel
def detect(
    found: NDArray[np.void],
    high: Series,
    low: Series,
    close: Series,
    volume: Series,
    start: int,
    stop: int,
    regime: int,
    thresholds: NDArray[np.float64],
    rules: Record,
) -> float:
    """Fills the cells of all detectors, (4,), with what fires; returns the slope of the trend."""
    only_upside = rules.only_upside
    for place in range(DETECTORS):
        found[place].kind = 0
        found[place].volume_ratio = math.nan
    largest, last = recent_moves(close, start, stop)
    strength, confidence, change = price_move(
        largest, last, thresholds[regime, 0], thresholds[regime, 1], only_upside
    )
    if strength > 0.0:
        found[0].kind, found[0].strength, found[0].confidence = _MOVE, strength, confidence
        found[0].price_change = change
    ratio = volume_ratio(volume, start, stop)
    if ratio >= thresholds[regime, 2]:
        found[1].kind, found[1].volume_ratio = _SPIKE, ratio
        found[1].strength = min((ratio - 1.0) / 3.0, 1.0)
        found[1].confidence = min(ratio / 4.0, 1.0)
        found[1].price_change = close[stop - 1] / close[stop - 2] - 1.0
    slope = _breakout_or_reversal(found[2], high, low, close, start, stop, rules)
    only_downside = regime in (_BEAR, _CRASH)
    strength, confidence, change = momentum(close, start, stop, only_upside, only_downside)
    if strength > 0.0:
        found[3].kind, found[3].strength, found[3].confidence = _MOMENTUM, strength, confidence
        found[3].price_change = change
    return slope


@kernel
def chosen_of(found: NDArray[np.void], is_first_match: bool) -> int:
    """Returns the place of the trigger that counts, the first of equals; -1 for none."""
    chosen = -1
    best = -1.0
    for place in range(1 if is_first_match else 0, DETECTORS):
        if found[place].kind == 0:
            continue
        if is_first_match:
            return place
        score = found[place].strength * found[place].confidence
        if score > best:
            chosen, best = place, score
    return chosen


@kernel
def confirm(
    evidence: Series,
    low: Series,
    start: int,
    stop: int,
    fine_high: Series,
    fine_low: Series,
    fine_close: Series,
    fine_volume: Series,
    fine_start: int,
    fine_stop: int,
    is_fine: bool,
    bounce_min: float,
) -> int:
    """Writes the evidence of a reversal and returns its qualifiers, as bits.

    The fine bars are of five minutes when `is_fine`; else they are the hourly ones, and the
    qualifier that needs the finer is not met.
    """
    price = fine_close[fine_stop - 1]
    met = _TREND
    average = math.nan
    if is_fine:
        first = max(fine_start, fine_stop - FINE_HOUR_BARS)
        average = volume_weighted_price(
            fine_high, fine_low, fine_close, fine_volume, first, fine_stop
        )
    if price > average:
        met |= _ABOVE_VWAP
    pivot_before, pivot = pivot_lows(low, start, stop)
    if pivot > pivot_before:
        met |= _HIGHER_LOW
    rsi_before, rsi = wilder_rsi(fine_close, fine_start, fine_stop, RSI_PERIOD)
    if rsi_before <= 50.0 < rsi:
        met |= _RSI_CROSS
    bars = FINE_BOUNCE_BARS if is_fine else HOURLY_BOUNCE_BARS
    risen = bounce(fine_low, fine_close, fine_start, fine_stop, bars)
    if risen >= bounce_min:
        met |= _BOUNCED
    evidence[_EV_BOUNCE], evidence[_EV_VWAP] = risen, average
    evidence[_EV_RSI_BEFORE], evidence[_EV_RSI] = rsi_before, rsi
    evidence[_EV_PIVOT_BEFORE], evidence[_EV_PIVOT] = pivot_before, pivot
    return met


@compiled
def _rows_with_bars(
    close: NDArray[np.float64], column: int, first_row: int, bars: int
) -> NDArray[np.int64]:
    """Returns the rows that have a bar, from `bars` bars before `first_row` on."""
    begin = first_row
    while begin > 0 and bars > 0:
        begin -= 1
        bars -= not math.isnan(close[begin, column])
    rows = np.empty(len(close) - begin, np.int64)
    count = 0
    for row in range(begin, len(close)):
        if not math.isnan(close[row, column]):
            rows[count] = row
            count += 1
    return rows[:count]


@compiled
def _series(
    grids: NDArray[np.float64], column: int, rows: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Returns high, low, close and volume of one instrument in some rows, (4, bars)."""
    series = np.empty((len(grids), len(rows)))
    for which in range(len(grids)):
        for place in range(len(rows)):
            series[which, place] = grids[which, rows[place], column]
    return series


@compiled
def confirm_at(
    evidence: Series,
    bars: NDArray[np.float64],
    start: int,
    stop: int,
    fine: NDArray[np.float64],
    fine_stop: int,
    bounce_min: float,
) -> int:
    """Confirms a reversal by fine bars where there are any, else by the hourly ones."""
    is_fine = fine_stop > 0
    source, first, end = bars, start, stop
    if is_fine:
        source, first, end = fine, max(0, fine_stop - FINE_LOOKBACK_BARS), fine_stop
    return confirm(
        evidence,
        bars[1],
        start,
        stop,
        source[0],
        source[1],
        source[2],
        source[3],
        first,
        end,
        is_fine,
        bounce_min,
    )


@compiled
def _scan_column(
    bars: NDArray[np.float64],
    rows: NDArray[np.int64],
    fine: NDArray[np.float64],
    fine_stops: NDArray[np.int64],
    regimes: NDArray[np.int8],
    thresholds: NDArray[np.float64],
    all_rules: NDArray[np.void],
    first_row: int,
    cells: NDArray[np.void],
    evidence: NDArray[np.float64],
    evidence_count: int,
) -> tuple[NDArray[np.float64], int]:
    """Fills the cells (times,) of one instrument; returns the evidence, which grows."""
    rules = all_rules[0]
    high, low, close, volume = bars[0], bars[1], bars[2], bars[3]
    found = np.zeros(DETECTORS, CELL)
    ratios = atr_ratios(high, low, close)
    for place in range(len(rows)):
        if rows[place] < first_row:
            continue
        row = rows[place] - first_row
        start, stop = max(0, place + 1 - LOOKBACK_BARS), place + 1
        cell = cells[row]
        passes = not is_outlier(
            close,
            volume,
            start,
            stop,
            rules.outlier_period,
            rules.outlier_deviation,
            rules.outlier_volume_ratio,
        ) and not (rules.has_atr_filter and ratios[place] < thresholds[regimes[row], 3])
        cell.passes = passes
        if not (passes or rules.is_first_match):
            continue
        cell.price = close[place]
        cell.volatility = annual_volatility(close, start, stop)
        cell.largest_move, cell.last_move = recent_moves(close, start, stop)
        slope = detect(
            found, high, low, close, volume, start, stop, regimes[row], thresholds, rules
        )
        chosen = chosen_of(found, rules.is_first_match)
        if chosen < 0:
            continue
        cell.kind, cell.strength = found[chosen].kind, found[chosen].strength
        cell.confidence = found[chosen].confidence
        cell.price_change = found[chosen].price_change
        cell.volume_ratio = found[chosen].volume_ratio
        if cell.kind == _REVERSAL:
            if evidence_count == len(evidence):
                evidence = np.concatenate((evidence, np.empty_like(evidence)))
            cell.evidence = evidence_count
            cell.qualifiers = confirm_at(
                evidence[evidence_count], bars, start, stop, fine, fine_stops[row], rules.bounce_min
            )
            evidence[evidence_count, _EV_SLOPE] = slope
            evidence_count += 1
    return evidence, evidence_count


@compiled
def scan_cells(
    grids: NDArray[np.float64],
    fine_grids: NDArray[np.float64],
    fine_known: NDArray[np.int64],
    regimes: NDArray[np.int8],
    thresholds: NDArray[np.float64],
    rules: NDArray[np.void],
    first_row: int,
    cells: NDArray[np.void],
) -> NDArray[np.float64]:
    """Fills the cells of the rows from `first_row` on and returns the evidence of reversals.

    `grids` (4, times, symbols) are high, low, close and volume, `fine_grids` those of the fine bars
    at their own times; `fine_known`, like `regimes` and `cells`, has a row for each row scanned:
    how many fine rows are known then, 0 where there are none. A cell depends on the last 168 bars
    of its instrument alone, and on its regime; where it has no bar the cell stays as it is.
    """
    evidence = np.empty((_FIRST_EVIDENCE, _EVIDENCE_COLUMNS))
    count = 0
    for column in range(grids.shape[2]):
        rows = _rows_with_bars(grids[2], column, first_row, LOOKBACK_BARS)
        bars = _series(grids, column, rows)
        fine_rows = _rows_with_bars(fine_grids[2], column, 0, 0)
        fine = _series(fine_grids, column, fine_rows)
        evidence, count = _scan_column(
            bars,
            rows,
            fine,
            np.searchsorted(fine_rows, fine_known),
            regimes,
            thresholds,
            rules,
            first_row,
            cells[:, column],
            evidence,
            count,
        )
    return evidence[:count]


@compiled
def no_trigger_streaks(
    cells: NDArray[np.void],
    is_member: NDArray[np.bool_],
    regimes: NDArray[np.int8],
    relaxed: NDArray[np.float64],
    only_upside: bool,
    streak_min: int,
) -> NDArray[np.int64]:
    """Returns how many scans in a row before each time found nothing, shape (times,).

    A scan at each row, of the members (times, symbols) alone. `relaxed` (regimes, 2) are the moves
    that are looked for once the streak has reached `streak_min`; finding one ends it too.
    """
    streaks = np.zeros(len(cells), np.int64)
    streak = 0
    for row in range(len(cells)):
        streaks[row] = streak
        fires = False
        for column in range(cells.shape[1]):
            cell = cells[row, column]
            if not is_member[row, column]:
                continue
            if cell.kind != 0:
                fires = True
                break
            if streak >= streak_min and cell.passes:
                regime = regimes[row]
                found = price_move(
                    cell.largest_move,
                    cell.last_move,
                    relaxed[regime, 0],
                    relaxed[regime, 1],
                    only_upside,
                )
                fires = fires or found[0] > 0.0
        streak = 0 if fires else streak + 1
    return streaks


@compiled
def _gather(
    high: Series, low: Series, close: Series, volume: Series, row: int
) -> tuple[NDArray[np.float64], int]:
    """Returns the last 168 bars of an instrument at a row, (4, 168), and where they begin."""
    bars = np.empty((4, LOOKBACK_BARS))
    first = LOOKBACK_BARS
    while row >= 0 and first > 0:
        if not math.isnan(close[row]):
            first -= 1
            bars[0, first], bars[1, first] = high[row], low[row]
            bars[2, first], bars[3, first] = close[row], volume[row]
        row -= 1
    return bars, first


@compiled
def fill_cell_at(
    high: Series,
    low: Series,
    close: Series,
    volume: Series,
    leader: Series,
    row: int,
    tables: tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.void]],
    cells: NDArray[np.void],
) -> int:
    """Fills cells[0] with what fired for one instrument at a row, guards aside.

    Columns have shape (times,); the regime is told by the closes of the leader, and returned. Where
    nothing fires by itself the relaxed price move counts; the kind is 0 where that does not either.
    """
    thresholds, relaxed, all_rules = tables
    rules, cell = all_rules[0], cells[0]
    leading, begin = _gather(leader, leader, leader, leader, row)
    regime = regime_code(leading[2], begin, LOOKBACK_BARS)
    bars, first = _gather(high, low, close, volume, row)
    cell.kind = 0
    if first == LOOKBACK_BARS:
        return regime
    found = np.zeros(DETECTORS, CELL)
    detect(
        found, bars[0], bars[1], bars[2], bars[3], first, LOOKBACK_BARS, regime, thresholds, rules
    )
    chosen = chosen_of(found, rules.is_first_match)
    cell.price = bars[2, LOOKBACK_BARS - 1]
    if chosen >= 0:
        cell.kind, cell.strength = found[chosen].kind, found[chosen].strength
        cell.confidence = found[chosen].confidence
        cell.price_change = found[chosen].price_change
        return regime
    largest, last = recent_moves(bars[2], first, LOOKBACK_BARS)
    move = price_move(largest, last, relaxed[regime, 0], relaxed[regime, 1], False)
    if move[0] > 0.0:
        cell.kind, cell.strength = _MOVE, move[0]
        cell.confidence, cell.price_change = move[1], move[2]
    return regime
