"""What a fill costs, in components: commission, half of the spread, market impact (SPEC B5).

Everything is vectorised over fills; money is in the currency of the prices, `*_bps` are basis
points of the notional. A component is charged once: none is hidden in the price as well.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

BPS = 1e-4


@dataclass(frozen=True, slots=True)
class CommissionModel:
    """Commission of an order: `bps` of its notional + `fixed` + `per_unit` of its quantity.

    It is never less than `minimum`; all are money but the first.
    """

    bps: float = 0.0
    fixed: float = 0.0
    per_unit: float = 0.0
    minimum: float = 0.0


@dataclass(frozen=True, slots=True)
class SpreadModel:
    """The quoted spread by liquidity: (least average daily volume in money, bps), growing.

    An instrument below the first bucket, or without a volume, has `fallback_bps`.
    """

    buckets: tuple[tuple[float, float], ...]
    fallback_bps: float


@dataclass(frozen=True, slots=True)
class ImpactModel:
    """Square-root impact: k * volatility * sqrt(participation), in bps within [min, max].

    `volatility` is the daily one, a fraction; participation is notional / average daily volume,
    at most `participation_max`. Without either, or without a notional, it is `fallback_bps`.
    """

    k: float
    min_bps: float
    max_bps: float
    participation_max: float
    fallback_bps: float


def commission(
    notional: NDArray[np.float64], quantity: NDArray[np.float64], model: CommissionModel
) -> NDArray[np.float64]:
    """Returns the commissions, money, of notionals and quantities >= 0, both (fills,).

    10,000 for 50 units at 1 bp + 2 + 0.01 a unit: 1 + 2 + 0.5 = 3.5.
    """
    charged = notional * (model.bps * BPS) + model.fixed + quantity * model.per_unit
    return np.maximum(charged, model.minimum)


def spread_bps(daily_volume: NDArray[np.float64], model: SpreadModel) -> NDArray[np.float64]:
    """Returns the quoted spreads: those of the highest bucket that the daily volume reaches.

    `daily_volume` is in money, NaN where it is not known. With buckets (1e6, 5), (1e7, 3): 2e6
    has 5 bps, 1e7 has 3, and 5e5 the fallback.
    """
    thresholds = np.array([least for least, _ in model.buckets])
    rates = np.array([model.fallback_bps, *(bps for _, bps in model.buckets)])
    known = np.where(np.isnan(daily_volume), -np.inf, daily_volume)
    chosen: NDArray[np.float64] = rates[np.searchsorted(thresholds, known, side="right")]
    return chosen


def half_spread(
    notional: NDArray[np.float64], quoted_bps: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Returns the money that crossing half of the spread costs: notional * bps / 2.

    10,000 at 5 bps: 2.5.
    """
    return notional * quoted_bps * BPS * 0.5


def impact_bps(
    notional: NDArray[np.float64],
    daily_volume: NDArray[np.float64],
    volatility: NDArray[np.float64],
    model: ImpactModel,
) -> NDArray[np.float64]:
    """Returns the impacts in bps; see ImpactModel.

    1e4 in a market of 1e6 a day with volatility 0.02 and k 0.8: 0.8 * 0.02 * sqrt(0.01) = 16 bps.
    """
    usable = (daily_volume > 0) & (notional > 0) & np.isfinite(volatility)
    participation = np.divide(notional, daily_volume, out=np.zeros(len(notional)), where=usable)
    capped = np.minimum(participation, model.participation_max)
    modelled = np.clip(model.k * volatility * np.sqrt(capped) / BPS, model.min_bps, model.max_bps)
    return np.where(usable, modelled, model.fallback_bps)


def impact(notional: NDArray[np.float64], charged_bps: NDArray[np.float64]) -> NDArray[np.float64]:
    """Returns the money that the impact costs: notional * bps."""
    return notional * (charged_bps * BPS)


def average_daily_volume(
    close: NDArray[np.float64], volume: NDArray[np.float64], window: int, *, with_today: bool
) -> NDArray[np.float64]:
    """Returns the mean of close * volume over `window` bars, money, shape (times, symbols).

    `with_today` includes the bar itself, as the reference does; without it the figure of a bar is
    known before the bar trades (SPEC C2, cost units). NaN until the window is full.
    """
    return _lagged(_windows(close * volume, window).mean(axis=-1), len(close), with_today)


def daily_volatility(
    close: NDArray[np.float64], window: int, *, with_today: bool
) -> NDArray[np.float64]:
    """Returns the sample deviation of `window` log returns, a fraction, (times, symbols)."""
    returns = np.full(close.shape, np.nan)
    returns[1:] = np.log(close[1:] / close[:-1])
    return _lagged(_windows(returns, window).std(axis=-1, ddof=1), len(close), with_today)


def _windows(values: NDArray[np.float64], window: int) -> NDArray[np.float64]:
    if len(values) < window:
        return np.empty((0, values.shape[1], window))
    return np.lib.stride_tricks.sliding_window_view(values, window, axis=0)


def _lagged(full: NDArray[np.float64], length: int, with_today: bool) -> NDArray[np.float64]:
    result = np.full((length, full.shape[1]), np.nan)
    kept = full if with_today else full[:-1]
    if len(kept):
        result[length - len(full) + (0 if with_today else 1) :] = kept
    return result
