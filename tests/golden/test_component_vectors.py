"""Single parts against what the reference's parts give: decisions and metrics, vector by vector.

Confidences to 1e-6 and metrics to 1e-7 relative (SPEC §18); decisions exact.
"""

import csv
import json
import math
from dataclasses import replace
from datetime import datetime

import numpy as np
import pytest
import yaml

from backlane.backtest.request import parse_request
from backlane.backtest.rules import decision_rules
from backlane.backtest.switches import PROFILES
from backlane.decisions.policy import decide
from backlane.decisions.scores import classification_scores, regression_scores
from backlane.errors import FeatureMismatchError, InvalidRequestError, InvalidStrategyError
from backlane.features.names import select_features
from backlane.features.strategy_file import parse_strategy
from backlane.inference.model_info import BundleDecisions
from backlane.metrics.sample import HOUR_NS, Sample
from backlane.metrics.summary import summarize
from tests.golden.vectors import CODES, SIDES, cases, folders, predictor_of
from tests.shared import KTRDR, needs_shared

READS = ("components/decision/*", "components/performance/cases.json")

ASK = {"model": {"path": "x"}, "symbol": "TEST"}
METRIC_RULES = PROFILES["ktrdr-head"].metric_rules


def truth_table(name: str) -> list[dict[str, str]]:
    with (KTRDR / "components" / "decision" / name).open() as file:
        return list(csv.DictReader(file))


def hours(row: dict[str, str]) -> float:
    return float(row["hours_since_last_fill"] or "inf")


@needs_shared
def test_every_classification_decision_is_the_references() -> None:
    """Logits that sum to 1 abort a run there, with a confidence of 3 or 10: see the next test."""
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
def test_what_aborts_the_reference_is_decided_here() -> None:
    """SPEC §7.2: softmax always gives a confidence in [0, 1]."""
    rows = [row for row in truth_table("classification_truth_table.csv") if row["raises"]]
    assert all("onfidence must be between" in row["raises"] for row in rows)
    logits = np.array([json.loads(row["logits"]) for row in rows], dtype=np.float32)
    scores = classification_scores(logits)
    assert ((scores.confidence > 0) & (scores.confidence <= 1)).all()
    powers = np.exp(logits.astype(np.float64))
    expected = powers.max(axis=1) / powers.sum(axis=1)
    np.testing.assert_allclose(scores.confidence, expected, rtol=1e-6)  # float32


@needs_shared
def test_a_cost_model_of_zero_is_refused() -> None:
    """It divides by zero there, and every decision becomes HOLD."""
    rows = [row for row in truth_table("regression_truth_table.csv") if row["error_in_reasoning"]]
    for row in rows:
        cost = {name: float(row[name]) for name in ("round_trip_cost", "min_edge_multiplier")}
        if 0.0 in cost.values():
            with pytest.raises(InvalidRequestError, match="greater than 0"):
                parse_request(ASK | {"decisions": {"cost_model": cost}})


@needs_shared
def test_every_regression_decision_is_the_references() -> None:
    """A cost model of zero, which a request cannot ask for, divides by zero there."""
    rows = [
        row
        for row in truth_table("regression_truth_table.csv")
        if float(row["round_trip_cost"]) > 0
    ]
    assert len(rows) > 100
    for row in rows:
        edge = float(row["round_trip_cost"]) * float(row["min_edge_multiplier"])
        value = np.array([[float(row["prediction"] or "nan")]], dtype=np.float32)
        scores = regression_scores(value, edge=edge)
        decision, _ = decide(
            int(scores.raw_decision[0]), float(scores.confidence[0]), SIDES[row["position"]],
            hours(row), 0.0, float(row["min_signal_separation"]),
            row["position_awareness"] == "True", True,
        )  # fmt: skip
        assert decision == CODES[row["signal"]], row
        if row["error_in_reasoning"]:  # a prediction that is NaN
            continue
        assert scores.raw_decision[0] == CODES[row["raw_signal"]], row
        assert scores.confidence[0] == pytest.approx(float(row["confidence"]), abs=1e-6)


@needs_shared
@pytest.mark.parametrize("case", [*cases("components", "decision", "misc.json")])
def test_every_odd_decision_is_the_references(case) -> None:
    """What these cases ask of the reference's decision object is asked of several parts here."""
    info = predictor_of(folders("bundles", "metadata_v3.json")[0].parent.name).info
    if "raises" in case:
        content = yaml.safe_load(next(KTRDR.glob("strategies/*.yaml")).read_text())
        with pytest.raises(InvalidStrategyError, match="output_format"):
            parse_strategy(content | {"decisions": case["config"]})
        return
    if "error" in case["reasoning"]:  # a missing feature: HOLD there, refused before the run here
        names = [*info.features, case["reasoning"]["error"]]
        with pytest.raises(FeatureMismatchError):
            select_features(info.strategy, names, drop_extra=True)
        return
    chances = case["reasoning"]["nn_probabilities"]
    logits = np.log([[chances[name] for name in ("BUY", "HOLD", "SELL")]]).astype(np.float32)
    scores = classification_scores(logits)
    raw = int(scores.raw_decision[0])
    assert raw == CODES[case["reasoning"]["raw_signal"]]
    assert scores.confidence[0] == pytest.approx(case["confidence"], abs=1e-6)
    request = parse_request(ASK | {"decisions": case["config"]})
    rules = decision_rules(request, replace(info, decisions=BundleDecisions()), PROFILES["default"])
    assert rules.position_awareness is case["reasoning"]["position_aware"]
    # When the last fill was is not recorded: it was too short ago exactly if the decision is HOLD.
    separation = rules.min_signal_separation_hours
    elapsed = separation if case["signal"] == case["reasoning"]["raw_signal"] else -1.0
    decision, _ = decide(
        raw, float(scores.confidence[0]), -raw, elapsed, rules.confidence_threshold, separation,
        rules.position_awareness, False,
    )  # fmt: skip
    assert decision == CODES[case["signal"]]


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
@pytest.mark.parametrize("case", [*cases("components", "performance", "cases.json")])
def test_every_metric_is_the_references(case) -> None:
    found = {metric.id: metric.value for metric in summarize(sample(case))}
    if not case["equity"]:  # zeros there, even where there are trades; ours are counted
        assert not any(float(value) for value in case["metrics"].values())
        assert found["total_trades"] == len(case["trades"] or [])
        return
    for name, expected in case["metrics"].items():
        value = float(expected)
        if math.isinf(value):
            assert found[name] in (0.0, 999_999.0), name
        else:
            assert found[name] == pytest.approx(value, rel=1e-7, abs=1e-12), name
