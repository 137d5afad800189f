"""What a finished run gave, for people and for programs."""

import json

import pytest

from backlane.backtest.funnel import FunnelStage
from backlane.backtest.request import parse_request
from backlane.backtest.summary import MetricSummary, ProvenanceSummary, ResultSummary
from backlane.cli.outcome import (
    format_metric,
    iso_time,
    outcome_document,
    print_outcome,
    unit_of,
)
from backlane.metrics.definitions import METRICS


@pytest.fixture
def summary() -> ResultSummary:
    return ResultSummary(
        result_digest="sha256:ab",
        metrics=(
            MetricSummary("total_return_pct", 0.1234),
            MetricSummary("sharpe_ratio", None, "the returns are all equal", "252 bars per year"),
            MetricSummary("total_trades", 0.0),
        ),
        funnel=(
            FunnelStage("bars", 1200, 1000, {"WARM_UP": 200}),
            FunnelStage("decisions", 1000, 0, {"MODEL_HOLD": 10, "BELOW_CONFIDENCE": 990}),
            FunnelStage("fills", 0, 0, {}),
        ),
        provenance=ProvenanceSummary({"1h": "sha256:cd"}, "sha256:ef", "c", "o", {"numpy": "2"}),
        request=parse_request(
            {"model": {"name": "m", "version": "1"}, "symbol": "EURUSD", "timeframe": "1h"}
        ),
        first_bar_ns=1_672_531_200 * 10**9,
        last_bar_ns=1_672_534_800 * 10**9,
        timings={"load": 0.25, "features": 1.5, "simulation": 0.004},
    )


def test_every_metric_has_the_unit_of_its_definition():
    assert {m.id: unit_of(m.id) for m in METRICS} == {m.id: m.unit for m in METRICS}


@pytest.mark.parametrize(
    ("metric_id", "value", "text"),
    [
        ("total_return_pct", -0.0512, "-5.12 %"),
        ("total_trades", 1234.0, "1,234"),
        ("sharpe_ratio", 1.23456, "1.235"),
        ("avg_holding_period", 4.25, "4.2 h"),
        ("final_equity", 101_234.567, "101,234.57"),
        ("win_rate", None, "undefined"),
    ],
)
def test_a_metric_is_written_in_its_unit(metric_id: str, value: float | None, text: str):
    assert format_metric(MetricSummary(metric_id, value)) == text


def test_a_run_without_trades_says_why(summary: ResultSummary, capsys):
    print_outcome(summary, operation="operations/1", out=None)
    said = capsys.readouterr().out
    assert "none of 1,000 passed decisions (990 BELOW_CONFIDENCE, 10 MODEL_HOLD)" in said
    assert "200 WARM_UP" in said
    assert "the returns are all equal" in said
    assert "took           1.75 s: load 0.25, features 1.50, simulation 0.00" in said
    assert "models/m/versions/1 on EURUSD 1h, 2023-01-01 00:00 to 2023-01-01 01:00 UTC" in said
    assert "backlane backtest result operations/1 --out DIR" in said
    assert all(line == line.rstrip() for line in said.splitlines())


def test_the_document_has_the_names_of_result_json(summary: ResultSummary):
    document = outcome_document(summary, operation=None, out=None)
    assert json.loads(json.dumps(document, allow_nan=False)) == document
    assert document["timings"] == {"load": 0.25, "features": 1.5, "simulation": 0.004}
    assert document["metrics"] == {
        "total_return_pct": 0.1234,
        "sharpe_ratio": None,
        "total_trades": 0,
    }
    assert document["undefined_metrics"] == {"sharpe_ratio": "the returns are all equal"}
    assert document["no_trades_because"].startswith("No trades")
    assert document["first_bar"] == "2023-01-01T00:00:00Z"
    assert document["request"]["model"] == {"name": "m", "version": "1"}


def test_fractions_of_a_second_are_kept():
    assert iso_time(1_500_000_000) == "1970-01-01T00:00:01.500000000Z"
