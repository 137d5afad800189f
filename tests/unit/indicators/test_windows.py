import numpy as np
import pytest

from backlane.indicators.settling import (
    NEGLIGIBLE_WEIGHT,
    START_ALLOWANCE,
    bars_to_settle,
    span_alpha,
)
from backlane.indicators.windows import exponential_mean, true_range


@pytest.mark.parametrize("gain", [1.0, 13 / 3])
@pytest.mark.parametrize("alpha", [span_alpha(1), span_alpha(20), span_alpha(500), 1 / 14])
def test_a_mean_has_settled_when_the_past_weighs_nothing(alpha: float, gain: float):
    bars = bars_to_settle(alpha, gain)
    shown = gain * START_ALLOWANCE
    assert shown * (1 - alpha) ** bars <= NEGLIGIBLE_WEIGHT
    assert bars == 1 or shown * (1 - alpha) ** (bars - 1) > NEGLIGIBLE_WEIGHT


def test_a_flat_term_is_no_reason_to_forget_sooner():
    assert bars_to_settle(0.1, 0.01) == bars_to_settle(0.1)


def test_a_nan_repeats_the_mean_and_ages_the_past():
    values = np.array([np.nan, 4.0, np.nan, 8.0])
    means = exponential_mean(values, 0.5, adjust=False)
    # the past of 4 is two bars old: weights 1/4 and 1/2, (4/4 + 8/2) / (3/4) = 20/3
    np.testing.assert_allclose(means, [np.nan, 4.0, 4.0, 20 / 3], rtol=1e-15)  # last place


def test_a_missing_term_is_left_out_of_the_true_range():
    ranges = true_range(
        np.array([5.0, 6.0, np.nan, 7.0]),
        np.array([4.0, 5.0, np.nan, 6.0]),
        np.array([np.nan, 5.0, 5.0, 6.0]),
    )
    # no previous close: 6 - 5 = 1; no high and low: nothing; |7 - 5| = 2
    np.testing.assert_array_equal(ranges, [1.0, 1.0, np.nan, 2.0])
