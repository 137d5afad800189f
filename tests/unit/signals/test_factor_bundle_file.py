"""Bundles of factors, from the content of a file."""

import pytest

from backlane.errors import InvalidStrategyError
from backlane.signals.factor_bundle_file import parse_factor_bundle
from backlane.signals.multifactor import FactorBundle, WeightedFactor, Winsorizing

FACTOR = {"name": "rv_20", "weight": 1.0, "direction": "negative"}


def test_a_file_becomes_a_bundle():
    content = {
        "universe": "all",
        "factors": [FACTOR],
        "options": {"winsorize": False, "zscore": False, "winsorize_limits": [0.05, 0.95]},
    }
    assert parse_factor_bundle(content) == FactorBundle(
        (WeightedFactor("rv_20", 1.0, is_negative=True),), Winsorizing.NONE, (0.05, 0.95), False
    )


def test_options_may_be_left_out_and_limits_never_look_ahead():
    bundle = parse_factor_bundle({"factors": [FACTOR]})
    assert (bundle.winsorizing, bundle.winsorize_limits) == (Winsorizing.PER_TIME, (0.01, 0.99))
    assert bundle.is_standardized


@pytest.mark.parametrize(
    ("content", "field"),
    [
        (None, "bundle"),
        ({}, "factors"),
        ({"factors": [{**FACTOR, "weight": float("nan")}]}, "factors[0].weight"),
        ({"factors": [{**FACTOR, "weight": True}]}, "factors[0].weight"),
        ({"factors": [{**FACTOR, "direction": "up"}]}, "factors[0].direction"),
        ({"factors": [{**FACTOR, "name": ""}]}, "factors[0].name"),
        ({"factors": [{**FACTOR, "weight": 0.5}]}, "factors"),
        ({"factors": [FACTOR], "options": {"zscore": 1}}, "options.zscore"),
        ({"factors": [FACTOR], "options": {"winsorize_limits": [1]}}, "options.winsorize_limits"),
    ],
)
def test_a_mistake_is_told_with_its_place(content: object, field: str):
    with pytest.raises(InvalidStrategyError) as caught:
        parse_factor_bundle(content)
    assert [violation.field for violation in caught.value.violations] == [field]
