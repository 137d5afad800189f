"""Indicators, terms, alignment, strategies and features against what the reference recorded.

The tolerances are those that the reference states for itself (SPEC section 18): it sums by updating
a running total, which rounds differently from summing each window afresh. A series may differ by
1e-9 of a value plus 1e-9 of the scale of the series, and variances of a dead market by 1e-7.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml
from numpy.typing import NDArray

from backlane.errors import InvalidRequestError, InvalidStrategyError
from backlane.features.align import align, visible_rows
from backlane.features.build import build_features, feature_columns
from backlane.features.history import bars_in_scope, warmup_bars
from backlane.features.names import feature_names, select_features
from backlane.features.plan import plan_features
from backlane.features.rules import Alignment, FeatureRules
from backlane.features.strategy import IndicatorSpec, NetworkInputSpec, Strategy
from backlane.features.strategy_file import parse_strategy, strategy_from_bundle
from backlane.fuzzy.membership import fuzzify
from backlane.fuzzy.shapes import find_shape, parameter_mistake
from backlane.indicators.fields import default_parameters, read_parameters
from backlane.indicators.registry import INDICATORS, find_indicator
from backlane.market.bars import BarSeries
from backlane.market.timeframe import Timeframe
from tests.golden.vectors import (
    bars_of,
    bundle_folder,
    cases,
    folders,
    profile_of,
    read_json,
)
from tests.shared import KTRDR, needs_shared

READS = (
    "components/alignment/*",
    "components/indicators/*",
    "components/membership/*",
    "components/strategy/load_cases.json",
    "features/*.parquet",
    "features/index.json",
    "strategies/*.yaml",
    "data/*.parquet",
)

pytestmark = needs_shared

COMPONENTS = KTRDR / "components"
KTRDR_HEAD = FeatureRules(
    alignment=Alignment.STAMP_FORWARD_FILL,
    trapezoid_edge=False,
    warmup_fillers=True,
    reference_indicators=True,
    ignore_unknown_parameters=True,
    drop_extra_features=True,
)


def _series(frame: pd.DataFrame, label: str) -> BarSeries:
    index = pd.DatetimeIndex(frame.index).as_unit("ns")
    columns = [
        np.ascontiguousarray(frame[name].to_numpy(), np.float64)
        for name in ("open", "high", "low", "close", "volume")
    ]
    times = index.asi8.astype(np.int64)
    return BarSeries("TEST", Timeframe.parse(label), times, *columns)


# --- indicators --------------------------------------------------------------------------------


def _indicator_cases() -> Iterator[Any]:
    for case in read_json(COMPONENTS / "indicators" / "cases.json"):
        yield pytest.param(case, id=f"{case['input']}-{case['case']}")


@cache
def _indicator_input(name: str) -> BarSeries:
    frame = pd.read_parquet(COMPONENTS / "indicators" / f"input_{name}.parquet")
    return _series(frame, "1h")  # no indicator asks how long a bar is


DEAD_BARS = 10
MADE_OF_VARIANCES = ("bollingerbands", "bollingerbandwidth", "squeezeintensity")


@cache
def _stands_still(name: str) -> bool:
    """Says whether the closes of an input do not move for a while anywhere."""
    still = np.concatenate([[0], np.diff(_indicator_input(name).close) == 0.0, [0]]).astype(int)
    starts, ends = np.flatnonzero(np.diff(still) == 1), np.flatnonzero(np.diff(still) == -1)
    return bool((ends - starts >= DEAD_BARS).any())


@cache
def _indicator_output(name: str) -> pd.DataFrame:
    return pd.read_parquet(COMPONENTS / "indicators" / f"output_{name}.parquet")


@pytest.mark.parametrize("case", [*_indicator_cases()])
def test_an_indicator_gives_the_recorded_series(case: dict[str, Any]) -> None:
    kind = find_indicator(case["type"])
    assert kind is not None
    parameters, violations = read_parameters(kind.parameters, case["params_given"], path="p")
    assert violations == []
    bars = _indicator_input(case["input"])

    outputs = kind.outputs_of(bars, parameters, warmup_fillers=True, reference_indicators=True)

    assert list(kind.outputs) == case["outputs"]
    suffixes = [f".{name}" for name in kind.outputs] or [""]
    # Running sums never forget: after a move, a market that stands still keeps the rounding of it.
    is_variance_in_dead_market = kind.name in MADE_OF_VARIANCES and _stands_still(case["input"])
    tolerance = 1e-7 if is_variance_in_dead_market else 1e-9
    for suffix, values in zip(suffixes, outputs, strict=True):
        expected = _indicator_output(case["input"])[case["case"] + suffix].to_numpy(np.float64)
        known = np.abs(expected[~np.isnan(expected)])
        scale = known.max(initial=0.0)
        np.testing.assert_array_equal(np.isnan(values), np.isnan(expected))
        np.testing.assert_allclose(values, expected, rtol=tolerance, atol=tolerance * scale)


@pytest.mark.parametrize("case", [*_indicator_cases()])
def test_an_indicator_takes_the_recorded_defaults(case: dict[str, Any]) -> None:
    kind = find_indicator(case["type"])
    assert kind is not None
    parameters, _ = read_parameters(kind.parameters, case["params_given"], path="p")
    for name, value in case["effective_params"].items():
        assert getattr(parameters, name) == value


def _recorded_parameter_errors() -> Iterator[Any]:
    errors = read_json(COMPONENTS / "indicators" / "errors.json")
    for index, case in enumerate(errors["params"] if errors else []):
        yield pytest.param(case, id=f"{index}-{case['type']}")


@pytest.mark.parametrize("case", [*_recorded_parameter_errors()])
def test_parameters_are_refused_and_ignored_as_recorded(case: dict[str, Any]) -> None:
    kind = find_indicator(case["type"])
    if kind is None:
        assert not case["ok"]
        assert "Unknown indicator type" in case["message"]
        return
    lenient, violations = read_parameters(
        kind.parameters, case["params"], path="p", ignore_unknown=True
    )
    assert (lenient is not None) is case["ok"]
    for name, value in case.get("effective_params", {}).items():
        assert getattr(lenient, name) == value
    # What the reference drops in silence, the strict reader refuses.
    _, strict = read_parameters(kind.parameters, case["params"], path="p")
    is_dropped = case["ok"] and not set(case["params"]) <= set(case["effective_params"])
    assert bool(strict) is (is_dropped or bool(violations))


def test_minimum_bars_are_the_recorded_ones() -> None:
    for case in read_json(COMPONENTS / "indicators" / "errors.json")["minimum_rows"]:
        kind = find_indicator(case["type"])
        assert kind is not None
        assert kind.minimum_bars(kind.parameters(**case["params"])) == case["min_rows"]


def test_names_and_aliases_are_the_recorded_ones() -> None:
    registry = read_json(COMPONENTS / "indicators" / "registry.json")
    for name, entry in registry.items():
        kind = find_indicator(name)
        assert kind is not None
        assert {kind.name, *kind.aliases} >= set(entry["aliases"])
        assert list(kind.outputs) == entry["outputs"]
    assert len(registry) == len(INDICATORS)


def test_parameters_defaults_and_limits_are_the_recorded_ones() -> None:
    for name, entry in read_json(COMPONENTS / "indicators" / "registry.json").items():
        kind = find_indicator(name)
        assert kind is not None
        recorded = {key: item["default"] for key, item in entry["params"].items()}
        assert default_parameters(kind.parameters) == recorded
        for key, item in entry["params"].items():
            for constraint in item["constraints"]:
                _check_limit(kind.parameters, key, constraint)


def _check_limit(kind: Any, key: str, constraint: str) -> None:
    """Checks that a limit, as in `Ge(ge=2)`, is accepted if it belongs to the range, else not."""
    name, _, rest = constraint.partition("(")
    if name not in ("Ge", "Le", "Gt", "Lt"):
        return
    limit = json.loads(rest.rstrip(")").partition("=")[2])
    step = 1 if isinstance(limit, int) else 1e-9
    beyond = limit - step if name in ("Ge", "Gt") else limit + step
    for value, is_inside in ((limit, name in ("Ge", "Le")), (beyond, False)):
        parameters, _ = read_parameters(kind, {key: value}, path="p")
        assert (parameters is not None) is is_inside, (kind, key, constraint)


# --- terms -------------------------------------------------------------------------------------


def test_membership_degrees_are_the_recorded_ones() -> None:
    table = pd.read_parquet(COMPONENTS / "membership" / "membership.parquet")
    for (_, type_name, parameters), group in table.groupby(["mf", "type", "parameters"]):
        values = group["x"].to_numpy(np.float64)
        degrees = fuzzify(values, str(type_name), json.loads(str(parameters)), trapezoid_edge=False)
        # exp() may differ in the last place between libraries; everything else is exact.
        np.testing.assert_allclose(degrees, group["mu"].to_numpy(np.float64), rtol=0, atol=1e-15)


def test_membership_parameters_are_refused_as_recorded() -> None:
    for case in read_json(COMPONENTS / "membership" / "errors.json"):
        shape = find_shape(case["type"])
        known = shape is not None and shape.is_in_ktrdr
        accepted = known and parameter_mistake(shape, case["parameters"]) is None
        assert accepted is case["ok"], case


# --- alignment ---------------------------------------------------------------------------------


def _alignment_cases(*, is_served: bool) -> Iterator[Any]:
    """Cases with a base timeframe among the inputs, or the others, which are refused here."""
    for case in read_json(COMPONENTS / "alignment" / "cases.json"):
        base = _base_label(case)
        if ("raises" not in case and base in case["inputs"]) is is_served:
            yield pytest.param(case, id=case["case"])


def _base_label(case: Mapping[str, Any]) -> str | None:
    """Returns the base timeframe: the finest, where none was named."""
    labels = case.get("inputs", [])
    if case.get("base_timeframe") or not labels:
        return case.get("base_timeframe")
    return min(labels, key=lambda label: Timeframe.parse(label).length_ns)


def _stamped(frame: pd.DataFrame, label: str) -> BarSeries:
    ones = np.ones(len(frame))
    times = pd.DatetimeIndex(frame.index).as_unit("ns").asi8.astype(np.int64)
    return BarSeries("TEST", Timeframe.parse(label), times, ones, ones, ones, ones, ones)


@pytest.mark.parametrize("case", [*_alignment_cases(is_served=True)])
def test_stamp_forward_fill_gives_the_recorded_frame(case: dict[str, Any]) -> None:
    def read(part: str) -> pd.DataFrame:
        return pd.read_parquet(COMPONENTS / "alignment" / f"{case['case']}__{part}.parquet")

    expected, base_label = read("out"), _base_label(case)
    assert base_label is not None
    base = _stamped(read(f"in_{base_label}"), base_label)
    assert len(base) == case["rows"]
    found = set()
    for label in case["inputs"]:
        frame = read(f"in_{label}")
        rows = visible_rows(base, _stamped(frame, label), Alignment.STAMP_FORWARD_FILL)
        for name in frame.columns:
            values = np.ascontiguousarray(frame[name].to_numpy(np.float64))
            if label != base_label:
                values = align(values, rows, Alignment.STAMP_FORWARD_FILL)
            np.testing.assert_array_equal(values, expected[name].to_numpy())
            found.add(name)
    assert found == set(case["out_columns"])


@pytest.mark.parametrize("case", [*_alignment_cases(is_served=False)])
def test_a_base_timeframe_without_bars_is_refused(case: dict[str, Any]) -> None:
    """The reference takes whatever timeframe there is for the base, where it is a single one."""
    labels = case.get("inputs", [])
    base = case.get("base_timeframe") or "5m"
    volume = (IndicatorSpec("volume", "obv", {}),)
    inputs = (NetworkInputSpec(raw_indicator="volume", timeframes=(base,)),)
    strategy = Strategy("s", "3.0", ("TEST",), (base, *labels), volume, (), inputs)
    empty = pd.DataFrame(index=pd.DatetimeIndex([]))
    bars = {label: _stamped(empty, label) for label in labels}
    with pytest.raises(InvalidRequestError, match=f"needs bars of {base}"):
        build_features(strategy, bars, names=[f"{base}_volume_raw"], rules=KTRDR_HEAD)


# --- strategies --------------------------------------------------------------------------------


def _refused_here(strategy: Mapping[str, Any]) -> str | None:
    """Where a strategy is refused that the reference lets pass, by mistake or until it is built."""
    timeframes = strategy.get("training_data", {}).get("timeframes", {})
    listed = timeframes.get("list", timeframes.get("timeframes", []))
    if timeframes.get("base_timeframe", *listed[:1]) not in listed and listed:
        return "training_data.timeframes.base_timeframe"
    for name, spec in strategy.get("indicators", {}).items():
        if find_indicator(str(spec.get("type"))) is None:
            return f"indicators.{name}.type"
        if read_parameters(find_indicator(spec["type"]).parameters, _only(spec), path="p")[1]:
            return f"indicators.{name}"
    for name, terms in strategy.get("fuzzy_sets", {}).items():
        for term, spec in terms.items():
            if term == "indicator":
                continue
            shape_name, numbers = (
                (spec.get("type", "triangular"), spec["parameters"])
                if isinstance(spec, dict)
                else ("triangular", spec)
            )
            shape = find_shape(shape_name)
            if shape is None or parameter_mistake(shape, numbers):
                return f"fuzzy_sets.{name}.{term}.parameters"
    return None


def _only(spec: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in spec.items() if key not in ("type", "data_source")}


def _lettered(strategy: Mapping[str, Any]) -> bool:
    """Says whether the reference reads a timeframe of an input letter by letter: 5m as 5 and m."""
    given = [item.get("timeframes", "all") for item in strategy["nn_inputs"]]
    return any(isinstance(label, str) and label != "all" for label in given)


@pytest.mark.parametrize("case", [*cases("components", "strategy", "load_cases.json")])
def test_a_strategy_loads_as_recorded(case: dict[str, Any]) -> None:
    wanted = _refused_here(case["strategy"]) if case["ok"] else ""
    if wanted is not None:
        with pytest.raises(InvalidStrategyError) as caught:
            parse_strategy(case["strategy"])
        fields = [violation.field for violation in caught.value.violations]
        assert fields[0].startswith(wanted)
        return

    parsed = parse_strategy(case["strategy"])

    names = list(feature_names(parsed.strategy))
    if _lettered(case["strategy"]):
        labels = {name.split("_")[0] for name in names}
        assert labels <= set(parsed.strategy.timeframes)
    else:
        assert names == case["resolved_features"]
    assert bool(parsed.warnings) is bool(case["warnings"])


@pytest.mark.parametrize("name", [path.name for path in sorted(KTRDR.glob("strategies/*.yaml"))])
def test_a_strategy_file_is_that_of_its_bundle(name: str) -> None:
    content = yaml.safe_load((KTRDR / "strategies" / name).read_text())
    strategy = parse_strategy(content).strategy
    metadata = read_json(bundle_folder(content["name"]) / "metadata_v3.json")
    assert list(feature_names(strategy)) == metadata["resolved_features"]
    assert list(strategy.timeframes) == metadata["training_timeframes"]
    rules = replace(KTRDR_HEAD, alignment=Alignment.KNOWN_AT_CLOSE)
    assert min(warmup_bars(strategy, rules=rules).values()) >= 1


# --- features ----------------------------------------------------------------------------------


def _feature_tables() -> Iterator[Any]:
    """Every table, with a scenario that it was made for, if there is one.

    A table of a model with one timeframe is the same at both versions; of another, the scenario
    says which version it is.
    """
    for key, entry in (read_json(KTRDR / "features" / "index.json") or {}).items():
        bundle, start, end = key.split("__")
        metadata = read_json(bundle_folder(bundle) / "metadata_v3.json")
        made_for = [
            config
            for folder in folders("scenarios", "scenario.json")
            for config in [read_json(folder / "scenario.json")]
            if config["bundle"] == bundle
            and (_compact(config["start_date"]), _compact(config["end_date"])) == (start, end)
            and "error" not in config
        ]
        yield pytest.param(metadata, entry, start, end, made_for, id=key)


def _compact(moment: str) -> str:
    """Writes a moment as the keys of the index do: 2023-07-21T1500."""
    return moment.replace(" ", "T").replace(":", "")


def _window(metadata: Mapping[str, Any], symbol: str, start: str, end: str) -> dict[str, BarSeries]:
    limits = [int(pd.Timestamp(text, tz="UTC").value) for text in (start, end)]
    return {
        label: bars_of(symbol, label).between(*limits) for label in metadata["training_timeframes"]
    }


def _recorded_features(entry: dict[str, Any], base: BarSeries) -> NDArray[np.float64]:
    table = pd.read_parquet(KTRDR / entry["file"])[entry["columns_in_order"]]
    times = pd.DatetimeIndex(table.index).as_unit("ns").asi8
    chosen = np.isin(times, base.open_time_ns)
    np.testing.assert_array_equal(times[chosen], base.open_time_ns)
    return table.to_numpy(np.float64)[chosen]


@pytest.mark.parametrize(("metadata", "entry", "start", "end", "made_for"), [*_feature_tables()])
def test_features_are_the_recorded_ones(
    metadata: dict[str, Any],
    entry: dict[str, Any],
    start: str,
    end: str,
    made_for: list[dict[str, Any]],
) -> None:
    is_m3 = {profile_of(config) for config in made_for} == {"ktrdr-m3"}
    symbol = made_for[0]["symbol"] if made_for else metadata["training_symbols"][0]
    alignment = Alignment.EXACT_STAMP if is_m3 else Alignment.STAMP_FORWARD_FILL
    rules = replace(KTRDR_HEAD, alignment=alignment, drop_extra_features=False)
    strategy = strategy_from_bundle(metadata, rules=rules)
    bars = bars_in_scope(_window(metadata, symbol, start, end), rules)
    base = bars[strategy.timeframes[0]]
    names = metadata["resolved_features"]
    fitted = metadata["normalization_params"]
    expected = _recorded_features(entry, base)

    matrix = build_features(strategy, bars, names=names, rules=rules, normalization=fitted)

    plan = plan_features(strategy, rules, select_features(strategy, names, drop_extra=False))
    for column, values in feature_columns(plan, bars, base, rules, fitted):
        indicator = plan.indicators[plan.reference(plan.features[column]).indicator_id]
        # Recorded variances of quiet markets are off by up to 1e-7 of a width, and a width is at
        # most twice its terms'. tests/unit/indicators/test_volatility.py holds ours to exact sums.
        tolerance = 2e-7 if indicator.type.name in MADE_OF_VARIANCES else 1e-9
        np.testing.assert_array_equal(np.isnan(values), np.isnan(expected[:, column]))
        np.testing.assert_allclose(values, expected[:, column], rtol=1e-9, atol=tolerance)
        np.testing.assert_array_equal(matrix.values[:, column], values.astype(np.float32))


@pytest.mark.parametrize("path", sorted(KTRDR.glob("data/*.parquet")), ids=lambda path: path.stem)
def test_both_files_of_the_bars_hold_the_same(path: Any) -> None:
    symbol, label = path.stem.rsplit("_", 1)
    bars, frame = bars_of(symbol, label), pd.read_parquet(path)
    frame = frame.set_index("timestamp") if "timestamp" in frame else frame
    expected = _series(frame, label)
    for name in ("open_time_ns", "open", "high", "low", "close", "volume"):
        np.testing.assert_array_equal(getattr(bars, name), getattr(expected, name))
