from typing import Any

import pytest

from backlane.errors import InvalidStrategyError
from backlane.features.names import feature_names
from backlane.features.rules import FeatureRules
from backlane.features.strategy import FuzzySetSpec, MembershipSpec, NetworkInputSpec
from backlane.features.strategy_file import parse_strategy, strategy_from_bundle
from tests.unit.features.strategies import strategy_content

IGNORING = FeatureRules(ignore_unknown_parameters=True)


def refusal(content: object) -> dict[str, str]:
    """Returns what is wrong, by path."""
    with pytest.raises(InvalidStrategyError) as caught:
        parse_strategy(content)
    for violation in caught.value.violations:
        assert f"{violation.field} {violation.description}" in caught.value.message
    return {v.field: v.description for v in caught.value.violations}


def changed(path: str, value: Any) -> dict[str, Any]:
    """Returns the good strategy with one value replaced; None removes it."""
    content = strategy_content()
    *parents, last = path.split("/")
    place: Any = content
    for key in parents:
        place = place[int(key) if key.isdigit() else key]
    if value is None:
        del place[last]
    else:
        place[int(last) if last.isdigit() else last] = value
    return content


def test_a_strategy_is_read_in_full():
    parsed = parse_strategy(strategy_content())
    strategy = parsed.strategy
    assert (strategy.name, strategy.version) == ("two_clocks", "3.0")
    assert strategy.symbols == ("EURUSD",)
    assert strategy.timeframes == ("5m", "1h")
    assert [(i.id, i.type, dict(i.parameters)) for i in strategy.indicators] == [
        ("rsi", "rsi", {"period": 3}),
        ("bb", "bollingerbands", {"period": 4, "multiplier": 2.0}),
    ]
    assert strategy.fuzzy_sets[0] == FuzzySetSpec(
        "mood",
        "rsi",
        (
            MembershipSpec("low", "triangular", (0.0, 20.0, 50.0)),
            MembershipSpec("high", "trapezoidal", (50.0, 80.0, 100.0, 100.0)),
        ),
    )
    assert strategy.nn_inputs == (
        NetworkInputSpec(fuzzy_set="mood"),
        NetworkInputSpec(fuzzy_set="floor", timeframes=("1h",)),
        NetworkInputSpec(raw_indicator="bb.middle", timeframes=("5m",), normalization="zscore"),
    )
    assert parsed.base_timeframe == "5m"
    assert parsed.decisions["confidence_threshold"] == 0.5
    assert parsed.history_required_bars == 100
    assert parsed.warnings == ()


def test_the_base_timeframe_comes_first():
    content = changed("training_data/timeframes/base_timeframe", "1h")
    parsed = parse_strategy(content)
    assert parsed.strategy.timeframes == ("1h", "5m")
    assert feature_names(parsed.strategy)[0] == "1h_mood_low"


def test_without_a_base_timeframe_the_first_of_the_list_is_it():
    content = changed("training_data/timeframes/base_timeframe", None)
    assert parse_strategy(content).base_timeframe == "5m"


def test_one_timeframe_and_several_symbols():
    content = strategy_content()
    content["training_data"] = {
        "symbols": {"mode": "multi_symbol", "list": ["EURUSD", "GBPUSD"]},
        "timeframes": {"mode": "single", "timeframe": "1h"},
    }
    content["nn_inputs"] = [{"fuzzy_set": "mood", "timeframes": "all"}]
    parsed = parse_strategy(content)
    assert parsed.strategy.symbols == ("EURUSD", "GBPUSD")
    assert parsed.strategy.timeframes == ("1h",)
    assert parsed.history_required_bars == 200


def test_every_mistake_is_told_at_once():
    content = strategy_content()
    content["indicators"]["rsi"]["period"] = 14.0
    content["fuzzy_sets"]["floor"]["near"]["parameters"] = [1, 0]
    content["nn_inputs"][1]["timeframes"] = ["4h"]
    content["decisions"]["confidence_threshold"] = 5
    assert list(refusal(content)) == [
        "indicators.rsi.period",
        "fuzzy_sets.floor.near.parameters",
        "nn_inputs[1].timeframes[0]",
        "decisions.confidence_threshold",
    ]


@pytest.mark.parametrize(
    ("path", "value", "field", "advice"),
    [
        ("name", None, "name", "must be a text"),
        ("model", None, "model", "must be a mapping"),
        ("decisions", [], "decisions", "must be a mapping"),
        ("training_data/timeframes/base_timeframe", "4h",
         "training_data.timeframes.base_timeframe", "use one of 5m, 1h"),
        ("training_data/timeframes/list", ["5m"], "training_data.timeframes.list", "at least two"),
        ("training_data/timeframes/list", ["5m", "5m"], "training_data.timeframes.list", "once"),
        ("training_data/timeframes/list", ["5m", "1h", "5q"],
         "training_data.timeframes.list[2]", "as in 5m"),
        ("training_data/timeframes/mode", "both", "training_data.timeframes.mode", "use single"),
        ("training_data/symbols/mode", "all", "training_data.symbols.mode", "use single"),
        ("training_data/symbols/symbol", "", "training_data.symbols.symbol", "an empty text"),
        ("training_data/history_required", 49, "training_data.history_required", "50 or more"),
        ("indicators/rsi", 14, "indicators.rsi", "must be a mapping"),
        ("indicators/rsi/type", None, "indicators.rsi.type", "must be a text"),
        ("indicators/rsi/type", "martian", "indicators.rsi.type", "use "),
        ("indicators/rsi/period", "14", "indicators.rsi.period", "a whole number from 2 to 100"),
        ("indicators/bb/std_dev", 3.0, "indicators.bb.std_dev", "use period, multiplier, source"),
        ("indicators/rsi/data_source", "DGS10", "indicators.rsi.data_source", "not supported"),
        ("fuzzy_sets/mood/indicator", None, "fuzzy_sets.mood.indicator", "must be a text"),
        ("fuzzy_sets/mood/indicator", "adx", "fuzzy_sets.mood.indicator", "use bb, rsi"),
        ("fuzzy_sets/mood/indicator", "rsi.upper", "fuzzy_sets.mood.indicator", "write 'rsi'"),
        ("fuzzy_sets/mood/indicator", "bb.top", "fuzzy_sets.mood.indicator", "bb.upper"),
        ("fuzzy_sets/mood", {"indicator": "rsi"}, "fuzzy_sets.mood", "add at least one"),
        ("fuzzy_sets/mood/low", [0, 20], "fuzzy_sets.mood.low.parameters", "takes 3 parameters"),
        ("fuzzy_sets/mood/low", [0, "a", 2], "fuzzy_sets.mood.low.parameters", "list of numbers"),
        ("fuzzy_sets/mood/low", [1, 2, 10**400], "fuzzy_sets.mood.low.parameters", "not finite"),
        ("fuzzy_sets/mood/low", {"type": "hat", "parameters": [1, 2]},
         "fuzzy_sets.mood.low.type", "use triangular"),
        ("nn_inputs", [], "nn_inputs", "at least one"),
        ("nn_inputs/0", "mood", "nn_inputs[0]", "must be a mapping"),
        ("nn_inputs/0", {"timeframes": "all"}, "nn_inputs[0]", "either fuzzy_set or raw_indicator"),
        ("nn_inputs/0/raw_indicator", "rsi", "nn_inputs[0]", "only one of them"),
        ("nn_inputs/0/fuzzy_set", "temper", "nn_inputs[0].fuzzy_set", "use floor, mood"),
        ("nn_inputs/0/normalization", "minmax", "nn_inputs[0].normalization", "remove it"),
        ("nn_inputs/2/normalization", "log", "nn_inputs[2].normalization", "use none"),
        ("nn_inputs/2/raw_indicator", "bb.top", "nn_inputs[2].raw_indicator", "bb.upper"),
        ("nn_inputs/0/timeframes", None, "nn_inputs[0].timeframes", "must be a list"),
        ("nn_inputs/0/timeframes", [], "nn_inputs[0].timeframes", "write all"),
        ("nn_inputs/0/timeframes", "4h", "nn_inputs[0].timeframes[0]", "use 5m, 1h"),
        ("decisions/output_format", "rank", "decisions.output_format", "use classification"),
    ],
)  # fmt: skip
def test_a_mistake_names_its_key_and_the_fix(path: str, value: Any, field: str, advice: str):
    mistakes = refusal(changed(path, value))
    assert field in mistakes
    assert advice in mistakes[field]


def test_a_key_that_yaml_reads_as_true_is_told():
    # `on: [0, 1, 2]` in YAML 1.1
    content = changed("fuzzy_sets/mood", {"indicator": "rsi", True: [0, 1, 2], "off": [0, 1, 2]})
    assert "quote it" in refusal(content)["fuzzy_sets.mood"]


def test_a_file_of_an_older_grammar_is_refused_at_once():
    mistakes = refusal(changed("indicators", [{"name": "rsi"}]))
    assert list(mistakes) == ["indicators"]
    assert "v3" in mistakes["indicators"]


@pytest.mark.parametrize("content", [None, [], "strategy", 3])
def test_what_is_no_mapping_is_refused(content: object):
    assert "must be a mapping" in refusal(content)["strategy"]


def test_what_follows_from_a_mistake_is_not_told_again():
    assert list(refusal(changed("training_data", None))) == [
        "training_data",
        "nn_inputs[1].timeframes[0]",
        "nn_inputs[2].timeframes[0]",
    ]
    assert list(refusal(changed("nn_inputs/0", "mood"))) == ["nn_inputs[0]"]


def test_two_features_may_not_share_a_name():
    content = strategy_content()
    content["fuzzy_sets"]["mood_low"] = {"indicator": "rsi", "er": [0, 1, 2]}
    content["fuzzy_sets"]["mood"]["low_er"] = [3, 4, 5]
    content["nn_inputs"].append({"fuzzy_set": "mood_low", "timeframes": ["1h"]})
    assert "'1h_mood_low_er'" in refusal(content)["nn_inputs"]


def test_an_input_may_be_repeated():
    content = strategy_content()
    content["nn_inputs"].append(content["nn_inputs"][1])
    names = feature_names(parse_strategy(content).strategy)
    assert names.count("1h_floor_near") == 2


def test_a_regression_strategy_needs_its_costs_loss_and_horizon():
    content = strategy_content()
    content["decisions"] = {
        "output_format": "regression",
        "cost_model": {"round_trip_cost": 0, "min_edge_multiplier": "2"},
    }
    content["training"] = {"loss": "focal", "labels": {"source": "forward_return", "horizon": 0}}
    assert set(refusal(content)) == {
        "decisions.cost_model.round_trip_cost",
        "decisions.cost_model.min_edge_multiplier",
        "training.loss",
        "training.labels.horizon",
    }
    content["decisions"] = {"output_format": "regression"}
    assert "round_trip_cost" in refusal(content)["decisions.cost_model"]


def test_what_is_allowed_but_hardly_meant_is_a_warning():
    content = strategy_content()
    content["indicators"]["spare"] = {"type": "sma"}
    content["fuzzy_sets"]["idle"] = {"indicator": "rsi", "low": [0, 1, 2]}
    content["decisions"] = {
        "output_format": "regression",
        "confidence_threshold": 0.5,
        "cost_model": {"round_trip_cost": 0.003, "min_edge_multiplier": 1.5},
    }
    assert [warning.split()[0] for warning in parse_strategy(content).warnings] == [
        "indicators.spare",
        "fuzzy_sets.idle",
        "decisions.confidence_threshold",
    ]


def test_an_ignored_parameter_stays_visible():
    parsed = parse_strategy(changed("indicators/bb/std_dev", 3.0), rules=IGNORING)
    assert parsed.strategy.indicators[1].parameters["std_dev"] == 3.0
    assert parsed.warnings == ("indicators.bb.std_dev is unknown to bollingerbands and ignored",)


def test_a_model_cannot_have_an_input_that_looks_ahead():
    content = changed("indicators/rsi", {"type": "zigzag", "threshold": 0.02})
    mistakes = refusal(content)
    assert list(mistakes) == ["nn_inputs[0].fuzzy_set"]
    assert "values change when later bars come" in mistakes["nn_inputs[0].fuzzy_set"]
    content["nn_inputs"][0] = {"raw_indicator": "rsi", "timeframes": "all"}
    assert list(refusal(content)) == ["nn_inputs[0].raw_indicator"]
    assert parse_strategy(content, rules=FeatureRules(reference_indicators=True))


def test_an_indicator_that_looks_ahead_may_be_defined_for_labels():
    content = strategy_content()
    content["indicators"]["turns"] = {"type": "zigzag"}
    assert [w.split()[0] for w in parse_strategy(content).warnings] == ["indicators.turns"]


def bundle_metadata() -> dict[str, Any]:
    content = strategy_content()
    return {
        "strategy_name": "two_clocks",
        "strategy_version": "3.0",
        "training_symbols": ["EURUSD"],
        "training_timeframes": ["5m", "1h"],
        **{key: content[key] for key in ("indicators", "fuzzy_sets", "nn_inputs")},
    }


def test_the_metadata_of_a_bundle_gives_the_same_strategy_as_its_file():
    assert strategy_from_bundle(bundle_metadata()) == parse_strategy(strategy_content()).strategy


def test_the_metadata_of_a_bundle_are_checked_as_a_file_is():
    metadata = bundle_metadata() | {"training_timeframes": [], "strategy_name": None}
    metadata["indicators"]["rsi"]["period"] = 0
    with pytest.raises(InvalidStrategyError) as caught:
        strategy_from_bundle(metadata)
    fields = {violation.field for violation in caught.value.violations}
    assert {"strategy_name", "training_timeframes", "indicators.rsi.period"} <= fields
