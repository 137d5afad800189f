"""Small portfolios for tests: a panel file, configurations, and what a run in process gives."""

from pathlib import Path
from typing import Any

import numpy as np
import yaml

from backlane.backtest.portfolio_request import file_roles, whole_numbers
from backlane.backtest.portfolio_run import parse_portfolio_config, run_portfolio
from backlane.cycle.strategies import BUILT_IN
from backlane.cycle.strategy import Registry
from backlane.sources.portfolio_data import read_portfolio_data
from backlane.sources.portfolio_results import write_portfolio_result

SYMBOLS = ("ASH", "ELM", "OAK")
RISK = {"stops": {"daily_loss_max": 0.01}, "orders": {"weight_per_symbol_max": 0.3}}


def config_of(**changes: Any) -> dict[str, Any]:
    content = {
        "strategy": {"name": "trend_baseline", "parameters": {"fast": 3, "slow": 8}},
        "data": {"panel": "panel.csv"},
        "costs": {"commission_bps": 1.0, "half_spread_bps": 2.5, "impact_bps": 5.0},
        "initial_cash": 50_000.0,
    }
    return {**content, **changes}


def write_panel(folder: Path, bars: int = 200, seed: int = 3) -> Path:
    """Writes panel.csv: so many days of three instruments, one of which pauses for a while."""
    steps = np.random.default_rng(seed).normal(0.0, 0.02, (bars, len(SYMBOLS)))
    closes = 100.0 * np.exp(np.cumsum(steps, axis=0))
    first = np.datetime64("2020-01-01")
    lines = ["timestamp,symbol,open,high,low,close,volume"]
    for bar in range(bars):
        for column, symbol in enumerate(SYMBOLS):
            if symbol == "ELM" and 40 <= bar < 45:
                continue
            close, opened = closes[bar, column], closes[max(0, bar - 1), column]
            prices = (opened, max(opened, close), min(opened, close), close)
            shown = ",".join(f"{price:.4f}" for price in prices)
            lines.append(f"{first + bar},{symbol},{shown},{1000 + bar}")
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "panel.csv"
    path.write_text("\n".join(lines) + "\n")
    return path


def write_config(folder: Path, **changes: Any) -> Path:
    path = folder / "portfolio.yaml"
    path.write_text(yaml.safe_dump(config_of(**changes)))
    return path


def run_in_process(
    content: dict[str, Any], folder: Path, out: Path, strategies: Registry = BUILT_IN
) -> dict[str, bytes]:
    """What `backlane portfolio run --local` writes."""
    content = whole_numbers(content)
    config = parse_portfolio_config(content, strategies)
    paths = {role: folder / name for role, name in file_roles(content).items()}
    panel, events = read_portfolio_data(paths)
    run = run_portfolio(config, panel, events, strategies)
    write_portfolio_result(run, config.model_dump(mode="json"), paths, out)
    return files_of(out)


def files_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}
