"""Technical features and factors, on numbers that a reader can redo by hand."""

import numpy as np
import pytest

from backlane.panel.panel import Panel
from backlane.signals import factors, technical
from backlane.signals.windows import expanding_mean, rolling_deviation, rolling_mean
from tests.unit.signals.panels import daily_panel


def test_windows_take_what_there_is():
    values = np.array([1.0, np.nan, 2.0, 6.0])
    assert rolling_mean(values, 2, 1).tolist() == [1.0, 1.0, 2.0, 4.0]
    assert np.isnan(rolling_mean(values, 2, 2)[:3]).all()
    assert rolling_deviation(values, 4, 2)[2:] == pytest.approx([0.5**0.5, 7**0.5])
    assert expanding_mean(values).tolist() == [1.0, 1.0, 1.5, 3.0]


def test_true_range_counts_gaps():
    close = np.array([[10.0], [13.0]])
    stamps = np.array([1, 2])
    panel = Panel(("A",), stamps, stamps, close, close + 1.0, close - 1.0, close, None)
    # ranges 2, then max(2, |14 - 10|, |12 - 10|) = 4
    assert technical.average_true_range(panel, 14)[:, 0].tolist() == [2.0, 3.0]


def test_relative_strength_by_plain_means():
    panel = daily_panel([[10.0], [13.0], [11.0], [12.0], [12.0]])
    strength = technical.relative_strength(panel, 3)[:, 0]
    assert np.isnan(strength[:3]).all()
    # gains 3 + 1, losses 2; then gains 1, losses 2
    assert strength[3:] == pytest.approx([100 - 100 / 3, 100 - 100 / 1.5])
    assert technical.relative_strength(daily_panel([[1.0]] * 3), 2)[2, 0] == 50.0
    assert technical.relative_strength(daily_panel([[1.0], [2.0], [3.0]]), 2)[2, 0] == 100.0


def test_returns_backward_and_forward():
    panel = daily_panel([[100.0], [110.0], [132.0]])
    trailing = factors.trailing_return(panel, far_bars=2, near_bars=1)[:, 0]
    forward = factors.forward_return(panel, far_bars=2, near_bars=1)[:, 0]
    assert trailing == pytest.approx([np.nan, np.nan, np.log(1.1)], nan_ok=True)
    assert forward == pytest.approx([np.log(1.2), np.nan, np.nan], nan_ok=True)
    assert technical.log_return(panel)[1:, 0] == pytest.approx([np.log(1.1), np.log(1.2)])


def test_trend_strength_is_the_distance_in_ranges():
    panel = daily_panel([[10.0], [12.0]])
    # mean 11, ranges 2 and max(2, 3) = 3: (12 - 11) / 2.5
    assert factors.trend_strength(panel, 20)[:, 0] == pytest.approx([0.0, 0.4])


def test_a_factor_of_too_few_bars_is_nothing_unusual():
    level = daily_panel(np.full((12, 1), 5.0), volume=np.full((12, 1), 7.0))
    assert factors.reversal(level, 1)[:, 0].tolist() == [0.0] * 12
    assert factors.volume_z_score(level)[:, 0].tolist() == [0.0] * 12
    assert np.isnan(factors.volume_z_score(daily_panel([[1.0]]))).all()


def test_volume_z_score_of_the_tenth_bar():
    panel = daily_panel(np.full((10, 1), 5.0), volume=[[0.0]] * 9 + [[10.0]])
    # mean 1, squares 9 * 1 + 81 = 90, deviation sqrt(90 / 9): (10 - 1) / sqrt(10)
    assert factors.volume_z_score(panel)[9, 0] == pytest.approx(9 / 10**0.5)


def test_realized_volatility_takes_five_returns():
    closes = np.exp([[0.0], [0.01], [0.0], [0.01], [0.0], [0.01]])
    made = factors.realized_volatility(daily_panel(closes), 20)[:, 0]
    # returns +-1 %, three up and two down: mean 0.002, squares 5e-4 - 5 * 4e-6 = 4.8e-4
    assert np.isnan(made[:5]).all()
    assert made[5] == pytest.approx((4.8e-4 / 4 * 252) ** 0.5)


def test_spread_proxy():
    assert factors.spread_proxy(daily_panel([[50.0]]))[0, 0] == pytest.approx(0.04)
