"""`backlane portfolio run --local` on the files of the set, as a user types it."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml

from backlane.cli.main import run as run_cli
from tests.golden.cycle.assembled import (
    ASSEMBLED,
    capital,
    costs,
    crossing_costs,
    load_json,
    load_panel,
    load_rows,
)
from tests.golden.cycle.assembled import needs_assembled as pytestmark  # noqa: F401

EQUITY_RTOL = 1e-8  # the README's own
RESULT_FILES = {
    "costs.csv",
    "equity.csv",
    "fills.csv",
    "orders.csv",
    "result.json",
    "signals.csv",
    "targets.csv",
    "trades.csv",
}


def config(**changes: Any) -> dict[str, Any]:
    """The configuration of the issue, on the files of the set."""
    periods = load_json("_params.json")["config"]
    rates = costs()
    return {
        "strategy": {
            "name": "trend_baseline",
            "parameters": {
                "fast": periods["fast"],
                "slow": periods["slow"],
                "volume_filter": "full_sample",
            },
        },
        "data": {
            "panel": str(ASSEMBLED / "panel.csv"),
            "events": {
                "insider": str(ASSEMBLED / "events_insider.csv"),
                "shipping": str(ASSEMBLED / "events_shipping.csv"),
            },
        },
        "initial_cash": capital(),
        "costs": {
            "commission_bps": rates.commission.bps,
            "half_spread_bps": rates.spread.fallback_bps * rates.spread.share,
            "impact_bps": rates.impact.fallback_bps,
        },
        "fill": "next_open",
        "compounding": True,
        "mode": "backtest",
        **changes,
    }


def run(folder: Path, document: dict[str, Any]) -> Path:
    """Runs the command and returns the folder of its result."""
    path, out = folder / "config.yaml", folder / "out"
    path.write_text(yaml.safe_dump(document))
    command = ["portfolio", "run", "--local", "--config", str(path), "--out", str(out)]
    assert run_cli(command) == 0
    return out


def assert_equity(out: Path, expected: pd.Series) -> None:
    equity = pd.read_csv(out / "equity.csv")
    assert list(equity.columns) == ["time", "equity", "cash"]
    np.testing.assert_allclose(equity["equity"], expected, rtol=EQUITY_RTOL, atol=0)


@pytest.mark.parametrize(
    ("column", "changes"),
    [
        ("ref_nextopen_cost_compound", {}),
        ("ref_nextopen_cost", {"compounding": False}),
        ("ref_close_cost", {"compounding": False, "fill": "this_close"}),
        ("ref_close_nocost", {"compounding": False, "fill": "this_close", "costs": {}}),
    ],
)
def test_trend(tmp_path: Path, column: str, changes: dict[str, Any]) -> None:
    out = run(tmp_path, config(**changes))
    assert {path.name for path in out.iterdir()} == RESULT_FILES
    assert_equity(out, load_rows("trend_equity.csv")[column])


def test_trend_files(tmp_path: Path) -> None:
    out = run(tmp_path, config())
    fills = pd.read_csv(out / "fills.csv")
    expected = load_rows("trend_trades_ref_nextopen_compound.parquet")
    assert fills["side"].tolist() == expected["side"].tolist()
    assert fills["symbol"].tolist() == expected["symbol"].tolist()
    assert (pd.to_datetime(fills["time"], utc=True) == expected["timestamp"]).all()
    np.testing.assert_allclose(fills["quantity"], expected["qty"], rtol=EQUITY_RTOL)
    np.testing.assert_allclose(fills["cost"], expected["cost_cash"], rtol=EQUITY_RTOL)

    targets = pd.read_csv(out / "targets.csv")
    wanted = load_rows("trend_targets_shares.parquet").sort_values(["timestamp", "symbol"])
    np.testing.assert_allclose(targets["weight"], wanted["target_weight"], rtol=1e-9)

    signals, recorded = pd.read_csv(out / "signals.csv"), load_rows("trend_signals.parquet")
    recorded = recorded.sort_values(["timestamp", "symbol"])
    assert signals["direction"].tolist() == recorded["dir_asis"].tolist()
    np.testing.assert_allclose(signals["score"], recorded["score_asis"], rtol=1e-9)

    result = json.loads((out / "result.json").read_text())
    trades = pd.read_csv(out / "trades.csv")
    assert result["final_equity"] - result["initial_cash"] == pytest.approx(
        trades["net_pnl"].sum(), rel=1e-9
    )


def test_the_same_configuration_gives_the_same_bytes(tmp_path: Path) -> None:
    outs = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        outs.append(run(tmp_path / name, config()))
    for file in RESULT_FILES:
        assert (outs[0] / file).read_bytes() == (outs[1] / file).read_bytes()


def event_config(**parameters: Any) -> dict[str, Any]:
    thresholds = load_json("_params.json")["config"]["ins"]
    strategy = {"name": "event_insider_shipping", "parameters": {**thresholds, **parameters}}
    return config(strategy=strategy, compounding=False)


def test_events_of_both_legs_long_and_short(tmp_path: Path) -> None:
    out = run(tmp_path, event_config())
    assert_equity(out, load_rows("event_equity.csv")["ref_ls_pit_nextopen_cost"])


def multifactor_config(frequency: str, *, with_costs: bool) -> dict[str, Any]:
    """The trailing bundle: ours, without winsorizing; upstream's calendar is named (SPEC Q13)."""
    bundle = yaml.safe_load((ASSEMBLED / "bundle_trailing.yaml").read_text())
    factors = [
        {**each, "name": each["name"].removeprefix("ref_").removesuffix("_trailing")}
        for each in bundle["factors"]
    ]
    settings = load_json("_params.json")["config"]
    parameters = {
        "factors": factors,
        "winsorizing": "per_time" if bundle["options"]["winsorize"] else "none",
        "top_quantile": settings["topq"],
        "bottom_quantile": settings["botq"],
        "rebalance": frequency,
        "rebalance_rule": "calendar_day",
        "gross_exposure": settings["gross"],
    }
    changes: dict[str, Any] = {} if with_costs else {"costs": {}}
    return config(
        strategy={"name": "multifactor_long_short", "parameters": parameters},
        fill="this_close",
        compounding=False,
        **changes,
    )


@pytest.mark.parametrize("with_costs", [False, True])
@pytest.mark.parametrize("frequency", ["M", "W"])
def test_multifactor(tmp_path: Path, frequency: str, with_costs: bool) -> None:
    """Where all scores are equal ours holds nothing; upstream pays for buying and selling all."""
    out = run(tmp_path, multifactor_config(frequency, with_costs=with_costs))
    column = f"trailing_{frequency}_{'cost_mtm' if with_costs else 'nocost'}"
    rows = load_rows(f"mf_signals_trailing_{frequency}.csv")
    panel = load_panel()
    paid = crossing_costs(rows, costs().linear_rate if with_costs else 0.0, panel.time_ns)
    assert_equity(out, load_rows("mf_equity.csv")[column] + paid)
