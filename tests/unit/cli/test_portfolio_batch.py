"""`backlane portfolio batch`: whole runs, resumed to the same files, and a leaderboard."""

import csv
import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from backlane.cli.main import run
from backlane.sources import portfolio_batches
from tests.e2e.cli_services import ROOT

EXAMPLES = ROOT / "examples" / "portfolio"
GRID = {"strategy.parameters.fast": [3, 5], "strategy.parameters.slow": [20, 30]}
IDS = ["fast-3_slow-20", "fast-3_slow-30", "fast-5_slow-20", "fast-5_slow-30"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("trend.yaml", "panel.csv"):
        shutil.copy(EXAMPLES / name, tmp_path)
    return tmp_path


def write(folder: Path, **changes: Any) -> Path:
    content = {"name": "b", "base": "trend.yaml", "grid": GRID, "seed": 1, **changes}
    path = folder / "batch.yaml"
    path.write_text(yaml.safe_dump({k: v for k, v in content.items() if v is not None}))
    return path


def batch(capsys, folder: Path, *options: str) -> tuple[int, dict[str, Any]]:
    code = run(
        ["portfolio", "batch", str(folder / "batch.yaml"), "--out", str(folder / "out"), "--json",
         *options]
    )  # fmt: skip
    return code, json.loads(capsys.readouterr().out)


def contents(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != ".lock"
    }


def ages(folder: Path) -> dict[str, int]:
    return {path.parent.name: path.stat().st_mtime_ns for path in folder.rglob("manifest.json")}


def test_every_run_is_what_it_gives_alone(folder, capsys):
    write(folder)
    code, document = batch(capsys, folder)
    assert code == 0
    assert document["counts"] == {
        "runs": 4, "succeeded": 4, "failed": 0, "skipped": 0, "not_run": 0
    }  # fmt: skip
    alone = yaml.safe_load((folder / "trend.yaml").read_text())
    alone["strategy"]["parameters"] |= {"fast": 3, "slow": 30}
    (folder / "alone.yaml").write_text(yaml.safe_dump(alone))
    config, out = str(folder / "alone.yaml"), str(folder / "alone")
    assert run(["portfolio", "run", "--local", "--config", config, "--out", out]) == 0
    made = folder / "out" / "runs" / "fast-3_slow-30" / "result"
    assert contents(made) == contents(folder / "alone")
    manifest = json.loads((made.parent / "manifest.json").read_text())
    assert manifest["status"] == "succeeded"
    assert manifest["changes"] == {GRID_FAST: 3, GRID_SLOW: 30}
    assert set(manifest["inputs"]) == {"panel"}
    assert not (folder / "out" / ".work").exists()


GRID_FAST, GRID_SLOW = GRID


def test_the_leaderboard_is_sorted_and_says_the_same_twice(folder, capsys):
    write(folder, metric="max_drawdown")
    _, document = batch(capsys, folder)
    shown = [run["metrics"]["max_drawdown"] for run in document["runs"]]
    assert shown == sorted(shown)  # the smaller one is the better one
    assert sorted(run["run"] for run in document["runs"]) == IDS
    with (folder / "out" / "leaderboard.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [float(row["max_drawdown"]) for row in rows] == shown
    assert [row["run"] for row in rows] == [run["run"] for run in document["runs"]]
    assert [row[GRID_FAST] for row in rows] == [row["run"][5] for row in rows]
    stored = json.loads((folder / "out" / "leaderboard.json").read_text())
    assert stored["runs"] == document["runs"]


def test_resume_runs_what_is_missing_changed_or_damaged_and_nothing_else(folder, capsys):
    write(folder)
    batch(capsys, folder)
    before, times = contents(folder / "out"), ages(folder / "out")
    shutil.rmtree(folder / "out" / "runs" / IDS[0])
    manifest = folder / "out" / "runs" / IDS[1] / "manifest.json"
    manifest.write_text(manifest.read_text()[:100])
    (folder / "out" / "runs" / IDS[2] / "result" / "result.json").write_text("{}")
    (folder / "out" / ".work" / IDS[0] / "result").mkdir(parents=True)  # as kill -9 leaves it
    code, document = batch(capsys, folder, "--resume")
    assert (code, document["counts"]["skipped"]) == (0, 1)
    assert contents(folder / "out") == before
    assert ages(folder / "out")[IDS[3]] == times[IDS[3]]
    assert ages(folder / "out")[IDS[2]] != times[IDS[2]]


@pytest.mark.parametrize(
    ("changes", "skipped"),
    [
        ({"grid": {**GRID, GRID_FAST: [3, 7]}}, 2),
        ({"seed": 2}, 0),
        ({"metric": "total_return"}, 4),
        ({"workers": 2}, 4),
    ],
)
def test_resume_runs_again_what_the_batch_changed(folder, capsys, changes, skipped):
    write(folder)
    batch(capsys, folder)
    write(folder, **changes)
    code, document = batch(capsys, folder, "--resume")
    assert (code, document["counts"]["skipped"]) == (0, skipped)
    assert len(document["runs"]) == 4  # of this batch alone


def test_resume_runs_again_when_a_file_has_other_bars(folder, capsys):
    write(folder)
    batch(capsys, folder)
    lines = (folder / "panel.csv").read_text().splitlines()
    (folder / "panel.csv").write_text("\n".join(lines[:-3]) + "\n")
    _, document = batch(capsys, folder, "--resume")
    assert document["counts"]["skipped"] == 0


def test_an_engine_that_changed_runs_everything_again(folder, capsys, monkeypatch):
    write(folder)
    batch(capsys, folder)
    monkeypatch.setattr(portfolio_batches, "engine_digest", lambda: "sha256:other")
    _, document = batch(capsys, folder, "--resume")
    assert document["counts"]["skipped"] == 0


@pytest.mark.slow
def test_processes_give_the_same_files_as_one(folder, capsys):
    write(folder)
    batch(capsys, folder)
    one = outcomes(folder / "out")
    shutil.rmtree(folder / "out")
    write(folder, workers=2)
    assert batch(capsys, folder)[0] == 0
    assert outcomes(folder / "out") == one


def outcomes(out: Path) -> dict[str, Any]:
    """What runs gave: all files but the batch's own, and no digest of the engine's source.

    A process reads that when it starts: it would differ where someone edits the source meanwhile.
    """
    files = {name: content for name, content in contents(out).items() if name != "batch.json"}
    manifests = {name: json.loads(text) for name, text in files.items() if "manifest" in name}
    return {**files, **{name: each | {"engine": ""} for name, each in manifests.items()}}


# --- what goes wrong -----------------------------------------------------------------------------


def break_runs(monkeypatch, failing: dict[int, BaseException]) -> None:
    real, count = portfolio_batches.run_portfolio, iter(range(100))

    def run_portfolio(*arguments):
        error = failing.get(next(count))
        if error is not None:
            raise error
        return real(*arguments)

    monkeypatch.setattr(portfolio_batches, "run_portfolio", run_portfolio)


def test_a_run_that_fails_is_named_and_the_others_go_on(folder, capsys, monkeypatch):
    write(folder)
    break_runs(monkeypatch, {1: ValueError("a strategy of a user's")})
    code, document = batch(capsys, folder)
    assert code == 1
    assert document["counts"]["failed"] == 1
    last = document["runs"][-1]
    assert (last["run"], last["rank"]) == (IDS[1], 4)
    assert last["error"] == "INTERNAL_ERROR: ValueError: a strategy of a user's"
    assert [path.name for path in (folder / "out" / "runs" / IDS[1]).iterdir()] == ["manifest.json"]
    monkeypatch.undo()
    code, document = batch(capsys, folder, "--resume")
    assert (code, document["counts"]["skipped"]) == (0, 3)  # what failed is tried again


def test_fail_fast_begins_no_other_run(folder, capsys, monkeypatch):
    write(folder, fail_fast=True)
    break_runs(monkeypatch, {1: ValueError("no")})
    code, document = batch(capsys, folder)
    assert code == 1
    assert document["counts"]["not_run"] == 2


def test_ctrl_c_leaves_whole_runs_only(folder, capsys, monkeypatch):
    write(folder)
    break_runs(monkeypatch, {2: KeyboardInterrupt()})
    code, document = batch(capsys, folder)
    assert code == 130
    assert document["interrupted"] is True
    assert document["counts"]["not_run"] == 2
    out = folder / "out"
    assert sorted(path.name for path in (out / "runs").iterdir()) == IDS[:2]
    assert not (out / ".work").exists()
    monkeypatch.undo()
    assert batch(capsys, folder, "--resume")[1]["counts"]["skipped"] == 2


def test_another_folder_is_refused(folder, capsys):
    write(folder)
    (folder / "out").mkdir()
    (folder / "out" / "letter.txt").write_text("dear")
    command = ["portfolio", "batch", str(folder / "batch.yaml"), "--out", str(folder / "out")]
    for options in ([], ["--resume"]):
        assert run([*command, *options]) == 1
        assert "is no batch" in capsys.readouterr().err
    assert [path.name for path in (folder / "out").iterdir()] == ["letter.txt"]


def test_an_earlier_batch_is_gone_on_with_on_purpose_alone(folder, capsys):
    write(folder)
    batch(capsys, folder)
    command = ["portfolio", "batch", str(folder / "batch.yaml"), "--out", str(folder / "out")]
    assert run(command) == 1
    assert "--resume" in capsys.readouterr().err


def test_one_batch_at_a_time_in_a_folder(folder, capsys):
    write(folder)
    batch(capsys, folder)
    with (folder / "out" / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        code, document = batch(capsys, folder, "--resume")
    assert code == 1
    assert document["error"]["reason"] == "LIMIT_EXCEEDED"


def test_mistakes_are_named_and_nothing_is_written(folder, capsys):
    write(folder, base={**yaml.safe_load((folder / "trend.yaml").read_text()),
                        "data": {"panel": "none.csv"}})  # fmt: skip
    code, document = batch(capsys, folder)
    assert code == 2
    assert [each["field"] for each in document["error"]["violations"]] == ["data.panel"]
    write(folder, base="none.yaml")
    assert batch(capsys, folder)[1]["error"]["violations"][0]["field"] == "base"
    write(folder, metric="sharp")
    assert "sharpe_ratio" in batch(capsys, folder)[1]["error"]["message"]
    assert not (folder / "out").exists()


@pytest.mark.slow
def test_a_signal_ends_a_batch_of_processes_with_whole_runs(folder):
    grid = {GRID_FAST: list(range(2, 10)), GRID_SLOW: list(range(20, 60))}
    write(folder, grid=grid, workers=2)
    out = folder / "out"
    command = [sys.executable, "-m", "backlane.cli.main", "portfolio", "batch",
               str(folder / "batch.yaml"), "--out", str(out)]  # fmt: skip
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "services")}
    process = subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        start_new_session=True,
    )  # fmt: skip
    assert process.stderr is not None
    try:
        assert process.stderr.readline().startswith("1/320")
        os.killpg(process.pid, signal.SIGINT)  # as Ctrl-C in a terminal does
        _, problems = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 130, problems
    assert "Traceback" not in problems
    made = list((out / "runs").iterdir())
    assert 0 < len(made) < 320
    for each in made:
        assert json.loads((each / "manifest.json").read_text())["status"] == "succeeded"
        assert (each / "result" / "result.json").is_file()
    assert not (out / ".work").exists()
