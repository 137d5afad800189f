import numpy as np

from backlane.indicators.parameters import AdxParameters, AroonParameters, IchimokuParameters
from backlane.indicators.registry import find_indicator
from backlane.indicators.trend import (
    aroon,
    directional_movement,
    ichimoku,
)
from tests.unit.indicators.bars import bars_of

MOVES = bars_of([9.0, 11.0, 7.0], high=[10.0, 12.0, 12.0], low=[8.0, 9.0, 6.0])


def test_adx_follows_the_directional_moves():
    adx, plus, minus = directional_movement(MOVES, AdxParameters(period=2))
    # ranges 2, max(3, 12 - 9, 0) = 3, max(6, 1, 11 - 6) = 6; means (alpha 1/2) 2, 2.5, 4.25
    # plus moves 0, 2, 0: means 0, 1, 0.5; minus moves 0, 0, 3: means 0, 0, 1.5
    np.testing.assert_allclose(plus, [0.0, 40.0, 50 / 4.25], rtol=1e-15)  # last place
    np.testing.assert_allclose(minus, [0.0, 0.0, 150 / 4.25], rtol=1e-15)
    # directions 0, 100 (1 - 0) / 1, 100 (1.5 - 0.5) / 2 = 50; means 0, 50, 50
    np.testing.assert_allclose(adx, [0.0, 50.0, 50.0], rtol=1e-15)


def test_adx_is_nan_until_it_has_seen_enough_moves():
    bars = bars_of(np.linspace(1.0, 2.0, 8))
    adx, plus, minus = find_indicator("adx").outputs_of(bars, AdxParameters(period=3))
    assert np.isnan(plus).tolist() == np.isnan(minus).tolist() == [True] * 3 + [False] * 5
    assert np.isnan(adx).tolist() == [True] * 5 + [False] * 3
    shown = find_indicator("adx").outputs_of(bars, AdxParameters(period=3), warmup_fillers=True)
    assert not np.isnan(shown).any()
    assert shown[0][5:].tolist() == adx[5:].tolist()


def test_equal_moves_up_and_down_are_neither():
    bars = bars_of([9.0, 9.0], high=[10.0, 11.0], low=[8.0, 7.0])
    _, plus, minus = directional_movement(bars, AdxParameters(period=2))
    assert (plus[1], minus[1]) == (0.0, 0.0)


def test_aroon_is_the_place_of_the_extremes():
    bars = bars_of([3.0] * 4, high=[5.0, 7.0, 7.0, 6.0], low=[1.0, 2.0, 0.0, 3.0])
    up, down, oscillator = aroon(bars, AroonParameters(period=3))
    # highs 5 7 7: the older 7 has place 2 of 3; 7 7 6: place 1. Lows 1 2 0: 3; 2 0 3: 2
    np.testing.assert_allclose(up, [np.nan, np.nan, 200 / 3, 100 / 3], rtol=1e-15)
    np.testing.assert_allclose(down, [np.nan, np.nan, 100.0, 200 / 3], rtol=1e-15)
    np.testing.assert_array_equal(oscillator, up - down)


def test_ichimoku_lines_are_middles_and_none_is_moved():
    bars = bars_of([3.0, 5.0, 2.0], high=[4.0, 6.0, 5.0], low=[2.0, 4.0, 1.0])
    parameters = IchimokuParameters(tenkan_period=1, kijun_period=2, senkou_b_period=3)
    tenkan, kijun, senkou_a, senkou_b, chikou = ichimoku(bars, parameters)
    assert tenkan[2] == 3.0  # (5 + 1) / 2
    assert kijun[2] == 3.5  # (6 + 1) / 2
    assert senkou_a[2] == 3.25  # (3 + 3.5) / 2
    assert senkou_b[2] == 3.5  # (6 + 1) / 2
    assert chikou.tolist() == [3.0, 5.0, 2.0]
    assert np.isnan([kijun[0], senkou_a[0], senkou_b[1]]).all()
