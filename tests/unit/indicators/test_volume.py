import numpy as np
import pytest

from backlane.indicators.parameters import (
    AdlineParameters,
    CmfParameters,
    MfiParameters,
    NoParameters,
    VolumeRatioParameters,
    VwapParameters,
)
from backlane.indicators.registry import find_indicator
from backlane.indicators.volume import (
    distribution_line,
    money_flow,
    money_flow_index,
    on_balance_volume,
    volume_ratio,
    weighted_price,
)
from tests.unit.indicators.bars import bars_of


def test_obv_starts_at_0_and_adds_the_volume_of_rises():
    bars = bars_of([1.0, 2.0, 2.0, 1.0], volume=[5.0, 3.0, 4.0, 2.0])
    np.testing.assert_array_equal(
        on_balance_volume(bars, NoParameters())[0], [0.0, 3.0, 3.0, 1.0]
    )  # + 3, as it is, - 2


def test_vwap_weighs_prices_with_what_was_traded_at_them():
    bars = bars_of(
        [1.0, 3.0, 8.0], high=[1.0, 6.0, 8.0], low=[1.0, 3.0, 8.0], volume=[1.0, 3.0, 0.0]
    )
    closes = VwapParameters(period=2, use_typical_price=False)
    # (1 x 1 + 3 x 3) / 4 = 2.5, (3 x 3 + 8 x 0) / 3 = 3
    np.testing.assert_array_equal(weighted_price(bars, closes)[0], [np.nan, 2.5, 3.0])
    # typical prices 1, 4, 8: (1 x 1 + 4 x 3) / 4 = 3.25, so far 13 / 4, too
    assert weighted_price(bars, VwapParameters(period=2))[0][1] == 3.25
    assert weighted_price(bars, VwapParameters(period=0))[0].tolist() == [1.0, 3.25, 3.25]


def test_vwap_of_nothing_traded_is_not_defined():
    bars = bars_of([1.0, 2.0, 3.0], volume=[1.0, 0.0, 0.0])
    assert np.isnan(weighted_price(bars, VwapParameters(period=2))[0]).tolist() == [
        True, False, True,
    ]  # fmt: skip


def test_vwap_of_a_period_that_is_not_full_is_shown_only_where_fillers_are_asked_for():
    bars, parameters = bars_of([1.0, 3.0], volume=[1.0, 1.0]), VwapParameters(period=2)
    (shown,) = find_indicator("vwap").outputs_of(bars, parameters, warmup_fillers=True)
    assert shown.tolist() == [1.0, 2.0]  # (1 + 3) / 2


def test_mfi_is_the_share_of_money_in_rising_bars():
    bars = bars_of([1.0, 2.0, 1.0], volume=[1.0, 1.0, 4.0])
    (mfi,) = money_flow_index(bars, MfiParameters(period=2))
    # rising 2 x 1 = 2, falling 1 x 4 = 4: 100 x 2 / (2 + 4)
    assert mfi[2] == pytest.approx(100 / 3, rel=1e-15)
    assert np.isnan(mfi[:2]).all()


def test_mfi_without_falls_is_100():
    parameters = MfiParameters(period=2)
    assert money_flow_index(bars_of([1.0, 2.0, 3.0]), parameters)[0][2] == 100.0
    assert money_flow_index(bars_of([1.0, 1.0, 1.0]), parameters)[0][2] == 100.0


FLOW = bars_of([3.0, 1.0, 4.0], high=[4.0] * 3, low=[0.0] * 3, volume=[1.0, 3.0, 3.0])


def test_cmf_is_the_share_of_volume_near_the_high():
    cmf, multiplier, flow, momentum, signal, histogram, above, below = money_flow(
        FLOW, CmfParameters(period=2)
    )
    # (3 - (4 - 3)) / 4 = 1/2, (1 - 3) / 4 = -1/2, (4 - 0) / 4 = 1, times volume 1/2, -3/2, 3
    np.testing.assert_array_equal(multiplier, [0.5, -0.5, 1.0])
    np.testing.assert_array_equal(flow, [0.5, -1.5, 3.0])
    # (1/2 - 3/2) / 4 = -1/4, (-3/2 + 3) / 6 = 1/4; signal: -1/4 + 2/10 (1/4 + 1/4) = -0.15
    np.testing.assert_array_equal(cmf, [np.nan, -0.25, 0.25])
    np.testing.assert_allclose(signal, [np.nan, -0.25, -0.15], rtol=1e-14)
    np.testing.assert_allclose(histogram, [np.nan, 0.0, 0.4], rtol=1e-14)
    np.testing.assert_array_equal(above, [np.nan, 0.0, 1.0])
    np.testing.assert_array_equal(below, [np.nan, 1.0, 0.0])
    assert np.isnan(momentum).all()


def test_cmf_momentum_is_its_change_over_five_bars():
    close = [4.0, 4.0, 4.0, 4.0, 4.0, 4.0, 0.0]
    bars = bars_of(close, high=[4.0] * 7, low=[0.0] * 7)
    momentum = money_flow(bars, CmfParameters(period=2))[3]
    assert momentum[6] == -1.0  # from (1 + 1) / 2 at bar 1 to (1 - 1) / 2


def test_cmf_is_0_where_nothing_was_traded_or_no_bar_has_height():
    untraded = bars_of([3.0] * 3, high=[4.0] * 3, low=[0.0] * 3, volume=[0.0] * 3)
    assert money_flow(untraded, CmfParameters(period=2))[0][2] == 0.0
    assert money_flow(bars_of([3.0] * 3), CmfParameters(period=2))[0][2] == 0.0


def test_cmf_is_neither_above_nor_below_in_warm_up_where_fillers_are_asked_for():
    outputs = find_indicator("cmf").outputs_of(FLOW, CmfParameters(period=2), warmup_fillers=True)
    assert (outputs[6][0], outputs[7][0]) == (0.0, 0.0)


RISE = bars_of([4.0] * 60, high=[4.0] * 60, low=[0.0] * 60)


def test_the_distribution_line_adds_up_and_its_changes_are_of_the_line():
    line, multiplier, flow, roc, momentum, strength = distribution_line(RISE, AdlineParameters())
    # every bar closes at its high and adds 1: 1, 2, 3, ...
    np.testing.assert_array_equal(line, np.arange(1.0, 61.0))
    assert set(multiplier) == set(flow) == {1.0}
    assert roc[10] == 1000.0  # from 1 to 11
    assert momentum[21] == 21.0  # from 1 to 22
    assert strength[49] == pytest.approx(100 * (50 / 25.5 - 1), rel=1e-15)  # mean of 1 to 50
    assert [int(np.isnan(values).sum()) for values in (roc, momentum, strength)] == [10, 21, 49]


def test_the_distribution_line_is_measured_from_20_bars_on_where_fillers_are_asked_for():
    outputs = find_indicator("adline").outputs_of(RISE, AdlineParameters(), warmup_fillers=True)
    assert outputs[5][19] == pytest.approx(100 * (20 / 10.5 - 1), rel=1e-15)  # mean of 1 to 20
    assert np.isnan(outputs[5]).sum() == 19


def test_the_volume_ratio_compares_with_the_mean():
    parameters = VolumeRatioParameters(period=2)
    bars = bars_of([1.0] * 4, volume=[1.0, 3.0, 0.0, 0.0])
    # 3 / 2, 0 / 1.5; without any volume the bar is like the others
    np.testing.assert_array_equal(volume_ratio(bars, parameters)[0], [np.nan, 1.5, 0.0, 1.0])
    (filled,) = find_indicator("volumeratio").outputs_of(bars, parameters, warmup_fillers=True)
    assert filled[0] == 1.0
