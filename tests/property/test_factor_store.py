"""The laws of stored factors: whatever was stored before, what is returned is what is computed."""

import tempfile
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backlane.panel.panel import Panel
from backlane.signals.event_windows import DAY_NS
from backlane.signals.factor_key import (
    FACTOR_HISTORY_BARS,
    core_factor_key,
    first_row_needed,
    panel_rows,
)
from backlane.signals.factors import FACTORS
from backlane.sources.factor_store import FactorStore

SYMBOLS = ("A", "B", "C")
BARS = 420
"""More than any factor looks back, over three calendar years of sessions five days apart or so."""


def world(seed: int, gap_share: float) -> Panel:
    """A panel with gaps, an instrument that is listed late, and one that ends early."""
    chance = np.random.default_rng(seed)
    shape = (BARS, len(SYMBOLS))
    close = 100.0 * np.exp(np.cumsum(chance.normal(0.0, 0.02, shape), axis=0))
    close[chance.random(shape) < gap_share] = np.nan
    close[: BARS // 3, 1] = np.nan
    close[BARS - BARS // 8 :, 2] = np.nan
    volume = np.where(np.isnan(close), np.nan, chance.integers(1, 1000, shape))
    days = np.cumsum(chance.integers(1, 4, BARS)) * DAY_NS
    return Panel(SYMBOLS, days, days, close, close * 1.01, close * 0.99, close, volume)


def compute(name: str, panel: Panel) -> dict[str, np.ndarray]:
    return {name: FACTORS[name](panel)}


worlds = st.builds(world, st.integers(0, 2**32 - 1), st.sampled_from([0.0, 0.3]))


@pytest.mark.slow
@pytest.mark.parametrize("name", FACTORS)
@settings(max_examples=12, deadline=None)
@given(panel=worlds, row=st.integers(1, BARS - 1))
def test_a_value_reads_no_bar_before_the_history_that_is_named(name, panel, row):
    start = first_row_needed(panel, row, FACTOR_HISTORY_BARS[name])
    cut = FACTORS[name](panel_rows(panel, start, len(panel)))
    np.testing.assert_array_equal(cut[row - start :], FACTORS[name](panel)[row:])


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name, bars in FACTOR_HISTORY_BARS.items() if bars])
def test_one_bar_less_of_history_would_change_a_value(name):
    """So the table names what a factor reads, and no more."""
    row, changed = BARS - 20, False
    for seed in range(6):
        panel = world(seed, 0.0)
        start = first_row_needed(panel, row, FACTOR_HISTORY_BARS[name] - 1)
        cut = FACTORS[name](panel_rows(panel, start, len(panel)))[row - start :]
        changed |= not np.array_equal(cut, FACTORS[name](panel)[row:], equal_nan=True)
    assert changed


@pytest.mark.slow
@settings(max_examples=25, deadline=None)
@given(
    panel=worlds,
    name=st.sampled_from([*FACTORS]),
    stops=st.lists(st.integers(0, BARS), min_size=1, max_size=4),
)
def test_appending_equals_computing_in_any_order_of_panels(panel, name, stops):
    """Growing, shrinking, again and again: each read is what computing would have given."""
    key = core_factor_key(name, SYMBOLS, "v1")
    with tempfile.TemporaryDirectory() as folder:
        for stop in (*stops, BARS):
            shown = panel_rows(panel, 0, stop)
            store = FactorStore(Path(folder))
            stored = store.get_or_compute(key, shown, partial(compute, name))
            np.testing.assert_array_equal(stored[name], FACTORS[name](shown))
            assert not store.counts.last_problem


@pytest.mark.slow
@settings(max_examples=15, deadline=None)
@given(panel=worlds, row=st.integers(1, BARS - 1), name=st.sampled_from([*FACTORS]))
def test_what_comes_after_as_of_changes_nothing(panel, row, name):
    """The future is shuffled between two reads as of the same time; the store is shared."""
    key, as_of_ns = core_factor_key(name, SYMBOLS, "v1"), int(panel.known_ns[row])
    other = panel_rows(panel, 0, len(panel))
    order = np.concatenate([np.arange(row + 1), np.arange(BARS - 1, row, -1)])
    shuffled = Panel(
        SYMBOLS, panel.time_ns, panel.known_ns,
        *(getattr(other, each)[order] for each in ("open", "high", "low", "close", "volume")),
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        store = FactorStore(Path(folder))
        store.get_or_compute(key, panel, partial(compute, name))
        store.get_or_compute(key, shuffled, partial(compute, name))
        read = store.get_or_compute(key, shuffled, partial(compute, name), as_of_ns=as_of_ns)
    np.testing.assert_array_equal(read[name], FACTORS[name](panel)[: row + 1])
