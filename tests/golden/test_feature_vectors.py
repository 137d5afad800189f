"""Indicators, terms, alignment, strategies and features against what the reference recorded.

The tolerances are those that the reference states for itself (SPEC section 18): it sums by updating
a running total, which rounds differently from summing each window afresh. A series may differ by
1e-9 of a value plus 1e-9 of the scale of the series, and variances of a dead market by 1e-7.
"""

import json
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

from backlane.errors import InvalidStrategyError
from backlane.features.align import align, visible_rows
from backlane.features.build import build_features, feature_columns
from backlane.features.history import bars_in_scope
from backlane.features.names import feature_names, select_features
from backlane.features.plan import plan_features
from backlane.features.rules import Alignment, FeatureRules
from backlane.features.strategy_file import parse_strategy, strategy_from_bundle
from backlane.fuzzy.membership import fuzzify
from backlane.fuzzy.shapes import find_shape, parameter_mistake
from backlane.indicators.fields import default_parameters, read_parameters
from backlane.indicators.registry import INDICATORS, find_indicator
from backlane.market.bars import BarSeries
from backlane.market.timeframe import Timeframe
from tests.shared import KTRDR, needs_shared

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


def _read_json(path: Path) -> Any:
    """Reads a recorded file; without one there are no cases, and the module is skipped anyway."""
    return json.loads(path.read_text()) if path.is_file() else []


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
    for case in _read_json(COMPONENTS / "indicators" / "cases.json"):
        yield pytest.param(case, id=f"{case['input']}-{case['case']}")


@cache
def _indicator_input(name: str) -> BarSeries:
    frame = pd.read_parquet(COMPONENTS / "indicators" / f"input_{name}.parquet")
    return _series(frame, "1d" if name == "eq_1d" else "1h")


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
    is_variance_in_dead_market = case["type"].startswith("bollinger") and case["input"] in (
        "edge",
        "holes",
    )
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
    errors = _read_json(COMPONENTS / "indicators" / "errors.json")
    for index, case in enumerate(errors["params"] if errors else []):
        yield pytest.param(case, id=f"{index}-{case['type']}")


@pytest.mark.parametrize("case", [*_recorded_parameter_errors()])
def test_parameters_are_refused_and_ignored_as_recorded(case: dict[str, Any]) -> None:
    kind = find_indicator(case["type"])
    if case["type"] == "nosuch":
        assert kind is None
        return
    assert kind is not None
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
    for case in _read_json(COMPONENTS / "indicators" / "errors.json")["minimum_rows"]:
        kind = find_indicator(case["type"])
        assert kind is not None
        assert kind.minimum_bars(kind.parameters(**case["params"])) == case["min_rows"]


def test_names_and_aliases_are_the_recorded_ones() -> None:
    registry = _read_json(COMPONENTS / "indicators" / "registry.json")
    for name, entry in registry.items():
        kind = find_indicator(name)
        assert kind is not None
        assert {kind.name, *kind.aliases} >= set(entry["aliases"])
        assert list(kind.outputs) == entry["outputs"]
    assert len(registry) == len(INDICATORS)


def test_parameters_defaults_and_limits_are_the_recorded_ones() -> None:
    for name, entry in _read_json(COMPONENTS / "indicators" / "registry.json").items():
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
    for case in _read_json(COMPONENTS / "membership" / "errors.json"):
        shape = find_shape(case["type"])
        known = shape is not None and shape.is_in_ktrdr
        accepted = known and parameter_mistake(shape, case["parameters"]) is None
        assert accepted is case["ok"], case


# --- alignment ---------------------------------------------------------------------------------


def _alignment_cases() -> Iterator[Any]:
    for case in _read_json(COMPONENTS / "alignment" / "cases.json"):
        # `single` asks for a base that is not there, which is refused here; `raises` likewise.
        if "raises" not in case and case["case"] != "single":
            yield pytest.param(case, id=case["case"])


@pytest.mark.parametrize("case", [*_alignment_cases()])
def test_stamp_forward_fill_gives_the_recorded_frame(case: dict[str, Any]) -> None:
    def read(part: str) -> pd.DataFrame:
        return pd.read_parquet(COMPONENTS / "alignment" / f"{case['case']}__{part}.parquet")

    def bars(frame: pd.DataFrame, label: str) -> BarSeries:
        ones = np.ones(len(frame))
        times = pd.DatetimeIndex(frame.index).as_unit("ns").asi8.astype(np.int64)
        return BarSeries("TEST", Timeframe.parse(label), times, ones, ones, ones, ones, ones)

    expected = read("out")
    base_label = case["base_timeframe"] or "1h"
    base = bars(read(f"in_{base_label}"), base_label)
    for label in case["inputs"]:
        frame = read(f"in_{label}")
        rows = visible_rows(base, bars(frame, label), Alignment.STAMP_FORWARD_FILL)
        for name in frame.columns:
            values = np.ascontiguousarray(frame[name].to_numpy(np.float64))
            if label != base_label:
                values = align(values, rows, Alignment.STAMP_FORWARD_FILL)
            np.testing.assert_array_equal(values, expected[name].to_numpy())


# --- strategies --------------------------------------------------------------------------------


def _load_cases() -> Iterator[Any]:
    for case in _read_json(COMPONENTS / "strategy" / "load_cases.json"):
        yield pytest.param(case, id=case["case"])


REFUSED_HERE = {
    "base not in list is accepted": "training_data.timeframes.base_timeframe",
    "unknown indicator type passes loading": "indicators.extra.type",
    "bad membership parameters pass loading": "fuzzy_sets.q2.a.parameters",
}
"""What the reference lets pass by mistake, or finds out later, and where it is refused here."""


@pytest.mark.parametrize("case", [*_load_cases()])
def test_a_strategy_loads_as_recorded(case: dict[str, Any]) -> None:
    if not case["ok"] or case["case"] in REFUSED_HERE:
        with pytest.raises(InvalidStrategyError) as caught:
            parse_strategy(case["strategy"])
        fields = [violation.field for violation in caught.value.violations]
        assert fields[0] == REFUSED_HERE.get(case["case"], fields[0])
        return

    parsed = parse_strategy(case["strategy"])

    names = list(feature_names(parsed.strategy))
    if case["case"] == "timeframes as bare string":
        # The reference reads "5m" letter by letter, as the timeframes 5 and m.
        assert names[:3] == ["5m_rsi_f_low", "5m_rsi_f_mid", "5m_rsi_f_high"]
    else:
        assert names == case["resolved_features"]
    assert bool(parsed.warnings) is bool(case["warnings"])


# --- features ----------------------------------------------------------------------------------


def _feature_tables() -> Iterator[Any]:
    for key, entry in (_read_json(KTRDR / "features" / "index.json") or {}).items():
        bundle, start, end = key.split("__")
        path = KTRDR / "bundles" / bundle
        metadata = _read_json(next(path.glob("*/metadata_v3.json")))
        is_m3 = "T" in start  # recorded with the older version, on a window made for it
        yield pytest.param(metadata, entry, start, end, is_m3, id=key)


@cache
def _bars(symbol: str, label: str) -> BarSeries:
    path = KTRDR / "data" / f"{symbol}_{label}.csv"
    path = path if path.is_file() else path.with_suffix(".csv.gz")
    # Exact whatever the version of pandas does by default: SPEC section 18 asks for it.
    exact = dict.fromkeys(("open", "high", "low", "close", "volume"), float)
    frame = pd.read_csv(path, index_col=0, converters=exact)
    frame.index = pd.to_datetime(frame.index, utc=True)
    return _series(frame, label)


def _window(metadata: dict[str, Any], start: str, end: str) -> dict[str, BarSeries]:
    symbol = metadata["training_symbols"][0]
    limits = [int(pd.Timestamp(text, tz="UTC").value) for text in (start, end)]
    return {
        label: _bars(symbol, label).between(*limits) for label in metadata["training_timeframes"]
    }


def _recorded_features(entry: dict[str, Any], base: BarSeries) -> NDArray[np.float64]:
    table = pd.read_parquet(KTRDR / entry["file"])[entry["columns_in_order"]]
    times = pd.DatetimeIndex(table.index).as_unit("ns").asi8
    chosen = np.isin(times, base.open_time_ns)
    np.testing.assert_array_equal(times[chosen], base.open_time_ns)
    return table.to_numpy(np.float64)[chosen]


MADE_OF_VARIANCES = ("bollingerbandwidth", "squeezeintensity")


@pytest.mark.parametrize(("metadata", "entry", "start", "end", "is_m3"), [*_feature_tables()])
def test_features_are_the_recorded_ones(
    metadata: dict[str, Any], entry: dict[str, Any], start: str, end: str, is_m3: bool
) -> None:
    alignment = Alignment.EXACT_STAMP if is_m3 else Alignment.STAMP_FORWARD_FILL
    rules = replace(KTRDR_HEAD, alignment=alignment, drop_extra_features=False)
    strategy = strategy_from_bundle(metadata, rules=rules)
    bars = bars_in_scope(_window(metadata, start, end), rules)
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
