"""`backlane portfolio run`: the example, and what it says when something is wrong."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from backlane.backtest.portfolio_run import parse_portfolio_config
from backlane.cli.main import run
from backlane.errors import InvalidRequestError

EXAMPLE = Path(__file__).parents[3] / "examples" / "portfolio" / "trend.yaml"


def example(**changes: Any) -> dict[str, Any]:
    return {**yaml.safe_load(EXAMPLE.read_text()), **changes}


def mistakes_of(content: object) -> dict[str, str]:
    with pytest.raises(InvalidRequestError) as refused:
        parse_portfolio_config(content)
    return {each.field: each.description for each in refused.value.violations}


def test_the_example_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    command = ["portfolio", "run", "--local", "--config", str(EXAMPLE), "--out", str(out)]
    assert run([*command, "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    result = json.loads((out / "result.json").read_text())
    assert printed == {**result, "out": str(out)}
    assert result["counts"]["fills"] > 0
    assert run(command) == 0
    assert "final equity" in capsys.readouterr().out


def test_it_replaces_a_result_and_nothing_else(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "letter.txt").write_text("dear")
    command = ["portfolio", "run", "--local", "--config", str(EXAMPLE), "--out", str(tmp_path)]
    assert run(command) != 0
    assert "no portfolio result" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["letter.txt"]


def test_the_configuration_is_an_argument_or_an_option(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["portfolio", "run", "--local", str(EXAMPLE), "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert (printed["out"], printed["counts"]["fills"] > 0) == (None, True)
    assert run(["portfolio", "run", "--local", str(EXAMPLE), "--config", str(EXAMPLE)]) == 2
    assert "given twice" in capsys.readouterr().err
    assert run(["portfolio", "run", "--local"]) == 2
    assert "Give the configuration" in capsys.readouterr().err
    assert run(["portfolio", "run", "--local", "--detach", str(EXAMPLE)]) == 2


def test_without_services_it_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("backlane.client.portfolios.READY_S", 0.1)
    nowhere = ["--home", str(tmp_path), "--backtests-address", "unix:/nowhere"]
    assert run(["portfolio", "run", str(EXAMPLE), *nowhere]) == 3
    assert "does not answer" in capsys.readouterr().err


def test_the_mode_of_the_command_line_counts(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["portfolio", "run", "--local", str(EXAMPLE), "--mode", "backtes"]) == 2
    assert "did you mean backtest?" in capsys.readouterr().err


def test_a_configuration_that_is_not_there(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "none.yaml"
    assert run(["portfolio", "run", "--local", "--config", str(path), "--out", "x"]) == 2
    assert "There is no file" in capsys.readouterr().err


def test_every_mistake_is_named_at_once() -> None:
    mistakes = mistakes_of(
        example(
            strategy={
                "name": "trend_baseline",
                "parameters": {"fst": 3, "volume_filter": "median"},
            },
            initial_cash=True,
            costs={"comission_bps": 1.0, "impact_bps": -1.0},
            fill="nextopen",
            seed=3,
        )
    )
    assert set(mistakes) == {
        "strategy.parameters.fst",
        "strategy.parameters.volume_filter",
        "initial_cash",
        "costs.comission_bps",
        "costs.impact_bps",
        "fill",
        "seed",
    }
    assert "did you mean fast?" in mistakes["strategy.parameters.fst"]
    assert "did you mean commission_bps?" in mistakes["costs.comission_bps"]
    assert "did you mean next_open?" in mistakes["fill"]


def test_a_mode_that_is_none_is_refused() -> None:
    said = mistakes_of(example(mode="live"))["mode"]
    assert "'live' is not accepted: write backtest" in said


@pytest.mark.parametrize(
    ("strategy", "field", "said"),
    [
        ({"name": "trend_base"}, "strategy.name", "did you mean trend_baseline?"),
        (
            {"name": "trend_baseline", "parameters": {"fast": 50, "slow": 20}},
            "strategy.parameters",
            "fast 50 must be below slow 20",
        ),
        ({"name": "event_insider_shipping"}, "data.events.insider", "reads insider events"),
        (
            {
                "name": "multifactor_long_short",
                "parameters": {"factors": [{"name": "rv_20", "weight": 0.5}]},
            },
            "strategy.parameters",
            "sum to 0.5",
        ),
        (
            {
                "name": "multifactor_long_short",
                "parameters": {"factors": [{"name": "luck", "weight": 1.0}]},
            },
            "strategy.parameters.factors.0.name",
            "no factor",
        ),
    ],
)
def test_what_a_strategy_does_not_take(strategy: dict[str, Any], field: str, said: str) -> None:
    assert said in mistakes_of(example(strategy=strategy))[field]


@pytest.mark.parametrize("content", [None, [], {}, {"strategy": 3, "data": []}])
def test_what_is_no_configuration(content: object) -> None:
    assert mistakes_of(content)
