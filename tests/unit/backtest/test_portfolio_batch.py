"""Batches: what a grid makes, its ids and seeds, and every mistake by its name."""

from typing import Any

import numpy as np
import pytest

from backlane.backtest.portfolio_batch import (
    BATCH_MISTAKES_MAX,
    BATCH_RUNS_MAX,
    RUN_ID_CHARS_MAX,
    BatchRun,
    expand_batch,
    leaderboard_order,
    parse_batch,
    run_count,
    run_seed,
)
from backlane.backtest.portfolio_run import parse_portfolio_config
from backlane.errors import InvalidRequestError

BASE = {
    "strategy": {"name": "trend_baseline", "parameters": {"fast": 5, "slow": 20}},
    "data": {"panel": "panel.csv"},
}
FAST, SLOW = "strategy.parameters.fast", "strategy.parameters.slow"
METRICS = ("sharpe_ratio", "max_drawdown", "omega")


def content(**changes: Any) -> dict[str, Any]:
    made = {"name": "b", "base": BASE, "grid": {FAST: [5, 10], SLOW: [20, 50]}, **changes}
    return {name: value for name, value in made.items() if value is not None}


def expanded(base: dict[str, Any] = BASE, **changes: Any) -> list[BatchRun]:
    batch = parse_batch(content(**changes), METRICS)
    return expand_batch(batch, base, parse_portfolio_config)


def mistakes(base: dict[str, Any] = BASE, **changes: Any) -> dict[str, str]:
    with pytest.raises(InvalidRequestError) as refused:
        expanded(base, **changes)
    return {each.field: each.description for each in refused.value.violations}


def test_a_grid_is_the_product_of_its_values_the_last_changing_fastest():
    runs = expanded()
    assert [run.run_id for run in runs] == [
        "fast-5_slow-20", "fast-5_slow-50", "fast-10_slow-20", "fast-10_slow-50",
    ]  # fmt: skip
    assert runs[2].changes == {FAST: 10, SLOW: 20}
    assert runs[2].config.model_dump()["strategy"]["parameters"] == {"fast": 10, "slow": 20}
    assert len({run.config_digest for run in runs}) == 4
    assert BASE["strategy"]["parameters"] == {"fast": 5, "slow": 20}  # nothing is changed in place


def test_a_list_of_runs_sets_what_each_says():
    runs = expanded(
        grid=None, runs=[{"id": "plain"}, {"id": "quick", "set": {FAST: 2, "initial_cash": 5.0}}]
    )
    assert [run.run_id for run in runs] == ["plain", "quick"]
    assert runs[1].config.initial_cash == 5.0
    assert runs[0].config.initial_cash == 100_000.0


def test_a_field_may_stand_in_a_list():
    factors = [{"name": "rv_20", "weight": 0.5}, {"name": "rv_60", "weight": 0.5}]
    base = {
        "strategy": {"name": "multifactor_long_short", "parameters": {"factors": factors}},
        "data": {"panel": "panel.csv"},
    }
    field = "strategy.parameters.factors.1.direction"
    runs = expanded(base, grid={field: ["positive", "negative"]})
    made = [run.config.model_dump(mode="json")["strategy"]["parameters"] for run in runs]
    assert [each["factors"][1]["direction"] for each in made] == ["positive", "negative"]
    for place in ("2", "-1", "x"):
        field = f"strategy.parameters.factors.{place}.direction"
        found = mistakes(base, grid=None, runs=[{"id": "a", "set": {field: "positive"}}])
        assert list(found) == [f"a: {field}"]


def test_ids_are_clean_short_and_unique():
    names = ["a b/c", "a/b c", "x" * 100, "x" * 100 + "y", "Ä", "A-B-C"]
    runs = expanded({**BASE}, grid={"data.panel": names})
    ids = [run.run_id for run in runs]
    assert len({each.lower() for each in ids}) == len(names)
    assert all(len(each) <= RUN_ID_CHARS_MAX and each.isascii() for each in ids)
    assert not any(set(each) & set("/\\ :") for each in ids)
    assert ids[4] == "panel"
    again = expanded({**BASE}, grid={"data.panel": names[::-1]})
    assert {run.changes["data.panel"]: run.run_id for run in again} == dict(
        zip(names, ids, strict=True)
    )


def test_two_fields_of_the_same_last_name_keep_their_whole_names():
    base = {**BASE, "strategy": {**BASE["strategy"], "parameters": {}}}
    runs = expand_batch(
        parse_batch(content(grid={"costs.x": [1], "risk.x": [2]}), METRICS),
        base,
        lambda _: parse_portfolio_config(BASE),
    )
    assert runs[0].run_id == "costs.x-1_risk.x-2"


def test_a_seed_depends_on_the_batch_and_the_id_alone():
    whole = {run.run_id: run.seed for run in expanded(seed=7)}
    part = {run.run_id: run.seed for run in expanded(seed=7, grid={FAST: [10], SLOW: [20]})}
    assert part.items() <= whole.items()
    assert len(set(whole.values())) == 4
    assert whole["fast-5_slow-20"] != run_seed(8, "fast-5_slow-20")
    # What numpy gives for the eight words of sha256("a"), read by hand with hashlib.
    words = [
        0xCA978112, 0xCA1BBDCA, 0xFAC231B3, 0x9A23DC4D,
        0xA786EFF8, 0x147C4E72, 0xB9807785, 0xAFEE48BB,
    ]  # fmt: skip
    little = [int.from_bytes(word.to_bytes(4, "big"), "little") for word in words]
    assert run_seed(3, "a") == int(np.random.SeedSequence([3, *little]).generate_state(1)[0])


def test_the_seed_goes_where_the_batch_says():
    runs = expanded(seed_field="initial_cash", grid={FAST: [2, 3]})
    assert [run.config.initial_cash for run in runs] == [float(run.seed) for run in runs]


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"grid": None}, "grid"),
        ({"runs": [{"id": "a"}]}, "grid"),
        ({"grid": {}}, "grid"),
        ({"grid": {FAST: []}}, f"grid.{FAST}"),
        ({"grid": {FAST: [5, 5]}}, f"grid.{FAST}"),
        ({"grid": {FAST: list(range(BATCH_RUNS_MAX + 1))}}, "grid"),
        ({"grid": None, "runs": [{"id": "a"}, {"id": "a"}]}, "runs"),
        ({"grid": None, "runs": [{"id": "../a"}]}, "runs.0.id"),
        ({"grid": None, "runs": [{"name": "a"}]}, "runs.0.id"),
        ({"metric": "sharp"}, "metric"),
        ({"metric": "omega"}, "direction"),
        ({"metric": "omega", "direction": "none"}, "direction"),
        ({"seed": -1}, "seed"),
        ({"workers": 0}, "workers"),
        ({"workers": 65}, "workers"),
        ({"fail_fast": 1}, "fail_fast"),
        ({"name": "a/b"}, "name"),
        ({"parallel": 2}, "parallel"),
    ],
)
def test_a_mistake_in_the_batch_is_named(changes, field):
    assert field in mistakes(**changes)


def test_a_field_that_is_no_field_is_named():
    found = mistakes(grid={"costs..x": [1]})
    assert any("is no field of a configuration" in each for each in found.values())


def test_a_mistake_of_one_run_has_its_id_and_one_of_all_is_said_once():
    found = mistakes({**BASE, "fill": "never"}, grid={FAST: [5, 30], SLOW: [20]})
    assert set(found) == {"base.fill", "fast-30_slow-20: strategy.parameters"}
    found = mistakes(grid={"initial_cash.x": [1], FAST: [5, 6]})
    assert not [name for name in found if "fast-5" in name]  # both runs have it


def test_no_message_names_ten_thousand_mistakes():
    found = mistakes(grid={"fill": [f"open{each}" for each in range(199)]})
    assert len(found) == BATCH_MISTAKES_MAX + 1
    assert found["grid"] == "and 149 more mistakes"


def test_counting_builds_nothing():
    batch = parse_batch(content(grid={FAST: [1, 2], SLOW: [20, 30, 40]}), METRICS)
    assert run_count(batch) == 6


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, ["high", "b", "c", "none", "bad"]),
        ({"metric": "max_drawdown"}, ["b", "c", "high", "none", "bad"]),
        ({"metric": "omega", "direction": "lower"}, ["b", "c", "high", "none", "bad"]),
    ],
)
def test_the_best_stands_first_and_what_failed_last(changes, expected):
    batch = parse_batch(content(**changes), METRICS)
    values = {"none": None, "c": 0.1, "b": 0.1, "high": 0.3}
    assert leaderboard_order(batch, values, frozenset({"bad"})) == expected
