"""A user's package adds a strategy by an entry point; the package here is a real one on disk."""

import json
import os
import subprocess
import sys
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from backlane.cycle.strategies import BUILT_IN
from backlane.errors import InvalidRequestError
from backlane.sources.strategy_packages import (
    STRATEGY_GROUP,
    InstalledStrategies,
    installed_strategies,
)
from tests.architecture.source import SERVICES

PACKAGE = """
import numpy as np
from pydantic import Field

from backlane.cycle.config_record import ConfigRecord
from backlane.cycle.strategy import StrategyInput, Targets, TargetStrategy


class HoldConfig(ConfigRecord):
    share: float = Field(0.5, gt=0, le=1)


def decide(data: StrategyInput, parameters: HoldConfig) -> Targets:
    close = data.panel.close
    weights = np.where(np.isnan(close), np.nan, parameters.share / close.shape[1])
    return Targets(np.ones(close.shape, np.int8), weights, weights)


HOLD = TargetStrategy(HoldConfig, decide)
"""
PANEL = """timestamp,symbol,open,high,low,close,volume
2024-01-02,A,10,10,10,10,5
2024-01-02,B,20,20,20,20,5
2024-01-03,A,10,10,10,10,5
2024-01-03,B,20,20,20,20,5
"""


def install(site: Path, entry_points: str) -> None:
    """Writes a package and what pip writes beside it."""
    (site / "hold_package.py").write_text(PACKAGE)
    about = site / "hold_package-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: hold-package\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text(f"[{STRATEGY_GROUP}]\n{entry_points}\n")


def run_command(folder: Path, name: str, **parameters: object) -> subprocess.CompletedProcess[str]:
    (folder / "panel.csv").write_text(PANEL)
    config = {
        "strategy": {"name": name, "parameters": parameters},
        "data": {"panel": "panel.csv"},
        "initial_cash": 1000,
        "fill": "this_close",
    }
    (folder / "config.json").write_text(json.dumps(config))
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(SERVICES), str(folder)])}
    options = ["portfolio", "run", "--local", "--config", "config.json", "--out", "out", "--json"]
    return subprocess.run(
        [sys.executable, "-m", "backlane.cli.main", *options],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )


@pytest.mark.slow
def test_an_installed_package_is_run_by_its_name(tmp_path: Path):
    """0.8 of 1,000, half of it each: 40 of A at 10, 20 of B at 20."""
    install(tmp_path, "hold = hold_package:HOLD")
    done = run_command(tmp_path, "hold", share=0.8)
    assert done.returncode == 0, done.stderr
    orders = (tmp_path / "out" / "orders.csv").read_text().splitlines()[1:]
    assert [line.split(",")[2:5] for line in orders] == [["A", "BUY", "40"], ["B", "BUY", "20"]]
    refused = run_command(tmp_path, "hold", share=2)
    assert refused.returncode == 2
    assert "strategy.parameters.share" in refused.stdout


def point(name: str, value: str) -> EntryPoint:
    return EntryPoint(name, value, STRATEGY_GROUP)


def test_without_packages_there_are_the_built_in_ones():
    assert set(installed_strategies()) >= set(BUILT_IN)
    assert dict(InstalledStrategies(())) == dict(BUILT_IN)


@pytest.mark.parametrize(
    ("points", "name", "said"),
    [
        ([point("mine", "no_such_package:X")], "mine", "cannot be loaded: ModuleNotFoundError"),
        ([point("mine", "json:dumps")], "mine", "is a function, not a TargetStrategy"),
        ([point("trend_baseline", "json:dumps")], "trend_baseline", "taken twice"),
        ([point("mine", "json:dumps"), point("mine", "json:loads")], "mine", "taken twice"),
    ],
)
def test_one_that_cannot_be_used_says_so_and_leaves_the_others(points, name, said):
    strategies = InstalledStrategies(tuple(points))
    assert name in strategies
    with pytest.raises(InvalidRequestError, match=said):
        strategies[name]
    assert strategies["multifactor_long_short"] is BUILT_IN["multifactor_long_short"]
    assert len(strategies) == len(list(strategies)) == len(BUILT_IN) + (name not in BUILT_IN)
