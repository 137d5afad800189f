import numpy as np

from backlane.indicators.parameters import SarParameters, SupertrendParameters
from backlane.indicators.registry import find_indicator
from backlane.indicators.stops import parabolic_stop, supertrend
from tests.unit.indicators.bars import bars_of

TURNING = bars_of(
    [10.0, 11.0, 12.0, 9.0, 14.0],
    high=[11.0, 12.0, 13.0, 10.0, 15.0],
    low=[9.0, 10.0, 11.0, 8.0, 13.0],
)


def test_supertrend_holds_the_band_that_the_price_respects():
    trend, direction = supertrend(TURNING, SupertrendParameters(period=2, multiplier=1.0))
    # ranges 2, 2, 2, max(2, 2, 12 - 8) = 4, max(2, 15 - 9, 4) = 6; means -, 2, 2, 3, 5
    # bar 1: 11 +- 2; close 11 above 9: the lower band, 9
    # bar 2: 12 +- 2: the upper stays at 13, the lower rises to 10
    # bar 3: 9 +- 3: the upper falls to 12, the lower stays at 10; close 9 breaks it: upper, 12
    # bar 4: 14 +- 5: the upper stays at 12; the lower, which 9 broke, is 9 anew; close 14: lower
    np.testing.assert_array_equal(trend, [np.nan, 9.0, 10.0, 12.0, 9.0])
    np.testing.assert_array_equal(direction, [np.nan, 1.0, 1.0, -1.0, 1.0])


def test_supertrend_never_starts_under_the_rules_of_the_reference():
    trend, direction = find_indicator("supertrend").outputs_of(
        TURNING, SupertrendParameters(), reference_indicators=True
    )
    assert np.isnan(trend).all()
    assert direction.tolist() == [1.0] * 5


def test_the_parabolic_stop_follows_and_reverses():
    bars = bars_of(
        [9.0, 11.0, 12.0, 10.0, 8.0],
        high=[10.0, 12.0, 13.0, 12.0, 9.0],
        low=[8.0, 10.0, 11.0, 9.0, 7.0],
    )
    (stop,) = parabolic_stop(bars, SarParameters(initial_af=0.1, step_af=0.1, max_af=0.2))
    # bar 1: the close has risen: stop 8, extreme 12, af 0.1
    # bar 2: 8 + 0.1 (12 - 8) = 8.4, but not above the lows 10 and 8: 8; extreme 13, af 0.2
    # bar 3: 8 + 0.2 (13 - 8) = 9, and the low is 9: reversal to 13; extreme 9, af 0.1
    # bar 4: 13 + 0.1 (9 - 13) = 12.6, but not below the highs 12 and 13: 13
    np.testing.assert_array_equal(stop, [np.nan, 8.0, 8.0, 13.0, 13.0])


def test_the_parabolic_stop_of_a_fall_starts_at_the_first_high():
    (stop,) = parabolic_stop(bars_of([9.0, 8.0], high=[10.0, 9.0]), SarParameters())
    np.testing.assert_array_equal(stop, [np.nan, 10.0])


def test_one_bar_has_no_stop():
    assert np.isnan(parabolic_stop(bars_of([9.0]), SarParameters())[0]).tolist() == [True]
