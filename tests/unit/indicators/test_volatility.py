from decimal import Decimal, localcontext
from fractions import Fraction

import numpy as np
import pytest

from backlane.indicators.parameters import (
    AtrParameters,
    BollingerParameters,
    DonchianParameters,
    KeltnerParameters,
    SqueezeParameters,
)
from backlane.indicators.registry import find_indicator
from backlane.indicators.volatility import (
    average_true_range,
    bollinger_bands,
    bollinger_width,
    donchian_channels,
    keltner_channels,
    squeeze_intensity,
)
from tests.unit.indicators.bars import bars_of


def test_bollinger_bands_lie_sample_deviations_around_the_mean():
    parameters = BollingerParameters(period=3, multiplier=2.0)
    upper, middle, lower = bollinger_bands(bars_of([1.0, 2.0, 3.0, 7.0]), parameters)
    # 1 2 3: mean 2, variance (1 + 0 + 1) / 2 = 1, so 2 +- 2 x 1
    # 2 3 7: mean 4, variance (4 + 1 + 9) / 2 = 7, so 4 +- 2 x sqrt(7)
    np.testing.assert_allclose(upper[2:], [4.0, 4 + 2 * 7**0.5], rtol=1e-15)  # last place
    np.testing.assert_allclose(middle[2:], [2.0, 4.0], rtol=1e-15)
    np.testing.assert_allclose(lower[2:], [0.0, 4 - 2 * 7**0.5], rtol=1e-15)
    assert np.isnan([upper[:2], middle[:2], lower[:2]]).all()


def test_bollinger_width_is_relative_to_the_middle():
    parameters = BollingerParameters(period=3, multiplier=2.0)
    (width,) = bollinger_width(bars_of([1.0, 2.0, 3.0]), parameters)
    assert width[2] == 2.0  # (4 - 0) / 2
    assert np.isnan(width[:2]).all()


def test_bollinger_width_in_warm_up_is_nan_and_zero_only_where_fillers_are_asked_for():
    kind = find_indicator("bollingerbandwidth")
    bars, parameters = bars_of([1.0, 2.0, 3.0]), BollingerParameters(period=3)
    (default,) = kind.outputs_of(bars, parameters)
    (filled,) = kind.outputs_of(bars, parameters, warmup_fillers=True)
    assert np.isnan(default).tolist() == [True, True, False]
    assert filled.tolist() == [0.0, 0.0, 2.0]


def test_bollinger_bands_meet_in_a_dead_market():
    upper, middle, lower = bollinger_bands(bars_of([0.1] * 25), BollingerParameters())
    assert set(upper[19:]) == set(middle[19:]) == set(lower[19:]) == {0.1}


def test_width_after_a_crash_in_a_quiet_market_is_exact():
    # A running sum keeps the rounding of the crash for ever; here each window stands for itself.
    quiet = 1.1 + 1e-6 * np.random.default_rng(3).standard_normal(60)
    close = np.concatenate([quiet[:30], [9000.0], quiet[30:]])
    (width,) = bollinger_width(bars_of(close), BollingerParameters())
    with localcontext() as context:
        context.prec = 40
        window = [Fraction(price) for price in close[-20:]]
        mean = sum(window) / 20
        variance = sum((price - mean) ** 2 for price in window) / 19
        deviation = (Decimal(variance.numerator) / Decimal(variance.denominator)).sqrt()
        exact = 4 * deviation / (Decimal(mean.numerator) / Decimal(mean.denominator))
    # upper - lower cancels: the width keeps the last place of a price of 1.1, 2e-16 of 4e-6.
    assert width[-1] == pytest.approx(float(exact), rel=1e-9)


def test_width_is_nan_where_the_middle_is_zero():
    bars = bars_of([1.0, 1.0, 1.0], volume=[0.0, 0.0, 3.0])
    (width,) = bollinger_width(bars, BollingerParameters(period=2, source="volume"))
    assert np.isnan(width[1])
    assert width[2] == pytest.approx(8**0.5 * 2)  # mean 1.5, deviation sqrt(4.5), 4 sqrt(4.5) / 1.5


def test_atr_is_the_plain_mean_of_true_ranges():
    bars = bars_of([11.0, 13.0, 9.0], high=[12.0, 14.0, 10.0], low=[10.0, 12.0, 8.0])
    (atr,) = average_true_range(bars, AtrParameters(period=2))
    # ranges: 12 - 10 = 2; max(2, |14 - 11|, |12 - 11|) = 3; max(2, |10 - 13|, |8 - 13|) = 5
    np.testing.assert_array_equal(atr, [np.nan, 2.5, 4.0])  # (2 + 3) / 2, (3 + 5) / 2


def test_keltner_channels_lie_ranges_around_an_exponential_mean():
    bars = bars_of([2.0, 4.0], high=[3.0, 5.0], low=[1.0, 3.0])
    parameters = KeltnerParameters(period=3, atr_period=2, multiplier=2.0)
    upper, middle, lower = keltner_channels(bars, parameters)
    # middle: alpha 1/2: 2, 3; ranges: 2, max(2, 5 - 2, 3 - 2) = 3, mean 2.5; 3 +- 2 x 2.5
    np.testing.assert_array_equal(middle, [2.0, 3.0])
    np.testing.assert_array_equal(upper, [np.nan, 8.0])
    np.testing.assert_array_equal(lower, [np.nan, -2.0])


def test_donchian_channels_hold_the_window_with_the_current_bar():
    bars = bars_of([2.0, 4.0, 3.0], high=[9.0, 5.0, 6.0], low=[1.0, 3.0, 2.0])
    upper, middle, lower = donchian_channels(bars, DonchianParameters(period=2))
    np.testing.assert_array_equal(upper, [np.nan, 9.0, 6.0])
    np.testing.assert_array_equal(middle, [np.nan, 5.0, 4.0])
    np.testing.assert_array_equal(lower, [np.nan, 1.0, 2.0])


SQUEEZE = SqueezeParameters(bb_period=2, bb_multiplier=2.0, kc_period=3, kc_multiplier=1.0)


def test_a_squeeze_is_the_share_of_the_channels_that_the_bands_leave_free():
    close = [10.0] * 11 + [11.0, 14.0]
    high, low = [11.0] * 12 + [14.0], [9.0] * 13
    (squeeze,) = squeeze_intensity(bars_of(close, high=high, low=low), SQUEEZE)
    # bar 10: bands 10 +- 0, channels 10 +- 2: 2 / 4 free on both sides
    assert squeeze[10] == 0.5
    # bar 11: bands 10.5 +- 2 x sqrt(1/2), channels 10.5 +- 2: (2 - sqrt(2)) / 4
    assert squeeze[11] == pytest.approx((2 - 2**0.5) / 4, rel=1e-14)  # cancels a digit
    # bar 12: bands 12.5 +- 2 x sqrt(4.5), the upper one beyond 12.25 + 2.3
    assert squeeze[12] == 0.0
    assert np.isnan(squeeze[:9]).all()


def test_a_squeeze_without_any_range_is_0():
    (squeeze,) = squeeze_intensity(bars_of([10.0] * 12), SQUEEZE)
    assert squeeze[11] == 0.0


def test_a_squeeze_in_warm_up_is_0_where_the_reference_has_no_channels_and_nan_where_no_bands():
    bars = bars_of([10.0] * 13, high=[11.0] * 13, low=[9.0] * 13)
    parameters = SqueezeParameters(bb_period=12)
    (squeeze,) = find_indicator("squeezeintensity").outputs_of(
        bars, parameters, warmup_fillers=True
    )
    assert squeeze[:9].tolist() == [0.0] * 9
    assert np.isnan(squeeze[9:11]).all()
    assert squeeze[11] == 0.5
