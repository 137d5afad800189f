"""Metrics against ffn and quantstats, where the definitions coincide (`metrics/agreement.py`).

Both are independent implementations over pandas. They and we sum in other orders: 1e-10 of a value
is far more than that makes, and far less than another definition would.
"""

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

from backlane.metrics.agreement import COMPARED, NOT_COMPARED
from backlane.metrics.definitions import METRICS
from backlane.metrics.rules import MetricRules
from backlane.metrics.sample import DAY_NS, Sample
from backlane.metrics.summary import summarize

HOUR_NS = 3_600_000_000_000
CASH = 10_000.0
GAP_SHARE = 0.3
"""Of the bars so many do not follow at once on the one before."""


def sample_of(seed: int) -> Sample:
    """Returns a random run: hourly closes with gaps over some months, and its trades."""
    rng = np.random.default_rng(seed)
    count = 900 + 100 * seed
    equity = CASH * np.exp(np.cumsum(rng.normal(1e-4 * (seed - 2), 0.01, count)))
    steps = np.where(rng.random(count) < GAP_SHARE, rng.integers(2, 50, count), 1)
    time_ns = np.cumsum(steps).astype(np.int64) * HOUR_NS
    trade_count = 40 + seed
    return Sample(
        rules=MetricRules(),
        initial_cash=CASH,
        time_ns=time_ns,
        equity=equity,
        position=rng.choice([0.0, 1.0], count),
        net_pnl=rng.normal(5.0, 100.0, trade_count),
        holding_hours=rng.uniform(1.0, 90.0, trade_count),
        commission=3.0,
        slippage=4.0,
        financing=5.0,
        traded_value=1e6,
        first_ns=int(time_ns[0]),
        last_ns=int(time_ns[-1]) + HOUR_NS,
    )


def prices(sample: Sample, values: NDArray[np.float64] | None = None) -> pd.Series:
    """Returns the initial cash at the first open, then the equity at the closes of the bars."""
    equity = np.concatenate(([sample.initial_cash], sample.equity)) if values is None else values
    times = np.concatenate(([sample.first_ns], sample.time_ns + HOUR_NS))
    return pd.Series(equity, index=pd.to_datetime(times))


def all_returns(sample: Sample) -> pd.Series:
    """Returns the returns from the initial cash on, the first bar's included."""
    return prices(sample).pct_change().dropna()


def returns(sample: Sample) -> pd.Series:
    """Returns the returns from the first close on: those of volatility, Sharpe and Sortino."""
    return all_returns(sample).iloc[1:]


def trades(sample: Sample) -> pd.Series:
    """Returns the net profits, one for each trade, in place of returns."""
    return pd.Series(sample.net_pnl, index=pd.date_range("2020-01-01", periods=len(sample.net_pnl)))


def per_year(sample: Sample) -> float:
    """Returns the bars in a year, by the definition in docs/metrics.md."""
    years = (sample.last_ns - sample.first_ns) / (365.25 * DAY_NS)
    return len(sample.equity) / years


def shrunk(sample: Sample) -> float:
    """Returns sqrt((n - 1) / n): population over sample standard deviation."""
    count = len(sample.equity) - 1
    return ((count - 1) / count) ** 0.5


def longest_episode(ffn: Any, sample: Sample) -> float:
    """Returns days of the longest of ffn's drawdowns, each begun at its peak.

    By place, as the initial cash and the first bar have the same time.
    """
    whole = pd.Series(np.concatenate(([sample.initial_cash], sample.equity)))
    episodes = ffn.drawdown_details(ffn.to_drawdown_series(whole), index_type=int)
    times = np.concatenate(([sample.time_ns[0]], sample.time_ns))
    peak, end = times[episodes["Start"].astype(int) - 1], times[episodes["End"].astype(int)]
    return float((end - peak).max() / DAY_NS)


def fall_in_money(ffn: Any, sample: Sample) -> float:
    exponential = np.exp(prices(sample) / sample.initial_cash)
    return float(-np.log1p(ffn.calc_max_drawdown(exponential)) * sample.initial_cash)


Oracle = Callable[[Any, Sample], float]
ORACLES: dict[tuple[str, str], Oracle] = {
    ("total_return", "ffn.calc_total_return"): (
        lambda f, s: f.calc_total_return(prices(s)) * s.initial_cash
    ),
    ("total_return_pct", "ffn.calc_total_return"): lambda f, s: f.calc_total_return(prices(s)),
    ("total_return_pct", "quantstats.comp"): lambda q, s: q.comp(all_returns(s)),
    ("final_equity", "ffn.to_price_index"): (
        lambda f, s: f.to_price_index(all_returns(s), start=s.initial_cash).iloc[-1]
    ),
    ("annualized_return", "ffn.calc_cagr"): lambda f, s: f.calc_cagr(prices(s)),
    ("annualized_return", "quantstats.cagr"): (
        lambda q, s: q.cagr(all_returns(s), periods=per_year(s))
    ),
    ("volatility", "quantstats.volatility"): (
        lambda q, s: q.volatility(returns(s), periods=per_year(s)) * shrunk(s)
    ),
    ("sharpe_ratio", "ffn.calc_sharpe"): (
        lambda f, s: f.calc_sharpe(returns(s), nperiods=per_year(s)) / shrunk(s)
    ),
    ("sharpe_ratio", "quantstats.sharpe"): (
        lambda q, s: q.sharpe(returns(s), periods=per_year(s)) / shrunk(s)
    ),
    ("sortino_ratio", "ffn.calc_sortino_ratio"): (
        lambda f, s: f.calc_sortino_ratio(returns(s), nperiods=per_year(s))
    ),
    ("sortino_ratio", "quantstats.sortino"): (
        lambda q, s: q.sortino(returns(s), periods=per_year(s))
    ),
    ("max_drawdown", "ffn.calc_max_drawdown"): fall_in_money,
    ("max_drawdown_pct", "ffn.calc_max_drawdown"): lambda f, s: -f.calc_max_drawdown(prices(s)),
    ("max_drawdown_pct", "quantstats.max_drawdown"): lambda q, s: -q.max_drawdown(all_returns(s)),
    ("calmar_ratio", "ffn.calc_calmar_ratio"): lambda f, s: f.calc_calmar_ratio(prices(s)),
    ("calmar_ratio", "quantstats.calmar"): (
        lambda q, s: q.calmar(all_returns(s), periods=per_year(s))
    ),
    ("longest_drawdown_days", "ffn.drawdown_details"): longest_episode,
    ("win_rate", "quantstats.win_rate"): lambda q, s: q.win_rate(trades(s), prepare_returns=False),
    ("profit_factor", "quantstats.profit_factor"): (
        lambda q, s: q.profit_factor(trades(s), prepare_returns=False)
    ),
    ("expectancy", "quantstats.avg_return"): (
        lambda q, s: q.avg_return(trades(s), prepare_returns=False)
    ),
    ("avg_win", "quantstats.avg_win"): lambda q, s: q.avg_win(trades(s), prepare_returns=False),
    ("avg_loss", "quantstats.avg_loss"): lambda q, s: q.avg_loss(trades(s), prepare_returns=False),
    ("largest_win", "quantstats.best"): lambda q, s: q.best(trades(s), prepare_returns=False),
    ("largest_loss", "quantstats.worst"): lambda q, s: q.worst(trades(s), prepare_returns=False),
}


@pytest.fixture(scope="module")
def libraries() -> dict[str, Any]:
    """The two libraries; importing them takes seconds, and warns of what their own imports do."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ffn = pytest.importorskip("ffn", reason="ffn comes with the extra `dev`")
        quantstats = pytest.importorskip("quantstats.stats", reason="comes with the extra `dev`")
    return {"ffn": ffn, "quantstats": quantstats}


@pytest.mark.slow  # the import of the libraries
@pytest.mark.parametrize(("metric", "function"), ORACLES, ids="-".join)
def test_a_metric_equals_that_of_another_library(
    metric: str, function: str, libraries: dict[str, Any]
) -> None:
    library = libraries[function.split(".", maxsplit=1)[0]]
    for seed in range(5):
        sample = sample_of(seed)
        found = {item.id: item.value for item in summarize(sample)}[metric]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            expected = ORACLES[metric, function](library, sample)
        assert found == pytest.approx(float(expected), rel=1e-10)


def test_every_metric_is_compared_or_listed_with_a_reason() -> None:
    assert sorted([*COMPARED, *NOT_COMPARED]) == sorted(definition.id for definition in METRICS)
    assert all(NOT_COMPARED.values())


def test_every_function_that_is_named_is_compared() -> None:
    named = {(metric, name) for metric, item in COMPARED.items() for name in item.functions}
    assert named == set(ORACLES)
    assert all(item.functions for item in COMPARED.values())
