"""The factor store: what it computes again, what it refuses, and what it never mixes."""

import json
import multiprocessing
import os
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from backlane.panel.panel import Panel
from backlane.signals.event_windows import DAY_NS
from backlane.signals.factor_key import FactorKey, panel_rows
from backlane.sources.factor_store import ENTRIES_PER_KEY_MAX, FactorStore
from tests.unit.signals.panels import daily_panel

SYMBOLS = ("S0", "S1")
BARS = 30
# From 20 December 1970 on: 12 bars of one year and 18 of the next.
DAYS = 353 + np.arange(BARS)


def panel(bars: int = BARS, *, seed: int = 1) -> Panel:
    close = 100.0 + np.random.default_rng(seed).normal(0, 1, (BARS, 2)).cumsum(axis=0)
    return panel_rows(daily_panel(close, volume=close, days=DAYS), 0, bars)


def key(group: str = "mean", history_bars: int | None = 2, code: str = "v1") -> FactorKey:
    return FactorKey.of(group, {}, code=code, symbols=SYMBOLS, history_bars=history_bars)


class Mean:
    """The mean of three closes, NaN for the first two; it counts the rows that it was asked for."""

    def __init__(self) -> None:
        self.row_counts: list[int] = []

    def __call__(self, bars: Panel) -> dict[str, np.ndarray]:
        self.row_counts.append(len(bars))
        mean = np.full(bars.close.shape, np.nan)
        if len(bars) >= 3:
            mean[2:] = (bars.close[:-2] + bars.close[1:-1] + bars.close[2:]) / 3
        return {"mean": mean, "double": 2 * mean}


def same_bits(one, other) -> bool:
    return list(one) == list(other) and all(
        np.array_equal(one[name], other[name], equal_nan=True) for name in one
    )


@pytest.fixture
def store(tmp_path: Path) -> FactorStore:
    return FactorStore(tmp_path / "factors")


def files(store: FactorStore, pattern: str) -> list[Path]:
    return sorted(store.root.glob(f"*/*/{pattern}"))


def test_what_was_computed_once_is_read(store):
    mean, bars = Mean(), panel()
    first = store.get_or_compute(key(), bars, mean)
    again = FactorStore(store.root).get_or_compute(key(), panel(), mean)
    assert same_bits(first, again)
    assert same_bits(first, Mean()(bars))
    assert mean.row_counts == [BARS]


@pytest.mark.parametrize("other", [key("median"), key(code="v2"), key(history_bars=None)])
def test_another_key_is_computed_for_itself(store, other):
    mean = Mean()
    store.get_or_compute(key(), panel(), mean)
    store.get_or_compute(other, panel(), mean)
    assert mean.row_counts == [BARS, BARS]


def test_bars_that_are_new_are_computed_with_the_history_that_they_need(store):
    mean = Mean()
    store.get_or_compute(key(), panel(20), mean)
    grown = store.get_or_compute(key(), panel(), mean)
    assert same_bits(grown, Mean()(panel()))
    assert mean.row_counts == [20, 12]  # the 10 new ones, and 2 before them
    assert (store.counts.misses, store.counts.appends) == (1, 1)


def test_without_a_limit_of_the_history_all_of_it_is_computed(store):
    mean = Mean()
    store.get_or_compute(key(history_bars=None), panel(20), mean)
    store.get_or_compute(key(history_bars=None), panel(), mean)
    assert mean.row_counts == [20, BARS]


def test_an_append_writes_the_year_that_grew_alone(store):
    store.get_or_compute(key(), panel(20), Mean())
    before = {path.name: path.stat().st_ino for path in files(store, "part-*")}
    store.get_or_compute(key(), panel(), Mean())
    after = {path.name: path.stat().st_ino for path in files(store, "part-*")}
    assert len(before) == 2  # 1970, and what there was of 1971
    assert before.items() <= after.items()
    assert len(after) == 3


def test_a_price_that_was_revised_makes_its_year_anew_and_keeps_those_before(store):
    mean, revised = Mean(), panel()
    store.get_or_compute(key(), panel(), mean)
    revised.close[15, 0] += 0.5
    assert same_bits(store.get_or_compute(key(), revised, mean), Mean()(revised))
    assert mean.row_counts == [BARS, 20]  # the 18 of 1971, and 2 before them
    assert same_bits(store.get_or_compute(key(), panel(), mean), Mean()(panel()))
    assert len(mean.row_counts) == 2


def test_a_panel_cut_at_a_time_gets_no_later_row(store):
    whole, as_of_ns = panel(), int(DAYS[19] * DAY_NS)
    store.get_or_compute(key(), whole, Mean())
    cut = store.get_or_compute(key(), whole, Mean(), as_of_ns=as_of_ns)
    assert same_bits(cut, Mean()(panel(20)))


def test_compute_is_never_shown_a_later_bar(store):
    seen = []

    def compute(bars: Panel):
        seen.append(int(bars.known_ns[-1]))
        return {"close": bars.close}

    as_of_ns = int(DAYS[19] * DAY_NS)
    store.get_or_compute(key(), panel(), compute, as_of_ns=as_of_ns)
    assert seen == [as_of_ns]


@pytest.mark.parametrize(
    ("start", "end", "as_of", "rows"),
    [
        (None, None, None, (0, 30)),
        (5, 9, None, (5, 10)),
        (5, 25, 9, (5, 10)),  # as_of beats end
        (5, 9, 25, (5, 10)),
        (None, None, 9, (0, 10)),
        (9, 5, None, (9, 9)),
    ],
)
def test_reads_are_bound_by_as_of_whatever_the_end_says(store, start, end, as_of, rows):
    store.get_or_compute(key(), panel(), Mean())
    start_ns, end_ns, as_of_ns = (
        None if bar is None else int(DAYS[bar] * DAY_NS) for bar in (start, end, as_of)
    )
    read = store.read(key(), start_ns=start_ns, end_ns=end_ns, as_of_ns=as_of_ns)
    assert read is not None
    assert read.time_ns.tolist() == (DAYS[slice(*rows)] * DAY_NS).tolist()
    expected = Mean()(panel())
    assert same_bits(read.columns, {name: grid[slice(*rows)] for name, grid in expected.items()})


def test_nothing_stored_is_read_as_nothing(store):
    assert store.read(key()) is None
    assert store.entries().__next__  # an empty store lists nothing, and makes no folder
    assert list(store.entries()) == []
    assert not store.root.exists()


def test_a_part_is_a_table_that_others_can_read(store):
    bars = panel()
    store.get_or_compute(key(), bars, Mean())
    tables = [pq.read_table(path).to_pandas() for path in files(store, "part-*")]
    table = max(tables, key=len)
    assert list(table.columns) == ["time", "symbol", "mean", "double"]
    assert len(table) == 18 * 2
    row = table[(table["symbol"] == "S1") & (table["time"] == "1971-01-03")]
    assert row["mean"].item() == Mean()(bars)["mean"][14, 1]


DAMAGES = {
    "cut": lambda content: content[: len(content) // 2],
    "empty": lambda content: b"",
    "flipped": lambda content: content[:100] + bytes([content[100] ^ 1]) + content[101:],
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
@pytest.mark.parametrize("pattern", ["part-*", "entry-*"])
def test_a_damaged_file_is_refused_and_made_again(store, pattern, damage):
    mean = Mean()
    store.get_or_compute(key(), panel(), mean)
    for path in files(store, pattern):
        path.write_bytes(damage(path.read_bytes()))
    assert same_bits(store.get_or_compute(key(), panel(), mean), Mean()(panel()))
    assert store.counts.damaged == 1
    assert store.counts.last_problem
    store.get_or_compute(key(), panel(), mean)
    assert mean.row_counts == [BARS, BARS]


@pytest.mark.parametrize(
    "change",
    [
        {"row_count": "30"},
        {"parts": []},
        {"parts": [{"file": "part-x", "crc32": 1, "size_bytes": 1, "start": 0, "stop": 30,
                    "input": ""}]},
        {"parts": [{"file": "../../x"}]},
        {"format": "backlane.factors.v0"},
        {"columns": None},
    ],
    ids=["text", "none", "name", "keys", "format", "columns"],
)  # fmt: skip
def test_a_manifest_that_cannot_be_true_is_refused(store, change):
    store.get_or_compute(key(), panel(), Mean())
    (path,) = files(store, "entry-*")
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    assert same_bits(store.get_or_compute(key(), panel(), Mean()), Mean()(panel()))
    assert store.counts.damaged == 1


def test_a_manifest_of_another_key_is_no_answer(store):
    store.get_or_compute(key(), panel(), Mean())
    (path,) = files(store, "entry-*")
    path.write_text(json.dumps({**json.loads(path.read_text()), "parameters": '{"other":1}'}))
    mean = Mean()
    store.get_or_compute(key(), panel(), mean)
    assert mean.row_counts == [BARS]


def test_a_part_that_went_is_made_again(store):
    mean = Mean()
    store.get_or_compute(key(), panel(), mean)
    files(store, "part-*")[0].unlink()
    assert same_bits(store.get_or_compute(key(), panel(), mean), Mean()(panel()))
    assert store.counts.damaged == 0
    store.get_or_compute(key(), panel(), mean)
    assert len(mean.row_counts) == 2


def test_what_was_used_longest_ago_leaves_first(store):
    store.get_or_compute(key("a"), panel(), Mean())
    one = store.size_bytes()
    small = FactorStore(store.root, size_bytes_max=2 * one)
    small.get_or_compute(key("b"), panel(), Mean())
    for age, group in ((100, "a"), (200, "b")):
        (path,) = store.root.glob(f"{group}/*/entry-*")
        os.utime(path, ns=(age, age))
    small.get_or_compute(key("a"), panel(), Mean())  # a hit: now b is the older one
    small.get_or_compute(key("c"), panel(), Mean())
    assert sorted(path.name for path in store.root.iterdir() if path.is_dir()) == ["a", "c"]
    assert small.size_bytes() <= 2 * one
    assert small.counts.evicted == 1


def test_what_is_larger_than_the_store_is_computed_and_not_kept(store):
    tiny, mean = FactorStore(store.root, size_bytes_max=100), Mean()
    assert same_bits(tiny.get_or_compute(key(), panel(), mean), Mean()(panel()))
    tiny.get_or_compute(key(), panel(), mean)
    assert mean.row_counts == [BARS, BARS]
    assert tiny.size_bytes() == 0


def test_a_key_keeps_so_many_panels_and_no_part_that_none_of_them_names(store):
    for seed in range(ENTRIES_PER_KEY_MAX + 3):
        store.get_or_compute(key(), panel(seed=seed), Mean())
    kept = files(store, "entry-*")
    assert len(kept) == ENTRIES_PER_KEY_MAX
    named = {part["file"] for path in kept for part in json.loads(path.read_text())["parts"]}
    assert named == {path.name for path in files(store, "part-*")}


def test_the_rest_of_a_writer_that_died_is_removed(store):
    store.get_or_compute(key(), panel(20), Mean())
    folder = files(store, "entry-*")[0].parent
    (folder / ".part-x.parquet.1.tmp").write_bytes(b"half")
    (folder / "part-unnamed.parquet").write_bytes(b"no manifest was written")
    store.get_or_compute(key(), panel(), Mean())
    assert not list(folder.glob("*.tmp"))
    assert not (folder / "part-unnamed.parquet").exists()


def test_a_store_that_cannot_be_written_makes_nothing_fail(tmp_path):
    (tmp_path / "file").write_text("no folder")
    store = FactorStore(tmp_path / "file")
    assert same_bits(store.get_or_compute(key(), panel(), Mean()), Mean()(panel()))
    assert store.counts.unwritten == 1
    assert "file" in store.counts.last_problem


def test_a_panel_without_bars_has_no_factors_and_leaves_nothing(store):
    columns = store.get_or_compute(key(), panel(0), Mean())
    assert columns["mean"].shape == (0, 2)
    assert list(store.entries()) == []


def test_another_shape_or_other_instruments_are_the_callers_mistake(store):
    with pytest.raises(ValueError, match=r"factor mean has shape \(3,\)"):
        store.get_or_compute(key(), panel(), lambda bars: {"mean": np.zeros(3)})
    other = FactorKey.of("mean", {}, code="v1", symbols=("A",), history_bars=2)
    with pytest.raises(ValueError, match="other instruments"):
        store.get_or_compute(other, panel(), Mean())


def test_a_group_whose_factors_changed_under_one_key_is_the_callers_mistake(store):
    store.get_or_compute(key(), panel(20), Mean())
    with pytest.raises(ValueError, match="was stored with mean, double"):
        store.get_or_compute(key(), panel(), lambda bars: {"other": bars.close})


def test_clearing_a_group_leaves_the_others(store):
    for group in ("a", "b"):
        store.get_or_compute(key(group), panel(), Mean())
    assert store.clear("a") > 0
    assert [entry.group for entry in store.entries()] == ["b"]
    assert store.clear() > 0
    assert list(store.entries()) == []


# --- two processes -----------------------------------------------------------------------------

WRITES = 25


def _write_often(root: Path, value: float, start: "multiprocessing.synchronize.Barrier") -> None:
    """Writes its own value under the one key, again and again, as only a broken rule could."""
    store = FactorStore(root)
    start.wait(30)
    for _ in range(WRITES):
        for path in store.root.glob("*/*/entry-*"):
            path.unlink(missing_ok=True)
        store.get_or_compute(
            key(), panel(), lambda bars: {"value": np.full(bars.close.shape, value)}
        )


@pytest.mark.slow
def test_two_processes_that_write_the_same_key_never_mix(store):
    spawn = multiprocessing.get_context("spawn")
    start = spawn.Barrier(3)
    writers = [
        spawn.Process(target=_write_often, args=(store.root, value, start)) for value in (1.0, 2.0)
    ]
    for writer in writers:
        writer.start()
    start.wait(30)
    read = []
    while any(writer.is_alive() for writer in writers):
        found = FactorStore(store.root).read(key())
        read += [] if found is None else [found.columns["value"]]
    for writer in writers:
        writer.join(30)
        assert writer.exitcode == 0
    last = store.read(key())  # the last one wins
    assert last is not None
    for values in (*read, last.columns["value"]):  # and each is one writer's, whole: in both years
        assert values.shape == (BARS, 2)
        assert (values == values[0, 0]).all()
