"""The laws of the triggers: a row of the grid is what a scan at its time says, and no more."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backlane.backtest.portfolio_run import parse_portfolio_config, run_portfolio
from backlane.cycle.strategies import BUILT_IN
from backlane.cycle.trigger_rules import TRIGGER_RULES
from backlane.panel.panel import Panel
from backlane.signals.price_regime import REGIMES, price_regime, price_regimes
from backlane.signals.trigger_grid import scan_triggers, trigger_grid
from backlane.signals.triggers import ScanChoice, TriggerRules

ROWS, SYMBOLS = 220, ("A", "B", "C")
HOUR_NS = 3_600_000_000_000


@st.composite
def worlds(draw):
    """A panel of hourly candles with gaps, the regime at each time, and rules."""
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    shape = (ROWS, len(SYMBOLS))
    wild = draw(st.sampled_from([0.002, 0.008, 0.02]))
    close = 100.0 * np.exp(np.cumsum(random.normal(0, wild, shape), axis=0))
    close[random.random(shape) < draw(st.sampled_from([0.0, 0.1, 0.6]))] = np.nan
    high, low = (close * (1 + sign * random.uniform(0, wild, shape)) for sign in (1, -1))
    volume = np.where(np.isnan(close), np.nan, random.lognormal(4, 0.8, shape))
    time_ns = np.arange(ROWS, dtype=np.int64) * HOUR_NS
    panel = Panel(SYMBOLS, time_ns, time_ns, close, high, low, close, volume)
    rules = TriggerRules(
        choice=draw(st.sampled_from(ScanChoice)),
        only_upside=draw(st.booleans()),
        has_atr_filter=draw(st.booleans()),
        fallback_streak_min=draw(st.integers(0, 3)),
    )
    return panel, random.integers(0, len(REGIMES), ROWS).astype(np.int8), rules


@given(worlds(), st.integers(0, ROWS - 1), st.integers(0, 3))
@settings(max_examples=60)
def test_a_row_of_the_grid_is_the_scan_of_the_bars_until_then(world, row, streak):
    panel, codes, rules = world
    cut = panel.until(int(panel.time_ns[row]))
    scan = scan_triggers(cut, REGIMES[codes[row]], rules, streak)
    assert trigger_grid(panel, codes, rules).scan(row, streak) == scan
    assert trigger_grid(cut, codes[: row + 1], rules).scan(row, streak) == scan
    for signal in scan.signals:
        assert 0.0 < signal.strength <= 1.0
        assert 0.0 <= signal.confidence <= 1.0
        assert not np.isnan(panel.close[row, SYMBOLS.index(signal.symbol)])


@given(worlds(), st.integers(0, ROWS - 2))
@settings(max_examples=30)
def test_no_later_bar_matters(world, row):
    panel, codes, rules = world
    before = trigger_grid(panel, codes, rules)
    for grid in (panel.high, panel.low, panel.close, panel.volume):
        grid[row + 1 :] = grid[row + 1 :][::-1].copy()
    after = trigger_grid(panel, codes, rules)
    for name in set(before.cells.dtype.names) - {"evidence"}:  # a place in a table, not a value
        left, right = (grid.cells[name][: row + 1] for grid in (before, after))
        assert np.array_equal(left, right, equal_nan=left.dtype.kind == "f")
    assert before.scan(row) == after.scan(row)


@given(worlds(), st.data())
@settings(max_examples=30)
def test_the_streak_of_every_row_is_that_of_the_scans_before(world, data):
    panel, codes, rules = world
    seed = data.draw(st.integers(0, 2**32 - 1))
    is_member = np.random.default_rng(seed).random(panel.close.shape) < 0.7
    grid = trigger_grid(panel, codes, rules)
    streaks, streak = grid.streaks(is_member), 0
    for row in range(ROWS):
        assert streaks[row] == streak
        scan = grid.scan(row, streak, is_member[row])
        assert all(is_member[row, SYMBOLS.index(signal.symbol)] for signal in scan.signals)
        streak = scan.streak


@given(worlds())
@settings(max_examples=20)
def test_the_regime_of_a_row_is_that_of_the_closes_until_then(world):
    close = world[0].close[:, 0]
    readings = price_regimes(close)
    for row in range(0, ROWS, 13):
        assert readings.at(row) == price_regime(close[: row + 1])


REGISTRY = {**BUILT_IN, "trigger_rules": TRIGGER_RULES}
LIQUID = {"tier": 1, "spread_bps": 5.0, "depth": 1e6, "volume_24h": 1e9}
CONFIG = {
    "strategy": {
        "name": "trigger_rules",
        "parameters": {
            "leader": "A",
            "instruments": dict.fromkeys(SYMBOLS, LIQUID),
            "triggers": {"has_atr_filter": False},
        },
    },
    "data": {"panel": "panel.csv"},
    "initial_cash": 100_000,
    "risk": {"trades": {"trade_spacing_s": 0.0, "loss_streak_max": 20}},
}


@given(worlds(), st.integers(80, ROWS - 1))
@settings(max_examples=15)
def test_a_run_over_fewer_bars_makes_the_same_orders(world, stop):
    panel = dataclasses.replace(world[0], open=world[0].close)
    config = parse_portfolio_config(CONFIG, REGISTRY)
    whole, cut = (
        run_portfolio(config, seen, {}, REGISTRY)
        for seen in (panel, panel.until(int(panel.time_ns[stop - 1])))
    )
    assert whole.cycles.failed == cut.cycles.failed == 0
    assert cut.equity.tolist() == whole.equity[:stop].tolist()
    early = whole.fills[whole.fills["time_index"] < stop]
    assert cut.fills["quantity"].tolist() == early["quantity"].tolist()
    assert cut.fills["price"].tolist() == early["price"].tolist()


def test_a_signal_of_a_copy_is_equal_to_it():
    random = np.random.default_rng(5)
    close = 100.0 * np.exp(np.cumsum(random.normal(0, 0.01, (80, 1)), axis=0))
    time_ns = np.arange(80, dtype=np.int64)
    panel = Panel(("A",), time_ns, time_ns, close, close, close, close, None)
    scan = scan_triggers(panel, REGIMES[1], TriggerRules(has_atr_filter=False), 5)
    if not scan.signals:
        pytest.fail("the bars are chosen so that something fires")
    assert dataclasses.replace(scan.signals[0]) == scan.signals[0]
