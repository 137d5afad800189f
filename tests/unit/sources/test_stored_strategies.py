"""A portfolio run with its factors from the store: the same decisions, to the bit."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from backlane.backtest.portfolio_run import parse_portfolio_config, run_portfolio
from backlane.cycle.strategies import BUILT_IN
from backlane.signals.factor_key import panel_rows
from backlane.sources.factor_store import FactorStore
from backlane.sources.stored_strategies import with_stored_factors
from tests.unit.signals.panels import daily_panel

CONFIG = {
    "strategy": {
        "name": "multifactor_long_short",
        "parameters": {
            "factors": [{"name": "rv_20", "weight": 0.5}, {"name": "reversal_1d", "weight": 0.5}],
            "rebalance": "W",
        },
    },
    "data": {"panel": "panel.csv"},
}
BARS = 120


@pytest.fixture
def panel():
    steps = np.random.default_rng(3).normal(0.0, 0.02, (BARS, 6))
    return daily_panel(100 * np.exp(steps.cumsum(axis=0)), spread=0.1)


@pytest.mark.slow
def test_a_run_is_the_same_with_a_store_cold_grown_and_warm(tmp_path: Path, panel):
    config = parse_portfolio_config(CONFIG)
    store = FactorStore(tmp_path)
    strategies = with_stored_factors(BUILT_IN, store)
    assert set(strategies) == set(BUILT_IN)
    for bars in (BARS - 20, BARS, BARS):
        shown = panel_rows(panel, 0, bars)
        plain, stored = (run_portfolio(config, shown, {}, each) for each in (BUILT_IN, strategies))
        assert plain.equity.tobytes() == stored.equity.tobytes()
        assert plain.fills.tobytes() == stored.fills.tobytes()
    counts = dataclasses.asdict(store.counts)
    assert (counts["misses"], counts["appends"], counts["hits"]) == (2, 2, 2)


def test_other_strategies_are_as_they_were(tmp_path: Path):
    strategies = with_stored_factors(BUILT_IN, FactorStore(tmp_path))
    assert strategies["trend_baseline"] is BUILT_IN["trend_baseline"]
    with pytest.raises(KeyError):
        strategies["none"]
