"""Runs that are watched, cancelled, cut in two: what the reference shows of them, and what we do.

Where the reference goes wrong (SPEC §12), our behaviour stands next to its recording.
"""

import re
from functools import cache
from typing import Any

import numpy as np
import pytest

from backlane.backtest.checkpoint_policy import CheckpointPolicy, CheckpointSchedule
from backlane.backtest.observer import SilentObserver
from backlane.backtest.prepare import Prepared, prepare
from backlane.backtest.result import BacktestRun
from backlane.cycle.loop import Outputs, Slot, new_slot, run_until
from backlane.cycle.state import new_state
from tests.golden.vectors import (
    KTRDR,
    SIDES,
    bars_for,
    cases,
    predictor_of,
    read_json,
    request_of,
    run_scenario,
    stamps,
)
from tests.shared import needs_shared

READS = (
    "runtime/checkpoint_resume.json",
    "runtime/progress.json",
    "runtime/cancellation.json",
    "runtime/checkpoint_policy.json",
)

pytestmark = needs_shared

NS_PER_HOUR = 3.6e12
RECORDED = read_json(KTRDR / "runtime" / "checkpoint_resume.json") or {"resumes": []}


def config() -> dict[str, Any]:
    """The run that all of these are recorded of, as a scenario says it."""
    given = RECORDED["config"]
    start, end = given["range"]
    return {
        "semantics": "head",
        "bundle": given["bundle"],
        "symbol": read_symbol(given["bundle"]),
        "start_date": start,
        "end_date": end,
        **{name: given[name] for name in ("initial_capital", "commission", "slippage")},
        "decisions": given["decisions"],
    }


def read_symbol(bundle: str) -> str:
    return predictor_of(bundle).info.strategy.symbols[0]


@cache
def whole_run() -> BacktestRun:
    return run_scenario(config())


@cache
def prepared() -> Prepared:
    request, predictor = request_of(config()), predictor_of(RECORDED["config"]["bundle"])
    bars = bars_for(predictor, config()["symbol"])
    return prepare(request, predictor, bars, SilentObserver(), new_slot())


def simulate_until(stop: int) -> tuple[np.ndarray, Outputs]:
    """Simulates up to a bar, counted from the first that is simulated."""
    ready = prepared()
    state = new_state(ready.first_index, RECORDED["config"]["initial_capital"])
    outputs = Outputs.empty(len(ready.window.base))
    run_until(state, ready.rules, ready.inputs, outputs, new_slot(), ready.first_index + stop)
    return state, outputs


def check_trades(trades: np.ndarray, expected: list[dict[str, Any]]) -> None:
    assert len(trades) == len(expected)
    for trade, wanted in zip(trades, expected, strict=True):
        assert trade["number"] == wanted["trade_id"]
        assert trade["side"] == SIDES[wanted["side"]]
        for name in ("entry_price", "exit_price", "quantity", "net_pnl"):
            assert trade[name] == wanted[name]
        times = stamps([wanted["entry_time"], wanted["exit_time"]])
        assert [trade["entry_time_ns"], trade["exit_time_ns"]] == list(times)
        hours = (trade["holding_end_ns"] - trade["entry_time_ns"]) / NS_PER_HOUR
        assert hours == wanted["holding_period_hours"]
        for ours, theirs in {"mfe": "favorable", "mae": "adverse"}.items():
            excursion = wanted[f"max_{theirs}_excursion"]
            assert trade[ours] == pytest.approx(excursion, rel=1e-9, abs=1e-9)


def test_the_uninterrupted_run_is_the_recorded_one() -> None:
    run, expected = whole_run(), RECORDED["uninterrupted"]
    check_trades(run.trades, expected["trades"])
    assert run.final_cash == expected["final_cash"]
    assert int((~np.isnan(run.equity)).sum()) == expected["equity_rows"]
    for name, value in expected["metrics"].items():
        assert run.metric(name) == pytest.approx(value, rel=1e-7), name


@pytest.mark.parametrize("number", range(len(RECORDED["resumes"])))
def test_the_state_at_a_checkpoint_is_the_recorded_one(number: int) -> None:
    expected = RECORDED["resumes"][number]["state"]
    state, outputs = simulate_until(expected["bar_index"] + 1)
    now = state[0]
    first = prepared().first_index
    time_ns = prepared().window.base.open_time_ns[first + expected["bar_index"]]
    assert time_ns == stamps([expected["current_date"]])[0]
    assert now.cash == expected["cash"]
    check_trades(outputs.trades[: int(now.trade_count)], expected["trades"])
    assert bool(now.side) is bool(expected["positions"])
    for position in expected["positions"]:
        assert now.side == SIDES[position["status"]]
        assert (now.quantity, now.entry_price) == (position["quantity"], position["entry_price"])
        assert now.entry_time_ns == stamps([position["entry_date"]])[0]
    for sample in expected["equity_samples"]:
        assert outputs.equity[first + sample["bar_index"]] == sample["equity"]


@pytest.mark.parametrize("number", range(len(RECORDED["resumes"])))
def test_what_goes_on_from_a_copy_of_the_state_is_the_uninterrupted_run(number: int) -> None:
    """The reference's is not: it forgets the pending order, the separation clock, excursions."""
    recorded = RECORDED["resumes"][number]
    ready, whole = prepared(), whole_run()
    state, outputs = simulate_until(recorded["state"]["bar_index"] + 1)
    copy = state.copy()
    stop = len(ready.window.base)
    run_until(copy, ready.rules, ready.inputs, outputs, new_slot(), stop)
    first = ready.first_index
    assert outputs.equity[first:].tobytes() == whole.equity.tobytes()
    assert outputs.decision[first:].tobytes() == whole.decision.tobytes()
    found = outputs.trades[: int(copy[0].trade_count)]
    check_trades(found, RECORDED["uninterrupted"]["trades"][: len(found)])
    # What the recording proves of the reference: not one of its resumed runs has these metrics.
    assert recorded["result"]["metrics"] != RECORDED["uninterrupted"]["metrics"]


def test_progress_says_where_the_run_is() -> None:
    recorded, run = read_json(KTRDR / "runtime" / "progress.json"), whole_run()
    bars = len(run.bars)
    assert recorded["count"] == -(-bars // recorded["interval"])
    for update in recorded["updates"]:
        place = update["current_bar"]
        assert update["total_bars"] == bars
        assert update["percentage"] == pytest.approx(100 * place / bars)
        assert run.bars.open_time_ns[place] == stamps([update["current_date"]])[0]
        initial = RECORDED["config"]["initial_capital"]
        assert run.equity[place] - initial == update["current_pnl"]
        closed = run.trades[run.trades["exit_index"] <= place]
        assert len(closed) == update["total_trades"]
        # There, the share of winners is 0 in every update; ours comes of the trades so far.
        assert update["win_rate"] == 0.0
        if len(closed) > 5:
            assert (closed["net_pnl"] > 0).mean() > 0


@pytest.mark.parametrize("case", [*cases("runtime", "cancellation.json", key="message")])
def test_a_cancel_stops_before_the_next_bar(case: dict[str, Any]) -> None:
    """The reference looks every 100 bars, after the bar; ours looks before each."""
    ready = prepared()
    last_index = int(re.search(r"at bar (\d+)/", case["message"])[1])
    done = last_index - ready.first_index + 1
    state, outputs = simulate_until(done)
    slot = new_slot()
    slot[Slot.CANCEL] = 1
    assert not run_until(state, ready.rules, ready.inputs, outputs, slot, len(ready.window.base))
    assert state[0].next_index == last_index + 1
    assert int((~np.isnan(outputs.equity)).sum()) == case["equity_points"]
    assert case["equity_points"] == 100 * case["cancel_after_checks"] + 1


def test_checkpoints_are_due_by_time_from_the_start() -> None:
    """SPEC §13.5: there, the time rule sleeps until the first checkpoint, at 10,000 units."""
    recorded = read_json(KTRDR / "runtime" / "checkpoint_policy.json")
    units, seconds = recorded["unit_interval"], recorded["time_interval_seconds"]
    rows = recorded["sequence"]
    schedule = CheckpointSchedule(
        CheckpointPolicy(interval_s=seconds, interval_bars=units), rows[0]["clock"], rows[0]["unit"]
    )
    since, theirs = rows[0], None
    for row in rows:
        by_time = row["clock"] - since["clock"] >= seconds
        is_due = by_time or row["unit"] - since["unit"] >= units
        assert schedule.is_due(row["clock"], row["unit"]) is is_due
        if is_due:
            schedule.taken(row["clock"], row["unit"])
            since = row
        was_due = row["unit"] - (theirs["unit"] if theirs else 0) >= units
        if theirs is not None:
            was_due = was_due or row["clock"] - theirs["clock"] >= seconds
        theirs = row if row["should_checkpoint"] else theirs
        assert row["should_checkpoint"] is was_due
