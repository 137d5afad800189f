"""The regression gate by hand: directions, tolerances, and what cannot be compared (SPEC C1 Q4)."""

from dataclasses import replace

import pytest

from backlane.metrics.regression_gate import (
    BetterDirection,
    GateCode,
    GateInput,
    MetricTolerance,
    compare_with_baseline,
)

BASE = GateInput({"sharpe": 1.0, "loss": 0.0}, 100, "bars", "config")
TOLERANCES = [
    MetricTolerance("sharpe", BetterDirection.HIGHER, relative=0.02),
    MetricTolerance("loss", BetterDirection.LOWER, absolute=0.01),
]


@pytest.mark.parametrize(
    ("metrics", "codes"),
    [
        ({"sharpe": 0.98, "loss": 0.01}, ["passed", "passed"]),
        ({"sharpe": 0.97, "loss": 0.02}, ["worse", "worse"]),
        ({"sharpe": 9.0, "loss": -1.0}, ["passed", "passed"]),
        ({"sharpe": None, "loss": 0.0}, ["missing", "passed"]),
    ],
)
def test_only_what_got_worse_fails(metrics, codes):
    report = compare_with_baseline(
        BASE, replace(BASE, metrics=metrics), TOLERANCES, trade_count_min=30
    )
    assert [deviation.code for deviation in report.deviations] == codes
    assert report.is_passed == (set(codes) == {"passed"})


@pytest.mark.parametrize(
    ("baseline", "current", "code"),
    [
        (replace(BASE, trade_count=29), BASE, GateCode.TOO_FEW_TRADES),
        (BASE, replace(BASE, data_digest="other"), GateCode.DATA_CHANGED),
        (BASE, replace(BASE, config_digest="other"), GateCode.CONFIG_CHANGED),
    ],
)
def test_what_cannot_be_compared_does_not_pass(baseline, current, code):
    report = compare_with_baseline(baseline, current, TOLERANCES, trade_count_min=30)
    assert report.refusals == (code,)
    assert not report.is_passed
