"""Portfolio runs and cycles on the wire: what goes out comes back, and what is wrong is named."""

from typing import Any

import pytest

from backlane.api.portfolios.v1 import portfolio_service_pb2 as pb
from backlane.backtest.cycle_outcome import (
    CycleOutcome,
    CycleRequest,
    OrderReading,
    ProposalReading,
    SignalReading,
    StageReading,
    TargetReading,
)
from backlane.backtest.portfolio_request import PortfolioRequest, file_roles, whole_numbers
from backlane.backtest.portfolio_summary import PortfolioSummary
from backlane.backtest.summary import ResultFile
from backlane.errors import InvalidRequestError, ResultNotFoundError
from backlane.operations.operation import Payload
from backlane.wire.plain_data import DEPTH_MAX
from backlane.wire.portfolio_cycle import (
    cycle_request_from_proto,
    cycle_request_to_proto,
    outcome_from_proto,
    outcome_to_proto,
)
from backlane.wire.portfolio_runs import (
    request_from_payload,
    request_from_spec,
    request_to_payload,
    result_from_payload,
    result_to_payload,
    spec_from_request,
)

DIGEST = f"sha256:{'0a' * 32}"
CONFIG = {
    "strategy": {"name": "s", "parameters": {"fast": 20, "ratio": 0.1, "on": True, "none": None}},
    "data": {"panel": "p.csv", "events": {"insider": "e.csv"}},
    "list": [1, {"a": [2.5, "text"]}],
}
REQUEST = PortfolioRequest(CONFIG, {"e.csv": DIGEST, "p.csv": DIGEST})


def fields_of(call: Any, *arguments: Any) -> list[str]:
    with pytest.raises(InvalidRequestError) as caught:
        call(*arguments)
    return [each.field for each in caught.value.violations]


def test_a_request_comes_back_with_the_types_that_it_had() -> None:
    back = request_from_spec(spec_from_request(REQUEST))
    assert back == REQUEST
    parameters = back.config["strategy"]["parameters"]
    assert [type(each) for each in parameters.values()] == [int, type(None), bool, float]
    payload = request_to_payload(REQUEST)
    assert request_from_payload(payload) == REQUEST
    assert request_to_payload(PortfolioRequest(dict(reversed(CONFIG.items())), REQUEST.files)) == (
        payload
    )


def test_numbers_without_a_fraction_are_whole_either_way() -> None:
    assert whole_numbers({"a": 1.0, "b": [2.5, 3.0], "c": True}) == {"a": 1, "b": [2.5, 3], "c": 1}
    assert type(whole_numbers({"a": 1.0})["a"]) is int
    assert whole_numbers({"c": True})["c"] is True
    assert list(whole_numbers({"b": {"d": 1, "c": 2}, "a": 1})) == ["a", "b"]
    assert list(whole_numbers({"b": {"d": 1, "c": 2}})["b"]) == ["c", "d"]


@pytest.mark.parametrize(
    ("value", "field"),
    [
        (float("nan"), "config.x"),
        (float("inf"), "config.x"),
        (2**53 + 1, "config.x"),
        ({1: 2}, "config.x"),
        ([{2, 3}], "config.x.0"),
    ],
)
def test_what_no_message_can_hold_is_named(value: object, field: str) -> None:
    assert fields_of(spec_from_request, PortfolioRequest({"x": value})) == [field]


def test_what_is_wrong_in_a_message_is_named() -> None:
    spec = spec_from_request(REQUEST)
    spec.files["a.csv"] = "md5:0"
    spec.config.fields["x"].number_value = float("nan")
    assert fields_of(request_from_spec, spec) == ["spec.files[a.csv]", "spec.config.x"]
    deep = pb.PortfolioSpec()
    inner = deep.config
    for _ in range(DEPTH_MAX + 1):
        inner = inner.fields["x"].struct_value
    assert fields_of(request_from_spec, deep) == ["spec.config" + ".x" * (DEPTH_MAX + 1)]
    large = PortfolioRequest({"x": "y" * 300_000})
    assert fields_of(request_from_spec, spec_from_request(large)) == ["spec"]


def test_files_are_known_by_what_they_are() -> None:
    assert file_roles(CONFIG) == {"panel": "p.csv", "events.insider": "e.csv"}
    for content in (None, {}, {"data": 1}, {"data": {"panel": 3, "events": []}}):
        assert file_roles(content) == {}


def test_a_summary_comes_back() -> None:
    summary = PortfolioSummary(
        REQUEST,
        {"sharpe_ratio": None, "total_return": 0.5},
        1.5,
        0.25,
        7,
        2,
        3,
        None,
        {"fills": 4},
        (ResultFile("equity.csv", 5, DIGEST),),
        {"load": 0.5},
        {"python": "3"},
    )
    assert result_from_payload(result_to_payload(summary)) == summary
    with pytest.raises(ResultNotFoundError):
        result_from_payload(Payload("type.googleapis.com/x", b""))


def test_a_cycle_comes_back() -> None:
    request = CycleRequest(REQUEST, 1_600_000_000_000_000_001, {"A": -2.0}, None)
    assert cycle_request_from_proto(cycle_request_to_proto(request)) == request
    outcome = CycleOutcome(
        5,
        None,
        100.0,
        -3.0,
        (StageReading("risk", 0.5, "raised"),),
        (SignalReading("A", -1, None), SignalReading("B", 1, 0.5)),
        (TargetReading("A", 0.0, 0.0), TargetReading("B", 0.3, None)),
        (ProposalReading("A", -2.0, 0.0, ("no_bar",), "why"),),
        (OrderReading("A", 2.0, 3.0), OrderReading("B", -1.0, None)),
        "risk_blocked",
        "daily_stop",
    )
    assert outcome_from_proto(outcome_to_proto(outcome)) == outcome


def test_what_is_wrong_in_a_wish_for_a_cycle_is_named() -> None:
    message = pb.RunCycleRequest(positions={"": 1.0, "A": float("inf")}, cash=1e300)
    wrong = fields_of(cycle_request_from_proto, message)
    assert wrong == ["as_of", "positions[]", "positions[A]", "cash"]
