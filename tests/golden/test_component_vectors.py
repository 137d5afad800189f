"""Single parts against what the reference's parts give: decisions and metrics, vector by vector.

Confidences to 1e-6 and metrics to 1e-7 relative (SPEC §18); decisions exact.
"""

import csv
import json
import math
from datetime import datetime

import numpy as np
import pytest

from backlane.backtest.switches import PROFILES
from backlane.decisions.policy import decide
from backlane.decisions.scores import classification_scores, regression_scores
from backlane.metrics.sample import HOUR_NS, Sample
from backlane.metrics.summary import summarize
from tests.shared import KTRDR, needs_shared

CODES = {"BUY": 1, "HOLD": 0, "SELL": -1}
SIDES = {"LONG": 1, "FLAT": 0, "SHORT": -1}
METRIC_RULES = PROFILES["ktrdr-head"].metric_rules


def truth_table(name: str) -> list[dict[str, str]]:
    with (KTRDR / "components" / "decision" / name).open() as file:
        return list(csv.DictReader(file))


def hours(row: dict[str, str]) -> float:
    return float(row["hours_since_last_fill"] or "inf")


@needs_shared
def test_every_classification_decision_is_the_references() -> None:
    """Two logits that sum to 1 abort a run there, with a confidence of 3 or 10: not here."""
    rows = [row for row in truth_table("classification_truth_table.csv") if not row["raises"]]
    assert len(rows) > 1000
    with np.errstate(invalid="ignore"):
        logits = np.array([json.loads(row["logits"]) for row in rows], dtype=np.float32)
        scores = classification_scores(logits, sum_one_is_probability=True)
    for index, row in enumerate(rows):
        raw = int(scores.raw_decision[index])
        decision, _ = decide(
            raw, float(scores.confidence[index]), SIDES[row["position"]], hours(row),
            float(row["confidence_threshold"]), float(row["min_signal_separation"]),
            row["position_awareness"] == "True", row["allow_short_from_flat"] == "True",
        )  # fmt: skip
        assert decision == CODES[row["signal"]], row
        if not row["error_in_reasoning"]:
            assert raw == CODES[row["raw_signal"]], row
            assert scores.confidence[index] == pytest.approx(float(row["confidence"]), abs=1e-6)


@needs_shared
def test_every_regression_decision_is_the_references() -> None:
    """A cost model of zero, which a request cannot ask for, divides by zero there."""
    rows = [
        row
        for row in truth_table("regression_truth_table.csv")
        if float(row["round_trip_cost"]) > 0 and not row["error_in_reasoning"]
    ]
    assert len(rows) > 100
    for row in rows:
        edge = float(row["round_trip_cost"]) * float(row["min_edge_multiplier"])
        value = np.array([[float(row["prediction"])]], dtype=np.float32)
        scores = regression_scores(value, edge=edge)
        decision, _ = decide(
            int(scores.raw_decision[0]), float(scores.confidence[0]), SIDES[row["position"]],
            hours(row), 0.0, float(row["min_signal_separation"]),
            row["position_awareness"] == "True", True,
        )  # fmt: skip
        assert scores.raw_decision[0] == CODES[row["raw_signal"]], row
        assert decision == CODES[row["signal"]], row
        assert scores.confidence[0] == pytest.approx(float(row["confidence"]), abs=1e-6)


def cases() -> list[dict]:
    """Without equity points the reference reports zeros even where there are trades: left out."""
    path = KTRDR / "components" / "performance" / "cases.json"
    found = json.loads(path.read_text()) if path.exists() else []
    return [case for case in found if case["equity"]]


def sample(case: dict) -> Sample:
    equity = np.array(case["equity"], dtype=np.float64)
    trades = case["trades"] or []
    first, last = (
        (int(datetime.fromisoformat(text).timestamp()) * 10**9 for text in case["dates"])
        if case["dates"]
        else (None, None)
    )
    return Sample(
        rules=METRIC_RULES,
        initial_cash=case["initial_capital"],
        time_ns=np.arange(len(equity), dtype=np.int64) * HOUR_NS,
        equity=equity,
        position=np.zeros(len(equity)),
        net_pnl=np.array([trade["net_pnl"] for trade in trades], dtype=np.float64),
        holding_hours=np.array([trade["holding_period_hours"] for trade in trades]),
        commission=0.0,
        slippage=0.0,
        financing=0.0,
        traded_value=0.0,
        first_ns=first,
        last_ns=last,
    )


@needs_shared
@pytest.mark.parametrize("case", cases(), ids=lambda case: case["case"])
def test_every_metric_is_the_references(case) -> None:
    found = {metric.id: metric.value for metric in summarize(sample(case))}
    for name, expected in case["metrics"].items():
        value = float(expected)
        if math.isinf(value):
            assert found[name] in (0.0, 999_999.0), name
        else:
            assert found[name] == pytest.approx(value, rel=1e-7, abs=1e-12), name
