"""Planted leaks are found, in the right column and at the right bar; what is clean passes."""

from dataclasses import replace

import numpy as np
import pytest

from backlane.audit.lookahead import audit_lookahead, known_at, shuffled_after
from backlane.audit.stamp import AuditKind, AuditStamp, Verdict
from backlane.errors import NotEnoughBarsError
from tests.builders import LinearPredictor, make_bars, make_model, random_bars
from tests.unit.audit.runs import (
    MTF_STRATEGY,
    CountingPredictor,
    PeekingPredictor,
    WindowPredictor,
    ask,
    coarser,
)

BARS = {"1h": random_bars(3, 900)}
QUARTERS = random_bars(5, 2400, timeframe="15m")
MTF_BARS = {"15m": QUARTERS, "1h": coarser(QUARTERS, "1h")}
EXITS = {"stop_loss": 0.004, "take_profit": 0.006, "trailing_stop": 0.005, "max_holding_bars": 12}


def audit(predictor=None, bars=BARS, request=None, **options) -> AuditStamp:
    return audit_lookahead(
        request or ask(),
        predictor or LinearPredictor(make_model()),
        bars,
        dataset_digests={"1h": "sha256:x"},
        **options,
    )


def of_stage(stamp: AuditStamp, stage: str) -> dict[str, object]:
    return {each.column: each for each in stamp.findings if each.stage == stage}


@pytest.mark.parametrize(
    "request_",
    [
        ask(),
        ask(switches={"fill": "this_close"}),
        ask(profile="ktrdr-head"),
        ask(exits=EXITS, costs={"spread_rate": 1e-4, "borrow_rate": 0.02}),
        ask(sizing={"target_volatility": 0.1}, margin={"leverage": 20}),
        ask(start="2023-01-12"),
    ],
    ids=["default", "this_close", "ktrdr-head", "exits", "leverage", "start"],
)
def test_the_engine_is_clean(request_):
    stamp = audit(request=request_)
    assert stamp.findings == ()
    assert stamp.notes == ()
    assert stamp.verdict is Verdict.CLEAN
    assert stamp.is_passed
    assert stamp.replay_count == 40


def test_the_engine_is_clean_over_two_timeframes():
    stamp = audit(LinearPredictor(make_model(MTF_STRATEGY)), MTF_BARS)
    assert stamp.verdict is Verdict.CLEAN


def test_a_model_over_windows_is_clean_and_asked_little():
    predictor = WindowPredictor()
    stamp = audit(predictor)
    assert stamp.verdict is Verdict.CLEAN
    # 900 rows of the whole run, then at most 2 x 64 rows and a window for each of 40 replays
    assert predictor.row_count <= 900 + 40 * (2 * 64 + 3)


def test_a_bar_that_is_shown_before_it_closed_is_found():
    request = ask(switches={"alignment": "stamp_forward_fill"})
    stamp = audit(LinearPredictor(make_model(MTF_STRATEGY)), MTF_BARS, request)
    features = of_stage(stamp, "features")
    assert features
    assert all(name.startswith("1h_") for name in features)
    assert not stamp.is_passed
    for finding in features.values():
        assert "stamp_forward_fill shows the 1h bar" in finding.cause
        assert "minutes before it closed" in finding.cause
        # The quarter after which a replay ended is the first that saw more than it could know.
        assert finding.first_ns in stamp.checked_ns
        assert finding.size > 0
    causes = {each.cause for each in stamp.findings if each.stage == "scores"}
    assert all(cause.startswith("follows from features: 1h_") for cause in causes)


def test_the_words_say_how_much_too_early():
    # The last quarter of an hour knows the hour; the first is 45 minutes early.
    request = ask(switches={"alignment": "stamp_forward_fill"})
    predictor = LinearPredictor(make_model(MTF_STRATEGY))
    stamp = audit(predictor, MTF_BARS, request, bar_count=60)
    hour_ns, quarter_ns = 3600 * 10**9, 900 * 10**9
    for finding in of_stage(stamp, "features").values():
        early = 3 - finding.first_ns % hour_ns // quarter_ns
        assert early > 0
        assert f"{15 * early} minutes before" in finding.cause


def test_a_predictor_that_peeks_is_found_in_the_scores():
    stamp = audit(PeekingPredictor(make_model()))
    assert of_stage(stamp, "features") == {}
    scores = of_stage(stamp, "scores")
    assert {"p_buy", "p_hold", "p_sell", "confidence"} <= set(scores)
    assert scores["p_buy"].first_ns in stamp.checked_ns
    assert "outputs are not" in scores["p_buy"].cause
    decisions = of_stage(stamp, "decisions")
    assert decisions["reason"].cause.startswith("follows from scores")


def test_the_same_seed_gives_the_same_stamp_and_another_seed_other_bars():
    assert audit(seed=3) == audit(seed=3)
    assert audit(seed=3).checked_ns != audit(seed=4).checked_ns


def test_the_first_bar_is_always_among_them():
    stamp = audit(bar_count=1)
    assert stamp.checked_ns == (int(BARS["1h"].open_time_ns[7]),)
    assert stamp.replay_count == 2


def test_known_rows_are_not_predicted_again():
    predictor = CountingPredictor(make_model())
    audit(predictor, bar_count=10)
    assert predictor.row_count <= 900 + 20 * 128


def test_a_run_of_one_bar_has_nothing_to_ask():
    bars = {"1h": BARS["1h"].rows(0, 8)}
    with pytest.raises(NotEnoughBarsError, match="needs one with a future"):
        audit(bars=bars)


def test_only_what_has_closed_is_known():
    known = known_at(MTF_BARS, int(MTF_BARS["1h"].close_time_ns[5]))
    assert len(known["1h"]) == 6
    assert known["15m"].close_time_ns[-1] <= MTF_BARS["1h"].close_time_ns[5]
    one_early = known_at(MTF_BARS, int(MTF_BARS["1h"].close_time_ns[5]) - 1)
    assert len(one_early["1h"]) == 5


def test_shuffling_moves_every_later_bar_and_no_earlier_one():
    series = make_bars([float(price) for price in range(1, 11)])
    bars = {"1h": series}
    shuffled = shuffled_after(bars, int(series.close_time_ns[5]), np.random.default_rng(1))["1h"]
    assert shuffled.close[:6].tolist() == series.close[:6].tolist()
    assert sorted(shuffled.close[6:]) == sorted(series.close[6:])
    assert (shuffled.close[6:] != series.close[6:]).all()
    assert shuffled.open_time_ns.tolist() == series.open_time_ns.tolist()


def test_the_stamp_says_what_was_checked():
    stamp = audit(seed=5)
    assert stamp.kind is AuditKind.LOOKAHEAD
    assert stamp.columns["features"] == make_model().features
    assert stamp.columns["account"] == ("equity", "cash", "position")
    assert stamp.dataset_digests == {"1h": "sha256:x"}
    assert (stamp.seed, stamp.bar_count) == (5, 900 - 7)
    assert replace(stamp, seed=6) != stamp
