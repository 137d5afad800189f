"""Every metric, defined once: what it is called, how it is computed, where it comes from.

docs/metrics.md is generated from METRICS. r are the returns from bar to bar, n of them in a year;
std is the population standard deviation; E is the equity.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from backlane.metrics.rules import Annualization, MaxDrawdownMoney, SortinoDeviation
from backlane.metrics.sample import (
    DAY_NS,
    DAYS_PER_YEAR,
    MIN_ANNUALIZED_DAYS,
    ROUNDING,
    Sample,
    UndefinedMetricError,
)

_REFERENCE_SPREAD = 1e-10
REFERENCE_BOUND = 999_999.0
"""The largest number that ktrdr reports."""


@dataclass(frozen=True, slots=True)
class MetricDefinition:
    """One metric. `compute` raises UndefinedMetricError where it has no value.

    `basis` says what `sample_count` counts: points, returns or trades.
    """

    id: str
    title: str
    unit: str
    formula: str
    source: str
    compute: Callable[[Sample], float]
    basis: str = "points"
    is_annualized: bool = False


def _spread(sample: Sample, values: NDArray[np.float64], name: str) -> float:
    if len(values) < 2:
        raise UndefinedMetricError(f"there are fewer than two {name}")
    spread = float(np.std(values))
    is_calendar = sample.rules.annualization is Annualization.BAR_CALENDAR
    if spread <= (sample.returns_rounding if is_calendar else _REFERENCE_SPREAD):
        raise UndefinedMetricError(f"the {name} are all equal")
    return spread


def _annualized(sample: Sample, per_period: float) -> float:
    ratio = per_period * float(np.sqrt(sample.periods_per_year))
    if sample.rules.annualization is Annualization.BARS_252:
        return float(np.clip(ratio, -REFERENCE_BOUND, REFERENCE_BOUND))
    return ratio


def total_return(sample: Sample) -> float:
    """Returns the money made or lost."""
    return sample.final_equity() - sample.initial_cash


def total_return_pct(sample: Sample) -> float:
    """Returns the money made or lost as a fraction of the initial cash."""
    return total_return(sample) / sample.initial_cash


def annualized_return(sample: Sample) -> float:
    """Returns the constant yearly return (CAGR) that gives the same final equity."""
    growth = sample.final_equity() / sample.initial_cash
    if sample.rules.annualization is Annualization.BARS_252:
        return 0.0 if sample.years <= 0 else _power(growth, 1 / max(sample.years, 0.001)) - 1
    if sample.years * DAYS_PER_YEAR < MIN_ANNUALIZED_DAYS:
        raise UndefinedMetricError(f"the run is shorter than {MIN_ANNUALIZED_DAYS} days")
    if growth <= 0:
        raise UndefinedMetricError("the final equity is not positive")
    return _power(growth, 1 / sample.years) - 1


def _power(base: float, exponent: float) -> float:
    """NaN and infinity where plain floats become complex or raise."""
    return float(np.float64(base) ** exponent)


def volatility(sample: Sample) -> float:
    """Returns the annualized standard deviation of the returns."""
    if len(sample.returns) < 2:
        raise UndefinedMetricError("there are fewer than two returns")
    return float(np.std(sample.returns) * np.sqrt(sample.periods_per_year))


def sharpe_ratio(sample: Sample) -> float:
    """Returns the annualized mean over the standard deviation of the returns, riskless rate 0."""
    spread = _spread(sample, sample.returns, "returns")
    return _annualized(sample, float(np.mean(sample.returns)) / spread)


def sortino_ratio(sample: Sample) -> float:
    """Returns the annualized ratio of the mean return to the downside deviation."""
    returns = sample.returns
    is_reference = sample.rules.sortino_deviation is SortinoDeviation.STD_OF_NEGATIVES
    losses = returns[returns < (0.0 if is_reference else -sample.returns_rounding)]
    if len(losses) == 0:
        raise UndefinedMetricError("there are no negative returns")
    if is_reference:
        deviation = _spread(sample, losses, "negative returns")
    else:
        deviation = float(np.sqrt(np.sum(losses * losses) / len(returns)))
    return _annualized(sample, float(np.mean(returns)) / deviation)


def max_drawdown_pct(sample: Sample) -> float:
    """Returns the deepest fall from a peak, as a fraction of that peak, >= 0."""
    if len(sample.equity) == 0:
        return 0.0
    peak = sample.peak
    return float(np.max((peak - sample.equity_from_start) / peak))


def max_drawdown(sample: Sample) -> float:
    """Returns the deepest fall from a peak, in money, >= 0."""
    if len(sample.equity) == 0:
        return 0.0
    if sample.rules.max_drawdown_money is MaxDrawdownMoney.FINAL_PEAK:
        return max_drawdown_pct(sample) * float(sample.peak[-1])
    return float(np.max(sample.peak - sample.equity_from_start))


def calmar_ratio(sample: Sample) -> float:
    """Returns the annualized return over the deepest drawdown."""
    drawdown = max_drawdown_pct(sample)
    if drawdown <= _smallest_drawdown(sample):
        raise UndefinedMetricError("there is no drawdown")
    return annualized_return(sample) / drawdown


def _smallest_drawdown(sample: Sample) -> float:
    is_reference = sample.rules.max_drawdown_money is MaxDrawdownMoney.FINAL_PEAK
    return 0.0 if is_reference else ROUNDING


def recovery_factor(sample: Sample) -> float:
    """Returns the money made over the deepest drawdown in money."""
    drawdown = max_drawdown(sample)
    if drawdown <= 0 or max_drawdown_pct(sample) <= _smallest_drawdown(sample):
        raise UndefinedMetricError("there is no drawdown")
    return total_return(sample) / drawdown


def longest_drawdown_days(sample: Sample) -> float:
    """Returns the longest time from a peak to the close that regains it, or to the end, in days."""
    if len(sample.equity) == 0:
        raise UndefinedMetricError("no bar was simulated")
    peak = np.maximum.accumulate(np.concatenate(([sample.initial_cash], sample.equity)))[1:]
    at_peak = np.flatnonzero(sample.equity >= peak)
    # before the first bar there is the initial cash, a peak at the first bar's time
    marks = np.concatenate(([0], at_peak, [len(sample.equity) - 1]))
    return float(np.max(np.diff(sample.time_ns[marks])) / DAY_NS)


def turnover(sample: Sample) -> float:
    """Returns the value traded in a year over the mean equity."""
    if len(sample.equity) == 0 or sample.years <= 0:
        raise UndefinedMetricError("the run has no length")
    mean = float(np.mean(sample.equity))
    if mean <= 0:
        raise UndefinedMetricError("the mean equity is not positive")
    return sample.traded_value / mean / sample.years


def exposure_time(sample: Sample) -> float:
    """Returns the share of the marked bars at whose close a position was open."""
    if len(sample.position) == 0:
        raise UndefinedMetricError("no bar was simulated")
    return float(np.count_nonzero(sample.position) / len(sample.position))


def win_rate(sample: Sample) -> float:
    """Returns the share of trades that made money after costs."""
    _need(sample.net_pnl, "trades")
    return float(np.count_nonzero(sample.net_pnl > 0) / len(sample.net_pnl))


def profit_factor(sample: Sample) -> float:
    """Returns the money won in winning trades over the money lost in losing ones."""
    wins = float(np.sum(sample.net_pnl[sample.net_pnl > 0]))
    losses = -float(np.sum(sample.net_pnl[sample.net_pnl < 0]))
    if losses > 0:
        return wins / losses
    if wins > 0:
        raise UndefinedMetricError("there are no losing trades", REFERENCE_BOUND)
    raise UndefinedMetricError("there are no trades that made or lost money")


def expectancy(sample: Sample) -> float:
    """Returns the mean money made by a trade after costs."""
    return float(np.mean(_need(sample.net_pnl, "trades")))


def _need(values: NDArray[np.float64], name: str) -> NDArray[np.float64]:
    if len(values) == 0:
        raise UndefinedMetricError(f"there are no {name}")
    return values


def _wins(sample: Sample) -> NDArray[np.bool_]:
    return sample.net_pnl > 0


def _losses(sample: Sample) -> NDArray[np.bool_]:
    return sample.net_pnl < 0


_REFERENCE = "reference/ktrdr, as in docs/equivalence.md"
_SHARPE = "W. F. Sharpe, The Sharpe Ratio, Journal of Portfolio Management 21 (1994)"
_SORTINO = "F. Sortino, L. Price, Performance Measurement in a Downside Risk Framework (1994)"
_YOUNG = "T. W. Young, Calmar Ratio: A Smoother Tool, Futures 20 (1991)"
_ACCOUNTING = "accounting identity"

METRICS: tuple[MetricDefinition, ...] = (
    MetricDefinition(
        "total_return", "Total return", "money", "E_last - initial_cash", _ACCOUNTING, total_return
    ),
    MetricDefinition(
        "total_return_pct",
        "Total return",
        "fraction",
        "total_return / initial_cash",
        _ACCOUNTING,
        total_return_pct,
    ),
    MetricDefinition(
        "final_equity", "Final equity", "money", "E_last", _ACCOUNTING, Sample.final_equity
    ),
    MetricDefinition(
        "annualized_return",
        "Annualized return",
        "fraction",
        "(E_last / initial_cash) ^ (1 / years) - 1",
        _ACCOUNTING,
        annualized_return,
        is_annualized=True,
    ),
    MetricDefinition(
        "volatility",
        "Volatility",
        "fraction",
        "std(r) * sqrt(n)",
        _SHARPE,
        volatility,
        "returns",
        is_annualized=True,
    ),
    MetricDefinition(
        "sharpe_ratio",
        "Sharpe ratio",
        "ratio",
        "mean(r) / std(r) * sqrt(n)",
        _SHARPE,
        sharpe_ratio,
        "returns",
        is_annualized=True,
    ),
    MetricDefinition(
        "sortino_ratio",
        "Sortino ratio",
        "ratio",
        "mean(r) / sqrt(mean(min(r, 0)^2)) * sqrt(n)",
        _SORTINO,
        sortino_ratio,
        "returns",
        is_annualized=True,
    ),
    MetricDefinition(
        "max_drawdown",
        "Max. drawdown",
        "money",
        "max(peak - E), the initial cash being a peak",
        _ACCOUNTING,
        max_drawdown,
    ),
    MetricDefinition(
        "max_drawdown_pct",
        "Max. drawdown",
        "fraction",
        "max((peak - E) / peak), the initial cash being a peak",
        _ACCOUNTING,
        max_drawdown_pct,
    ),
    MetricDefinition(
        "calmar_ratio",
        "Calmar ratio",
        "ratio",
        "annualized_return / max_drawdown_pct",
        _YOUNG,
        calmar_ratio,
        is_annualized=True,
    ),
    MetricDefinition(
        "recovery_factor",
        "Recovery factor",
        "ratio",
        "total_return / max_drawdown",
        _REFERENCE,
        recovery_factor,
    ),
    MetricDefinition(
        "longest_drawdown_days",
        "Longest drawdown",
        "days",
        "longest time from a peak to the close that regains it, or to the end",
        _ACCOUNTING,
        longest_drawdown_days,
    ),
    MetricDefinition(
        "exposure_time",
        "Exposure time",
        "fraction",
        "bars closed with a position / bars",
        _ACCOUNTING,
        exposure_time,
    ),
    MetricDefinition(
        "total_trades",
        "Trades",
        "count",
        "number of closed trades",
        _ACCOUNTING,
        lambda sample: float(len(sample.net_pnl)),
        "trades",
    ),
    MetricDefinition(
        "winning_trades",
        "Winning trades",
        "count",
        "number of trades with net_pnl > 0",
        _ACCOUNTING,
        lambda sample: float(np.count_nonzero(_wins(sample))),
        "trades",
    ),
    MetricDefinition(
        "losing_trades",
        "Losing trades",
        "count",
        "number of trades with net_pnl < 0",
        _ACCOUNTING,
        lambda sample: float(np.count_nonzero(_losses(sample))),
        "trades",
    ),
    MetricDefinition(
        "win_rate",
        "Win rate",
        "fraction",
        "winning_trades / total_trades",
        _ACCOUNTING,
        win_rate,
        "trades",
    ),
    MetricDefinition(
        "profit_factor",
        "Profit factor",
        "ratio",
        "sum(net_pnl > 0) / -sum(net_pnl < 0)",
        _ACCOUNTING,
        profit_factor,
        "trades",
    ),
    MetricDefinition(
        "expectancy", "Expectancy", "money", "mean(net_pnl)", _ACCOUNTING, expectancy, "trades"
    ),
    MetricDefinition(
        "avg_win",
        "Average win",
        "money",
        "mean(net_pnl > 0)",
        _ACCOUNTING,
        lambda sample: float(np.mean(_need(sample.net_pnl[_wins(sample)], "winning trades"))),
        "trades",
    ),
    MetricDefinition(
        "avg_loss",
        "Average loss",
        "money",
        "mean(net_pnl < 0)",
        _ACCOUNTING,
        lambda sample: float(np.mean(_need(sample.net_pnl[_losses(sample)], "losing trades"))),
        "trades",
    ),
    MetricDefinition(
        "largest_win",
        "Largest win",
        "money",
        "max(net_pnl > 0)",
        _ACCOUNTING,
        lambda sample: float(np.max(_need(sample.net_pnl[_wins(sample)], "winning trades"))),
        "trades",
    ),
    MetricDefinition(
        "largest_loss",
        "Largest loss",
        "money",
        "min(net_pnl < 0)",
        _ACCOUNTING,
        lambda sample: float(np.min(_need(sample.net_pnl[_losses(sample)], "losing trades"))),
        "trades",
    ),
    MetricDefinition(
        "avg_holding_period",
        "Average holding time",
        "hours",
        "mean(exit - entry)",
        _ACCOUNTING,
        lambda sample: float(np.mean(_need(sample.holding_hours, "trades"))),
        "trades",
    ),
    MetricDefinition(
        "avg_win_holding_period",
        "Average holding time of wins",
        "hours",
        "mean(exit - entry), net_pnl > 0",
        _ACCOUNTING,
        lambda sample: float(np.mean(_need(sample.holding_hours[_wins(sample)], "winning trades"))),
        "trades",
    ),
    MetricDefinition(
        "avg_loss_holding_period",
        "Average holding time of losses",
        "hours",
        "mean(exit - entry), net_pnl < 0",
        _ACCOUNTING,
        lambda sample: float(
            np.mean(_need(sample.holding_hours[_losses(sample)], "losing trades"))
        ),
        "trades",
    ),
    MetricDefinition(
        "total_commission",
        "Commission paid",
        "money",
        "sum of the commission of every fill",
        _ACCOUNTING,
        lambda sample: sample.commission,
        "trades",
    ),
    MetricDefinition(
        "total_slippage",
        "Slippage paid",
        "money",
        "sum of |price - reference price| * quantity of every fill",
        _ACCOUNTING,
        lambda sample: sample.slippage,
        "trades",
    ),
    MetricDefinition(
        "total_financing",
        "Financing paid",
        "money",
        "sum of the financing of every trade",
        _ACCOUNTING,
        lambda sample: sample.financing,
        "trades",
    ),
    MetricDefinition(
        "total_costs",
        "All costs",
        "money",
        "total_commission + total_slippage + total_financing",
        _ACCOUNTING,
        lambda sample: sample.commission + sample.slippage + sample.financing,
        "trades",
    ),
    MetricDefinition(
        "turnover",
        "Turnover",
        "ratio",
        "sum of price * quantity of every fill / mean(E) / years",
        _ACCOUNTING,
        turnover,
        is_annualized=True,
    ),
)
