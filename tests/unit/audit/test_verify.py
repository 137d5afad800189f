"""A repetition is the same, or it is said what differs first."""

from dataclasses import replace

import numpy as np
import pytest

from backlane.audit.verify import compare_results
from backlane.backtest.engine import run_backtest
from backlane.cli.recorded import recorded_run
from tests.builders import LinearPredictor, make_model, random_bars
from tests.unit.audit.runs import ask

BARS = random_bars(8, 500)


def recorded(request=None, *, bars=BARS, seed=22, digest="sha256:x"):
    run = run_backtest(
        request or ask(),
        LinearPredictor(make_model(), seed),
        {"1h": bars},
        dataset_digests={"1h": digest},
        versions={"numpy": "2"},
    )
    return recorded_run(run)


def parts(compared) -> list[str]:
    return [part.part for part in compared.parts if not part.is_same]


def test_the_same_run_is_the_same():
    compared = compare_results(recorded(), recorded())
    assert compared.is_same
    assert parts(compared) == []
    assert compared.first_difference is None


def test_another_cost_shows_in_the_config_and_the_fills_first():
    compared = compare_results(recorded(), recorded(ask(commission_rate=0.002)))
    assert not compared.is_same
    assert parts(compared) == ["config", "fills", "equity"]
    assert compared.parts[1].detail == "commission_rate 0.001 -> 0.002"
    assert compared.first_difference.part == "config"


def test_another_switch_is_named_with_its_path():
    compared = compare_results(recorded(), recorded(ask(switches={"fill": "this_close"})))
    assert compared.parts[1].detail == "switches.fill next_open -> this_close"


def test_another_price_is_found_at_its_bar():
    close = BARS.close.copy()
    close[200] = np.nextafter(close[200], 2)
    compared = compare_results(recorded(), recorded(bars=replace(BARS, close=close), digest="y"))
    assert not compared.is_same
    assert compared.first_difference.part == "datasets"
    bars = next(part for part in compared.parts if part.part == "bars")
    # sma_8 makes bar 7 the first that is simulated: bar 200 is the 194th.
    stamp = str(np.datetime64(int(BARS.open_time_ns[200]), "ns").astype("datetime64[s]"))
    assert bars.detail.startswith(f"row 194, {stamp}Z: close ")


def test_another_model_shows_in_the_scores_first():
    compared = compare_results(recorded(), recorded(seed=23))
    assert compared.first_difference.part == "scores"
    assert "features" not in parts(compared)
    assert ": p_" in compared.first_difference.detail


def test_another_version_without_effect_is_the_same():
    before = recorded()
    before.document["versions"]["numpy"] = "1"
    compared = compare_results(before, recorded())
    assert compared.is_same
    assert compared.first_difference.detail == "numpy 1 -> 2"


def by_engine(digest: str, **more):
    """A recorded run whose versions name this engine; "" for a result that names none."""
    run = recorded(**more)
    run.document["versions"].pop("engine", None)
    run.document["versions"] |= {"engine": digest} if digest else {}
    return run


def test_another_engine_is_said_and_is_no_difference_where_it_gives_the_same():
    compared = compare_results(by_engine("sha256:old"), by_engine("sha256:new"))
    assert compared.is_same
    assert compared.first_difference is None
    statement = "Engine differs: result was made by sha256:old, this is sha256:new."
    assert compared.engine.statement == statement
    assert compared.to_document()["engine"] == {
        "is_same": False,
        "recorded": "sha256:old",
        "again": "sha256:new",
        "statement": statement,
    }


def test_another_engine_is_said_where_the_result_differs():
    compared = compare_results(by_engine("sha256:old", seed=23), by_engine("sha256:new"))
    assert not compared.is_same
    assert compared.first_difference.part == "scores"
    assert compared.engine.is_same is False


def test_the_same_engine_is_said():
    compared = compare_results(by_engine("sha256:e", seed=23), by_engine("sha256:e"))
    assert not compared.is_same
    assert compared.engine.is_same is True
    assert compared.engine.statement == "The engine is the same: sha256:e."


def test_a_result_that_names_no_engine_is_said_to():
    compared = compare_results(by_engine(""), by_engine("sha256:new"))
    assert compared.is_same
    assert compared.engine.is_same is None
    assert compared.engine.statement == "The result does not say which engine made it."


def test_what_one_side_alone_lists_is_no_other_version():
    before = recorded()
    before.document["versions"]["torch"] = "2.9"  # of the service that predicted
    assert compare_results(before, recorded()).first_difference is None


@pytest.mark.parametrize(
    ("table", "column", "part"),
    [
        ("equity", "cash", "equity"),
        ("decisions", "confidence", "scores"),
        ("trades", "mae", "fills"),
    ],
)
def test_files_that_were_changed_are_found(table, column, part):
    before = recorded()
    values = before.tables[table][column].copy()
    values[3] += 1
    tables = {**before.tables, table: {**before.tables[table], column: values}}
    compared = compare_results(replace(before, tables=tables), recorded())
    assert not compared.is_same
    assert parts(compared) == [part]
    assert compared.first_difference.detail.startswith("row 4, ")
    assert f": {column} " in compared.first_difference.detail


def test_a_lost_row_and_a_lost_column_are_found():
    before = recorded()
    short = {name: values[:-1] for name, values in before.tables["equity"].items()}
    compared = compare_results(
        replace(before, tables={**before.tables, "equity": short}), recorded()
    )
    assert "rows -> " in compared.first_difference.detail
    narrow = {name: v for name, v in before.tables["features"].items() if name != "1h_level_near"}
    compared = compare_results(
        replace(before, tables={**before.tables, "features": narrow}), recorded()
    )
    assert compared.first_difference.detail == "columns: none -> 1h_level_near"


def test_bars_that_are_not_there_are_not_compared():
    before = recorded()
    tables = {name: table for name, table in before.tables.items() if name != "bars"}
    compared = compare_results(replace(before, tables=tables), recorded())
    assert compared.is_same
    assert compared.parts[4].detail == "not in the directory, not compared"
