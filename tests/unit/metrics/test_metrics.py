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


# 100 -> 110 -> 99 -> 121 within exactly one year: returns +10 %, -10 %, +2/9
MEAN = 2 / 27  # (0.1 - 0.1 + 2/9) / 3
STD = (((0.1 - MEAN) ** 2 + (0.1 + MEAN) ** 2 + (2 / 9 - MEAN) ** 2) / 3) ** 0.5
BY_HAND_OF_EQUITY = {
    "total_return": 21,
    "total_return_pct": 0.21,
    "final_equity": 121,
    "max_drawdown": 11,  # 110 -> 99
    "max_drawdown_pct": 0.1,
    "annualized_return": 0.21,
    "calmar_ratio": 2.1,
    "recovery_factor": 21 / 11,
    # four bars in one year: sqrt(4) = 2
    "volatility": 2 * STD,
    "sharpe_ratio": 2 * MEAN / STD,
    "sortino_ratio": 2 * MEAN / (0.01 / 3) ** 0.5,  # downside: sqrt((0 + 0.1^2 + 0) / 3)
    "exposure_time": 0.5,  # held at two closes of four
    "turnover": 4,  # 430 traded in a year, mean equity (100 + 110 + 99 + 121) / 4 = 107.5
    "longest_drawdown_days": 2,  # from the close of the second day to that of the fourth
}
# profits 30, -10, 0 and -5, held for 4, 2, 1 and 6 hours; costs 3, 4 and 5
BY_HAND_OF_TRADES = {
    "total_trades": 4,
    "winning_trades": 1,
    "losing_trades": 2,
    "win_rate": 0.25,
    "profit_factor": 2,  # 30 / 15
    "expectancy": 3.75,  # 15 / 4
    "avg_win": 30,
    "avg_loss": -7.5,
    "largest_win": 30,
    "largest_loss": -10,
    "avg_holding_period": 3.25,  # 13 / 4
    "avg_win_holding_period": 4,
    "avg_loss_holding_period": 4,  # (2 + 6) / 2
    "total_commission": 3,
    "total_slippage": 4,
    "total_financing": 5,
    "total_costs": 12,
}


@pytest.mark.parametrize("metric", BY_HAND_OF_EQUITY)
def test_metrics_of_the_equity_by_hand(metric: str) -> None:
    given = sample([100, 110, 99, 121])
    given.time_ns[:] = np.arange(4) * DAY_NS
    # a few roundings
    assert values(given)[metric] == pytest.approx(BY_HAND_OF_EQUITY[metric], rel=1e-14)


@pytest.mark.parametrize("metric", BY_HAND_OF_TRADES)
def test_metrics_of_the_trades_by_hand(metric: str) -> None:
    found = values(sample([100, 100], net_pnl=[30, -10, 0, -5], hours=[4, 2, 1, 6]))
    assert found[metric] == BY_HAND_OF_TRADES[metric]


def test_every_metric_has_an_example_by_hand() -> None:
    examples = [*BY_HAND_OF_EQUITY, *BY_HAND_OF_TRADES]
    assert sorted(examples) == sorted(definition.id for definition in METRICS)


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
        ([100, 101], [], "recovery_factor", "there is no drawdown"),
        ([100, 101], [], "win_rate", "there are no trades"),
        ([100, 101], [5.0], "profit_factor", "there are no losing trades"),
        ([100, 101], [5.0], "avg_loss", "there are no losing trades"),
    ],
)
def test_undefined_metrics_are_absent_with_a_reason(equity, trades, metric, reason) -> None:
    found = {m.id: m for m in summarize(sample(equity, net_pnl=trades))}[metric]
    assert found.value is None
    assert found.undefined_reason == reason


GROWING = [100 * 1.01**bar for bar in range(1, 9)]
DUST = [100, 100 - 1e-14, 101, 102.5]  # one unit in the last place of 100 is 1.4e-14


@pytest.mark.parametrize(
    ("equity", "metric", "reason"),
    [
        # 1.01^n is rounded, and so are the returns: all "1 %", with a deviation of 5e-16
        (GROWING, "sharpe_ratio", "the returns are all equal"),
        (DUST, "sortino_ratio", "there are no negative returns"),
        (DUST, "calmar_ratio", "there is no drawdown"),
        (DUST, "recovery_factor", "there is no drawdown"),
    ],
)
def test_what_is_only_rounding_is_nothing(equity, metric, reason) -> None:
    found = {m.id: m for m in summarize(sample(equity))}[metric]
    assert (found.value, found.undefined_reason) == (None, reason)


def test_a_small_loss_is_a_loss() -> None:
    found = values(sample([100, 100 - 1e-10, 101, 102.5]))
    assert found["max_drawdown"] == pytest.approx(1e-10, rel=1e-3)  # four digits of it are left
    assert found["calmar_ratio"] == pytest.approx(0.025 / 1e-12, rel=1e-3)
    assert found["sortino_ratio"] is not None


def test_debts_are_reported_under_the_rules_of_the_reference_too() -> None:
    """A negative growth has no root: NaN there, which its report writes as 0 (SPEC §10)."""
    assert values(sample([100, -50], rules=KTRDR))["annualized_return"] == 0
    found = {m.id: m for m in summarize(sample([100, -50]))}["annualized_return"]
    assert found.undefined_reason == "the final equity is not positive"


def test_an_overflow_is_no_value_and_999999_under_the_rules_of_the_reference() -> None:
    # 100 -> 1e9 in no whole day: 1e7^(1 / 0.001) has 7,000 digits
    assert values(sample([1e9], rules=KTRDR, span=DAY_NS))["annualized_return"] == 999_999
    found = {m.id: m for m in summarize(sample([1e300], cash=1e-8, span=31 * DAY_NS))}
    assert found["annualized_return"].undefined_reason == "its formula gives no finite number here"


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
