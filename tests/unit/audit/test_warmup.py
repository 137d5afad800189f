"""Columns that begin cold are named with the bars that they need; warm ones are not."""

from dataclasses import replace

import pytest

from backlane.audit.stamp import AuditStamp, Verdict
from backlane.audit.warmup import MODEL_DECISION, audit_warmup
from backlane.features.strategy import IndicatorSpec
from tests.builders import RSI_STRATEGY, LinearPredictor, make_model, random_bars
from tests.unit.audit.runs import MTF_STRATEGY, WindowPredictor, ask, coarser

BARS = {"1h": random_bars(3, 2600)}
COLD = {"history_before_start": False, "fixed_warmup_bars": 12}


def audit(predictor=None, bars=BARS, request=None, **options) -> AuditStamp:
    return audit_warmup(
        request or ask(),
        predictor or LinearPredictor(make_model()),
        bars,
        dataset_digests={},
        **options,
    )


@pytest.mark.parametrize("predictor", [LinearPredictor(make_model()), WindowPredictor()])
def test_what_is_loaded_by_default_is_enough(predictor):
    stamp = audit(predictor)
    assert stamp.verdict is Verdict.CLEAN
    assert stamp.replay_count == 20


def test_it_is_enough_over_two_timeframes():
    quarters = random_bars(5, 3000, timeframe="15m")
    bars = {"15m": quarters, "1h": coarser(quarters, "1h")}
    stamp = audit(LinearPredictor(make_model(MTF_STRATEGY)), bars)
    assert stamp.verdict is not Verdict.DECISIONS_DIFFER


def test_a_cold_indicator_is_named_with_the_bars_that_it_needs():
    stamp = audit(request=ask(switches=COLD))
    columns = {each.column: each for each in stamp.findings}
    # sma_8 sees 8 bars and is right at bar 13; Wilder's rsi_5 remembers where it began.
    assert "1h_level_near" not in columns
    finding = columns["1h_momentum_high"]
    assert finding.bars_loaded == 13  # the first simulated bar is the 13th
    # 0.8^m <= 2^-24 takes m = 75 bars; the size of the column decides about the last few
    assert 40 < finding.bars_needed < 90
    assert "begins cold" in finding.cause
    assert finding.size > 1e-3


def test_changed_decisions_are_what_fails():
    stamp = audit(request=ask(switches=COLD))
    decided = [each for each in stamp.findings if each.column == MODEL_DECISION]
    assert decided
    assert stamp.verdict is Verdict.DECISIONS_DIFFER
    assert not stamp.is_passed


def test_columns_alone_do_not_fail():
    # Nothing is ever sure enough to be a decision.
    sure = ask(switches=COLD, decisions={"confidence_threshold": 1.0})
    stamp = audit(request=sure)
    assert stamp.verdict is Verdict.COLUMNS_DIFFER
    assert stamp.is_passed


def test_an_indicator_that_never_settles_needs_more_than_there_is():
    # alpha = 2 / 301: the first value weighs 2^-24 only after some 2,500 bars.
    slow = replace(
        RSI_STRATEGY,
        indicators=(
            IndicatorSpec("rsi_5", "rsi", {"period": 5}),
            IndicatorSpec("sma_8", "ema", {"period": 300}),
        ),
    )
    stamp = audit(LinearPredictor(make_model(slow)), request=ask(switches=COLD), start_count=5)
    finding = next(each for each in stamp.findings if each.column == "1h_level_near")
    assert finding.bars_needed > 1000


def test_start_dates_lie_within_the_request():
    request = ask(start="2023-02-01", end="2023-03-01")
    stamp = audit(request=request)
    assert request.first_bar_ns() <= min(stamp.checked_ns)
    assert max(stamp.checked_ns) <= request.last_bar_ns()


def test_the_same_seed_gives_the_same_stamp():
    assert audit(seed=2, request=ask(switches=COLD)) == audit(seed=2, request=ask(switches=COLD))
