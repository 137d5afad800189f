"""Metrics of the equity curve of a portfolio, one definition each (SPEC C2, metrics).

r are the returns from close to close, of which the first point has none; N is how many periods a
year has. A metric that has no value is None: nothing is guessed, clipped or rescaled.
"""

import math
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

TRADING_DAYS_PER_YEAR = 252
CALENDAR_DAYS_PER_YEAR = 365
MIN_RELATIVE_DEVIATION = 1e-12
"""Returns and deviations below this are rounding: constant growth has no Sharpe ratio, and a flat
book no losses."""
TAIL = 0.05
_DAY_NS = 86_400_000_000_000
_SPARSE_DAYS = 3.5
_MONDAY_OF_DAY_0 = 3  # 1970-01-01 was a Thursday
_SATURDAY = 5


def periods_per_year(time_ns: NDArray[np.int64]) -> float:
    """Returns how many bars a year has, from the stamps (times,) of a panel.

    Bars of a day: 252, or 365 where any is on a weekend; several a day: as many times that; bars
    further apart than half a week: 365 days over their median distance.
    """
    if len(time_ns) < 2:
        return float(TRADING_DAYS_PER_YEAR)
    days = time_ns // _DAY_NS
    spacing_days = float(np.median(np.diff(time_ns))) / _DAY_NS
    if spacing_days > _SPARSE_DAYS:
        return CALENDAR_DAYS_PER_YEAR / spacing_days
    has_weekends = bool(((days + _MONDAY_OF_DAY_0) % 7 >= _SATURDAY).any())
    days_per_year = CALENDAR_DAYS_PER_YEAR if has_weekends else TRADING_DAYS_PER_YEAR
    return days_per_year * len(time_ns) / len(np.unique(days))


def portfolio_metrics(
    equity: NDArray[np.float64], periods: float, traded_notional: float = 0.0
) -> Mapping[str, float | None]:
    """Returns the metrics of an equity curve (points,), money; `periods` is N.

    - total_return = last / first - 1
    - annualized_return = (last / first)^(N / returns) - 1, None below N points or a ruin
    - volatility = std(r, ddof 1) sqrt(N); sharpe_ratio = mean(r) / std(r) sqrt(N)
    - sortino_ratio = mean(r) / std(r[r < -1e-12], ddof 1) sqrt(N)
    - max_drawdown = max((peak - equity) / peak), a fraction of the peak before it, and
      max_drawdown_money; current_drawdown likewise at the end
    - calmar_ratio = annualized_return / max_drawdown
    - value_at_risk_95 = 5 % quantile of r, a fraction, negative for a loss
    - turnover = traded notional / mean equity / years

    From 100, 110, 99: total_return -0.01, r = (0.1, -0.1), max_drawdown 0.1, money 11.
    """
    if len(equity) == 0:
        return {}
    before = equity[:-1]
    returns = np.diff(equity) / np.where(before > 0, before, np.nan)
    returns = returns[np.isfinite(returns)]
    peak = np.maximum.accumulate(equity)
    drawdown = np.where(peak > 0, (peak - equity) / np.where(peak > 0, peak, 1.0), 0.0)
    years = len(equity) / periods
    growth = float(equity[-1] / equity[0]) if equity[0] > 0 else math.nan
    yearly = _power(growth, periods / max(len(equity) - 1, 1)) if len(equity) >= periods else None
    deepest = float(drawdown.max())
    return {
        "total_return": _known(growth - 1),
        "annualized_return": yearly,
        "volatility": _deviation(returns, periods),
        "sharpe_ratio": _ratio(returns, returns, periods),
        "sortino_ratio": _ratio(returns, returns[returns < -MIN_RELATIVE_DEVIATION], periods),
        "calmar_ratio": yearly / deepest if yearly is not None and deepest > 0 else None,
        "max_drawdown": deepest,
        "max_drawdown_money": float((peak - equity).max()),
        "current_drawdown": float(drawdown[-1]),
        "value_at_risk_95": float(np.quantile(returns, TAIL)) if len(returns) > 1 else None,
        "turnover": _turnover(traded_notional, float(equity.mean()), years),
        "mean_return": float(returns.mean()) if len(returns) else None,
    }


def _known(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _power(growth: float, exponent: float) -> float | None:
    return growth**exponent - 1 if growth > 0 else None


def _spread(values: NDArray[np.float64], scale: float) -> float | None:
    if len(values) < 2:
        return None
    deviation = float(np.std(values, ddof=1))
    return deviation if deviation > MIN_RELATIVE_DEVIATION * max(scale, 1.0) else None


def _deviation(returns: NDArray[np.float64], periods: float) -> float | None:
    if len(returns) < 2:
        return None
    return float(np.std(returns, ddof=1)) * math.sqrt(periods)


def _ratio(
    returns: NDArray[np.float64], spread_of: NDArray[np.float64], periods: float
) -> float | None:
    if len(returns) < 2:
        return None
    deviation = _spread(spread_of, float(np.abs(returns).max()))
    if deviation is None:
        return None
    return float(returns.mean()) / deviation * math.sqrt(periods)


def _turnover(notional: float, mean_equity: float, years: float) -> float | None:
    return notional / mean_equity / years if mean_equity > 0 and years > 0 else None
