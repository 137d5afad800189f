"""The law of every feature and signal: cutting the data at a time changes nothing before it."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backlane.panel.events import Events
from backlane.panel.panel import Panel
from backlane.signals import technical
from backlane.signals.event_insider_shipping import EventParameters, event_insider_shipping
from backlane.signals.event_windows import DAY_NS
from backlane.signals.factors import FACTORS, FORWARD_FACTORS
from backlane.signals.multifactor import (
    FactorBundle,
    WeightedFactor,
    factor_scores,
    long_short_flags,
)
from backlane.signals.rebalance import Rebalance, rebalance_bars
from backlane.signals.target_weights import long_short_weights, long_weights
from backlane.signals.trend_baseline import TrendParameters, trend_baseline

BARS = 40
SYMBOLS = ("A", "B", "C")


@st.composite
def worlds(draw) -> tuple[Panel, Events, Events, int]:
    """A panel with gaps, events of two sources, and the number of bars to keep."""
    chance = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    shape = (BARS, len(SYMBOLS))
    close = 100.0 * np.exp(np.cumsum(chance.normal(0.0, 0.02, shape), axis=0))
    close[chance.random(shape) < draw(st.sampled_from([0.0, 0.2]))] = np.nan
    volume = np.where(np.isnan(close), np.nan, chance.integers(1, 1000, shape))
    days = np.arange(BARS) * DAY_NS
    panel = Panel(SYMBOLS, days, days, close, close * 1.01, close * 0.99, close, volume)
    keep = draw(st.integers(1, BARS - 1))
    insider = _events(chance, "net_shares", -4000.0, 4000.0)
    return panel, insider, _events(chance, "congestion_score", 0.0, 100.0), keep


def _events(chance: np.random.Generator, column: str, low: float, high: float) -> Events:
    count = 30
    happened = chance.integers(0, BARS, count) * DAY_NS
    known = happened + chance.integers(0, 6, count) * DAY_NS
    order = np.argsort(known, kind="stable")
    place = chance.integers(0, len(SYMBOLS), count)
    values = {column: chance.uniform(low, high, count)}
    return Events(SYMBOLS, place, happened[order], known[order], values)


def every_result(panel: Panel, insider: Events, shipping: Events) -> dict[str, np.ndarray]:
    """Everything that may be traded on, by name; the first axis is time."""
    made = {name: factor(panel) for name, factor in FACTORS.items()}
    bundle = FactorBundle((WeightedFactor("reversal_1d", 0.5), WeightedFactor("rv_20", 0.5, True)))
    score = factor_scores(bundle, made, np.isfinite(panel.close)).score
    flags = long_short_flags(score, 0.34, 0.34)
    trend = trend_baseline(panel, TrendParameters(3, 8))
    event = event_insider_shipping(panel, insider, shipping, EventParameters())
    flat = np.ones(len(panel))
    return {
        **made,
        "mean": technical.simple_mean(panel, 5),
        "range": technical.average_true_range(panel, 5),
        "strength": technical.relative_strength(panel, 5),
        "score": score,
        "flags": flags,
        "trend": trend.score,
        "trend_weights": long_weights(trend, top_n=2),
        "event": event.direction,
        "weights": long_short_weights(flags, flat, 0.0 * flat),
        "weekly": rebalance_bars(panel.time_ns, Rebalance.WEEKLY),
        "monthly": rebalance_bars(panel.time_ns, Rebalance.MONTHLY),
    }


@settings(max_examples=40, deadline=None)
@given(worlds())
def test_cutting_the_data_changes_nothing_before(world: tuple[Panel, Events, Events, int]):
    panel, insider, shipping, keep = world
    as_of = int(panel.known_ns[keep - 1])
    whole = every_result(panel, insider, shipping)
    cut = every_result(panel.until(as_of), insider.until(as_of), shipping.until(as_of))
    for name, values in cut.items():
        np.testing.assert_array_equal(whole[name][:keep], values, err_msg=name)


@settings(max_examples=20, deadline=None)
@given(worlds())
def test_weights_stay_within_their_limits_and_sides_are_disjoint(
    world: tuple[Panel, Events, Events, int],
):
    made = every_result(*world[:3])
    total = made["trend_weights"].sum(axis=1)
    # a sum of shares rounds in the last place
    assert np.all(np.isclose(total, 1.0, rtol=1e-12) | (total == 0.0))
    assert (np.abs(made["weights"]).sum(axis=1) <= 1.0 + 1e-12).all()
    assert (np.sign(made["weights"]) == made["flags"]).all()


@pytest.mark.parametrize("name", sorted(FORWARD_FACTORS))
def test_forward_factors_break_the_law_and_so_are_no_factors(name: str):
    closes = np.linspace(100.0, 200.0, 400)[:, None]
    days = np.arange(400) * DAY_NS
    panel = Panel(("A",), days, days, closes, closes, closes, closes, None)
    whole = FORWARD_FACTORS[name](panel)
    cut = FORWARD_FACTORS[name](panel.until(int(days[99])))
    assert np.isfinite(whole[99, 0])
    assert np.isnan(cut[99, 0])
    assert name not in FACTORS
