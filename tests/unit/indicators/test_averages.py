import math

import numpy as np
import pytest

from backlane.indicators.averages import (
    distance_from_average,
    exponential_average,
    simple_average,
    weighted_average,
)
from backlane.indicators.parameters import (
    DistanceParameters,
    EmaParameters,
    SmaParameters,
    WmaParameters,
)
from backlane.indicators.registry import find_indicator
from backlane.indicators.windows import BLOCK_BARS
from tests.unit.indicators.bars import bars_of


def test_sma_is_the_mean_of_the_last_bars():
    (sma,) = simple_average(bars_of([3.0, 6.0, 9.0, 3.0]), SmaParameters(period=3))
    # (3 + 6 + 9) / 3 = 6, (6 + 9 + 3) / 3 = 6
    np.testing.assert_array_equal(sma, [np.nan, np.nan, 6.0, 6.0])


def test_sma_reads_the_column_that_source_names():
    bars = bars_of([1.0, 1.0], high=[2.0, 4.0])
    (sma,) = simple_average(bars, SmaParameters(period=2, source="high"))
    assert sma[1] == 3.0  # (2 + 4) / 2


def test_sma_of_a_dead_market_is_its_price_exactly():
    # Adding 0.1 twenty times gives 2.0000000000000004.
    (sma,) = simple_average(bars_of([0.1] * 30), SmaParameters(period=20))
    assert set(sma[19:]) == {0.1}


def test_sma_over_several_blocks_equals_the_exact_mean_of_each_window():
    count, period = 2 * BLOCK_BARS + 50, 7
    close = np.random.default_rng(5).uniform(1.0, 2.0, count)
    (sma,) = simple_average(bars_of(close), SmaParameters(period=period))
    for bar in (period - 1, BLOCK_BARS, BLOCK_BARS + period - 1, 2 * BLOCK_BARS + 6, count - 1):
        exact = math.fsum(close[bar - period + 1 : bar + 1]) / period
        assert sma[bar] == pytest.approx(exact, rel=1e-15)  # a few roundings


def test_adjusted_ema_weighs_the_bars_that_there_are():
    (ema,) = exponential_average(bars_of([2.0, 4.0, 8.0]), EmaParameters(period=3))
    # alpha = 2 / (3 + 1) = 1/2, weights 1, 1/2, 1/4 from the newest back:
    # (4 + 2/2) / (3/2) = 10/3, (8 + 4/2 + 2/4) / (7/4) = 6
    np.testing.assert_allclose(ema, [2.0, 10 / 3, 6.0], rtol=1e-15)  # last place


def test_recursive_ema_starts_at_the_first_value():
    (ema,) = exponential_average(bars_of([2.0, 4.0, 8.0]), EmaParameters(period=3, adjust=False))
    # 2, 2/2 + 4/2 = 3, 3/2 + 8/2 = 5.5
    np.testing.assert_array_equal(ema, [2.0, 3.0, 5.5])


def test_ema_has_no_ramp_after_a_first_price_of_100_and_a_fifth_of_140():
    # The reference multiplies just this series by 1.05 down to 1.01, left over from a test.
    close = [100.0, 110.0, 120.0, 130.0, 140.0]
    (ema,) = exponential_average(bars_of(close), EmaParameters(period=3, adjust=False))
    # half old, half new: 105 = 100/2 + 110/2, 112.5 = 105/2 + 120/2, and so on
    np.testing.assert_array_equal(ema, [100.0, 105.0, 112.5, 121.25, 130.625])


def test_the_ramp_is_there_under_the_rules_of_the_reference():
    bars, parameters = bars_of([100.0, 110.0, 120.0, 130.0, 140.0]), EmaParameters(3, adjust=False)
    (ramped,) = find_indicator("ema").outputs_of(
        bars, parameters, warmup_fillers=True, reference_indicators=True
    )
    # 1.05, 1.04, 1.03, 1.02, 1.01 times the means above
    np.testing.assert_allclose(ramped, [105.0, 109.2, 115.875, 123.675, 131.93125], rtol=1e-15)
    (adjusted,) = find_indicator("ema").outputs_of(
        bars, EmaParameters(3), warmup_fillers=True, reference_indicators=True
    )
    np.testing.assert_array_equal(adjusted, exponential_average(bars, EmaParameters(3))[0])


def test_wma_weighs_the_newest_bar_most():
    (wma,) = weighted_average(bars_of([1.0, 2.0, 6.0]), WmaParameters(period=3))
    # (1 x 1 + 2 x 2 + 3 x 6) / (1 + 2 + 3) = 23 / 6
    np.testing.assert_allclose(wma, [np.nan, np.nan, 23 / 6], rtol=1e-15)  # last place


def test_distance_is_in_percent_of_the_average():
    (simple,) = distance_from_average(bars_of([1.0, 3.0]), DistanceParameters(period=2))
    np.testing.assert_array_equal(simple, [np.nan, 50.0])  # (3 - 2) / 2
    parameters = DistanceParameters(period=3, ma_type="EMA")
    (weighted,) = distance_from_average(bars_of([2.0, 4.0]), parameters)
    # the mean is (4 + 2/2) / (3/2) = 10/3, (4 - 10/3) / (10/3) = 1/5
    np.testing.assert_allclose(weighted, [0.0, 20.0], rtol=1e-14)  # a few roundings


def test_ema_of_period_one_is_the_price():
    close = [2.0, 5.0, 3.0]
    (ema,) = exponential_average(bars_of(close), EmaParameters(period=1))
    np.testing.assert_array_equal(ema, close)


def test_no_bars_give_no_values():
    assert len(simple_average(bars_of([]), SmaParameters())[0]) == 0
    assert len(exponential_average(bars_of([]), EmaParameters())[0]) == 0


def test_too_few_bars_give_nan():
    (sma,) = simple_average(bars_of([1.0, 2.0]), SmaParameters(period=3))
    assert np.isnan(sma).all()
