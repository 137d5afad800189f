"""The story of a bar agrees with the run that it is about, at every bar of many runs."""

import json

import numpy as np
import pytest

from backlane.audit.explain import bar_at, explain_bar
from backlane.audit.indicators_at import indicators_at
from backlane.audit.story import FilterState
from backlane.backtest.engine import run_backtest
from backlane.backtest.result import BacktestRun
from backlane.cli.recorded import recorded_run
from backlane.decisions.decision import Decision, DecisionReason
from backlane.errors import InvalidRequestError
from tests.builders import HOUR_NS, LinearPredictor, make_model, random_bars
from tests.unit.audit.runs import ask

BARS = random_bars(21, 450)
LOOSE = {"filters": {"min_signal_separation": 3}, "allow_short_from_flat": True}
RUNS = {
    "default": ask(),
    "shorts": ask(decisions=LOOSE),
    "this_close": ask(decisions=LOOSE, switches={"fill": "this_close"}),
    "unaware": ask(decisions={"position_awareness": False}),
    "ktrdr-head": ask(profile="ktrdr-head", decisions=LOOSE),
    "ktrdr-m3": ask(profile="ktrdr-m3"),
    "exits": ask(
        decisions=LOOSE,
        exits={"stop_loss": 0.004, "take_profit": 0.006, "max_holding_bars": 9},
        costs={"spread_rate": 2e-4},
    ),
    "exits_this_close": ask(
        decisions=LOOSE,
        switches={"fill": "this_close"},
        exits={"stop_loss": 0.004, "trailing_stop": 0.006, "max_holding_bars": 9},
    ),
    "minimum_commission": ask(decisions=LOOSE, costs={"minimum_commission": 30}),
    "poor": ask(initial_cash=3),
}


def run(request) -> BacktestRun:
    return run_backtest(
        request, LinearPredictor(make_model()), {"1h": BARS}, dataset_digests={"1h": "sha256:x"}
    )


@pytest.fixture(scope="module", params=RUNS)
def finished(request) -> BacktestRun:
    return run(RUNS[request.param])


def test_every_bar_is_told_as_it_was(finished):
    result = recorded_run(finished)
    is_next_open = finished.config["switches"]["fill"] == "next_open"
    for index in range(len(finished.bars)):
        story = explain_bar(result, index)
        assert story.notes == ()  # the numbers bear out every recorded reason
        assert story.decision == Decision(int(finished.decision[index])).name
        reason = DecisionReason(int(finished.reason[index]))
        fired = [step.name for step in story.filters if step.state is FilterState.FIRED]
        assert len(fired) == (reason is not DecisionReason.ACCEPTED)
        assert story.features == {
            name: float(value)
            for name, value in zip(
                finished.features.names, finished.features.values[index], strict=True
            )
        }
        if is_next_open and index + 1 < len(finished.bars):
            side = {"LONG": 1, "FLAT": 0, "SHORT": -1}[story.held.side]
            assert side * story.held.quantity == finished.position[index]
        json.dumps(story.to_document(), allow_nan=False)


def test_every_fill_is_told_on_its_bar_with_its_arithmetic(finished):
    result = recorded_run(finished)
    told = [
        fill for index in range(len(finished.bars)) for fill in explain_bar(result, index).fills
    ]
    assert [fill.time_ns for fill in told] == finished.fills["time_ns"].tolist()
    assert [fill.price for fill in told] == finished.fills["price"].tolist()
    for fill, recorded in zip(told, finished.fills, strict=True):
        assert (fill.side == "BUY") == bool(recorded["is_buy"])
        if fill.reference_price is not None:
            assert fill.reference_price == pytest.approx(recorded["reference_price"], rel=1e-12)
        assert fill.commission_arithmetic.endswith(repr(float(recorded["commission"]))) or (
            fill.commission_arithmetic == f"the least, {recorded['commission']:g}"
        )
    within = ("STOP_LOSS", "TRAILING_STOP", "MARGIN_CALL", "TAKE_PROFIT")
    assert all(fill.reference_price for fill in told if fill.reason not in within)


def test_every_order_leads_to_the_next_fill_or_says_why_not(finished):
    result = recorded_run(finished)
    ordered = []
    for index in range(len(finished.bars)):
        order = explain_bar(result, index).order
        assert (order is not None) or finished.decision[index] == 0
        if order is not None and order.fill is not None:
            ordered.append(order.fill.time_ns)
        elif order is not None:
            assert order.outcome.startswith(("denied", "expired"))
    wanted = [
        int(fill["time_ns"])
        for fill in finished.fills
        if fill["is_entry"] or fill["exit_reason"] in (1, 6)
    ]
    assert ordered == wanted


def test_equity_adds_up_where_it_is_told(finished):
    result = recorded_run(finished)
    # The profile adds the entry commission to the equity of a short: no sum is told then.
    is_odd = finished.config["switches"]["short_equity_with_commission"]
    for index in range(len(finished.bars) - 1):
        account = explain_bar(result, index).account
        assert account.equity == finished.equity[index]
        if is_odd and account.position < 0:
            assert account.arithmetic == ""
        else:
            assert account.arithmetic.endswith(f"= {account.equity!r}")


def test_a_filter_shows_its_numbers():
    result = recorded_run(run(RUNS["default"]))
    reasons = result.tables["decisions"]["reason"]
    index = int(np.flatnonzero(reasons == "MIN_SEPARATION")[0])
    story = explain_bar(result, index)
    states = [step.state.value for step in story.filters]
    assert states == ["passed", "passed", "passed", "fired", "not asked"]
    hours = (story.open_ns - max(fill_times(result, story.open_ns))) / HOUR_NS
    assert story.filters[3].numbers.startswith(f"{hours:g} h < 4 h since the fill at 2023-")


def fill_times(result, until_ns) -> list[int]:
    trades = result.tables["trades"]
    times = [*trades["entry_time"].tolist(), *trades["exit_time"].tolist()]
    return [time_ns for time_ns in times if time_ns <= until_ns]


def test_a_reason_that_does_not_follow_is_doubted():
    result = recorded_run(run(RUNS["default"]))
    reasons = result.tables["decisions"]["reason"]
    index = int(np.flatnonzero(reasons == "ACCEPTED")[0])
    reasons[index] = "BELOW_CONFIDENCE"
    assert "by the files the filter confidence would pass" in explain_bar(result, index).notes[0]


def test_a_moment_belongs_to_the_bar_that_contains_it():
    result = recorded_run(run(RUNS["default"]))
    times = result.tables["decisions"]["time"]
    assert bar_at(result, int(times[10])) == 10
    assert bar_at(result, int(times[10]) + HOUR_NS - 1) == 10
    with pytest.raises(InvalidRequestError, match="the first simulated bar opens at 2023-"):
        bar_at(result, int(times[0]) - 1)
    with pytest.raises(InvalidRequestError, match="the last simulated bar opens at 2023-"):
        bar_at(result, int(times[-1]) + HOUR_NS)
    gap = int(np.flatnonzero(np.diff(times) > HOUR_NS)[0])
    with pytest.raises(InvalidRequestError, match="there is a gap"):
        bar_at(result, int(times[gap]) + HOUR_NS)


def test_indicators_are_those_that_made_the_features():
    info, switches = make_model(), ask().resolved_switches()
    index = 300
    rsi, average = indicators_at(
        info, switches, {"1h": BARS}, int(BARS.open_time_ns[index]), is_cut=False
    )
    assert (rsi.indicator, average.indicator) == ("rsi_5", "sma_8")
    assert average.value == pytest.approx(BARS.close[index - 7 : index + 1].mean(), rel=1e-12)
    assert 0 <= rsi.value <= 100


def test_from_simulated_bars_alone_an_indicator_waits_for_its_lookback():
    info, switches = make_model(), ask().resolved_switches()
    rsi, average = indicators_at(
        info, switches, {"1h": BARS}, int(BARS.open_time_ns[20]), is_cut=True
    )
    assert average.value is not None
    assert rsi.value is None
    assert "the directory has 21 of them" in rsi.reason


def test_without_bars_there_are_no_indicators():
    info, switches = make_model(), ask().resolved_switches()
    values = indicators_at(info, switches, {}, 0, is_cut=True)
    assert {each.reason for each in values} == {"the bars of 1h are not at hand"}
