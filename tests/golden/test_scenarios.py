"""Whole runs against what the reference engine gives, under the profiles made for that.

Tolerances of SPEC §18: decisions, quantities and trade counts exact; cash and equity 1e-6 absolute
(the same sums, in another order); metrics 1e-7 relative.
"""

import json

import numpy as np
import pandas as pd
import pytest

from backlane.backtest.engine import run_backtest
from backlane.backtest.request import parse_request
from backlane.errors import NanFeaturesError
from backlane.market.timeframe import Timeframe
from backlane.sources.bundle import load_predictor, read_bundle
from backlane.sources.files import read_bars
from tests.shared import KTRDR, needs_shared

RUNS = [f"h{n:02d}" for n in range(1, 26)] + ["m01", "m02", "m03", "m04", "m06", "m07", "m08"]
REFUSED = ["m05", "m09", "m10"]
LOOSER = {("h21", "sortino_ratio"): 1e-4}
"""Shorts without costs: equity before and after an exit differ by rounding alone, 1e-16 of it, and
the reference's Sortino ratio counts such a difference as a loss when it is negative."""
CODES = {"BUY": 1, "HOLD": 0, "SELL": -1}


def scenario(number: str) -> tuple[dict, object]:
    folder = next((KTRDR / "scenarios").glob(f"{number}_*"))
    return json.loads((folder / "scenario.json").read_text()), folder


def decisions(config: dict) -> dict:
    """What was in effect; a run that was aborted has no record of it, and took the bundle's."""
    in_effect = config.get("decisions_in_effect")
    if in_effect is None:
        return {}
    return {
        "confidence_threshold": in_effect["confidence_threshold"],
        "position_awareness": in_effect["position_awareness"],
        "allow_short_from_flat": in_effect["allow_short_from_flat"],
        "filters": {"min_signal_separation": in_effect["min_separation_hours"]},
        "cost_model": config["decisions"].get("cost_model", {}),
    }


def run(config: dict):
    bundle = read_bundle(next((KTRDR / "bundles" / config["bundle"]).iterdir()))
    request = parse_request(
        {
            "model": {"path": config["bundle"]},
            "symbol": config["symbol"],
            "start": config["start_date"],
            "end": config["end_date"],
            "initial_cash": config["initial_capital"],
            "commission_rate": config["commission"],
            "slippage_rate": config["slippage"],
            "profile": "ktrdr-m3" if config["semantics"].startswith("m3") else "ktrdr-head",
            "decisions": decisions(config),
        }
    )
    files = {
        "5m": "EURUSD_5m.csv.gz",
        "1h": "EURUSD_1h.csv",
        "4h": "EURUSD_4h.csv",
        "1d": "AAPL_1d.csv",
    }
    bars = {
        label: read_bars(
            KTRDR / "data" / files[label], config["symbol"], Timeframe.parse(label)
        ).series
        for label in bundle.info.strategy.timeframes
    }
    return run_backtest(request, load_predictor(bundle), bars, dataset_digests={})


@needs_shared
@pytest.mark.parametrize("number", RUNS)
def test_run_equals_the_reference(number) -> None:
    config, folder = scenario(number)
    result = run(config)
    steps = pd.read_parquet(folder / "steps.parquet")
    marked = ~np.isnan(result.equity)

    times = steps["timestamp"].dt.as_unit("ns").astype("int64")
    np.testing.assert_array_equal(result.bars.open_time_ns[marked], times)
    np.testing.assert_array_equal(result.decision[marked], steps["signal"].map(CODES))
    np.testing.assert_array_equal(np.abs(result.position[marked]), steps["quantity"])
    np.testing.assert_allclose(result.equity[marked], steps["portfolio_value"], rtol=0, atol=1e-6)
    np.testing.assert_allclose(result.cash[marked], steps["cash"], rtol=0, atol=1e-6)
    assert abs(result.final_cash - config["final_cash_after_force_close"]) <= 1e-6
    for metric, expected in config["metrics"].items():
        tolerance = LOOSER.get((number, metric), 1e-7)
        assert result.metric(metric) == pytest.approx(expected, rel=tolerance), metric
    denied = sum(n for name, n in result.funnel[3].drops.items() if name.startswith("DENIED"))
    assert denied == config["rejected_orders"]


@needs_shared
@pytest.mark.parametrize("number", REFUSED)
def test_a_run_that_the_reference_aborts_is_refused(number) -> None:
    config, _ = scenario(number)
    with pytest.raises(NanFeaturesError, match="is NaN at the simulated bar"):
        run(config)


@needs_shared
@pytest.mark.parametrize("number", ["h01", "h04", "h05", "h08", "m01", "m02"])
def test_trades_equal_the_reference(number) -> None:
    config, folder = scenario(number)
    trades = run(config).trades
    expected = pd.read_csv(folder / "trades.csv")
    assert len(trades) == len(expected)
    np.testing.assert_array_equal(trades["quantity"], expected["quantity"])
    sides = {"LONG": 1, "SHORT": -1}
    np.testing.assert_array_equal(trades["side"], expected["side"].map(sides))
    for name, column in [
        ("entry_price", "entry_price"),
        ("exit_price", "exit_price"),
        ("gross_pnl", "gross_pnl"),
        ("net_pnl", "net_pnl"),
        ("commission", "commission"),
        ("slippage", "slippage"),
        ("mfe", "max_favorable_excursion"),
        ("mae", "max_adverse_excursion"),
    ]:
        np.testing.assert_allclose(trades[name], expected[column], rtol=0, atol=1e-6, err_msg=name)
    for name, column in [("entry_time_ns", "entry_time"), ("exit_time_ns", "exit_time")]:
        stamps = pd.to_datetime(expected[column], utc=True).dt.as_unit("ns").astype("int64")
        np.testing.assert_array_equal(trades[name], stamps)
    hours = (trades["holding_end_ns"] - trades["entry_time_ns"]) / 3.6e12
    np.testing.assert_array_equal(hours, expected["holding_period_hours"])


@needs_shared
def test_the_default_profile_corrects_the_reference_where_it_is_wrong() -> None:
    """SPEC §9, §10: the same run under `default` accounts for every cent of h01."""
    config, _ = scenario("h01")
    bundle = read_bundle(next((KTRDR / "bundles" / config["bundle"]).iterdir()))
    bars = {
        "1h": read_bars(KTRDR / "data" / "EURUSD_1h.csv", "EURUSD", Timeframe.parse("1h")).series
    }
    request = parse_request({"model": {"path": "x"}, "symbol": "EURUSD"})
    result = run_backtest(request, load_predictor(bundle), bars, dataset_digests={})
    lost = result.final_cash - 100_000
    assert result.metric("total_return") == lost  # the forced close is inside the curve
    assert result.trades["net_pnl"].sum() == pytest.approx(lost, abs=1e-6)  # both legs are booked
    # the bars cover 2023-01-01 to 2023-12-18: 6,000 hourly bars in 0.96 years
    assert "6,2" in f"{float(result.metrics[4].annualization.split()[0]):,.0f}"
