"""Laws of metrics: a finite number or none with a reason, whatever the curve and the trades are."""

import math

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from backlane.backtest.switches import PROFILES
from backlane.metrics.definitions import METRICS, REFERENCE_BOUND
from backlane.metrics.rules import MetricRules, UndefinedMetrics
from backlane.metrics.sample import DAY_NS, Sample
from backlane.metrics.summary import Metric, summarize

LAW = settings(deadline=None, derandomize=True, max_examples=150)
# Money as accounts have it, with debts, nothing at all, dust and fortunes.
MONEY = st.one_of(
    st.floats(-1e15, 1e15),
    st.sampled_from([0.0, 100.0, 100.0 - 1e-14, -100.0, 1e-9, 5e-324, 1e15]),
)
CURVES = st.one_of(
    st.lists(MONEY, max_size=12),
    st.builds(lambda value, count: [value] * count, MONEY, st.integers(1, 30)),
    # rising or falling by the same share at every bar: all returns are equal but for rounding
    st.builds(
        lambda rate, count: [100.0 * (1 + rate) ** bar for bar in range(count)],
        st.floats(-0.5, 0.5),
        st.integers(2, 40),
    ),
)
PNL = st.lists(st.one_of(st.floats(-1e12, 1e12), st.just(0.0)), max_size=6)
SPANS = st.one_of(st.just(0), st.integers(0, 40 * 366 * DAY_NS))


@st.composite
def samples(draw: st.DrawFn, rules: MetricRules) -> Sample:
    equity = np.array(draw(CURVES), dtype=np.float64)
    net_pnl = np.array(draw(PNL), dtype=np.float64)
    span = draw(SPANS)
    count = len(equity)
    is_dated = rules == MetricRules() or draw(st.booleans())
    return Sample(
        rules=rules,
        initial_cash=draw(st.one_of(st.just(100.0), st.floats(1e-9, 1e15))),
        time_ns=np.linspace(0, span, count).astype(np.int64),
        equity=equity,
        position=np.ones(count),
        net_pnl=net_pnl,
        holding_hours=np.ones(len(net_pnl)),
        commission=1.0,
        slippage=0.0,
        financing=-1.0,
        traded_value=1e9,
        first_ns=0 if is_dated else None,
        last_ns=span if is_dated else None,
    )


def summary(sample: Sample) -> dict[str, Metric]:
    return {metric.id: metric for metric in summarize(sample)}


@LAW
@given(samples(MetricRules()))
def test_a_metric_is_a_finite_number_or_absent_with_a_reason(sample: Sample) -> None:
    for metric in summarize(sample):
        if metric.value is None:
            assert metric.undefined_reason, metric
        else:
            assert math.isfinite(metric.value), metric
            assert metric.undefined_reason == "", metric


DIVIDED_BY_WHAT_MAY_BE_ROUNDING = ("sharpe_ratio", "sortino_ratio", "calmar_ratio")


@LAW
@given(st.floats(-0.5, 0.5), st.integers(2, 300), st.sampled_from([1.0, 0.1, 1e5, 3e9]))
def test_a_curve_without_risk_has_no_ratio_of_risk(rate: float, count: int, cash: float) -> None:
    """The same return at every bar: no spread, and falls only where the rate is below 0."""
    span = 365 * DAY_NS
    equity = cash * (1.0 + rate) ** np.arange(1, count + 1)
    times = np.linspace(0, span, count).astype(np.int64)
    none = np.zeros(0)
    sample = Sample(
        MetricRules(), cash, times, equity, np.ones(count), none, none, 0.0, 0.0, 0.0, 0.0, 0, span
    )
    found = summary(sample)
    assert found["sharpe_ratio"].value is None
    if rate >= 0:
        assert all(found[metric].value is None for metric in DIVIDED_BY_WHAT_MAY_BE_ROUNDING)
        assert found["recovery_factor"].value is None


@pytest.mark.parametrize("profile", PROFILES)
@LAW
@given(data=st.data())
def test_every_profile_reports_every_metric(profile: str, data: st.DataObject) -> None:
    rules = PROFILES[profile].metric_rules
    found = summarize(data.draw(samples(rules)))
    assert [metric.id for metric in found] == [definition.id for definition in METRICS]
    if rules.undefined_metrics is UndefinedMetrics.FILLERS:
        values = [metric.value for metric in found]
        assert all(value is not None and math.isfinite(value) for value in values)
        assert REFERENCE_BOUND == 999_999


@LAW
@given(samples(MetricRules()), st.integers(-8, 8))
def test_money_in_another_unit_changes_no_ratio(sample: Sample, power: int) -> None:
    """Powers of two, so that no bit is lost: money scales with the unit, ratios do not."""
    unit = 2.0**power
    scaled = Sample(
        sample.rules,
        sample.initial_cash * unit,
        sample.time_ns,
        sample.equity * unit,
        sample.position,
        sample.net_pnl * unit,
        sample.holding_hours,
        sample.commission * unit,
        sample.slippage * unit,
        sample.financing * unit,
        sample.traded_value * unit,
        sample.first_ns,
        sample.last_ns,
    )
    money = np.abs(np.concatenate((sample.equity, sample.net_pnl)))
    assume(not np.any((money > 0) & (money < 1e-300)))  # where a smaller unit costs bits
    units = {definition.id: definition.unit for definition in METRICS}
    for before, after in zip(summarize(sample), summarize(scaled), strict=True):
        factor = unit if units[before.id] == "money" else 1.0
        assert after.value == (None if before.value is None else before.value * factor), before.id
