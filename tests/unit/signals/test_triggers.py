"""Triggers on bars that a reader can follow, and the law that no later bar matters."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from backlane.panel.panel import Panel
from backlane.signals.price_regime import PriceRegime
from backlane.signals.triggers import (
    BarWindow,
    RegimeThresholds,
    TriggerKind,
    TriggerRules,
    annual_volatility,
    atr_fractions,
    fails_atr_filter,
    is_outlier,
    momentum,
    price_move,
    volume_spike,
)
from backlane.signals.triggers_reversal import (
    breakout_or_reversal,
    pivot_lows,
    trend_slope,
    wilder_rsi,
)
from backlane.signals.triggers_scan import panel_windows, scan_triggers

THRESHOLDS = RegimeThresholds(0.012, 0.025, 1.8, 1.05)
RULES = TriggerRules(has_atr_filter=False)


def _bars(close, volume=None, high=None, low=None):
    close = np.array(close, dtype=float)
    volume = np.full(len(close), 100.0) if volume is None else np.array(volume, dtype=float)
    return BarWindow(
        close if high is None else np.array(high, dtype=float),
        close if low is None else np.array(low, dtype=float),
        close,
        volume,
    )


@pytest.mark.parametrize(
    ("tail", "change", "strength"),
    [
        ([100, 100, 100, 103], 0.03, 0.8),  # the last is the largest: both thresholds
        ([100, 98, 98, 98], -0.02, 0.6),  # sharp only, and it fell (SPEC Q2)
        ([100, 100, 100, 97], -0.03, 0.8),
    ],
)
def test_a_price_move_keeps_its_sign(tail, change, strength):
    bars = _bars([100.0] * 60 + tail)
    signal = price_move("A", bars, THRESHOLDS, only_upside=False)
    assert signal.price_change == pytest.approx(change)
    assert signal.strength == strength
    is_kept = price_move("A", bars, THRESHOLDS, only_upside=True) is not None
    assert is_kept == (change > 0)


def test_a_price_move_needs_sixty_bars():
    assert price_move("A", _bars([100.0] * 58 + [110]), THRESHOLDS, only_upside=False) is None
    assert price_move("A", _bars([100.0] * 59 + [110]), THRESHOLDS, only_upside=False) is not None


def test_a_volume_spike_is_a_multiple_of_the_mean_of_the_day():
    # 23 x 700 and 2,300: a mean of 18,400 / 24, a ratio of 3.
    signal = volume_spike("A", _bars([100.0] * 24, [700.0] * 23 + [2300.0]), THRESHOLDS)
    assert signal.volume_ratio == pytest.approx(3.0)
    assert signal.confidence == pytest.approx(3 / 4)
    assert signal.strength == pytest.approx((3 - 1) / 3)
    assert volume_spike("A", _bars([100.0] * 24, [0.0] * 24), THRESHOLDS) is None


def test_momentum_counts_the_hours_that_agree():
    # +4 % in all; of the last 12 hours one fell and two rose, the others stood still.
    close = [100.0] * 21 + [102, 101, 104]
    signal = momentum("A", _bars(close), PriceRegime.CHOP, only_upside=False)
    assert signal.price_change == pytest.approx(0.04)
    assert signal.strength == pytest.approx(0.4)
    assert signal.confidence == pytest.approx(2 / 12)
    assert momentum("A", _bars(close), PriceRegime.BEAR, only_upside=False) is None


def test_an_outlier_stands_alone_and_untraded():
    lone = _bars([100.0] * 20 + [120], [100.0] * 20 + [5.0])
    assert is_outlier(lone, RULES)
    assert not is_outlier(_bars([100.0] * 20 + [120]), RULES)
    assert not is_outlier(lone.last(20), RULES)


def test_the_atr_is_the_mean_of_true_ranges_over_the_close():
    # Ranges of 2 around 100, a gap to 110 of range 1: its true range is 110.5 - 100 = 10.5.
    high = [101.0] * 15 + [110.5]
    low = [99.0] * 15 + [109.5]
    values = atr_fractions(_bars([100.0] * 15 + [110.0], high=high, low=low))
    assert values == pytest.approx([2 / 100, (13 * 2 + 10.5) / 14 / 110])


def test_a_market_that_hardly_moves_fails_the_filter():
    high, low = np.full(60, 101.0), np.full(60, 99.0)
    high[-14:], low[-14:] = 100.1, 99.9
    bars = _bars([100.0] * 60, high=high, low=low)
    assert fails_atr_filter(bars, PriceRegime.CHOP, TriggerRules())
    assert not fails_atr_filter(bars, PriceRegime.CHOP, RULES)
    assert not fails_atr_filter(bars.last(27), PriceRegime.CHOP, TriggerRules())


def test_volatility_is_annualized_capped_and_guessed_when_unknown():
    steady = _bars([100.0 * 1.001 ** (place % 2) for place in range(169)])
    up, down = 0.001, 1 / 1.001 - 1
    assert annual_volatility(steady) == pytest.approx((up - down) / 2 * np.sqrt(8760))
    assert annual_volatility(steady.last(23)) == 0.5
    assert annual_volatility(_bars([100.0, 150.0] * 30)) == 2.0


def test_a_close_near_the_high_is_a_breakout():
    close = np.linspace(90.0, 100.0, 24)
    signal = breakout_or_reversal("A", _bars(close), RULES)
    assert signal.kind is TriggerKind.BREAKOUT
    assert signal.price_change == pytest.approx(10 / 90)
    assert breakout_or_reversal("A", _bars([100.0] * 24), RULES) is None


def test_a_reversal_needs_a_rising_average():
    fall = [110.0] * 6 + [100.0, 100.0, 100.0, 100.0]
    rising = _bars([*[90.0] * 20, *fall, *np.linspace(100.5, 106.0, 20)], high=[200.0] * 50)
    signal = breakout_or_reversal("A", rising, RULES)
    assert signal.kind is TriggerKind.REVERSAL
    assert signal.price_change == pytest.approx(0.06)
    assert signal.strength == pytest.approx(0.3)
    assert breakout_or_reversal("A", rising, TriggerRules(trend_slope_min=0.01)) is None


def test_the_slope_of_an_average_by_hand():
    # Period 2: it starts at 1.5, then (3 - 1.5) x 2 / 3 + 1.5 = 2.5 and (4 - 2.5) x 2 / 3 + 2.5.
    assert trend_slope(np.array([1.0, 2.0, 3.0, 4.0]), 2, 1) == pytest.approx((3.5 - 2.5) / 2.5)
    assert trend_slope(np.array([1.0, 2.0]), 2, 1) is None


def test_wilder_smooths_gains_and_losses():
    # Period 2: gains 1, 1 and losses 0: 100. Then a fall of 1: gain 1/2, loss 1/2: 50.
    assert wilder_rsi(np.array([1.0, 2.0, 3.0, 2.0]), 2) == pytest.approx([100.0, 50.0])
    assert wilder_rsi(np.array([1.0, 2.0]), 2) == []


def test_a_pivot_is_known_two_bars_later():
    low = np.array([5.0, 4.0, 3.0, 4.0, 5.0, 4.0, 3.5, 4.0, 5.0])
    assert pivot_lows(low) == [3.0, 3.5]
    assert pivot_lows(low[:-1]) == [3.0]


def test_the_fallback_waits_for_its_streak():
    bars = {"A": _bars([100.0] * 60 + [99.0])}  # 1 %: below 1.2 %, above 0.7 of it
    first = scan_triggers(bars, PriceRegime.CHOP, RULES, streak=0)
    assert (first.signals, first.streak) == ((), 1)
    second = scan_triggers(bars, PriceRegime.CHOP, RULES, first.streak)
    assert [signal.kind for signal in second.signals] == [TriggerKind.PRICE_MOVE]
    assert second.streak == 0


def _panel(seed):
    random = np.random.default_rng(seed)
    close = 100.0 * np.exp(np.cumsum(random.normal(0, 0.01, (220, 3)), axis=0))
    close[random.random((220, 3)) < 0.1] = np.nan
    time_ns = np.arange(220, dtype=np.int64) * 3_600_000_000_000
    volume = random.uniform(50, 400, close.shape)
    return Panel(
        ("A", "B", "C"), time_ns, time_ns, close, close * 1.01, close * 0.99, close, volume
    )


@given(st.integers(0, 1000), st.integers(0, 219), st.sampled_from(PriceRegime))
def test_no_later_bar_matters(seed, row, regime):
    panel = _panel(seed)
    as_of_ns = int(panel.time_ns[row])
    scan = scan_triggers(panel_windows(panel, as_of_ns), regime, RULES, 0)
    cut = scan_triggers(panel_windows(panel.until(as_of_ns), as_of_ns), regime, RULES, 0)
    assert scan == cut
    for grid in (panel.open, panel.high, panel.low, panel.close, panel.volume):
        grid[row + 1 :] = grid[row + 1 :][::-1].copy()
    assert scan_triggers(panel_windows(panel, as_of_ns), regime, RULES, 0) == scan
    for signal in scan.signals:
        assert 0.0 <= signal.strength <= 1.0
        assert 0.0 <= signal.confidence <= 1.0
