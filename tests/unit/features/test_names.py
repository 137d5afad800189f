import pytest

from backlane.errors import FeatureMismatchError
from backlane.features.names import feature_names, select_features
from backlane.features.strategy_file import parse_strategy
from tests.unit.features.strategies import strategy_content

STRATEGY = parse_strategy(strategy_content()).strategy
NAMES = (
    "5m_mood_low",
    "5m_mood_high",
    "1h_mood_low",
    "1h_mood_high",
    "1h_floor_near",
    "5m_bb.middle_raw",
)


def test_names_go_by_input_then_timeframe_then_term():
    assert feature_names(STRATEGY) == NAMES


def test_the_order_is_that_of_the_model():
    wanted = NAMES[::-1]
    assert [f.name for f in select_features(STRATEGY, wanted, drop_extra=False)] == list(wanted)


def test_a_name_may_be_wanted_twice():
    wanted = (*NAMES, NAMES[0])
    assert len(select_features(STRATEGY, wanted, drop_extra=False)) == 7


def test_a_missing_feature_is_told_with_both_lists():
    with pytest.raises(FeatureMismatchError) as caught:
        select_features(STRATEGY, [*NAMES, "1h_mood_mid"], drop_extra=True)
    assert "does not give 1h_mood_mid" in caught.value.message
    assert caught.value.metadata["strategy_features"] == ", ".join(NAMES)
    assert caught.value.metadata["model_features"].endswith("1h_mood_mid")


def test_a_feature_too_many_is_refused_unless_it_may_be_dropped():
    with pytest.raises(FeatureMismatchError, match=r"does not know 5m_bb\.middle_raw"):
        select_features(STRATEGY, NAMES[:-1], drop_extra=False)
    assert len(select_features(STRATEGY, NAMES[:-1], drop_extra=True)) == 5
