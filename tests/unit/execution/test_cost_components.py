"""Commission, half spread and impact, each with figures that can be redone by hand."""

import numpy as np
import pytest

from backlane.execution.cost_components import (
    FillCosts,
    average_volume,
    bar_volatility,
    fill_costs,
)
from backlane.execution.cost_model import (
    BUCKETS_MAX,
    CommissionModel,
    CostModel,
    ImpactModel,
    SpreadModel,
    logarithmic_impact,
)
from backlane.execution.cost_report import cost_report

IMPACT = ImpactModel(k=0.8, min_bps=0.5, max_bps=40.0, participation_max=0.25, fallback_bps=7.0)


def charged(
    model: CostModel,
    notional: list[float],
    *,
    units: list[float] | None = None,
    volume: list[float] | None = None,
    volatility: float = np.nan,
    is_passive: bool = False,
) -> FillCosts:
    count = len(notional)
    return fill_costs(
        model,
        np.array(notional),
        np.array(units or [1.0] * count),
        None if volume is None else np.array(volume),
        np.full(count, volatility),
        is_passive=is_passive,
    )


def test_commission_adds_its_parts_and_keeps_its_minimum() -> None:
    model = CostModel(CommissionModel(bps=1.0, fixed=2.0, per_unit=0.01, minimum=3.2))
    paid = charged(model, [10_000.0, 100.0], units=[50.0, 1.0])
    assert paid.commission == pytest.approx([1.0 + 2.0 + 0.5, 3.2])
    assert paid.total == pytest.approx([3.5, 3.2])


def test_spread_is_that_of_the_highest_bucket_reached() -> None:
    model = CostModel(spread=SpreadModel(((1e6, 5.0), (1e7, 3.0)), fallback_bps=9.0))
    paid = charged(model, [1e4] * 5, volume=[5e5, 1e6, 2e6, 1e7, np.nan])
    assert paid.quoted_bps.tolist() == [9.0, 5.0, 5.0, 3.0, 9.0]
    # half of 5 bps of 10,000
    assert paid.half_spread[1] == pytest.approx(2.5)


def test_buckets_grow_and_are_few() -> None:
    with pytest.raises(ValueError, match="must grow"):
        SpreadModel(((1e6, 5.0), (1e6, 3.0)))
    with pytest.raises(ValueError, match="are more than"):
        SpreadModel(tuple((float(at), 1.0) for at in range(1, BUCKETS_MAX + 2)))


def test_impact_is_the_square_root_of_participation() -> None:
    volume = [1e6, 1e6, 1e6, np.nan, 0.0]
    paid = charged(
        CostModel(impact=IMPACT), [1e4, 1e5, 0.0, 1e4, 1e4], volume=volume, volatility=0.02
    )
    # 0.8 * 0.02 * sqrt(0.01) = 16 bps; sqrt(0.1) gives 50.6, at most 40
    assert paid.impact_bps == pytest.approx([16.0, 40.0, 7.0, 7.0, 7.0])
    assert paid.impact == pytest.approx([16.0, 400.0, 0.0, 7.0, 7.0])


def test_participation_and_impact_are_bounded() -> None:
    model = CostModel(impact=IMPACT)
    calm = charged(model, [1e6], volume=[1e6], volatility=0.001)
    # 0.8 * 0.001 * sqrt(0.25) = 4 bps: a participation of 1 counts as 0.25
    assert calm.impact_bps == pytest.approx([4.0])
    least = charged(model, [1.0], volume=[1e9], volatility=0.02)
    assert least.impact_bps == pytest.approx([0.5])


def test_linear_costs_are_one_rate() -> None:
    model = CostModel.linear(1.0, 2.5, 5.0)
    assert model.is_linear
    assert model.linear_rate == 8.5 / 1e4
    paid = charged(model, [10_000.0])
    assert paid.total.tolist() == [10_000.0 * (8.5 / 1e4)]
    assert (paid.commission[0], paid.half_spread[0], paid.impact[0]) == pytest.approx(
        (1.0, 2.5, 5.0)
    )


def test_who_waits_pays_the_commission_and_its_share_of_the_spread() -> None:
    waiting = charged(CostModel.linear(1.0, 2.5, 5.0), [10_000.0], is_passive=True)
    assert waiting.total == pytest.approx([1.0])
    spread = SpreadModel(fallback_bps=20.0, passive_share=0.1)
    assert charged(CostModel(spread=spread), [10_000.0], is_passive=True).total == pytest.approx(
        [2.0]
    )


def test_size_multiplies_a_slippage_by_its_decades() -> None:
    # half a decade at 0.2 for each
    assert logarithmic_impact(10.0**4.5, 1e4, 0.2, 1.2) == pytest.approx(1.1)
    assert logarithmic_impact(1e4, 1e4, 0.2, 1.2) == 1.0
    assert logarithmic_impact(1e9, 1e4, 0.2, 1.2) == 1.2


def test_daily_volume_is_known_before_or_with_the_bar() -> None:
    close = np.array([[10.0], [20.0], [30.0]])
    volume = np.array([[100.0], [100.0], [300.0]])
    with_today = average_volume(close, volume, 2, with_today=True)[:, 0]
    before = average_volume(close, volume, 2, with_today=False)[:, 0]
    np.testing.assert_array_equal(with_today, [np.nan, 1_500.0, 5_500.0])
    np.testing.assert_array_equal(before, [np.nan, np.nan, 1_500.0])


def test_daily_volatility_is_the_sample_deviation_of_log_returns() -> None:
    close = np.exp(np.array([[0.0], [0.1], [0.0], [0.1]]))
    with_today = bar_volatility(close, 2, with_today=True)[:, 0]
    # returns 0.1, -0.1, 0.1: two of them deviate by 0.1 from 0, sqrt(0.02 / 1)
    assert np.isnan(with_today[:2]).all()
    assert with_today[2:] == pytest.approx([np.sqrt(0.02)] * 2)
    assert bar_volatility(close, 9, with_today=True).shape == (4, 1)


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
