"""Drawdown and monthly returns by hand; curves with fewer points and all their extremes."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from backlane.report.curves import drawdown, extreme_indices, monthly_returns, range_stretches

FLOATS = st.floats(-1e6, 1e6)


def test_drawdown_is_the_fall_from_the_highest_equity_so_far():
    equity = np.array([90.0, 120.0, 60.0, 120.0])
    # From the cash of 100: 90 / 100 - 1; then the peak is 120: 0, 60 / 120 - 1, 0.
    assert drawdown(equity, 100.0) == pytest.approx([-0.1, 0.0, -0.5, 0.0])
    # Without the cash the first equity is the first peak.
    assert drawdown(equity, None) == pytest.approx([0.0, 0.0, -0.5, 0.0])


def test_drawdown_has_no_value_where_there_never_was_any_money():
    assert np.isnan(drawdown(np.array([0.0, -1.0]), None)).all()
    assert len(drawdown(np.array([]), 100.0)) == 0


def test_a_month_goes_from_the_last_equity_before_it_to_its_own_last():
    times = ["2022-11-30", "2022-12-01", "2022-12-31T23:00", "2023-01-31", "2023-03-01"]
    equity = pd.Series([110.0, 50.0, 121.0, 242.0, 121.0], pd.to_datetime(times, format="ISO8601"))
    table = monthly_returns(equity, 100.0)
    assert list(table.index) == [2022, 2023]
    assert table.loc[2022, 11] == pytest.approx(0.1)  # 110 / 100 - 1
    assert table.loc[2022, 12] == pytest.approx(0.1)  # 121 / 110 - 1
    assert table.loc[2023, 1] == pytest.approx(1.0)  # 242 / 121 - 1
    assert np.isnan(table.loc[2023, 2])  # no bars
    assert table.loc[2023, 3] == pytest.approx(-0.5)  # 121 / 242 - 1
    assert table.loc[2022, "year"] == pytest.approx(0.21)  # 121 / 100 - 1
    assert table.loc[2023, "year"] == pytest.approx(0.0)  # 121 / 121 - 1


def test_months_multiply_to_the_year():
    times = pd.date_range("2021-02-01", periods=1500, freq="D", tz="UTC")
    walk = 100 * np.exp(np.cumsum(np.random.default_rng(1).normal(0, 0.01, 1500)))
    table = monthly_returns(pd.Series(walk, times), 100.0)
    product = (1 + table[list(range(1, 13))]).prod(axis=1, skipna=True) - 1
    assert product.to_numpy() == pytest.approx(table["year"].to_numpy(), rel=1e-9)


def test_nothing_is_thinned_that_has_room():
    assert extreme_indices(np.arange(10.0), 10).tolist() == list(range(10))
    assert extreme_indices(np.array([]), 10).tolist() == []


def test_the_extremes_of_each_stretch_are_kept_by_hand():
    values = np.array([5.0, 1, 9, 5, 5, 5, 7, 2, 5, 5, 5, 5])
    # Room for 6: two stretches of 6. Of the first 1 (at 1) and 9 (at 2), of the second 7 and 2.
    assert extreme_indices(values, 6).tolist() == [0, 1, 2, 6, 7, 11]


@settings(deadline=None, derandomize=True, max_examples=60)
@given(arrays(np.float64, st.integers(1, 400), elements=FLOATS), st.integers(4, 60))
def test_a_thinned_curve_keeps_every_extreme_within_the_limit(values, points_max):
    kept = extreme_indices(values, points_max)
    assert len(kept) <= points_max or len(values) <= points_max
    assert (np.diff(kept) > 0).all()
    assert kept[0] == 0
    assert kept[-1] == len(values) - 1
    assert values[kept].min() == values.min()
    assert values[kept].max() == values.max()


@settings(deadline=None, derandomize=True, max_examples=60)
@given(arrays(np.float64, st.integers(1, 400), elements=FLOATS), st.integers(1, 60))
def test_the_range_of_a_stretch_holds_every_bar_of_it(high, points_max):
    low = high - 1.0
    starts, lowest, highest = range_stretches(low, high, points_max)
    assert len(starts) <= points_max
    stretch = np.searchsorted(starts, np.arange(len(high)), side="right") - 1
    assert (lowest[stretch] <= low).all()
    assert (highest[stretch] >= high).all()
    assert set(lowest) <= set(low)
    assert set(highest) <= set(high)


def test_unknown_values_never_hide_an_extreme():
    values = np.array([np.nan, 3.0, np.nan, 8.0, 1.0, np.nan, 2.0, 2.0])
    kept = extreme_indices(values, 4)
    assert np.nanmax(values[kept]) == 8.0
    assert np.nanmin(values[kept]) == 1.0
