"""Panels with gaps and weights of every kind, for the laws of portfolios."""

import numpy as np
from numpy.typing import NDArray

from backlane.panel.panel import Panel

DAY_NS = 86_400_000_000_000


def panel_of(seed: int, times: int, symbols: int, gap_share: float) -> Panel:
    rng = np.random.default_rng(seed)
    close = 50.0 * np.exp(np.cumsum(rng.normal(0, 0.02, (times, symbols)), axis=0))
    opened = close * np.exp(rng.normal(0, 0.01, close.shape))
    is_gap = rng.random(close.shape) < gap_share
    for values in (close, opened):
        values[is_gap] = np.nan
    time_ns = np.arange(times) * DAY_NS
    volume = np.where(is_gap, np.nan, rng.integers(1_000, 9_000, close.shape).astype(float))
    high, low = np.maximum(opened, close) * 1.01, np.minimum(opened, close) * 0.99
    names = tuple(f"S{at}" for at in range(symbols))
    return Panel(names, time_ns, time_ns, opened, high, low, close, volume)


def weights_of(seed: int, shape: tuple[int, int]) -> NDArray[np.float64]:
    """Long, short, flat and undecided, row by row and cell by cell."""
    rng = np.random.default_rng(seed + 1)
    weights = rng.uniform(-0.4, 0.4, shape)
    weights[rng.random(shape) < 0.2] = 0.0
    weights[rng.random(shape) < 0.1] = np.nan
    weights[rng.random(shape[0]) < 0.2] = np.nan
    weights[rng.random(shape[0]) < 0.1] = 0.0
    return weights
