"""Every metric on five equity points and three trades, redone by hand."""

import numpy as np
import pytest

from backlane.metrics.definitions import METRICS
from backlane.metrics.rules import (
    Annualization,
    MaxDrawdownMoney,
    MetricRules,
    SortinoDeviation,
    UndefinedMetrics,
)
from backlane.metrics.sample import DAY_NS, Sample
from backlane.metrics.summary import summarize

YEAR = 1461 * DAY_NS // 4  # 365.25 days
DEFAULT = MetricRules()
KTRDR = MetricRules(
    Annualization.BARS_252,
    MaxDrawdownMoney.FINAL_PEAK,
    SortinoDeviation.STD_OF_NEGATIVES,
    UndefinedMetrics.FILLERS,
)


def sample(equity, *, net_pnl=(), rules=DEFAULT, span=YEAR, cash=100.0, hours=None) -> Sample:
    points = np.array(equity, dtype=np.float64)
    return Sample(
        rules=rules,
        initial_cash=cash,
        time_ns=np.arange(len(points), dtype=np.int64),
        equity=points,
        position=np.array([0, 1, 1, 0, 0][: len(points)], dtype=np.float64),
        net_pnl=np.array(net_pnl, dtype=np.float64),
        holding_hours=np.array(hours or [1.0] * len(net_pnl)),
        commission=3.0,
        slippage=4.0,
        financing=5.0,
        traded_value=430.0,
        first_ns=0,
        last_ns=span,
    )


def values(given: Sample) -> dict[str, float | None]:
    return {metric.id: metric.value for metric in summarize(given)}


def test_equity_metrics_by_hand() -> None:
    # 100 -> 110 -> 99 -> 121: returns +10 %, -10 %, +2/9
    found = values(sample([100, 110, 99, 121]))
    assert found["total_return"] == 21
    assert found["total_return_pct"] == 0.21
    assert found["final_equity"] == 121
    assert found["max_drawdown"] == 11  # 110 -> 99
    assert found["max_drawdown_pct"] == pytest.approx(0.1, rel=1e-15)
    assert found["annualized_return"] == pytest.approx(0.21, rel=1e-12)  # exactly one year
    assert found["calmar_ratio"] == pytest.approx(2.1, rel=1e-12)
    assert found["recovery_factor"] == pytest.approx(21 / 11, rel=1e-12)
    # mean (0.1 - 0.1 + 2/9) / 3 = 2/27; squares of the deviations: 0.02593^2, 0.17407^2, 0.14815^2
    mean = 2 / 27
    std = np.sqrt(((0.1 - mean) ** 2 + (0.1 + mean) ** 2 + (2 / 9 - mean) ** 2) / 3)
    # four bars in one year: sqrt(4) = 2
    assert found["volatility"] == pytest.approx(2 * std, rel=1e-12)
    assert found["sharpe_ratio"] == pytest.approx(2 * mean / std, rel=1e-12)
    # downside deviation: sqrt((0 + 0.1^2 + 0) / 3)
    assert found["sortino_ratio"] == pytest.approx(2 * mean / np.sqrt(0.01 / 3), rel=1e-12)
    assert found["exposure_time"] == 0.5
    # 430 traded in a year, mean equity (100 + 110 + 99 + 121) / 4 = 107.5
    assert found["turnover"] == 4


def test_trade_metrics_by_hand() -> None:
    found = values(sample([100, 100], net_pnl=[30, -10, 0, -5], hours=[4, 2, 1, 6]))
    assert (found["total_trades"], found["winning_trades"], found["losing_trades"]) == (4, 1, 2)
    assert found["win_rate"] == 0.25
    assert found["profit_factor"] == 2  # 30 / 15
    assert found["expectancy"] == 3.75  # 15 / 4
    assert (found["avg_win"], found["avg_loss"]) == (30, -7.5)
    assert (found["largest_win"], found["largest_loss"]) == (30, -10)
    assert found["avg_holding_period"] == 3.25
    assert (found["avg_win_holding_period"], found["avg_loss_holding_period"]) == (4, 4)
    assert (found["total_commission"], found["total_slippage"]) == (3, 4)
    assert (found["total_financing"], found["total_costs"]) == (5, 12)


def test_a_loss_at_once_is_a_drawdown_from_the_initial_cash() -> None:
    assert values(sample([90, 95]))["max_drawdown"] == 10
    assert values(sample([90, 95], rules=KTRDR))["max_drawdown"] == 0


def test_the_reference_takes_the_final_peak() -> None:
    # SPEC §10: equity 100, 120, 60, 300 is reported as 50 % of 300 = 150; the fall was 60
    assert values(sample([100, 120, 60, 300], rules=KTRDR))["max_drawdown"] == 150
    assert values(sample([100, 120, 60, 300]))["max_drawdown"] == 60


@pytest.mark.parametrize(
    ("equity", "trades", "metric", "reason"),
    [
        ([100, 100, 100], [], "sharpe_ratio", "the returns are all equal"),
        ([100], [], "sharpe_ratio", "there are fewer than two returns"),
        ([100, 101, 103], [], "sortino_ratio", "there are no negative returns"),
        ([100, 101], [], "calmar_ratio", "there is no drawdown"),
        ([100, 101], [], "win_rate", "there are no trades"),
        ([100, 101], [5.0], "profit_factor", "there are no losing trades"),
        ([100, 101], [5.0], "avg_loss", "there are no losing trades"),
    ],
)
def test_undefined_metrics_are_absent_with_a_reason(equity, trades, metric, reason) -> None:
    found = {m.id: m for m in summarize(sample(equity, net_pnl=trades))}[metric]
    assert found.value is None
    assert found.undefined_reason == reason


def test_a_short_run_is_not_annualized() -> None:
    found = {m.id: m for m in summarize(sample([100, 101], span=29 * DAY_NS))}
    assert found["annualized_return"].value is None
    assert "30 days" in found["annualized_return"].undefined_reason


def test_the_reference_fills_in_numbers() -> None:
    found = values(sample([100, 100], net_pnl=[5.0], rules=KTRDR))
    assert found["sharpe_ratio"] == 0
    assert found["profit_factor"] == 999_999
    assert found["avg_loss"] == 0


def test_no_bar_at_all_gives_no_crash() -> None:
    found = values(sample([]))
    assert found["total_return"] == 0
    assert found["volatility"] is None


def test_the_basis_says_what_a_year_is() -> None:
    metrics = {m.id: m for m in summarize(sample([100, 110, 99, 121]))}
    assert metrics["sharpe_ratio"].annualization == "4.0 bars per year"
    assert metrics["sharpe_ratio"].sample_count == 3
    assert metrics["total_return"].annualization == ""


def test_every_metric_is_defined_once() -> None:
    identifiers = [definition.id for definition in METRICS]
    assert len(set(identifiers)) == len(identifiers)
    assert all(definition.formula and definition.source for definition in METRICS)


@pytest.mark.parametrize(
    ("equity", "days"),
    [
        ([101, 102, 103], 1),  # a new peak at every close, a day apart
        ([101, 90, 95, 101, 102], 3),  # regained at the fourth close, three days after the first
        ([101, 90, 95, 99], 3),  # never regained: until the end
        ([99, 98, 97], 2),  # the initial cash is a peak at the first bar
    ],
)
def test_longest_drawdown_by_hand(equity, days) -> None:
    given = sample(equity)
    given.time_ns[:] = np.arange(len(equity)) * DAY_NS
    assert values(given)["longest_drawdown_days"] == days
