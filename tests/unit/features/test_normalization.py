import numpy as np
import pytest

from backlane.errors import InvalidStrategyError
from backlane.features.names import Feature
from backlane.features.normalization import normalize

VALUES = np.array([np.nan, 2.0, 4.0, 12.0])


def scaled(normalization: str, **fitted: object) -> list[float]:
    feature = Feature("1h_x_raw", "1h", "x", None, normalization)
    return normalize(VALUES, feature, {"1h_x_raw": fitted}).tolist()[1:]


def test_minmax_maps_the_fitted_range_to_0_and_1_without_clipping():
    assert scaled("minmax", min=2.0, max=6.0) == [0.0, 0.5, 2.5]  # (12 - 2) / (6 - 2)


def test_zscore_counts_deviations_from_the_mean():
    assert scaled("zscore", mean=4.0, std=4.0) == [-0.5, 0.0, 2.0]


def test_a_range_of_zero_gives_zero_and_keeps_nan():
    assert scaled("minmax", min=4.0, max=4.0) == [0.0, 0.0, 0.0]
    feature = Feature("f", "1h", "x", None, "zscore")
    assert np.isnan(normalize(VALUES, feature, {"f": {"mean": 1.0, "std": 0.0}})[0])


def test_the_method_that_was_fitted_wins():
    assert scaled("none", method="zscore", mean=4.0, std=4.0) == [-0.5, 0.0, 2.0]
    assert scaled("minmax", method="none") == [2.0, 4.0, 12.0]


def test_without_an_entry_the_raw_scale_stays():
    feature = Feature("f", "1h", "x", None, "zscore")
    np.testing.assert_array_equal(normalize(VALUES, feature, {}), VALUES)


@pytest.mark.parametrize(
    "fitted", [{"mean": 1.0}, {"mean": 1.0, "std": float("nan")}, {"method": "log"}]
)
def test_an_entry_that_cannot_be_used_is_told(fitted: dict[str, object]):
    with pytest.raises(InvalidStrategyError, match=r"normalization_params\.1h_x_raw"):
        scaled("zscore", **fitted)
