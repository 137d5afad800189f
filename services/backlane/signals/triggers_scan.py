"""The scan of many instruments for triggers, and what it does after a dry spell (SPEC A5)."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from backlane.panel.panel import Panel
from backlane.signals.price_regime import LOOKBACK_BARS, PriceRegime
from backlane.signals.triggers import (
    BarWindow,
    TriggerRules,
    TriggerSignal,
    fails_atr_filter,
    is_outlier,
    momentum,
    price_move,
    volume_spike,
)
from backlane.signals.triggers_reversal import breakout_or_reversal


@dataclass(frozen=True, slots=True)
class TriggerScan:
    """The signals of a scan, best first, at most one for each instrument.

    `streak` counts the scans in a row without a signal, this one included; the next scan needs it.
    """

    signals: tuple[TriggerSignal, ...]
    streak: int


def panel_windows(panel: Panel, as_of_ns: int) -> dict[str, BarWindow]:
    """Returns the last 168 bars of each instrument that were known at a time, oldest first.

    Rows in which an instrument has no bar are left out, so that its bars lie side by side. A panel
    without volume has none to offer: its windows have a volume of 0, and no volume spikes.
    """
    known = panel.until(as_of_ns)
    windows = {}
    for column, symbol in enumerate(known.symbols):
        rows = np.flatnonzero(~np.isnan(known.close[:, column]))[-LOOKBACK_BARS:]
        volume = np.zeros(len(rows)) if known.volume is None else known.volume[rows, column]
        windows[symbol] = BarWindow(
            known.high[rows, column], known.low[rows, column], known.close[rows, column], volume
        )
    return windows


def detect(
    symbol: str,
    bars: BarWindow,
    regime: PriceRegime,
    rules: TriggerRules,
    fine: BarWindow | None = None,
) -> tuple[TriggerSignal, ...]:
    """Returns every trigger that fires on the bars of one instrument, guards left aside."""
    thresholds = rules.of(regime)
    found = (
        price_move(symbol, bars, thresholds, only_upside=rules.only_upside),
        volume_spike(symbol, bars, thresholds),
        breakout_or_reversal(symbol, bars, rules, fine),
        momentum(symbol, bars, regime, only_upside=rules.only_upside),
    )
    return tuple(signal for signal in found if signal is not None)


def scan_triggers(
    windows: Mapping[str, BarWindow],
    regime: PriceRegime,
    rules: TriggerRules,
    streak: int,
    fine: Mapping[str, BarWindow] | None = None,
) -> TriggerScan:
    """Returns the best trigger of each instrument, in descending strength x confidence.

    Only the last 168 bars count. Outliers and instruments that hardly move are passed over. When
    nothing fires and `streak` scans before had nothing either, price moves are looked for again
    with relaxed thresholds, and the streak starts anew. Equal scores keep the order given.
    """
    quiet = {}
    signals = []
    for symbol, all_bars in windows.items():
        bars = all_bars.last(LOOKBACK_BARS)
        if len(bars) == 0 or is_outlier(bars, rules) or fails_atr_filter(bars, regime, rules):
            continue
        quiet[symbol] = bars
        found = detect(symbol, bars, regime, rules, (fine or {}).get(symbol))
        if found:
            signals.append(max(found, key=lambda signal: signal.score))
    if not signals and rules.has_fallback and streak >= rules.fallback_streak_min:
        signals = _relaxed_price_moves(quiet, regime, rules)
    ranked = sorted(signals, key=lambda signal: -signal.score)
    return TriggerScan(tuple(ranked), 0 if ranked else streak + 1)


def _relaxed_price_moves(
    windows: Mapping[str, BarWindow], regime: PriceRegime, rules: TriggerRules
) -> list[TriggerSignal]:
    strict, kept = rules.of(regime), 1.0 - rules.fallback_relaxation
    thresholds = replace(
        strict, sharp_move=strict.sharp_move * kept, hourly_move=strict.hourly_move * kept
    )
    only_upside = rules.only_upside and not rules.fallback_allows_downside
    found = [
        price_move(symbol, bars, thresholds, only_upside=only_upside)
        for symbol, bars in windows.items()
    ]
    signals = sorted((s for s in found if s is not None), key=lambda signal: -signal.score)
    return signals[: rules.fallback_signals_max]
