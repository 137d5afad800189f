import numpy as np
import pytest

from backlane.indicators.momentum import (
    convergence_divergence,
    difference,
    rate_of_change,
    relative_strength,
)
from backlane.indicators.parameters import ChangeParameters, MacdParameters, RsiParameters
from tests.unit.indicators.bars import bars_of


def test_rsi_follows_wilder():
    (rsi,) = relative_strength(bars_of([10.0, 12.0, 11.0, 14.0]), RsiParameters(period=2))
    # changes +2 -1 +3
    # bar 2: G = (2 + 0) / 2 = 1, L = (0 + 1) / 2 = 1/2, 100 G / (G + L) = 66 2/3
    # bar 3: G = (1 x 1 + 3) / 2 = 2, L = (1/2 x 1 + 0) / 2 = 1/4, 100 x 2 / 2.25 = 88 8/9
    assert np.isnan(rsi[:2]).all()
    assert rsi[2] == pytest.approx(200 / 3, rel=1e-15)  # last place
    assert rsi[3] == pytest.approx(800 / 9, rel=1e-15)


def test_rsi_is_100_without_losses_0_without_gains_and_50_without_change():
    parameters = RsiParameters(period=2)
    assert relative_strength(bars_of([1.0, 2.0, 3.0]), parameters)[0][2] == 100.0
    assert relative_strength(bars_of([3.0, 2.0, 1.0]), parameters)[0][2] == 0.0
    assert relative_strength(bars_of([2.0, 2.0, 2.0]), parameters)[0][2] == 50.0


def test_rsi_has_no_value_after_a_nan():
    (rsi,) = relative_strength(bars_of([1.0, 2.0, 1.5, np.nan, 2.0, 1.0]), RsiParameters(period=2))
    assert np.isnan(rsi).tolist() == [True, True, False, True, True, True]


def test_macd_is_the_difference_of_two_means_and_their_mean():
    parameters = MacdParameters(fast_period=1, slow_period=3, signal_period=3)
    line, signal, histogram = convergence_divergence(bars_of([8.0, 16.0, 24.0]), parameters)
    # fast = price; slow: 8, (8 + 16) / 2 = 12, (12 + 24) / 2 = 18
    np.testing.assert_array_equal(line, [0.0, 4.0, 6.0])
    # signal: 0, (0 + 4) / 2 = 2, (2 + 6) / 2 = 4
    np.testing.assert_array_equal(signal, [0.0, 2.0, 4.0])
    np.testing.assert_array_equal(histogram, [0.0, 2.0, 2.0])


def test_the_rate_of_change_is_in_percent_and_momentum_in_price():
    bars, parameters = bars_of([4.0, 8.0, 5.0, 0.0, 1.0, 1.0]), ChangeParameters(period=2)
    (roc,) = rate_of_change(bars, parameters)
    # (5 - 4) / 4 = 25 %, (0 - 8) / 8 = -100 %, (1 - 5) / 5 = -80 %, from 0 there is no rate
    np.testing.assert_allclose(roc, [np.nan, np.nan, 25.0, -100.0, -80.0, np.nan], rtol=1e-15)
    (momentum,) = difference(bars, parameters)
    np.testing.assert_array_equal(momentum, [np.nan, np.nan, 1.0, -8.0, -4.0, 1.0])


def test_a_distance_longer_than_the_series_gives_nan():
    (roc,) = rate_of_change(bars_of([1.0, 2.0]), ChangeParameters(period=5))
    assert np.isnan(roc).all()
