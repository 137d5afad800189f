"""Requests and summaries of backtests survive the wire, and what comes from outside is checked."""

from dataclasses import fields
from datetime import UTC, date, datetime
from enum import Enum
from typing import Any, get_type_hints

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backlane.api.backtest.v1 import backtest_pb2 as pb
from backlane.backtest.funnel import FunnelStage
from backlane.backtest.request import BacktestRequest, parse_request
from backlane.backtest.summary import (
    MetricSummary,
    ProvenanceSummary,
    ResultFile,
    ResultSummary,
)
from backlane.backtest.switches import PROFILES, SWITCH_NAMES, Switches
from backlane.errors import InvalidRequestError
from backlane.wire.backtest import (
    request_from_spec,
    result_from_proto,
    result_to_proto,
    spec_from_request,
)
from backlane.wire.switches import ENUM_NUMBERS, switches_from_proto, switches_to_proto


def over_the_wire(request: BacktestRequest) -> BacktestRequest:
    sent = spec_from_request(request).SerializeToString()
    return request_from_spec(pb.BacktestSpec.FromString(sent))


def minimal(**more: Any) -> dict[str, Any]:
    return {"model": {"name": "rsi", "version": "1"}, "symbol": "EURUSD", **more}


def minimal_spec(**more: Any) -> pb.BacktestSpec:
    return pb.BacktestSpec(model="models/rsi/versions/1", symbol="EURUSD", **more)


def violations_of(spec: pb.BacktestSpec) -> dict[str, str]:
    with pytest.raises(InvalidRequestError) as caught:
        request_from_spec(spec)
    return {violation.field: violation.description for violation in caught.value.violations}


# --- there and back ----------------------------------------------------------------------------

fractions = st.floats(0, 1, exclude_max=True)
distances = st.floats(1e-6, 0.99)
sizings = st.one_of(
    st.fixed_dictionaries({"fraction": st.floats(1e-9, 1)}),
    st.fixed_dictionaries({"units": st.integers(1, 10**9).map(float)}),
    st.fixed_dictionaries(
        {"target_volatility": st.floats(1e-3, 10)}, optional={"volatility_period": st.just(9)}
    ),
)
exits = st.fixed_dictionaries(
    {},
    optional={
        "stop_loss": distances,
        "take_profit": distances,
        "trailing_stop": distances,
        "max_holding_bars": st.integers(1, 10**9),
    },
)
costs = st.fixed_dictionaries(
    {},
    optional={
        "spread_rate": fractions,
        "minimum_commission": st.floats(0, 1e6),
        "borrow_rate": fractions,
        "overnight_rate_long": st.floats(-1, 1),
        "overnight_rate_short": st.floats(-1, 1),
    },
)
margins = st.fixed_dictionaries(
    {}, optional={"leverage": st.floats(1, 1000), "maintenance": fractions}
)
maybe = lambda values: st.none() | values  # noqa: E731
enum_values = {
    name: st.sampled_from([item.value for item in numbers])
    for name, numbers in ENUM_NUMBERS.items()
}
switch_values = st.fixed_dictionaries(
    {},
    optional={
        name: enum_values[name]
        if name in enum_values
        else (st.integers(0, 1_000_000) if name == "fixed_warmup_bars" else st.booleans())
        for name in SWITCH_NAMES
    },
)
moments = st.datetimes(timezones=st.just(UTC)).filter(
    lambda moment: 1980 <= moment.year < 2200
) | st.dates(date(1980, 1, 1), date(2200, 1, 1))
decisions = st.fixed_dictionaries(
    {},
    optional={
        "confidence_threshold": maybe(st.floats(0, 1)),
        "position_awareness": maybe(st.booleans()),
        "allow_short_from_flat": maybe(st.booleans()),
        "filters": st.fixed_dictionaries(
            {"min_signal_separation": maybe(st.floats(0, 1e6))},
        ),
        "cost_model": st.fixed_dictionaries(
            {
                "round_trip_cost": maybe(st.floats(1e-9, 1)),
                "min_edge_multiplier": maybe(st.floats(1e-3, 100)),
            }
        ),
    },
)
names = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_-]{0,20}", fullmatch=True)


@st.composite
def requests(draw: st.DrawFn) -> BacktestRequest:
    content = minimal(
        model={"name": draw(names), "version": draw(st.just("") | names)},
        symbol=draw(names),
        timeframe=draw(st.sampled_from(["", "1h", "5m"])),
        initial_cash=draw(st.floats(1e-3, 1e15)),
        commission_rate=draw(fractions),
        slippage_rate=draw(fractions),
        sizing=draw(sizings),
        lot_size=draw(st.sampled_from([1.0, 0.01])),
        exits=draw(exits),
        costs=draw(costs),
        margin=draw(margins),
        profile=draw(st.sampled_from(sorted(PROFILES))),
        switches=draw(switch_values),
        decisions=draw(decisions),
        model_digest=draw(st.sampled_from(["", "sha256:ab"])),
        dataset_digests=draw(st.dictionaries(st.sampled_from(["1h", "5m"]), st.just("sha256:cd"))),
        start=draw(maybe(moments)),
        end=draw(maybe(moments)),
    )
    first = draw(st.sampled_from(["start", "end"]))
    try:
        return parse_request(content)
    except InvalidRequestError:  # the start is after the end
        return parse_request(content | {first: None})


@settings(max_examples=200)
@given(requests())
def test_a_request_means_the_same_on_the_other_side(request_: BacktestRequest):
    there = over_the_wire(request_)
    moments = {"start", "end"}
    assert there.model_dump(exclude=moments) == request_.model_dump(exclude=moments)
    assert there.first_bar_ns() == request_.first_bar_ns()
    assert there.last_bar_ns() == request_.last_bar_ns()
    assert there.resolved_switches() == request_.resolved_switches()


@settings(max_examples=50)
@given(requests())
def test_a_second_trip_changes_nothing(request_: BacktestRequest):
    once = over_the_wire(request_)
    assert over_the_wire(once) == once


def test_a_bare_end_date_stays_the_whole_day_to_the_nanosecond():
    request_ = parse_request(minimal(end="2023-12-31"))
    assert over_the_wire(request_).end == date(2023, 12, 31)
    # 2024-01-01T00:00:00Z is second 1,704,067,200; the day before ends a nanosecond earlier.
    assert spec_from_request(request_).end_time.seconds == 1_704_067_199
    assert spec_from_request(request_).end_time.nanos == 999_999_999
    assert over_the_wire(request_).last_bar_ns() == 1_704_067_200 * 10**9 - 1


def test_a_bare_end_date_of_the_reference_is_its_first_instant():
    request_ = parse_request(minimal(end="2023-12-31", profile="ktrdr-head"))
    assert over_the_wire(request_).end == datetime(2023, 12, 31, tzinfo=UTC)


def test_absent_fields_get_the_defaults_of_the_request():
    assert request_from_spec(minimal_spec()) == parse_request(minimal())


def test_zero_that_was_said_is_not_an_absent_field():
    assert request_from_spec(minimal_spec(commission_rate=0.0)).commission_rate == 0.0


# --- switches ----------------------------------------------------------------------------------


def test_every_switch_has_its_field():
    assert set(SWITCH_NAMES) == set(pb.Switches.DESCRIPTOR.fields_by_name)


def test_every_value_of_every_switch_has_its_number():
    hints = get_type_hints(Switches)
    kinds = {f.name: hints[f.name] for f in fields(Switches) if issubclass(hints[f.name], Enum)}
    assert set(ENUM_NUMBERS) == set(kinds)
    for name, kind in kinds.items():
        numbers = ENUM_NUMBERS[name]
        known = pb.Switches.DESCRIPTOR.fields_by_name[name].enum_type.values_by_number
        assert set(numbers) == set(kind)
        assert set(numbers.values()) == set(known) - {0}


@pytest.mark.parametrize("profile", PROFILES)
def test_all_switches_of_a_profile_survive(profile: str):
    values = {name: getattr(PROFILES[profile], name) for name in SWITCH_NAMES}
    found = switches_from_proto(switches_to_proto(values), violations := [])
    assert not violations
    assert parse_request(minimal(switches=found)).resolved_switches() == PROFILES[profile]


# --- what is refused ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("spec", "field"),
    [
        (minimal_spec(initial_cash=-1), "spec.initial_cash"),
        (minimal_spec(initial_cash=float("nan")), "spec.initial_cash"),
        (minimal_spec(commission_rate=1), "spec.commission_rate"),
        (minimal_spec(slippage_rate=float("inf")), "spec.slippage_rate"),
        (minimal_spec(sizing=pb.Sizing(fraction=0)), "spec.sizing.fraction"),
        (
            minimal_spec(decisions={"confidence_threshold": 2}),
            "spec.decisions.confidence_threshold",
        ),
        (
            minimal_spec(decisions={"min_signal_separation_hours": -1}),
            "spec.decisions.min_signal_separation_hours",
        ),
        (minimal_spec(decisions={"round_trip_cost": 0}), "spec.decisions.round_trip_cost"),
        (minimal_spec(decisions={"min_edge_multiplier": 0}), "spec.decisions.min_edge_multiplier"),
        (minimal_spec(switches=pb.Switches(fill=0)), "spec.switches.fill"),
        (minimal_spec(switches=pb.Switches(fill=99)), "spec.switches.fill"),
        (minimal_spec(start_time={"nanos": 1}), "spec.start_time"),
        (minimal_spec(end_time={"nanos": -1}), "spec.end_time"),
        (minimal_spec(end_time={"seconds": 253_402_300_799}), "spec.end_time"),
        (pb.BacktestSpec(model="models/rsi", symbol="../x"), "spec.symbol"),
        (pb.BacktestSpec(model="models/../x", symbol="EURUSD"), "spec.model"),
        (pb.BacktestSpec(symbol="EURUSD"), "spec.model"),
    ],
)  # fmt: skip
def test_a_violation_names_the_field_as_the_proto_does(spec: pb.BacktestSpec, field: str):
    assert set(violations_of(spec)) == {field}


def test_all_mistakes_are_told_at_once():
    spec = minimal_spec(initial_cash=0, switches=pb.Switches(alignment=7), end_time={"nanos": 3})
    assert set(violations_of(spec)) == {
        "spec.initial_cash",
        "spec.switches.alignment",
        "spec.end_time",
    }


def test_a_start_after_the_end_is_refused():
    spec = minimal_spec(start_time={"seconds": 20}, end_time={"seconds": 10})
    assert "is after the end" in violations_of(spec)["spec.start_time"]


def test_an_unknown_profile_is_refused_with_those_that_exist():
    assert "ktrdr-head" in violations_of(minimal_spec(profile="best"))["spec.profile"]


@pytest.mark.parametrize(
    ("content", "field"),
    [
        ({"model": {"path": "bundles/x"}}, "model.path"),
        ({"data": {"files": {"1h": "x.csv"}}}, "data.files"),
    ],
)
def test_files_of_the_caller_cannot_go_to_a_service(content: dict[str, Any], field: str):
    with pytest.raises(InvalidRequestError, match="--local") as caught:
        spec_from_request(parse_request(minimal() | content))
    assert [violation.field for violation in caught.value.violations] == [field]


# --- results -----------------------------------------------------------------------------------


def test_a_summary_survives_the_wire():
    summary = ResultSummary(
        result_digest="sha256:01",
        metrics=(
            MetricSummary("total_trades", 3.0, sample_count=3),
            MetricSummary("sharpe_ratio", None, "equity never moved", "252 bars per year", 9),
        ),
        funnel=(
            FunnelStage("bars", 10, 8, {"WARM_UP": 2}),
            FunnelStage("fills", 6, 6, {}),
        ),
        provenance=ProvenanceSummary(
            {"1h": "sha256:02", "5m": "sha256:03"}, "sha256:04", "sha256:05", "sha256:06",
            {"numpy": "2.0"},
        ),
        request=parse_request(minimal(start="2023-01-02T03:04:05Z", end="2023-05-06")),
        first_bar_ns=1_672_531_200_000_000_000,
        last_bar_ns=1_672_531_200_000_000_001,
        files=(ResultFile("trades.csv", 12, "sha256:07"),),
        timings={"load": 0.25, "simulation": 1e-9, "result": 3600.5},
    )  # fmt: skip
    sent = result_to_proto(summary).SerializeToString()
    received = result_from_proto(pb.BacktestResult.FromString(sent))
    assert received == summary
    assert list(received.timings) == ["load", "simulation", "result"]
    assert summary.metric("total_trades") == 3.0
    assert summary.metric("sharpe_ratio") is None
