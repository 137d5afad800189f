from datetime import UTC, date, datetime

import pytest

from backlane.backtest.request import moment_ns, parse_request
from backlane.backtest.switches import PROFILES, FillTime
from backlane.errors import InvalidRequestError

LEAST = {"model": {"name": "rsi"}, "symbol": "EURUSD"}


def test_the_least_request_has_stated_defaults() -> None:
    request = parse_request(LEAST)
    assert (request.initial_cash, request.commission_rate, request.slippage_rate) == (
        100_000,
        0.001,
        0.0005,
    )
    assert request.sizing.cash_fraction == 0.25
    assert request.resolved_switches() == PROFILES["default"]
    assert request.model.resource_name == "models/rsi"


def test_a_version_may_be_a_number() -> None:
    request = parse_request(LEAST | {"model": {"name": "rsi", "version": 3}})
    assert request.model.resource_name == "models/rsi/versions/3"


def test_a_bare_end_date_is_the_whole_day_by_default_and_midnight_in_the_reference() -> None:
    midnight = int(datetime(2023, 12, 31, tzinfo=UTC).timestamp()) * 10**9
    given = LEAST | {"end": "2023-12-31"}
    assert parse_request(given).last_bar_ns() == midnight + 86_400 * 10**9 - 1
    assert parse_request(given | {"profile": "ktrdr-head"}).last_bar_ns() == midnight


def test_times_are_utc_unless_they_say_otherwise() -> None:
    assert moment_ns(datetime.fromisoformat("1970-01-01T01:00:00")) == 3600 * 10**9
    assert moment_ns(datetime.fromisoformat("1970-01-01T01:00:00+01:00")) == 0
    assert moment_ns(date(1970, 1, 2)) == 86_400 * 10**9


def test_a_switch_goes_on_top_of_the_profile() -> None:
    request = parse_request(
        LEAST
        | {"profile": "ktrdr-head", "switches": {"fill": "this_close", "trapezoid_edge": True}}
    )
    switches = request.resolved_switches()
    assert switches.fill is FillTime.THIS_CLOSE
    assert switches.trapezoid_edge
    assert switches.fixed_warmup_bars == 50


@pytest.mark.parametrize(
    ("change", "field", "words"),
    [
        ({"symbol": "../x"}, "symbol", "pattern"),
        ({"initial_cash": 0}, "initial_cash", "greater than 0"),
        ({"initial_cash": float("nan")}, "initial_cash", "finite|greater"),
        ({"commission_rate": 1.0}, "commission_rate", "less than 1"),
        ({"sizing": {"fraction": 1.5}}, "sizing.fraction", "less than or equal to 1"),
        ({"profile": "fast"}, "profile", "use default, ktrdr-head, ktrdr-m3"),
        ({"profile": "ktrdr_m3"}, "profile", "did you mean ktrdr-m3?"),
        ({"switches": {"fil": 1}}, "switches.fil", "did you mean fill?"),
        ({"switches": {"zzz": 1}}, "switches.zzz", "is no switch: use fill, alignment"),
        ({"switches": {"fill": "later"}}, "switches.fill", "use next_open, this_close"),
        ({"switches": {"fill": "next-open"}}, "switches.fill", "did you mean next_open?"),
        ({"switches": {"shorts": "yes"}}, "switches.shorts", "true or false"),
        (
            {"switches": {"fixed_warmup_bars": -1}},
            "switches.fixed_warmup_bars",
            "from 0 to 1000000",
        ),
        ({"model": {}}, "model", "either path or name"),
        ({"model": {"path": "a", "name": "b"}}, "model", "either path or name"),
        ({"start": "2023-02-30"}, "start", "'2023-02-30' is no date or time: write ISO 8601"),
        ({"start": "yesterday"}, "start", "'yesterday' is no date or time"),
        ({"end": "0001-01-01"}, "end", "outside the years 1678 to 2261"),
        ({"end": "9999-12-31T00:00:00Z"}, "end", "outside the years 1678 to 2261"),
        ({"start": 5}, "start", "ISO 8601"),
        ({"start": "2024-01-01", "end": "2023-01-01"}, "start", "is after the end, 2023-01-01"),
        ({"decisions": {"confidence_threshold": 2}}, "decisions.confidence_threshold", "less than"),
        ({"cash": 5}, "cash", "no field of a request"),
        ({"initial_csh": 5}, "initial_csh", "did you mean initial_cash?"),
        ({"exits": {"stoploss": 0.1}}, "exits.stoploss", "did you mean stop_loss?"),
        (
            {"decisions": {"filters": {"min_separation": 1}}},
            "decisions.filters.min_separation",
            "use min_signal_separation",
        ),
    ],
)
def test_a_mistake_names_its_field_and_what_is_accepted(change, field, words) -> None:
    with pytest.raises(InvalidRequestError, match=words) as caught:
        parse_request(LEAST | change)
    assert [violation.field for violation in caught.value.violations] == [field]


def test_all_mistakes_are_listed_at_once() -> None:
    with pytest.raises(InvalidRequestError) as caught:
        parse_request({"symbol": "", "initial_cash": -1}, root="spec")
    fields = {violation.field for violation in caught.value.violations}
    assert fields == {"spec.model", "spec.symbol", "spec.initial_cash"}


def test_a_request_survives_json() -> None:
    given = LEAST | {"start": "2023-01-01", "end": "2023-06-01T12:00:00Z", "profile": "ktrdr-m3"}
    request = parse_request(given)
    assert parse_request(request.model_dump(mode="json", exclude_defaults=True)) == request


def test_sizing_takes_one_rule() -> None:
    assert parse_request(LEAST | {"sizing": {"units": 3}}).sizing.fraction is None
    assert parse_request(LEAST | {"sizing": {"target_volatility": 0.1}}).sizing.cash_fraction == 1
    with pytest.raises(InvalidRequestError, match="one of fraction, units and target_volatility"):
        parse_request(LEAST | {"sizing": {"units": 3, "fraction": 0.5}})


def test_units_are_a_multiple_of_the_lot() -> None:
    assert parse_request(LEAST | {"sizing": {"units": 0.3}, "lot_size": 0.1}).lot_size == 0.1
    with pytest.raises(InvalidRequestError, match="no multiple of lot_size") as caught:
        parse_request(LEAST | {"sizing": {"units": 0.15}, "lot_size": 0.1})
    assert caught.value.violations[0].field == "sizing.units"


def test_leverage_brings_a_margin_call_and_none_brings_none() -> None:
    # maintenance half: called when half of the collateral is gone, 1 / 8 of the price at leverage 4
    assert parse_request(LEAST | {"margin": {"leverage": 4}}).margin.liquidation == 0.125
    assert parse_request(LEAST).margin.liquidation == 0
