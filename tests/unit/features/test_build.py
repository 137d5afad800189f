import dataclasses

import numpy as np
import pytest

from backlane.errors import InvalidRequestError, InvalidStrategyError, NotEnoughBarsError
from backlane.features.build import build_features
from backlane.features.names import feature_names
from backlane.features.rules import FeatureRules
from backlane.features.strategy import (
    FuzzySetSpec,
    IndicatorSpec,
    MembershipSpec,
    NetworkInputSpec,
    Strategy,
)
from backlane.market.bars import BarSeries
from backlane.market.timeframe import Timeframe

MINUTE_NS = 60 * 10**9
RULES = FeatureRules()
HALVES = MembershipSpec("low", "trapezoidal", (0.0, 0.0, 2.0, 4.0))
STRATEGY = Strategy(
    name="means",
    version="3.0",
    symbols=("TEST",),
    timeframes=("30m", "1h"),
    indicators=(IndicatorSpec("mean", "sma", {"period": 2}),),
    fuzzy_sets=(FuzzySetSpec("level", "mean", (HALVES,)),),
    nn_inputs=(
        NetworkInputSpec(fuzzy_set="level"),
        NetworkInputSpec(raw_indicator="mean", timeframes=("1h",)),
    ),
)
NAMES = ("30m_level_low", "1h_level_low", "1h_mean_raw")


def bars_of(label: str, close: list[float]) -> BarSeries:
    timeframe = Timeframe.parse(label)
    times = np.arange(len(close), dtype=np.int64) * timeframe.length_ns
    column = np.array(close)
    return BarSeries("TEST", timeframe, times, column, column, column, column, column)


BARS = {
    "30m": bars_of("30m", [1.0, 3.0, 3.0, 3.0, 5.0, 9.0]),
    "1h": bars_of("1h", [1.0, 3.0, 7.0]),
}


def test_a_matrix_holds_what_was_known_at_each_close():
    matrix = build_features(STRATEGY, BARS, names=NAMES, rules=RULES)
    # 30m means: - 2 3 3 4 7, in [0 0 2 4]: - 1 1/2 1/2 0 0
    # 1h means: - 2 5, known at 02:00 (30m bar 3) and 03:00 (bar 5); in the term: - 1 0
    nan = np.nan
    expected = [
        [nan, nan, nan],
        [1.0, nan, nan],
        [0.5, nan, nan],
        [0.5, 1.0, 2.0],
        [0.0, 1.0, 2.0],
        [0.0, 0.0, 5.0],
    ]
    np.testing.assert_array_equal(matrix.values, np.array(expected, dtype=np.float32))
    assert matrix.names == NAMES == feature_names(STRATEGY)
    assert matrix.valid_from == 3
    assert matrix.values.dtype == np.float32
    assert matrix.values.flags.c_contiguous


def test_columns_stand_in_the_order_of_the_model():
    names = (NAMES[2], NAMES[0], NAMES[1], NAMES[0])
    matrix = build_features(STRATEGY, BARS, names=names, rules=RULES)
    assert matrix.values[5].tolist() == [5.0, 0.0, 0.0, 0.0]
    assert matrix.names == names


def test_raw_inputs_are_scaled_as_in_training():
    fitted = {"1h_mean_raw": {"method": "minmax", "min": 1.0, "max": 3.0}}
    matrix = build_features(STRATEGY, BARS, names=NAMES, rules=RULES, normalization=fitted)
    assert matrix.values[5, 2] == 2.0  # (5 - 1) / (3 - 1)


def test_a_timeframe_without_bars_is_named():
    with pytest.raises(InvalidRequestError, match="needs bars of 1h") as caught:
        build_features(STRATEGY, {"30m": BARS["30m"]}, names=NAMES, rules=RULES)
    assert [v.field for v in caught.value.violations] == ["data.1h"]


def test_too_few_bars_are_told_with_what_is_needed():
    bars = BARS | {"1h": bars_of("1h", [1.0])}
    with pytest.raises(NotEnoughBarsError, match="'mean' needs 2 bars of 1h, and there are 1"):
        build_features(STRATEGY, bars, names=NAMES, rules=RULES)


def test_a_matrix_without_a_complete_row_is_valid_from_its_end():
    bars = BARS | {"30m": bars_of("30m", [1.0, 2.0])}  # over before the first hour's mean is known
    matrix = build_features(STRATEGY, bars, names=NAMES, rules=RULES)
    assert matrix.valid_from == len(matrix.values) == 2


def test_an_unknown_parameter_is_refused_unless_it_may_be_ignored():
    indicator = IndicatorSpec("mean", "sma", {"period": 2, "length": 9})
    strategy = dataclasses.replace(STRATEGY, indicators=(indicator,))
    with pytest.raises(InvalidStrategyError, match=r"indicators\.mean\.length"):
        build_features(strategy, BARS, names=NAMES, rules=RULES)
    lenient = FeatureRules(ignore_unknown_parameters=True)
    assert build_features(strategy, BARS, names=NAMES, rules=lenient).valid_from == 3


def test_an_unknown_indicator_is_refused():
    strategy = dataclasses.replace(STRATEGY, indicators=(IndicatorSpec("mean", "martian", {}),))
    with pytest.raises(InvalidStrategyError, match="martian"):
        build_features(strategy, BARS, names=NAMES, rules=RULES)


LOOKING_AHEAD = dataclasses.replace(STRATEGY, indicators=(IndicatorSpec("mean", "zigzag", {}),))


def test_an_input_that_looks_ahead_is_refused_but_under_the_rules_of_the_reference():
    with pytest.raises(InvalidStrategyError, match="zigzag, whose values change") as caught:
        build_features(LOOKING_AHEAD, BARS, names=NAMES, rules=RULES)
    assert {v.field for v in caught.value.violations} == {f"features.{name}" for name in NAMES}
    compatible = FeatureRules(reference_indicators=True)
    matrix = build_features(LOOKING_AHEAD, BARS, names=NAMES, rules=compatible)
    assert matrix.values[5, 2] == 7.0  # the close that is the last extreme so far


def test_shapes_that_the_reference_lacks_are_refused_under_its_rules():
    bell = MembershipSpec("low", "bell", (2.0, 1.0, 2.0))
    strategy = dataclasses.replace(STRATEGY, fuzzy_sets=(FuzzySetSpec("level", "mean", (bell,)),))
    # the last 1h mean is 5: 1 / (1 + (3/2)^2) = 4/13
    matrix = build_features(strategy, BARS, names=NAMES, rules=RULES)
    assert matrix.values[5, 1] == np.float32(4 / 13)
    with pytest.raises(InvalidStrategyError, match="shape bell, which ktrdr does not have"):
        build_features(strategy, BARS, names=NAMES, rules=FeatureRules(reference_indicators=True))


def test_fillers_are_shown_only_where_they_are_asked_for():
    indicator = IndicatorSpec("mean", "williamsr", {"period": 2})
    strategy = dataclasses.replace(STRATEGY, indicators=(indicator,))
    hidden = build_features(strategy, BARS, names=NAMES, rules=RULES)
    shown = build_features(strategy, BARS, names=NAMES, rules=FeatureRules(warmup_fillers=True))
    # 1h: unknown at 01:00 (30m bar 1), known at 02:00 (bar 3); the close is the high: 0
    assert np.isnan(hidden.values[1, 2])
    assert shown.values[1, 2] == -50.0
    assert hidden.values[3, 2] == shown.values[3, 2] == 0.0


def test_mistakes_are_made_only_where_they_are_asked_for():
    indicator = IndicatorSpec("mean", "supertrend", {"period": 2})
    strategy = dataclasses.replace(STRATEGY, indicators=(indicator,))
    right = build_features(strategy, BARS, names=NAMES, rules=RULES)
    wrong = build_features(
        strategy, BARS, names=NAMES, rules=FeatureRules(reference_indicators=True)
    )
    assert right.valid_from == 3
    assert np.isnan(wrong.values).all()
