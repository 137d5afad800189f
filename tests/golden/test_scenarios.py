"""Whole runs against what the reference engine gives, under the profiles made for that.

Decisions, quantities, trade counts, cash and equity are exact, to the last bit: SPEC §18 allows
1e-6, but the sums are taken in the same order, and where nothing costs anything a Sortino ratio
tells rounding noise from none. Metrics 1e-7 relative (§18): their sums are taken in another order.
"""

import math
from collections import Counter
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from backlane.backtest.result import BacktestRun
from backlane.errors import NanFeaturesError
from backlane.execution.order import ExitReason
from tests.golden.vectors import (
    CODES,
    KTRDR,
    SIDES,
    folders,
    output_tolerance,
    predictor_of,
    profile_of,
    read_json,
    run_scenario,
    stamps,
)
from tests.shared import needs_shared

READS = (
    "scenarios/*/scenario.json",
    "scenarios/*/steps.parquet",
    "scenarios/*/trades.csv",
    "scenarios/*/fills.parquet",
    "scenarios/index.csv",
    "bundles/*/*/metadata_v3.json",
    "bundles/*/*/config.json",
    "bundles/*/*/features.json",
    "bundles/*/*/model.pt",
    "data/*.csv",
    "data/*.csv.gz",
)

pytestmark = needs_shared

SCENARIOS = {
    folder.name: read_json(folder / "scenario.json")
    for folder in folders("scenarios", "scenario.json")
}
COMPLETED = [name for name, config in SCENARIOS.items() if "error" not in config]
ABORTED = [name for name, config in SCENARIOS.items() if "error" in config]
NAN_CONFIDENCE = "got nan"
UNITS_OF_FILLS = {
    "commission": "commission",
    "quantity": "quantity",
    "reference_price": "reference_price",
    "price": "fill_price",
    "cash_after": "cash_after",
}


def folder_of(name: str) -> Path:
    return KTRDR / "scenarios" / name


@cache
def run_of(name: str) -> BacktestRun:
    return run_scenario(SCENARIOS[name])


@pytest.mark.parametrize("name", COMPLETED)
def test_every_bar_equals_the_reference(name: str) -> None:
    config, run = SCENARIOS[name], run_of(name)
    steps = pd.read_parquet(folder_of(name) / "steps.parquet")
    marked = ~np.isnan(run.equity)
    np.testing.assert_array_equal(run.bars.open_time_ns[marked], stamps(steps["timestamp"]))
    np.testing.assert_array_equal(run.decision[marked], steps["signal"].map(CODES))
    np.testing.assert_array_equal(np.abs(run.position[marked]), steps["quantity"])
    np.testing.assert_array_equal(np.sign(run.position[marked]), steps["position"].map(SIDES))
    np.testing.assert_array_equal(run.equity[marked], steps["portfolio_value"])
    np.testing.assert_array_equal(run.cash[marked], steps["cash"])
    before = steps["position_at_decision"].map(SIDES).to_numpy()
    side = np.sign(run.position[marked])
    if profile_of(config) == "ktrdr-m3":  # what is decided fills after the decision, at its bar
        side = np.concatenate([[0.0], side[:-1]])
    np.testing.assert_array_equal(side, before)
    for kind, found in {"raw": run.scores.raw_decision, "final": run.decision}.items():
        expected = Counter()
        for word, count in config["signals"][kind].items():
            expected[CODES.get(word, 0)] += count  # "None", for a NaN, is HOLD
        assert Counter(found[marked].tolist()) == +expected


@pytest.mark.parametrize("name", COMPLETED)
def test_the_sums_of_a_run_equal_the_reference(name: str) -> None:
    config, run = SCENARIOS[name], run_of(name)
    for metric, expected in config["metrics"].items():
        assert run.metric(metric) == pytest.approx(_number(expected), rel=1e-7), metric
    assert run.final_cash == config["final_cash_after_force_close"]
    trades = run.trades
    for column in ("net_pnl", "gross_pnl"):  # summed in another order
        assert np.sum(trades[column]) == pytest.approx(config[f"sum_{column}"], rel=1e-9, abs=1e-9)
    assert int((trades["side"] > 0).sum()) == config["n_long"]
    assert int((trades["side"] < 0).sum()) == config["n_short"]
    assert int((~np.isnan(run.equity)).sum()) == config["equity_points"]
    assert len(run.bars) == config["bars_simulated"]
    denied = sum(n for reason, n in run.funnel[3].drops.items() if reason.startswith("DENIED"))
    assert denied == config["rejected_orders"]
    was_forced = len(trades) > 0 and trades["exit_reason"][-1] == ExitReason.END_OF_DATA
    assert was_forced == config["forced_close"]


def _number(value: float | str | None) -> float:
    return math.nan if value is None else float(value)


@pytest.mark.parametrize("name", COMPLETED)
def test_every_trade_equals_the_reference(name: str) -> None:
    run, path = run_of(name), folder_of(name) / "trades.csv"
    trades = run.trades
    if not path.read_text().strip():  # a run without trades has a file without columns
        assert len(trades) == 0
        return
    expected = pd.read_csv(path)
    assert len(trades) == len(expected)
    np.testing.assert_array_equal(trades["number"], expected["trade_id"])
    np.testing.assert_array_equal(trades["side"], expected["side"].map(SIDES))
    for ours, theirs in {
        "quantity": "quantity",
        "entry_price": "entry_price",
        "exit_price": "exit_price",
        "gross_pnl": "gross_pnl",
        "net_pnl": "net_pnl",
        "commission": "commission",
        "slippage": "slippage",
        "mfe": "max_favorable_excursion",
        "mae": "max_adverse_excursion",
    }.items():
        # The file has 16 digits, not 17: the last place may differ.
        np.testing.assert_allclose(trades[ours], expected[theirs], rtol=1e-12, atol=1e-9)
    for ours, theirs in {"entry_time_ns": "entry_time", "exit_time_ns": "exit_time"}.items():
        np.testing.assert_array_equal(trades[ours], stamps(expected[theirs]))
    hours = (trades["holding_end_ns"] - trades["entry_time_ns"]) / 3.6e12
    np.testing.assert_allclose(hours, expected["holding_period_hours"], rtol=1e-12)
    returns = 100.0 * trades["net_pnl"] / (trades["entry_price"] * trades["quantity"])
    np.testing.assert_allclose(returns, expected["return_pct"], rtol=1e-9, atol=1e-12)
    forced = trades["exit_reason"] == ExitReason.END_OF_DATA
    np.testing.assert_array_equal(forced, expected["forced"].astype(bool))
    age = 0 if profile_of(SCENARIOS[name]) == "ktrdr-m3" else 1
    confidence = run.scores.confidence[trades["exit_index"][~forced] - age]
    wanted = expected["exit_decision_confidence"][~forced]
    np.testing.assert_allclose(
        confidence, wanted, rtol=0, atol=output_tolerance(SCENARIOS[name]["bundle"])
    )


@pytest.mark.parametrize("name", COMPLETED)
def test_every_fill_equals_the_reference(name: str) -> None:
    run, expected = run_of(name), pd.read_parquet(folder_of(name) / "fills.parquet")
    if len(expected):
        expected = expected[expected["action"] != "rejected"].reset_index(drop=True)
    fills = run.fills[run.fills["exit_reason"] != ExitReason.END_OF_DATA]
    assert len(fills) == len(expected)
    if not len(expected):
        return
    np.testing.assert_array_equal(fills["time_ns"], stamps(expected["timestamp"]))
    np.testing.assert_array_equal(fills["is_buy"] == 1, expected["signal"] == "BUY")
    is_entry = expected["action"].isin(["BUY_ENTRY", "SELL_ENTRY"])
    np.testing.assert_array_equal(fills["is_entry"] == 1, is_entry)
    for ours, theirs in UNITS_OF_FILLS.items():
        np.testing.assert_allclose(fills[ours], expected[theirs], rtol=1e-12, err_msg=theirs)
    slippage = np.abs(fills["price"] - fills["reference_price"]) * fills["quantity"]
    np.testing.assert_allclose(slippage, expected["slippage_cost"], rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", ABORTED)
def test_a_run_that_the_reference_aborts_is_refused_at_the_same_bar(name: str) -> None:
    config = SCENARIOS[name]
    assert NAN_CONFIDENCE in config["error"]["message"]
    with pytest.raises(NanFeaturesError, match="is NaN at the simulated bar") as caught:
        run_scenario(config)
    stopped = run_scenario(config, switches={"nan_features": "hold"})
    times = stopped.bars.open_time_ns
    when = int(np.datetime64(caught.value.metadata["time"], "ns").astype(np.int64))
    place = int(np.searchsorted(times, when))
    assert place == config["bars_decided_before_error"]
    if config.get("last_bar_decided"):
        assert times[place - 1] == stamps([config["last_bar_decided"]])[0]


def test_the_index_lists_the_scenarios_as_they_are() -> None:
    index = pd.read_csv(KTRDR / "scenarios" / "index.csv").set_index("sid")
    assert set(index.index) == set(SCENARIOS)
    for name, config in SCENARIOS.items():
        row = index.loc[name]
        assert (row["bundle"], row["semantics"]) == (config["bundle"], config["semantics"])
        if "error" not in config:
            assert row["trades"] == len(run_of(name).trades)
            assert row["final_cash"] == pytest.approx(run_of(name).final_cash, abs=1e-6)


@pytest.mark.parametrize("name", list(SCENARIOS))
def test_every_scenario_accounts_for_every_cent_under_the_default_profile(name: str) -> None:
    """SPEC §9, §10: the reference's trades and curve leave out entry costs and the forced close."""
    config = SCENARIOS[name]
    is_tradable = predictor_of(config["bundle"]).info.head.is_tradable
    switches = {} if is_tradable else {"classes_as_decisions": True}
    run = run_scenario(config, profile="default", switches=switches)
    gained = run.final_cash - config["initial_capital"]
    assert run.metric("total_return") == gained  # the forced close is inside the curve
    assert run.trades["net_pnl"].sum() == pytest.approx(gained, abs=1e-6)  # both legs are booked
    # A year is a year: bars are counted by the days that they cover, to the first and last close.
    years = (run.bars.close_time_ns[-1] - run.bars.open_time_ns[0]) / 86_400e9 / 365.25
    (basis,) = {m.annualization for m in run.metrics if m.id == "sharpe_ratio"}
    assert float(basis.split()[0]) == pytest.approx(len(run.bars) / years, rel=0.01)
