"""Worse data out of given data: shocks, gaps, missing bars and droughts of volume, by a seed.

What happens at a bar is drawn from the seed and the time of that bar alone, so the same seed gives
the same data, a longer panel begins with the shorter one, and nothing depends on a later bar.
"""

from dataclasses import dataclass, field
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from backlane.panel.panel import Panel

_SHOCK, _SHOCK_WAY, _GAP, _GAP_WAY, _MISSING, _DROUGHT = range(6)
_SEED_MASK = (1 << 64) - 1


class Way(StrEnum):
    """Which way prices jump."""

    DOWN = "down"
    UP = "up"
    BOTH = "both"  # each as often


@dataclass(frozen=True, slots=True)
class Jump:
    """A move of the price level that stays: by `size`, a fraction in [0, 1).

    It comes at each bar of an instrument with `probability`; with `is_market_wide` to all of them
    at once.
    """

    probability: float = 0.0
    size: float = 0.0
    way: Way = Way.DOWN
    is_market_wide: bool = False


@dataclass(frozen=True, slots=True)
class Spell:
    """A state that begins at each bar of the grid with `probability`, and lasts so many of them."""

    probability: float = 0.0
    bars: int = 1


@dataclass(frozen=True, slots=True)
class StressRules:
    """What is done to a panel.

    A `shock` lies between the open and the close of a bar, a `gap` between the close before and the
    open. In a spell of `missing` an instrument has no bar; in one of `drought` its volume is
    multiplied by `drought_factor`, in [0, 1].
    """

    seed: int = 0
    shock: Jump = field(default_factory=Jump)
    gap: Jump = field(default_factory=Jump)
    missing: Spell = field(default_factory=Spell)
    drought: Spell = field(default_factory=Spell)
    drought_factor: float = 1.0


def stressed_panel(panel: Panel, rules: StressRules) -> Panel:
    """Returns a panel on the same grid, with the rules applied; every bar in it is a valid one.

    Prices are multiplied by the level that all jumps so far came to: a shock of 0.1 down leaves
    0.9 of every later price.
    """
    draws = _draws(panel, rules.seed)
    has_bar = np.isfinite(panel.close)
    gap = _factors(rules.gap, draws[..., _GAP], draws[..., _GAP_WAY], has_bar)
    shock = _factors(rules.shock, draws[..., _SHOCK], draws[..., _SHOCK_WAY], has_bar)
    after = np.cumprod(gap * shock, axis=0)
    before = np.vstack([np.ones((1, after.shape[1])), after[:-1]]) * gap
    kept = np.where(_in_spell(rules.missing, draws[..., _MISSING]), np.nan, 1.0)
    volume = panel.volume
    if volume is not None:
        is_dry = _in_spell(rules.drought, draws[..., _DROUGHT])
        volume = volume * np.where(is_dry, rules.drought_factor, 1.0) * kept
    return Panel(
        panel.symbols,
        panel.time_ns,
        panel.known_ns,
        panel.open * before * kept,
        panel.high * np.maximum(before, after) * kept,
        panel.low * np.minimum(before, after) * kept,
        panel.close * after * kept,
        volume,
    )


def _draws(panel: Panel, seed: int) -> NDArray[np.float64]:
    """Returns numbers in [0, 1), shape (times, symbols, kinds of draws)."""
    shape = (len(panel.symbols), _DROUGHT + 1)
    draws = np.empty((len(panel), *shape))
    for row, time_ns in enumerate(panel.time_ns.tolist()):
        draws[row] = np.random.default_rng([seed, time_ns & _SEED_MASK]).random(shape)
    return draws


def _factors(
    jump: Jump,
    draw: NDArray[np.float64],
    way: NDArray[np.float64],
    has_bar: NDArray[np.bool_],
) -> NDArray[np.float64]:
    """Returns by what the price of each bar is multiplied, 1 where nothing happens."""
    if jump.is_market_wide:
        draw, way = (np.broadcast_to(each[:, :1], each.shape) for each in (draw, way))
    is_up = (way < 0.5) if jump.way is Way.BOTH else np.full(way.shape, jump.way is Way.UP)
    moved = np.where(is_up, 1.0 + jump.size, 1.0 - jump.size)
    return np.where((draw < jump.probability) & has_bar, moved, 1.0)


def _in_spell(spell: Spell, draw: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Says where one that began at this bar, or at one of the bars before, still lasts."""
    begins = draw < spell.probability
    rows = np.where(begins, np.arange(len(draw))[:, None], -spell.bars)
    last = np.maximum.accumulate(rows, axis=0)
    return np.asarray(np.arange(len(draw))[:, None] - last < spell.bars)
