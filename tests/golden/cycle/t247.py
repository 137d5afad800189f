"""Reads the recorded decisions of the reference T247 and says them in our words and units.

The reference counts in percent; here everything is a fraction.
"""

import csv
import functools
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from backlane.panel.panel import Panel
from backlane.signals.price_regime import PriceRegime
from backlane.signals.triggers import RegimeThresholds, TriggerRules, TriggerSignal
from tests.shared import SHARED

CYCLE = Path(os.environ.get("BACKLANE_CYCLE", SHARED / "reference" / "cycle"))
"""The recorded vectors of the cycle; BACKLANE_CYCLE names another set of the same shape."""

needs_vectors = pytest.mark.skipif(
    not CYCLE.is_dir(), reason=f"the recorded vectors of the trading cycle are not there: {CYCLE}"
)
RELATIVE = 1e-9
"""What the reference's README asks for signals: both sides compute in float64."""


@functools.cache
def read(name: str) -> Any:
    """Returns a recorded document of t247/, to be left as it is; empty where there are none."""
    path = CYCLE / "t247" / name
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}


def cases(name: str, key: str = "cases") -> list[Any]:
    """Returns the cases of a document, to parametrize with; none where the vectors are absent."""
    return list(read(name).get(key, []))


def series(name: str, key: str | None) -> dict[str, np.ndarray]:
    """Returns the bars of a file of candles, by the value of its column `key`.

    Each is (4, bars): high, low, close and volume, oldest first.
    """
    rows: dict[str, list[list[float]]] = {}
    with (CYCLE / "t247" / name).open(encoding="utf-8") as file:
        for row in csv.DictReader(file):
            values = [float(row[field]) for field in ("high", "low", "close", "volume")]
            rows.setdefault(row[key] if key else "", []).append(values)
    return {case: np.array(values).T.copy() for case, values in rows.items()}


def panel_of(bars: dict[str, np.ndarray]) -> Panel:
    """Returns a panel of series of any length that end at the same hour."""
    length = max(values.shape[1] for values in bars.values())
    grids = np.full((4, length, len(bars)), np.nan)
    for column, values in enumerate(bars.values()):
        grids[:, length - values.shape[1] :, column] = values
    high, low, close, volume = grids
    time_ns = np.arange(length, dtype=np.int64) * 3_600_000_000_000
    return Panel(tuple(bars), time_ns, time_ns, close, high, low, close, volume)


def regime_of(text: str) -> PriceRegime:
    """Returns the regime of that name."""
    return PriceRegime(text)


def trigger_rules(config: Any, **overrides: Any) -> TriggerRules:
    """Returns our rules for the recorded configuration of the triggers."""
    signals, policy = config["signals"], config["policy_triggers"]
    breakers, fallback = config["circuit_breakers"], policy["fallback"]
    trend = signals["trend_filter"]
    thresholds = {
        regime_of(name): RegimeThresholds(
            values["pct_change_15m"] / 100,
            values["pct_change_60m"] / 100,
            values["volume_ratio_1h"],
            values["atr_filter_min_mult"],
        )
        for name, values in signals["regime_thresholds"].items()
    }
    values = {
        "thresholds": thresholds,
        "only_upside": policy["only_upside"],
        "lookback_bars": policy["breakout"]["lookback_hours"],
        "outlier_period": breakers["outlier_lookback_periods"],
        "outlier_deviation": breakers["max_price_deviation_pct"] / 100,
        "outlier_volume_ratio": breakers["min_volume_ratio"],
        "has_atr_filter": breakers["enable_atr_filter"],
        "trend_period": trend["ema_period_hours"],
        "trend_slope_bars": trend["slope_lookback_hours"],
        "trend_slope_min": trend["min_slope_pct_per_hour"] / 100,
        "bounce_min": signals["reversal_confirm"]["min_bounce_from_low_pct"] / 100,
        "has_fallback": fallback["enabled"],
        "fallback_streak_min": fallback["min_no_trigger_streak"],
        "fallback_relaxation": fallback["relax_pct"],
        "fallback_signals_max": fallback["max_new_positions_per_cycle"],
        "fallback_allows_downside": fallback["allow_downside"],
    }
    names = {"lookback_hours": "lookback_bars", "only_upside": "only_upside"}
    return TriggerRules(**{**values, **{names[key]: value for key, value in overrides.items()}})


def assert_same_signal(ours: TriggerSignal | None, recorded: Any, *, is_sign_lost: bool) -> None:
    """Compares a signal with the recorded one; `is_sign_lost` where SPEC Q2 lost the sign."""
    assert (ours is None) == (recorded is None)
    if ours is None:
        return
    close = {"rel": RELATIVE, "abs": 1e-12}  # abs: a change of exactly 0 in one, rounding in other
    assert ours.kind == recorded["trigger_type"]
    assert ours.strength == pytest.approx(recorded["strength"], **close)
    assert ours.confidence == pytest.approx(recorded["confidence"], **close)
    assert ours.price == recorded["current_price"]
    change = abs(ours.price_change) if is_sign_lost else ours.price_change
    assert change == pytest.approx(recorded["price_change_pct"] / 100, **close)
    assert ours.volatility == pytest.approx(recorded["volatility"] / 100, **close)
    if recorded["volume_ratio"] is not None:
        assert ours.volume_ratio == pytest.approx(recorded["volume_ratio"], **close)
    if recorded["technical_score"] is not None:
        assert ours.score == pytest.approx(recorded["technical_score"], **close)
    assert {str(key): value for key, value in ours.qualifiers.items()} == recorded["qualifiers"]
    scales = {
        "bounce": ("reversal_bounce_pct", 100),
        "trend_slope": ("trend_filter_slope_pct_per_hr", 100),
        "rsi": ("reversal_rsi", 1),
        "previous_rsi": ("reversal_rsi_prev", 1),
        "last_pivot_low": ("reversal_last_pivot_low", 1),
        "previous_pivot_low": ("reversal_prev_pivot_low", 1),
    }
    for name, value in ours.metrics.items():
        key, scale = scales[name]
        assert value * scale == pytest.approx(recorded["metrics"][key], **close)
