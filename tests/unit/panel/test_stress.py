"""Stress on a panel: what a reader can redo by hand, and that every key is live."""

from dataclasses import replace

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from backlane.panel.panel import Panel
from backlane.panel.rows import check_rows
from backlane.panel.stress import Jump, Spell, StressRules, Way, stressed_panel

DAY_NS = 86_400_000_000_000
CERTAIN = 1.0


def flat(times: int = 3, symbols: int = 1) -> Panel:
    """Opens at 100, closes at 110, between 90 and 120; 1,000 units a bar."""
    time_ns = np.arange(times) * DAY_NS
    grids = [np.full((times, symbols), price) for price in (100.0, 120.0, 90.0, 110.0)]
    names = tuple(f"S{at}" for at in range(symbols))
    return Panel(names, time_ns, time_ns, *grids, np.full((times, symbols), 1000.0))


def column(values: np.ndarray) -> list[float]:
    return [round(float(each), 9) for each in values[:, 0]]


def test_a_shock_lies_between_open_and_close_and_stays() -> None:
    """Halves in each bar: 100 opens, 55 closes; the next bar opens at 50 and closes at 27.5."""
    panel = stressed_panel(flat(), StressRules(shock=Jump(CERTAIN, 0.5)))
    assert column(panel.open) == [100.0, 50.0, 25.0]
    assert column(panel.close) == [55.0, 27.5, 13.75]
    assert column(panel.high) == [120.0, 60.0, 30.0]
    assert column(panel.low) == [45.0, 22.5, 11.25]


def test_a_gap_lies_before_the_open() -> None:
    """A tenth up before each bar: 110 opens and 121 closes, then 121 and 133.1."""
    panel = stressed_panel(flat(2), StressRules(gap=Jump(CERTAIN, 0.1, Way.UP)))
    assert column(panel.open) == [110.0, 121.0]
    assert column(panel.close) == [121.0, 133.1]
    assert column(panel.high) == [132.0, 145.2]


def test_droughts_and_missing_bars() -> None:
    rules = StressRules(drought=Spell(CERTAIN, 1), drought_factor=0.25)
    assert column(stressed_panel(flat(), rules).volume) == [250.0, 250.0, 250.0]
    gone = stressed_panel(flat(), StressRules(missing=Spell(CERTAIN, 1)))
    for grid in (gone.open, gone.high, gone.low, gone.close, gone.volume):
        assert np.isnan(grid).all()


def test_a_spell_lasts_its_bars() -> None:
    """Of 400 bars, about 1 in 50 begins a spell; each is 4 bars long unless another follows."""
    panel = stressed_panel(flat(400), StressRules(missing=Spell(0.02, 4)))
    is_gone = np.isnan(panel.close[:, 0])
    edges = np.flatnonzero(np.diff(np.concatenate([[0], is_gone.astype(int), [0]])))
    lengths = edges[1::2] - edges[::2]
    assert len(lengths) >= 3
    assert min(lengths[:-1]) == 4


RULES = StressRules(
    seed=1,
    shock=Jump(0.1, 0.1, Way.BOTH),
    gap=Jump(0.1, 0.05, Way.BOTH),
    missing=Spell(0.05, 2),
    drought=Spell(0.1, 2),
    drought_factor=0.5,
)


def grids_of(panel: Panel) -> list[np.ndarray]:
    return [panel.open, panel.high, panel.low, panel.close, panel.volume]


@pytest.mark.parametrize("stop", [1, 37, 99])
def test_nothing_depends_on_a_later_bar(stop: int) -> None:
    whole = stressed_panel(flat(100, 3), RULES)
    cut = stressed_panel(flat(100, 3).until((stop - 1) * DAY_NS), RULES)
    for one, other in zip(grids_of(whole), grids_of(cut), strict=True):
        assert_array_equal(one[:stop], other)


def test_the_bars_are_valid_and_the_seed_decides() -> None:
    panel = stressed_panel(flat(100, 3), RULES)
    again = stressed_panel(flat(100, 3), RULES)
    for one, other in zip(grids_of(panel), grids_of(again), strict=True):
        assert_array_equal(one, other)
    rows, columns = np.nonzero(np.isfinite(panel.close))
    prices = {
        name: getattr(panel, name)[rows, columns] for name in ("open", "high", "low", "close")
    }
    symbol = np.array([panel.symbols[each] for each in columns], dtype=object)
    assert check_rows(panel.time_ns[rows], symbol, prices, panel.volume[rows, columns]) == []


CHANGES = [
    {"seed": 2},
    {"shock": replace(RULES.shock, probability=0.2)},
    {"shock": replace(RULES.shock, size=0.2)},
    {"shock": replace(RULES.shock, way=Way.DOWN)},
    {"shock": replace(RULES.shock, is_market_wide=True)},
    {"gap": replace(RULES.gap, probability=0.2)},
    {"gap": replace(RULES.gap, size=0.2)},
    {"missing": replace(RULES.missing, probability=0.2)},
    {"missing": replace(RULES.missing, bars=3)},
    {"drought": replace(RULES.drought, probability=0.2)},
    {"drought": replace(RULES.drought, bars=4)},
    {"drought_factor": 0.25},
]


@pytest.mark.parametrize("change", CHANGES, ids=[str(at) for at in range(len(CHANGES))])
def test_every_key_is_live(change: dict[str, object]) -> None:
    panel = stressed_panel(flat(100, 3), RULES)
    other = stressed_panel(flat(100, 3), replace(RULES, **change))  # type: ignore[arg-type]
    pairs = zip(grids_of(panel), grids_of(other), strict=True)
    assert any(not np.array_equal(one, two, equal_nan=True) for one, two in pairs)


def test_the_whole_market_moves_at_once() -> None:
    rules = StressRules(shock=Jump(0.2, 0.1, Way.BOTH, is_market_wide=True))
    panel = stressed_panel(flat(60, 4), rules)
    assert_allclose(panel.close, np.repeat(panel.close[:, :1], 4, axis=1), rtol=0)
    assert len(np.unique(panel.close[:, 0])) > 2
