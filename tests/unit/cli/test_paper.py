"""`backlane paper --local` and the modes of `backlane portfolio run --local`."""

import csv
import io
import json
import re
from pathlib import Path
from typing import Any

import pytest

from backlane.cli.main import run
from backlane.sources.portfolio_data import read_portfolio_data
from tests.portfolios import RISK, config_of, files_of, run_in_process, write_config, write_panel

BARS = 60


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_panel(tmp_path, BARS)
    return tmp_path


def rows_of_file(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(path.read_text().splitlines()))


def lines_of(folder: Path) -> list[dict[str, Any]]:
    """The panel file as lines of a stream."""
    rows = rows_of_file(folder / "panel.csv")
    prices = ("open", "high", "low", "close", "volume")
    bars: dict[str, dict[str, dict[str, float]]] = {}
    for row in rows:
        cells = {name: float(row[name]) for name in prices}
        bars.setdefault(row["timestamp"], {})[row["symbol"]] = cells
    symbols = sorted({row["symbol"] for row in rows})
    return [{"symbols": symbols}, *({"time": time, "bars": each} for time, each in bars.items())]


def assert_files(found: Path, expected: dict[str, bytes]) -> None:
    """The same files; result.json says another mode, and what was read."""
    files = files_of(found)
    for name in set(expected) - {"result.json"}:
        assert files[name] == expected[name], name
    mine, other = (json.loads(each["result.json"]) for each in (files, expected))
    for key in ("config", "inputs"):
        mine.pop(key), other.pop(key)
    assert mine == other


@pytest.mark.parametrize("mode", ["replay", "paper"])
def test_modes_that_follow_write_the_files_of_a_backtest(
    mode: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = write_config(folder, risk=RISK)
    expected = run_in_process(config_of(risk=RISK), folder, folder / "backtest")
    out = str(folder / mode)
    assert run(["portfolio", "run", str(config), "--local", "--mode", mode, "--out", out]) == 0
    assert_files(folder / mode, expected)
    shown = capsys.readouterr().out
    assert f"bar {BARS}" in shown
    assert "bought" in shown


def test_paper_takes_lines_of_json(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    config = write_config(folder)
    expected = run_in_process(config_of(), folder, folder / "backtest")
    text = "\n".join(json.dumps(line) for line in lines_of(folder))
    monkeypatch.setattr("sys.stdin", io.StringIO(text))
    assert run(["paper", str(config), "--local", "--json", "--out", str(folder / "paper")]) == 0
    assert_files(folder / "paper", expected)
    reports = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [each["number"] for each in reports[:-1]] == list(range(1, BARS + 1))
    assert reports[-1]["final_equity"] == reports[-2]["equity"]


@pytest.mark.parametrize(
    ("lines", "field"),
    [
        ([], "--panel"),
        ([{"symbol": ["ASH"]}], "symbol"),
        ([{"symbols": ["ASH"]}, {"time": "yesterday", "bars": {}}], "time"),
        ([{"symbols": ["ASH"]}, {"time": 1, "bars": {"OAK": {}}}], "bars.OAK"),
        ([{"symbols": ["ASH"]}, {"time": 1, "bars": {"ASH": {"open": 1}}}], "bars.ASH.high"),
    ],
    ids=["empty", "unknown-field", "time", "symbol", "price"],
)
def test_lines_that_are_wrong_are_named(
    lines: list[Any],
    field: str,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    config = write_config(folder)
    monkeypatch.setattr("sys.stdin", io.StringIO("\n".join(json.dumps(each) for each in lines)))
    assert run(["paper", str(config), "--local", "--json"]) == 2
    error = json.loads(capsys.readouterr().out)["error"]
    assert [each["field"] for each in error["violations"]] == [field]


def test_end_of_day_writes_the_orders_that_the_backtest_has_then(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = write_config(folder, risk=RISK)
    run_in_process(config_of(risk=RISK), folder, folder / "backtest")
    orders = rows_of_file(folder / "backtest" / "orders.csv")
    times = sorted({each["time"] for each in orders})
    time = times[len(times) // 2]
    command = ["portfolio", "run", str(config), "--local", "--mode", "end_of_day"]
    out = folder / "day"
    assert run([*command, "--as-of", time, "--out", str(out), "--json"]) == 0
    found = rows_of_file(out / "orders.csv")
    names = ("order", "time", "symbol", "side", "quantity", "price")
    decided = [each for each in orders if each["time"] == time]
    assert [[each[name] for name in names] for each in found] == [
        [each[name] for name in names] for each in decided
    ]
    document = json.loads(capsys.readouterr().out)
    assert document["bar_time"] == time
    equity = rows_of_file(folder / "backtest" / "equity.csv")
    at_bar = next(each for each in equity if each["time"] == time)
    assert document["equity"] == float(at_bar["equity"])
    value = sum(each["value"] for each in document["positions"])
    assert document["cash"] + value == pytest.approx(document["equity"], rel=1e-12)
    assert run([*command, "--as-of", time, "--out", str(out)]) == 0
    assert run([*command, "--as-of", "2019-12-31", "--out", str(out)]) != 0
    assert run([*command[:-2], "--as-of", time]) == 2


def test_stress_is_asked_for(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = write_config(folder)
    assert run(["portfolio", "run", str(config), "--local", "--mode", "stress"]) == 2
    assert "needs a section stress" in capsys.readouterr().err


def test_stress_makes_the_data_worse(folder: Path) -> None:
    shocks = {"seed": 5, "shock": {"probability": 0.1, "size": 0.2}}
    contents = [config_of(), config_of(mode="stress", stress=shocks)]
    plain, stressed = (
        run_in_process(content, folder, folder / f"out{at}") for at, content in enumerate(contents)
    )
    again = run_in_process(contents[1], folder, folder / "again")
    assert plain["equity.csv"] != stressed["equity.csv"]
    assert again == stressed
    assert len(read_portfolio_data({"panel": folder / "panel.csv"})[0]) == BARS


def test_the_lines_of_the_page_are_taken(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    page = (Path(__file__).parents[3] / "docs" / "paper.md").read_text()
    (lines,) = re.findall(r"^```json\n(.*?)^```$", page, re.DOTALL | re.MULTILINE)
    config = write_config(folder)
    monkeypatch.setattr("sys.stdin", io.StringIO(lines))
    assert run(["paper", str(config), "--local", "--json"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 3
