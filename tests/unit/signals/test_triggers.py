"""Triggers on bars that a reader can follow."""

import dataclasses

import numpy as np
import pytest

from backlane.errors import InvalidRequestError
from backlane.panel.panel import Panel
from backlane.signals.price_regime import REGIMES, PriceRegime
from backlane.signals.trigger_detectors import (
    annual_volatility,
    atr_fraction,
    atr_ratios,
    is_outlier,
    pivot_lows,
    trend_slope,
    wilder_rsi,
)
from backlane.signals.trigger_grid import detect_all, scan_triggers, trigger_grid
from backlane.signals.triggers import (
    RegimeThresholds,
    ReversalQualifier,
    ScanChoice,
    TriggerKind,
    TriggerRules,
)

RULES = TriggerRules(has_atr_filter=False)
OUTLIER = (RULES.outlier_period, RULES.outlier_deviation, RULES.outlier_volume_ratio)
HOUR_NS = 3_600_000_000_000


def _bars(close, volume=None, high=None, low=None):
    close = np.array(close, dtype=float)
    volume = np.full(len(close), 100.0) if volume is None else volume
    return np.array([close if high is None else high, close if low is None else low, close, volume])


def _panel(close, volume=None, high=None, low=None, hour_ns=HOUR_NS):
    high, low, close, volume = (row[:, None] for row in _bars(close, volume, high, low))
    time_ns = (np.arange(len(close), dtype=np.int64) + 1) * hour_ns
    return Panel(("A",), time_ns, time_ns, close, high, low, close, volume)


def _found(kind, bars, rules=RULES, regime=PriceRegime.CHOP):
    return next((s for s in detect_all("A", bars, regime, rules) if s.kind is kind), None)


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
    signal = _found(TriggerKind.PRICE_MOVE, bars)
    assert signal.price_change == pytest.approx(change)
    assert signal.strength == strength
    upside = dataclasses.replace(RULES, only_upside=True)
    assert (_found(TriggerKind.PRICE_MOVE, bars, upside) is not None) == (change > 0)


def test_a_price_move_needs_sixty_bars():
    assert _found(TriggerKind.PRICE_MOVE, _bars([100.0] * 58 + [110])) is None
    assert _found(TriggerKind.PRICE_MOVE, _bars([100.0] * 59 + [110])) is not None


def test_a_volume_spike_is_a_multiple_of_the_mean_of_the_day():
    # 23 x 700 and 2,300: a mean of 18,400 / 24, a ratio of 3.
    signal = _found(TriggerKind.VOLUME_SPIKE, _bars([100.0] * 24, [700.0] * 23 + [2300.0]))
    assert signal.volume_ratio == pytest.approx(3.0)
    assert signal.confidence == pytest.approx(3 / 4)
    assert signal.strength == pytest.approx((3 - 1) / 3)
    assert _found(TriggerKind.VOLUME_SPIKE, _bars([100.0] * 24, [0.0] * 24)) is None


def test_momentum_counts_the_hours_that_agree():
    # +4 % in all; of the last 12 hours one fell and two rose, the others stood still.
    bars = _bars([100.0] * 21 + [102, 101, 104])
    signal = _found(TriggerKind.MOMENTUM, bars)
    assert signal.price_change == pytest.approx(0.04)
    assert signal.strength == pytest.approx(0.4)
    assert signal.confidence == pytest.approx(2 / 12)
    assert _found(TriggerKind.MOMENTUM, bars, regime=PriceRegime.BEAR) is None


def test_an_outlier_stands_alone_and_untraded():
    _, _, close, volume = _bars([100.0] * 20 + [120], [100.0] * 20 + [5.0])
    assert is_outlier(close, volume, 0, 21, *OUTLIER)
    assert not is_outlier(close, np.full(21, 100.0), 0, 21, *OUTLIER)
    assert not is_outlier(close, volume, 1, 21, *OUTLIER)


def test_the_atr_is_the_mean_of_true_ranges_over_the_close():
    # Ranges of 2 around 100, a gap to 110 of range 1: its true range is 110.5 - 100 = 10.5.
    high = np.array([101.0] * 15 + [110.5])
    low = np.array([99.0] * 15 + [109.5])
    close = np.array([100.0] * 15 + [110.0])
    assert atr_fraction(high, low, close, 14, 14) == pytest.approx(2 / 100)
    assert atr_fraction(high, low, close, 15, 14) == pytest.approx((13 * 2 + 10.5) / 14 / 110)


def test_the_atr_is_held_against_the_upper_median_of_those_before():
    # With a range of r per bar, ATRs of a still close are means of 14 ranges. 30 bars of range 2,
    # then 14 of 4: the last ATR is 4; before it lie 16 of 2 (bars 14 to 29) and 13 growing to
    # 2 + 13 x 2 / 14; place 29 // 2 = 14 of the sorted ones is still 2.
    ranges = np.array([2.0] * 30 + [4.0] * 14)
    close = np.full(44, 100.0)
    ratios = atr_ratios(close + ranges / 2, close - ranges / 2, close)
    assert ratios[-1] == pytest.approx(2.0)
    assert np.isinf(ratios[:27]).all()
    assert ratios[27] == pytest.approx(1.0)


def test_a_market_that_hardly_moves_is_passed_over():
    high, low = np.full(60, 101.0), np.full(60, 99.0)
    high[-14:], low[-14:] = 100.1, 99.9
    panel = _panel([100.0] * 60, [100.0] * 59 + [900.0], high, low)
    assert scan_triggers(panel, PriceRegime.CHOP, TriggerRules(), 0).signals == ()
    assert scan_triggers(panel, PriceRegime.CHOP, RULES, 0).signals != ()


def test_volatility_is_annualized_capped_and_guessed_when_unknown():
    steady = np.array([100.0 * 1.001 ** (place % 2) for place in range(169)])
    up, down = 0.001, 1 / 1.001 - 1
    assert annual_volatility(steady, 0, 169) == pytest.approx((up - down) / 2 * np.sqrt(8760))
    assert annual_volatility(steady, 0, 23) == 0.5
    assert annual_volatility(np.array([100.0, 150.0] * 30), 0, 60) == 2.0


def test_a_close_near_the_high_is_a_breakout():
    signal = _found(TriggerKind.BREAKOUT, _bars(np.linspace(90.0, 100.0, 24)))
    assert signal.price_change == pytest.approx(10 / 90)
    assert _found(TriggerKind.BREAKOUT, _bars([100.0] * 24)) is None


FALL = [110.0] * 6 + [100.0, 100.0, 100.0, 100.0]
RISING = [*[90.0] * 20, *FALL, *np.linspace(100.5, 106.0, 20)]


def test_a_reversal_needs_a_rising_average():
    rising = _bars(RISING, high=[200.0] * 50)
    signal = _found(TriggerKind.REVERSAL, rising)
    assert signal.price_change == pytest.approx(0.06)
    assert signal.strength == pytest.approx(0.3)
    steep = TriggerRules(trend_slope_min=0.01)
    assert _found(TriggerKind.REVERSAL, rising, steep) is None


def test_bars_of_five_minutes_confirm_a_reversal_by_its_volume_weighted_price():
    # 12 bars of five minutes at 105, then the last hour's: their mean price is below 106.
    hourly = _panel(RISING, high=[200.0] * 50)
    fine = _panel([*[105.0] * 588, *np.linspace(105.0, 106.0, 12)], hour_ns=HOUR_NS // 12)
    rules = TriggerRules(choice=ScanChoice.FIRST_MATCH)  # the momentum of these bars is stronger
    for bars, is_met in ((None, False), (fine, True)):
        (signal,) = scan_triggers(hourly, PriceRegime.CHOP, rules, 0, bars).signals
        assert signal.kind is TriggerKind.REVERSAL
        assert signal.qualifiers[ReversalQualifier.CLOSE_ABOVE_VWAP] == is_met
        assert ("vwap" in signal.metrics) == is_met


def test_the_slope_of_an_average_by_hand():
    # Period 2: it starts at 1.5, then (3 - 1.5) x 2 / 3 + 1.5 = 2.5 and (4 - 2.5) x 2 / 3 + 2.5.
    close = np.array([1.0, 2.0, 3.0, 4.0])
    assert trend_slope(close, 0, 4, 2, 1) == pytest.approx((3.5 - 2.5) / 2.5)
    assert np.isnan(trend_slope(close, 0, 2, 2, 1))


def test_wilder_smooths_gains_and_losses():
    # Period 2: gains 1, 1 and losses 0: 100. Then a fall of 1: gain 1/2, loss 1/2: 50.
    close = np.array([1.0, 2.0, 3.0, 2.0])
    assert wilder_rsi(close, 0, 4, 2) == pytest.approx((100.0, 50.0))
    assert np.isnan(wilder_rsi(close, 0, 3, 2)).all()


def test_a_pivot_is_known_two_bars_later():
    low = np.array([5.0, 4.0, 3.0, 4.0, 5.0, 4.0, 3.5, 4.0, 5.0])
    assert pivot_lows(low, 0, 9) == (3.0, 3.5)
    before, last = pivot_lows(low, 0, 8)
    assert np.isnan(before)
    assert last == 3.0


def test_the_fallback_waits_for_its_streak():
    panel = _panel([100.0] * 60 + [99.0])  # 1 %: below 1.2 %, above 0.7 of it
    first = scan_triggers(panel, PriceRegime.CHOP, RULES, streak=0)
    assert (first.signals, first.streak) == ((), 1)
    second = scan_triggers(panel, PriceRegime.CHOP, RULES, first.streak)
    assert [signal.kind for signal in second.signals] == [TriggerKind.PRICE_MOVE]
    assert second.streak == 0


def test_an_instrument_without_a_bar_has_no_trigger():
    panel = _panel([*[100.0] * 60, 110.0, np.nan])
    assert scan_triggers(panel.until(61 * HOUR_NS), PriceRegime.CHOP, RULES, 0).signals
    assert scan_triggers(panel, PriceRegime.CHOP, RULES, 0).signals == ()


def _scan(rules, regime=PriceRegime.CHOP, rows=200, streak=0, wild=0.008):
    """Everything that a grid says of random bars at its last times, under some rules."""
    random = np.random.default_rng(3)
    shape = (rows, 12)
    close = 100.0 * np.exp(np.cumsum(random.normal(0, wild, shape), axis=0))
    if wild > 0.005:
        close[-40:, 0] = np.linspace(close[-41, 0], close[-41, 0] * 1.07, 40)
        close[-1, 1] *= 1.3
    spread = close * random.uniform(0.001, 0.01, shape)
    volume = random.lognormal(4, 0.6, shape)
    volume[-1, 1] = 0.5
    time_ns = np.arange(rows, dtype=np.int64) * HOUR_NS
    symbols = tuple("ABCDEFGHIJKL")
    panel = Panel(symbols, time_ns, time_ns, close, close + spread, close - spread, close, volume)
    codes = np.full(rows, REGIMES.index(regime), np.int8)
    grid = trigger_grid(panel, codes, rules)
    return [grid.scan(row, streak) for row in range(-30, 0)]


OTHER = {
    "choice": ScanChoice.FIRST_MATCH,
    "only_upside": True,
    "lookback_bars": 48,
    "outlier_period": 5,
    "outlier_deviation": 5.0,
    "outlier_volume_ratio": 0.0,
    "has_atr_filter": False,
    "trend_period": 60,
    "trend_slope_bars": 10,
    "trend_slope_min": 0.01,
    "bounce_min": 0.5,
    "has_fallback": False,
    "fallback_streak_min": 2,
    "fallback_relaxation": 0.0,
    "fallback_signals_max": 3,
    "fallback_allows_downside": False,
    "thresholds": {PriceRegime.CHOP: RegimeThresholds(0.5, 0.5, 9.0, 0.0)},
}
BASE = {"outlier_period": {"outlier_deviation": 0.04, "outlier_volume_ratio": 1.0}}
"""What makes a parameter act on the bars at hand, beside the defaults."""


@pytest.mark.parametrize("name", [item.name for item in dataclasses.fields(TriggerRules)])
def test_every_rule_of_the_triggers_is_live(name):
    given, bars = BASE.get(name, {}), {}
    if name.startswith(("fallback", "has_fallback")):  # nothing fires by itself, much when relaxed
        given = {"only_upside": True, "lookback_bars": 168, "fallback_relaxation": 0.9}
        bars = {"rows": 100, "streak": 1, "wild": 0.0015}
    usual = _scan(TriggerRules(**given), **bars)
    assert _scan(TriggerRules(**{**given, name: OTHER[name]}), **bars) != usual


@pytest.mark.parametrize("name", [item.name for item in dataclasses.fields(RegimeThresholds)])
@pytest.mark.parametrize("regime", [PriceRegime.CHOP, PriceRegime.BULL, PriceRegime.CRASH])
def test_every_threshold_is_live_in_every_regime(name, regime):
    usual = RegimeThresholds(0.012, 0.025, 1.8, 1.05)
    other = dataclasses.replace(usual, **{name: 0.001 if name != "atr_ratio" else 1.5})
    results = [_scan(TriggerRules(thresholds={regime: each}), regime) for each in (usual, other)]
    assert results[0] != results[1]


def test_every_mistake_in_the_rules_is_listed():
    thresholds = {PriceRegime.BULL: RegimeThresholds(-1.0, 0.1, float("nan"), 1.0)}
    with pytest.raises(InvalidRequestError) as caught:
        TriggerRules(thresholds, lookback_bars=0, trend_slope_bars=1.5, fallback_relaxation=2.0)
    assert [violation.field for violation in caught.value.violations] == [
        "lookback_bars",
        "trend_slope_bars",
        "fallback_relaxation",
        "thresholds.bull.sharp_move",
        "thresholds.bull.volume_ratio",
    ]
