"""Commission, half spread and impact, each with figures that can be redone by hand."""

import numpy as np
import pytest

from backlane.execution.cost_components import (
    CommissionModel,
    ImpactModel,
    SpreadModel,
    average_daily_volume,
    commission,
    daily_volatility,
    half_spread,
    impact,
    impact_bps,
    spread_bps,
)
from backlane.execution.cost_report import cost_report

IMPACT = ImpactModel(k=0.8, min_bps=0.5, max_bps=40.0, participation_max=0.25, fallback_bps=7.0)


def test_commission_adds_its_parts_and_keeps_its_minimum() -> None:
    model = CommissionModel(bps=1.0, fixed=2.0, per_unit=0.01, minimum=3.2)
    paid = commission(np.array([10_000.0, 100.0]), np.array([50.0, 1.0]), model)
    assert paid == pytest.approx([1.0 + 2.0 + 0.5, 3.2])


def test_spread_is_that_of_the_highest_bucket_reached() -> None:
    model = SpreadModel(((1e6, 5.0), (1e7, 3.0)), fallback_bps=9.0)
    volumes = np.array([5e5, 1e6, 2e6, 1e7, np.nan])
    assert spread_bps(volumes, model).tolist() == [9.0, 5.0, 5.0, 3.0, 9.0]
    assert half_spread(np.array([10_000.0]), np.array([5.0])) == pytest.approx([2.5])


def test_impact_is_the_square_root_of_participation() -> None:
    notional = np.array([1e4, 1e5, 0.0, 1e4, 1e4])
    volume = np.array([1e6, 1e6, 1e6, np.nan, 0.0])
    charged = impact_bps(notional, volume, np.full(5, 0.02), IMPACT)
    # 0.8 * 0.02 * sqrt(0.01) = 16 bps; sqrt(0.1) gives 50.6, at most 40
    assert charged == pytest.approx([16.0, 40.0, 7.0, 7.0, 7.0])
    assert impact(notional, charged) == pytest.approx([16.0, 400.0, 0.0, 7.0, 7.0])


def test_participation_and_impact_are_bounded() -> None:
    calm = impact_bps(np.array([1e6]), np.array([1e6]), np.array([0.001]), IMPACT)
    # 0.8 * 0.001 * sqrt(0.25) = 4 bps: a participation of 1 counts as 0.25
    assert calm == pytest.approx([4.0])
    least = impact_bps(np.array([1.0]), np.array([1e9]), np.array([0.02]), IMPACT)
    assert least == pytest.approx([0.5])


def test_daily_volume_is_known_before_or_with_the_bar() -> None:
    close = np.array([[10.0], [20.0], [30.0]])
    volume = np.array([[100.0], [100.0], [300.0]])
    with_today = average_daily_volume(close, volume, 2, with_today=True)[:, 0]
    before = average_daily_volume(close, volume, 2, with_today=False)[:, 0]
    np.testing.assert_array_equal(with_today, [np.nan, 1_500.0, 5_500.0])
    np.testing.assert_array_equal(before, [np.nan, np.nan, 1_500.0])


def test_daily_volatility_is_the_sample_deviation_of_log_returns() -> None:
    close = np.exp(np.array([[0.0], [0.1], [0.0], [0.1]]))
    with_today = daily_volatility(close, 2, with_today=True)[:, 0]
    # returns 0.1, -0.1, 0.1: two of them deviate by 0.1 from 0, sqrt(0.02 / 1)
    assert np.isnan(with_today[:2]).all()
    assert with_today[2:] == pytest.approx([np.sqrt(0.02)] * 2)
    assert daily_volatility(close, 9, with_today=True).shape == (4, 1)


def test_the_report_sums_a_day_in_an_instrument() -> None:
    day = 86_400_000_000_000
    report = cost_report(
        np.array([day, day + 5, 2 * day]),
        np.array([1, 1, 0]),
        np.array([1_000.0, 1_000.0, 0.0]),
        np.array([1.0, 1.0, 0.0]),
        np.array([0.0, 1.0, 0.0]),
        np.array([0.0, 1.0, 0.0]),
    )
    assert report.day_ns.tolist() == [day, 2 * day]
    assert report.symbol.tolist() == [1, 0]
    assert report.fill_count.tolist() == [2, 1]
    assert report.total.tolist() == [4.0, 0.0]
    assert report.cost_bps[0] == pytest.approx(20.0)
    assert np.isnan(report.cost_bps[1])
