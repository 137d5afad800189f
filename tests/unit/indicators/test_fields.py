import pytest

from backlane.indicators.fields import default_parameters, read_parameters, unknown_parameters
from backlane.indicators.parameters import (
    AdlineParameters,
    BollingerParameters,
    DistanceParameters,
    RsiParameters,
    SarParameters,
    ZigzagParameters,
)


def test_what_is_not_given_has_its_default():
    parameters, violations = read_parameters(RsiParameters, {"period": 7}, path="indicators.x")
    assert violations == []
    assert parameters == RsiParameters(period=7, source="close")


@pytest.mark.parametrize("value", [1, 101, 14.0, "14", True, None, [14]])
def test_a_period_must_be_a_whole_number_in_range(value: object):
    parameters, (violation,) = read_parameters(
        RsiParameters, {"period": value}, path="indicators.x"
    )
    assert parameters is None
    assert violation.field == "indicators.x.period"
    assert repr(value) in violation.description
    assert "a whole number from 2 to 100" in violation.description


@pytest.mark.parametrize("value", [0, -1.0, 10.5, float("nan"), float("inf"), "2", True])
def test_a_multiplier_must_be_above_0_and_at_most_10(value: object):
    parameters, violations = read_parameters(BollingerParameters, {"multiplier": value}, path="x")
    assert parameters is None
    assert "a number above 0, at most 10" in violations[0].description


def test_a_whole_number_will_do_as_a_multiplier():
    parameters, violations = read_parameters(BollingerParameters, {"multiplier": 10}, path="x")
    assert violations == []
    assert parameters.multiplier == 10


def test_a_source_must_be_a_column():
    _, violations = read_parameters(RsiParameters, {"source": "typical"}, path="x")
    assert "close, open, high, low, volume" in violations[0].description


def test_every_mistake_is_listed():
    given = {"period": 0, "source": 3, "lenght": 4}
    _, violations = read_parameters(RsiParameters, given, path="x")
    assert [v.field for v in violations] == ["x.lenght", "x.period", "x.source"]
    assert "use period, source, or remove it" in violations[0].description


def test_unknown_parameters_can_be_ignored():
    given = {"std_dev": 3.0}
    parameters, violations = read_parameters(
        BollingerParameters, given, path="x", ignore_unknown=True
    )
    assert (parameters, violations) == (BollingerParameters(), [])
    assert unknown_parameters(BollingerParameters, given) == ("std_dev",)


def test_defaults_can_be_listed():
    assert default_parameters(RsiParameters) == {"period": 14, "source": "close"}


@pytest.mark.parametrize(("value", "is_accepted"), [
    (0.001, True), (0.1, True), (0.0009, False), (0.11, False), (float("nan"), False),
])  # fmt: skip
def test_the_limits_of_a_step_belong_to_it(value: float, is_accepted: bool):
    parameters, violations = read_parameters(SarParameters, {"step_af": value}, path="x")
    assert (parameters is not None) is is_accepted
    assert is_accepted or "a number of at least 0.001, at most 0.1" in violations[0].description


@pytest.mark.parametrize("value", [0, 1, 1.0, -0.1, "0.5"])
def test_a_share_lies_between_0_and_1(value: object):
    parameters, violations = read_parameters(ZigzagParameters, {"threshold": value}, path="x")
    assert parameters is None
    assert "a number above 0, below 1" in violations[0].description


def test_a_word_is_taken_in_its_very_spelling():
    _, violations = read_parameters(DistanceParameters, {"ma_type": "sma"}, path="x")
    assert "one of SMA, EMA" in violations[0].description


def test_a_smoothed_distribution_line_cannot_be_asked_for():
    _, violations = read_parameters(AdlineParameters, {"use_sma_smoothing": True}, path="x")
    assert "write false" in violations[0].description
    parameters, _ = read_parameters(AdlineParameters, {"use_sma_smoothing": False}, path="x")
    assert parameters == AdlineParameters()
