"""`backlane cycle run --local`: the orders of a time, and what it takes as a position."""

import csv
import json
from pathlib import Path
from typing import Any

import pytest

from backlane.cli.cycle import as_of_time, read_positions
from backlane.cli.main import run
from backlane.errors import InvalidRequestError
from tests.portfolios import config_of, run_in_process, write_config, write_panel


def decided(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    assert run(["cycle", "run", "--local", "--json", *arguments]) == 0
    return json.loads(capsys.readouterr().out)


def rows_of(content: bytes) -> list[dict[str, str]]:
    return list(csv.DictReader(content.decode().splitlines()))


def test_the_orders_of_the_last_bar_are_those_of_the_backtest(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Held and cash are those of the backtest then: what it leaves open is what is ordered."""
    bars = 107  # the backtest ends with an order that the end of its data leaves open
    write_panel(tmp_path, bars)
    written = run_in_process(config_of(), tmp_path, tmp_path / "out")
    left = [row for row in rows_of(written["orders.csv"]) if row["outcome"] == "end_of_data"]
    held: dict[str, float] = {}
    for row in rows_of(written["fills.csv"]):
        units = float(row["quantity"]) * (1 if row["side"] == "BUY" else -1)
        held[row["symbol"]] = held.get(row["symbol"], 0.0) + units
    cash = rows_of(written["equity.csv"])[-1]["cash"]
    positions = tmp_path / "held.json"
    positions.write_text(json.dumps(held))
    found = decided(
        capsys, str(write_config(tmp_path)), "--as-of", "2030-01-01",
        "--positions", str(positions), "--cash", cash,
    )  # fmt: skip
    assert left
    assert [(each["symbol"], each["side"]) for each in found["orders"]] == [
        (each["symbol"], each["side"]) for each in left
    ]
    for order, expected in zip(found["orders"], left, strict=True):
        # Held units are sums of fills in another order than the book's.
        assert order["quantity"] == pytest.approx(float(expected["quantity"]), rel=1e-9)
        assert order["price"] == float(expected["price"])


def test_what_risk_refuses_is_said_with_its_reason(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_panel(tmp_path, 107)
    config = write_config(tmp_path, risk={"halt": True})
    found = decided(capsys, str(config), "--as-of", "2030-01-01")
    assert (found["orders"], found["no_trade"]) == ([], "risk_blocked")
    assert found["proposals"]
    assert all(not each["is_approved"] and each["reasons"] for each in found["proposals"])
    assert run(["cycle", "run", "--local", "--config", str(config), "--as-of", "2030-01-01"]) == 0
    said = capsys.readouterr().out
    assert "no orders: risk_blocked" in said
    assert found["proposals"][0]["symbol"] in said


def test_before_the_first_bar_the_cycle_fails_and_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_panel(tmp_path, 20)
    arguments = ["cycle", "run", "--local", str(write_config(tmp_path)), "--as-of", "2001-01-01"]
    assert run(arguments) == 1
    assert "no bar was known" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("1970-01-02", 2 * 86_400 - 1e-9),
        ("1970-01-02T00:00:01", 86_401),
        ("1970-01-02T00:00:01Z", 86_401),
        ("1970-01-02T01:00:01+01:00", 86_401),
    ],
)
def test_times(text: str, seconds: float) -> None:
    assert as_of_time(text) == round(seconds * 1e9)


def test_what_is_no_time_is_refused() -> None:
    with pytest.raises(InvalidRequestError, match="is no time"):
        as_of_time("yesterday")


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("p.csv", "symbol,quantity\nA,2\nB,-1.5\n"),
        ("p.csv", "Symbol,other,Units\nA,x,2\nB,y,-1.5\n"),
        ("p.yaml", "A: 2\nB: -1.5\n"),
        ("p.json", '{"positions": {"A": 2, "B": -1.5}}'),
    ],
)
def test_positions(tmp_path: Path, name: str, content: str) -> None:
    (tmp_path / name).write_text(content)
    assert read_positions(tmp_path / name) == {"A": 2.0, "B": -1.5}


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("symbol,quantity\nA,two\n", "A: 'two' is no number"),
        ("symbol,quantity\nA,2\nA,3\n", "stands there twice"),
        ("name,quantity\nA,2\n", "no columns symbol and quantity"),
    ],
)
def test_positions_that_are_wrong(tmp_path: Path, content: str, said: str) -> None:
    (tmp_path / "p.csv").write_text(content)
    with pytest.raises(InvalidRequestError, match=said):
        read_positions(tmp_path / "p.csv")
