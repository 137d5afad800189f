"""Strategies, weights, calendars and regimes, on numbers that a reader can redo by hand."""

import numpy as np
import pytest

from backlane.signals.event_insider_shipping import (
    EventParameters,
    LegRule,
    combine_legs,
    event_insider_shipping,
)
from backlane.signals.event_windows import DAY_NS, EventTime, distinct_events, event_windows
from backlane.signals.market_regime import (
    DEFAULT_EXPOSURES,
    Exposure,
    MarketRegime,
    regime_exposure,
    regime_label,
    regime_state,
)
from backlane.signals.meta_model import (
    LogisticModel,
    LogisticTerm,
    filter_signals,
    scale_signals,
)
from backlane.signals.multifactor import (
    FactorBundle,
    WeightedFactor,
    Winsorizing,
    cross_section_z,
    factor_scores,
    long_short_flags,
    winsorize,
)
from backlane.signals.rebalance import Rebalance, RebalanceRule, rebalance_bars
from backlane.signals.signal import Direction, Signals
from backlane.signals.target_weights import long_short_weights, long_weights, only_at
from backlane.signals.trend_baseline import TrendParameters, VolumeFilter, trend_baseline
from tests.unit.signals.panels import daily_events, daily_panel

LONG, FLAT, SHORT = int(Direction.LONG), int(Direction.FLAT), int(Direction.SHORT)


def one_row(directions, scores) -> Signals:
    return Signals(np.array([directions], np.int8), np.array([scores], float))


class TestTrend:
    closes = ((100.0,), (110.0,), (120.0,))

    def parameters(self, rule: VolumeFilter, threshold: float | None = None) -> TrendParameters:
        return TrendParameters(1, 2, rule, threshold)

    def test_the_score_without_volume_is_the_distance_of_the_means(self):
        signals = trend_baseline(daily_panel(self.closes), self.parameters(VolumeFilter.NONE))
        assert signals.direction[:, 0].tolist() == [FLAT, LONG, LONG]
        # 110 / mean(100, 110) - 1, 120 / mean(110, 120) - 1; 1e-10 is added to the divisor
        assert signals.score[:, 0] == pytest.approx([0.0, 5 / 105, 5 / 115], rel=1e-9)

    def test_volume_below_its_mean_so_far_keeps_flat(self):
        panel = daily_panel(self.closes, volume=[[10.0], [40.0], [22.0]])
        signals = trend_baseline(panel, self.parameters(VolumeFilter.EXPANDING_MEAN))
        # means so far 10, 25, 24: 40 reaches its one, 22 does not
        assert signals.direction[:, 0].tolist() == [FLAT, LONG, FLAT]
        assert signals.score[:, 0] == pytest.approx([0, 0.7 * 5 / 105 + 0.3, 0], rel=1e-9)

    def test_the_full_sample_mean_looks_ahead(self):
        panel = daily_panel(self.closes, volume=[[10.0], [12.0], [50.0]])
        ahead = trend_baseline(panel, self.parameters(VolumeFilter.FULL_SAMPLE))
        as_known = trend_baseline(panel, self.parameters(VolumeFilter.EXPANDING_MEAN))
        assert ahead.direction[:, 0].tolist() == [FLAT, FLAT, LONG]  # 24 against 12 and 50
        assert as_known.direction[:, 0].tolist() == [FLAT, LONG, LONG]

    def test_an_instrument_without_a_bar_has_no_score_and_no_hole_in_its_means(self):
        gap = daily_panel([[100.0], [np.nan], [110.0]])
        signals = trend_baseline(gap, self.parameters(VolumeFilter.NONE))
        assert signals.direction[:, 0].tolist() == [FLAT, FLAT, LONG]
        assert signals.score[:, 0] == pytest.approx([0.0, np.nan, 5 / 105], nan_ok=True, rel=1e-9)

    def test_parameters_that_contradict_each_other_are_refused(self):
        with pytest.raises(ValueError, match="below the slow one"):
            TrendParameters(50, 20)
        with pytest.raises(ValueError, match="goes with `fixed`"):
            TrendParameters(volume_threshold=1e6)


class TestEvents:
    panel = daily_panel(np.full((6, 1), 100.0))

    def windows(self, rows, days, clock):
        events = daily_events(self.panel.symbols, rows)
        stamps = self.panel.time_ns
        return event_windows(events, "net_shares", stamps, stamps, days * DAY_NS, clock)

    def test_a_late_disclosure_shows_late(self):
        rows = [(0, 1, 3, 500.0)]
        happened = self.windows(rows, 2, EventTime.HAPPENED)
        disclosed = self.windows(rows, 2, EventTime.DISCLOSED)
        assert happened.count[:, 0].tolist() == [0, 0, 0, 0, 0, 0]
        assert disclosed.count[:, 0].tolist() == [0, 0, 1, 1, 0, 0]
        longer = self.windows(rows, 4, EventTime.HAPPENED)  # (t - 4, t] holds day 1 until day 4
        assert longer.total[:, 0].tolist() == [0, 0, 500, 500, 0, 0]

    def test_the_mean_of_no_event_is_absent(self):
        windows = self.windows([(0, 1, 1, 10.0), (0, 2, 2, 20.0)], 2, EventTime.HAPPENED)
        assert windows.mean()[:3, 0].tolist() == [10.0, 15.0, 20.0]
        assert np.isnan(windows.mean()[3:]).all()

    def test_the_same_event_counts_once(self):
        rows = [(0, 1, 2, 7.0), (0, 1, 2, 9.0), (0, 1, 3, 9.0)]
        events = distinct_events(daily_events(self.panel.symbols, rows))
        assert events.values["net_shares"].tolist() == [7.0, 9.0]

    @pytest.mark.parametrize(
        ("rule", "direction", "score"),
        [(LegRule.BOTH, [LONG, FLAT, SHORT], [1, 0, 1]),
         (LegRule.WEIGHTED, [LONG, LONG, SHORT], [1, 0.5, 1])],
    )  # fmt: skip
    def test_legs(self, rule: LegRule, direction, score):
        shares = np.array([[2000.0], [2000.0], [-2000.0]])
        congestion = np.array([[20.0], [np.nan], [80.0]])
        signals = combine_legs(shares, congestion, EventParameters(rule=rule))
        assert signals.direction[:, 0].tolist() == direction
        assert signals.score[:, 0].tolist() == score

    def test_the_strategy_waits_for_both_disclosures(self):
        insider = daily_events(self.panel.symbols, [(0, 1, 2, 5000.0)])
        shipping = daily_events(self.panel.symbols, [(0, 2, 4, 10.0)], "congestion_score")
        signals = event_insider_shipping(self.panel, insider, shipping, EventParameters())
        assert signals.direction[:, 0].tolist() == [FLAT, FLAT, FLAT, LONG, LONG, LONG]

    def test_events_of_other_instruments_are_refused(self):
        foreign = daily_events(("X",), [(0, 1, 1, 1.0)])
        with pytest.raises(ValueError, match="not those of the panel"):
            event_insider_shipping(self.panel, foreign, foreign, EventParameters())


class TestMultifactor:
    def test_z_scores_of_one_time(self):
        values = np.array([[1.0, 2.0, 3.0, np.nan], [5.0, 5.0, 5.0, 5.0], [1.0] + [np.nan] * 3])
        z = cross_section_z(values)
        root = np.sqrt(1.5)
        assert z[0, :3] == pytest.approx([-root, 0.0, root])
        assert np.isnan(z[0, 3])
        assert z[1].tolist() == [0.0] * 4
        assert np.isnan(z[2]).all()  # one value has nothing to be compared with

    def test_limits_of_each_time_or_of_all(self):
        values = np.array([[0.0, 1.0, 2.0, 9.0], [100.0, 100.0, 100.0, 100.0]])
        one = winsorize(values, (0.25, 0.75), Winsorizing.PER_TIME)
        assert one[0].tolist() == [0.75, 1.0, 2.0, 3.75]
        whole = winsorize(values, (0.0, 0.5), Winsorizing.FULL_SAMPLE)
        assert whole[1].tolist() == [54.5] * 4  # the median of all eight lies between 9 and 100

    def test_score_takes_a_missing_factor_for_nothing(self):
        bundle = FactorBundle(
            (WeightedFactor("a", 0.6), WeightedFactor("b", 0.4, is_negative=True)),
            Winsorizing.NONE,
            is_standardized=False,
        )
        grids = {"a": np.array([[1.0, 1.0, 1.0]]), "b": np.array([[2.0, np.nan, 2.0]])}
        scores = factor_scores(bundle, grids, np.array([[True, True, False]]))
        assert scores.score[0] == pytest.approx([-0.2, 0.6, np.nan], nan_ok=True)
        with pytest.raises(ValueError, match="factor b is not known"):
            factor_scores(bundle, {"a": grids["a"]}, np.array([[True, True, True]]))

    def test_a_bundle_that_contradicts_itself_is_refused(self):
        with pytest.raises(ValueError, match=r"sum to 0.5"):
            FactorBundle((WeightedFactor("a", 0.5),))
        with pytest.raises(ValueError, match="named twice"):
            FactorBundle((WeightedFactor("a", 0.5), WeightedFactor("a", 0.5)))
        with pytest.raises(ValueError, match="winsorize limits"):
            FactorBundle((WeightedFactor("a", 1.0),), winsorize_limits=(0.9, 0.1))

    def test_flags_are_disjoint_and_equal_scores_have_none(self):
        score = np.array([[1.0, 2.0, 3.0, 4.0, 5.0], [7.0] * 5, [np.nan] * 5])
        flags = long_short_flags(score, 0.25, 0.25)
        assert flags[0].tolist() == [SHORT, SHORT, FLAT, LONG, LONG]
        assert not flags[1:].any()
        tied = long_short_flags(np.array([[1.0, 1.0, 1.0, 1.0, 9.0]]), 0.5, 0.5)
        assert tied[0].tolist() == [FLAT] * 4 + [LONG]  # the median, 1, is both top and bottom

    def test_sides_of_a_long_short_book(self):
        direction = np.array([[LONG, LONG, SHORT], [LONG, FLAT, FLAT]], np.int8)
        weights = long_short_weights(direction, np.array([1.0, 1.0]), np.array([0.2, 0.0]))
        assert weights[0] == pytest.approx([0.3, 0.3, -0.4])
        assert weights[1].tolist() == [0.5, 0.0, 0.0]


class TestWeights:
    signals = one_row([LONG, LONG, SHORT, FLAT, LONG], [0.3, 0.1, 0.9, 0.8, -0.1])

    def test_they_follow_the_scores_of_those_long(self):
        assert long_weights(self.signals)[0] == pytest.approx([0.75, 0.25, 0, 0, 0])

    def test_equal_or_only_the_best(self):
        assert long_weights(self.signals, equal=True)[0].tolist() == [0.5, 0.5, 0, 0, 0]
        assert long_weights(self.signals, top_n=1)[0].tolist() == [1, 0, 0, 0, 0]
        with pytest.raises(ValueError, match="top_n 0"):
            long_weights(self.signals, top_n=0)

    def test_scores_of_zero_weigh_the_same_and_of_equal_ones_the_first_is_best(self):
        level = one_row([LONG, LONG], [0.0, 0.0])
        assert long_weights(level)[0].tolist() == [0.5, 0.5]
        assert long_weights(level, top_n=1)[0].tolist() == [1.0, 0.0]

    def test_nothing_long_is_flat_which_is_not_undecided(self):
        flat = long_weights(one_row([FLAT, SHORT], [0.0, 1.0]))
        assert flat[0].tolist() == [0.0, 0.0]
        assert np.isnan(only_at(flat, np.array([False]))).all()


class TestRebalance:
    # Friday 2021-01-01, Monday 4, Tuesday 5; Tuesday 12 (the Monday is a holiday); 1 and 2 February
    days = np.array(
        ["2021-01-01", "2021-01-04", "2021-01-05", "2021-01-12", "2021-02-01", "2021-02-02"],
        "datetime64[ns]",
    ).astype(np.int64)

    @pytest.mark.parametrize(
        ("frequency", "rule", "expected"),
        [
            (Rebalance.DAILY, RebalanceRule.FIRST_SESSION, [1, 1, 1, 1, 1, 1]),
            (Rebalance.WEEKLY, RebalanceRule.FIRST_SESSION, [1, 1, 0, 1, 1, 0]),
            (Rebalance.WEEKLY, RebalanceRule.CALENDAR_DAY, [0, 1, 0, 0, 1, 0]),
            (Rebalance.MONTHLY, RebalanceRule.FIRST_SESSION, [1, 0, 0, 0, 1, 0]),
            (Rebalance.MONTHLY, RebalanceRule.CALENDAR_DAY, [1, 0, 0, 0, 1, 0]),
        ],
    )
    def test_bars(self, frequency: Rebalance, rule: RebalanceRule, expected):
        assert rebalance_bars(self.days, frequency, rule).astype(int).tolist() == expected

    def test_a_month_that_starts_on_a_weekend_is_not_skipped(self):
        days = np.array(["2021-04-30", "2021-05-03"], "datetime64[ns]").astype(np.int64)
        assert rebalance_bars(days, Rebalance.MONTHLY).tolist() == [True, True]
        calendar = rebalance_bars(days, Rebalance.MONTHLY, RebalanceRule.CALENDAR_DAY)
        assert calendar.tolist() == [False, False]


class TestRegime:
    @pytest.mark.parametrize(
        ("trend", "risk", "macro", "label"),
        [
            (0.9, -0.9, 0.9, MarketRegime.CRISIS),
            (-0.6, -0.1, 0.9, MarketRegime.BEAR),
            (0.6, 0.1, 0.9, MarketRegime.BULL),
            (-0.6, 0.1, 0.4, MarketRegime.REFLATION),
            (0.2, -0.2, 0.0, MarketRegime.SIDEWAYS),
            (-0.6, 0.1, 0.0, MarketRegime.NEUTRAL),
        ],
    )
    def test_labels(self, trend: float, risk: float, macro: float, label: MarketRegime):
        assert regime_label(trend, risk, macro) is label

    def test_scores(self):
        one = np.array([1.0])
        state = regime_state(
            np.array([0.75]), np.array([[0.3, 0.3]]), np.array([[0.2, 0.2]]),
            risk_on=-one, growth=0.5 * one, inflation=one,
        )  # fmt: skip
        assert state.trend_score[0] == pytest.approx(0.4)
        assert state.risk_score[0] == pytest.approx(0.6 * 0.5 - 0.4)
        assert state.macro_score[0] == pytest.approx(0.7 * 0.5 + 0.3)
        unknown = regime_state(np.array([0.75]), np.array([[0.3]]), np.array([[np.nan]]))
        assert (unknown.risk_score[0], unknown.confidence[0]) == (0.0, 0.5)

    def test_exposure_of_a_label_that_is_not_mapped(self):
        mapped = {MarketRegime.BULL: DEFAULT_EXPOSURES[MarketRegime.BULL]}
        gross, net = regime_exposure(
            [MarketRegime.BULL, MarketRegime.CRISIS], mapped, Exposure(0.8, 0.0)
        )
        assert (gross.tolist(), net.tolist()) == ([1.2, 0.8], [0.6, 0.0])


class TestMetaModel:
    model = LogisticModel(0.1, (LogisticTerm("rsi", 1.2, 50.0, 25.0),))

    def test_confidence_takes_an_absent_feature_for_zero(self):
        confidence = self.model.confidence({"rsi": np.array([75.0, np.nan])})
        assert confidence == pytest.approx([1 / (1 + np.exp(-1.3)), 1 / (1 + np.exp(2.3))])
        with pytest.raises(ValueError, match="feature rsi"):
            self.model.confidence({})

    def test_filter_and_scale(self):
        signals = one_row([LONG, LONG, SHORT], [0.8, 0.4, 0.6])
        confidence = np.array([[0.5, 0.4, 0.1]])
        kept = filter_signals(signals, confidence, 0.5)
        assert kept.direction[0].tolist() == [LONG, FLAT, SHORT]
        scaled = scale_signals(signals, confidence, 0.45)
        assert scaled.score[0] == pytest.approx([0.36, 0.16, 0.06])
