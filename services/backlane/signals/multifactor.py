"""multifactor_long_short: instruments ranked by a weighted sum of factors (SPEC B3)."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from backlane.signals.signal import Direction

WEIGHT_SUM_MIN = 0.99
WEIGHT_SUM_MAX = 1.01
LEAST_SPREAD = 1e-10
"""A cross-section whose values differ by no more ranks nothing: what differs is rounding."""

Grid = NDArray[np.float64]


class Winsorizing(StrEnum):
    """Which values the limits of a factor are taken from."""

    NONE = "none"
    PER_TIME = "per_time"  # those of the same bar
    FULL_SAMPLE = "full_sample"  # all, later ones too: looks ahead (SPEC Q12)


@dataclass(frozen=True, slots=True)
class WeightedFactor:
    """One factor of a bundle; a negative one is better when it is lower."""

    name: str
    weight: float
    is_negative: bool = False


@dataclass(frozen=True, slots=True)
class FactorBundle:
    """Factors with their weights, which sum to 1 within 1 %.

    `winsorize_limits` are quantiles in [0, 1]. Raises ValueError for weights that do not sum to 1,
    for a factor named twice and for limits out of order.
    """

    factors: tuple[WeightedFactor, ...]
    winsorizing: Winsorizing = Winsorizing.PER_TIME
    winsorize_limits: tuple[float, float] = (0.01, 0.99)
    is_standardized: bool = True

    def __post_init__(self) -> None:
        total = math.fsum(factor.weight for factor in self.factors)
        if not WEIGHT_SUM_MIN <= total <= WEIGHT_SUM_MAX:
            raise ValueError(
                f"the weights of the factors sum to {total:g}: make it {WEIGHT_SUM_MIN} to "
                f"{WEIGHT_SUM_MAX}"
            )
        names = [factor.name for factor in self.factors]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"factor {twice[0]} is named twice: give it one weight")
        low, high = self.winsorize_limits
        if not 0.0 <= low < high <= 1.0:
            raise ValueError(f"winsorize limits {low} and {high}: quantiles, the lower one first")


@dataclass(frozen=True, slots=True, eq=False)
class FactorScores:
    """Scores of the instruments, (times, symbols), and the values of each factor they are made of.

    `score` is NaN where the instrument has no bar. `standardized` has the z-scores by factor,
    before those of a negative one change their sign.
    """

    score: Grid
    standardized: Mapping[str, Grid]


def winsorize(values: Grid, limits: tuple[float, float], winsorizing: Winsorizing) -> Grid:
    """Returns the values, those outside of the quantiles `limits` moved to them.

    Quantiles are interpolated linearly. With limits 0.25 and 0.75 a row 0, 1, 2, 9 becomes 0.75, 1,
    2, 3.75. NaN stays NaN and counts for nothing.
    """
    if winsorizing is Winsorizing.NONE or not np.isfinite(values).any():
        return values
    if winsorizing is Winsorizing.FULL_SAMPLE:
        low, high = np.nanquantile(values, limits)
        return np.clip(values, low, high)
    clipped = values.copy()
    has_value = np.isfinite(values).any(axis=1)
    low, high = np.nanquantile(values[has_value], limits, axis=1)
    clipped[has_value] = np.clip(values[has_value], low[:, None], high[:, None])
    return clipped


def cross_section_z(values: Grid) -> Grid:
    """Returns (x - mean) / population deviation over the instruments of each time.

    NaN where fewer than two instruments have a value, 0 where they do not differ. Of 1, 2, 3 it is
    -1.2247, 0, 1.2247: the deviation is sqrt(2 / 3).
    """
    has_value = np.isfinite(values)
    count = has_value.sum(axis=1, keepdims=True)
    divisor = np.maximum(count, 1)
    mean = np.where(has_value, values, 0.0).sum(axis=1, keepdims=True) / divisor
    distance = np.where(has_value, values - mean, 0.0)
    deviation = np.sqrt((distance * distance).sum(axis=1, keepdims=True) / divisor)
    differs = np.broadcast_to(deviation > LEAST_SPREAD, values.shape)
    scores = np.zeros(values.shape)
    np.divide(distance, deviation, out=scores, where=differs)
    return np.where(has_value & (count >= 2), scores, np.nan)


def factor_scores(
    bundle: FactorBundle, factors: Mapping[str, Grid], has_bar: NDArray[np.bool_]
) -> FactorScores:
    """Returns sum(weight * z) for each instrument; a factor without a value adds nothing.

    `factors` holds (times, symbols) by name; `has_bar` has the same shape. With weights 0.6 and 0.4
    (negative) z-scores 1 and 2 give 0.6 - 0.8 = -0.2. Raises ValueError, naming it, for a factor
    of the bundle that is not there.
    """
    score = np.zeros(has_bar.shape)
    standardized = {}
    for factor in bundle.factors:
        if factor.name not in factors:
            raise ValueError(
                f"factor {factor.name} is not known; there are {', '.join(sorted(factors))}"
            )
        values = winsorize(factors[factor.name], bundle.winsorize_limits, bundle.winsorizing)
        if bundle.is_standardized:
            values = cross_section_z(values)
        standardized[factor.name] = values
        sign = -1.0 if factor.is_negative else 1.0
        score += sign * factor.weight * np.where(np.isnan(values), 0.0, values)
    return FactorScores(np.where(has_bar, score, np.nan), standardized)


def long_short_flags(score: Grid, top_quantile: float, bottom_quantile: float) -> NDArray[np.int8]:
    """Returns the Direction of each instrument, int8: LONG in the top of its time, SHORT below.

    LONG is a score of at least the quantile 1 - top, SHORT one of at most the quantile bottom,
    interpolated linearly. Where the scores of a time do not differ there is neither, and an
    instrument that would be both, as ties can make it, is FLAT: long and short stay disjoint. Of
    1, 2, 3, 4, 5 with quantiles of 0.25, 4 and 5 are LONG, 1 and 2 SHORT.
    """
    for name, quantile in (("top", top_quantile), ("bottom", bottom_quantile)):
        if not 0.0 < quantile <= 1.0:
            raise ValueError(f"{name} quantile {quantile}: above 0, at most 1")
    direction = np.zeros(score.shape, np.int8)
    ranked = np.isfinite(score).any(axis=1)
    rows = score[ranked]
    if len(rows) == 0:
        return direction
    high, low = np.nanquantile(rows, (1.0 - top_quantile, bottom_quantile), axis=1)
    differs = (np.nanmax(rows, axis=1) - np.nanmin(rows, axis=1) > LEAST_SPREAD)[:, None]
    is_long = (rows >= high[:, None]) & differs
    is_short = (rows <= low[:, None]) & differs
    direction[ranked] = int(Direction.LONG) * is_long.astype(np.int8) - is_short.astype(np.int8)
    return direction
