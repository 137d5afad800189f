from dataclasses import replace

import numpy as np
import pytest

from backlane.errors import NotEnoughBarsError
from backlane.features.history import bars_in_scope, warmup_bars
from backlane.features.rules import Alignment, FeatureRules
from backlane.features.strategy import (
    FuzzySetSpec,
    IndicatorSpec,
    MembershipSpec,
    NetworkInputSpec,
    Strategy,
)
from backlane.indicators.indicator import ALL_BARS
from backlane.market.bars import BarSeries
from backlane.market.timeframe import Timeframe

DAY_NS = 86_400 * 10**9
STAMPED = FeatureRules(alignment=Alignment.STAMP_FORWARD_FILL)


def strategy_with(*raw: NetworkInputSpec, timeframes: tuple[str, ...] = ("5m", "1h")) -> Strategy:
    indicators = (
        IndicatorSpec("mean", "sma", {"period": 20}),
        IndicatorSpec("strength", "rsi", {"period": 14}),
    )
    return Strategy("s", "3.0", ("TEST",), timeframes, indicators, (), raw)


def test_a_window_needs_its_period_less_the_bar_itself():
    strategy = strategy_with(NetworkInputSpec(raw_indicator="mean", timeframes=("5m",)))
    # 19 bars before the base bar; of a timeframe without features, the one that may be seen
    assert warmup_bars(strategy) == {"5m": 19, "1h": 2}


def test_another_timeframe_needs_one_bar_more_as_its_last_may_be_open_yet():
    strategy = strategy_with(NetworkInputSpec(raw_indicator="mean"))
    assert warmup_bars(strategy) == {"5m": 19, "1h": 21}


def test_a_recursive_mean_needs_what_its_past_weighs():
    strategy = strategy_with(NetworkInputSpec(raw_indicator="strength"), timeframes=("1h",))
    # 64 (13/14)^281 = 5.8e-8 <= 2^-24 = 6.0e-8; it starts on 14 changes, which are 15 bars; less
    # the base bar itself
    assert warmup_bars(strategy) == {"1h": 281 + 15 - 1}


def test_a_steeper_term_needs_a_longer_past():
    terms = (MembershipSpec("near", "triangular", (35.0, 50.0, 65.0)),)
    strategy = replace(
        strategy_with(NetworkInputSpec(fuzzy_set="zone"), timeframes=("1h",)),
        fuzzy_sets=(FuzzySetSpec("zone", "strength", terms),),
    )
    # its gain is 65 / 15: 64 65 / 15 (13/14)^301 = 5.7e-8, and 281 bars without it
    assert warmup_bars(strategy) == {"1h": 301 + 15 - 1}


@pytest.mark.parametrize(
    ("type_name", "parameters"), [("obv", {}), ("parabolicsar", {}), ("vwap", {"period": 0})]
)
def test_what_remembers_its_first_bar_needs_all_of_them(type_name, parameters):
    strategy = replace(
        strategy_with(NetworkInputSpec(raw_indicator="level")),
        indicators=(IndicatorSpec("level", type_name, parameters),),
    )
    assert min(warmup_bars(strategy).values()) >= ALL_BARS - 1


def bars_between(label: str, first_day: float, last_day: float) -> BarSeries:
    timeframe = Timeframe.parse(label)
    first, last = int(first_day * DAY_NS), int(last_day * DAY_NS)
    times = np.arange(first, last + 1, timeframe.length_ns, dtype=np.int64)
    ones = np.ones(len(times))
    return BarSeries("TEST", timeframe, times, ones, ones, ones, ones, ones)


def test_what_is_known_at_its_close_needs_no_common_window():
    bars = {"1h": bars_between("1h", 0, 1), "4h": bars_between("4h", 5, 6)}
    assert bars_in_scope(bars, FeatureRules()) == bars


def test_one_timeframe_is_never_cut():
    bars = {"1h": bars_between("1h", 0, 1)}
    assert bars_in_scope(bars, STAMPED) == bars


@pytest.mark.parametrize("alignment", [Alignment.STAMP_FORWARD_FILL, Alignment.EXACT_STAMP])
def test_the_reference_cuts_all_to_the_window_that_they_share(alignment: Alignment):
    bars = {"1h": bars_between("1h", 0, 20), "4h": bars_between("4h", 2, 30)}
    cut = bars_in_scope(bars, FeatureRules(alignment=alignment))
    for series in cut.values():
        assert (series.open_time_ns[0], series.open_time_ns[-1]) == (2 * DAY_NS, 20 * DAY_NS)


@pytest.mark.parametrize(
    ("hours", "four_hours", "text"),
    [
        ((0, 20), (15, 30), "Of 4h, 31 bars"),  # 5 days x 6 + 1
        ((0, 20), (21, 30), "Of 1h, 0 bars"),
        ((0, 20), (1, 0), "no bars of 4h"),
    ],
)
def test_a_common_window_that_is_too_short_is_refused(hours, four_hours, text):
    bars = {"1h": bars_between("1h", *hours), "4h": bars_between("4h", *four_hours)}
    with pytest.raises(NotEnoughBarsError, match=text):
        bars_in_scope(bars, STAMPED)


def test_a_common_window_of_less_than_seven_days_is_refused():
    bars = {"5m": bars_between("5m", 0, 6.99), "1h": bars_between("1h", 0, 6.99)}
    with pytest.raises(NotEnoughBarsError, match="has 6 whole days"):
        bars_in_scope(bars, STAMPED)
