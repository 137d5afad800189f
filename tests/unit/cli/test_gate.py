"""`backlane gate`: pass, regression, and what cannot be compared (SPEC A9, C1 Q4)."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from backlane.cli.main import run
from backlane.metrics.gate_rules import DEFAULT_TOLERANCES, DEFAULTS_BY_KIND, DIRECTIONS
from backlane.metrics.regression_gate import BetterDirection
from backlane.sources.results import write_result
from tests.unit.report.conftest import run_sample

EXAMPLE = Path(__file__).parents[3] / "examples" / "portfolio" / "trend.yaml"
METRICS = {
    "total_return": 0.10,
    "max_drawdown": 0.05,
    "sharpe_ratio": 1.0,
    "win_rate": 0.6,
    "profit_factor": 2.0,
}
CONFIG = {"initial_cash": 100000.0, "data": {"panel": "panel.csv"}}


def portfolio(folder: Path, name: str, *, trades: int = 100, **changes: Any) -> Path:
    document = {
        "format": "backlane.portfolio_result.v1",
        "config": CONFIG,
        "inputs": {"panel": "sha256:1"},
        "metrics": METRICS,
        "counts": {"trades": trades},
        **changes,
    }
    (folder / name).mkdir()
    (folder / name / "result.json").write_text(json.dumps(document))
    return folder / name


def single(folder: Path, name: str, **changes: Any) -> Path:
    metrics = {**METRICS, "total_trades": 100.0, "total_return_pct": 0.1, "max_drawdown_pct": 0.05}
    document = {
        "format": "backlane.result.v1",
        "config_digest": "sha256:2",
        "datasets": {"1h": "sha256:3"},
        "model": {"name": "m/1", "digest": "sha256:4"},
        "metrics": metrics,
        **changes,
    }
    (folder / name).mkdir()
    (folder / name / "result.json").write_text(json.dumps(document))
    return folder / name


def gate(capsys, *arguments: Any) -> tuple[int, dict[str, Any]]:
    code = run(["gate", *(str(each) for each in arguments), "--json"])
    return code, json.loads(capsys.readouterr().out)


def verdicts(document: dict[str, Any]) -> dict[str, str]:
    return {row["metric"]: row["verdict"] for row in document["metrics"]}


@pytest.mark.parametrize("make", [portfolio, single])
def test_the_same_result_passes(tmp_path, capsys, make):
    one, two = make(tmp_path, "one"), make(tmp_path, "two")
    code, document = gate(capsys, one, two)
    assert code == 0
    assert document["verdict"] == "pass"
    assert set(verdicts(document).values()) == {"passed"}
    assert len(document["metrics"]) == 6


@pytest.mark.parametrize(
    ("metric", "value", "code"),
    [
        ("sharpe_ratio", 0.97, 0),  # 0.01 and 2 % of 1.0 may be lost: 0.03
        ("sharpe_ratio", 0.969, 1),
        ("sharpe_ratio", 5.0, 0),  # better
        ("max_drawdown", 0.052, 0),  # 0.001 and 2 % of 0.05: 0.002
        ("max_drawdown", 0.0521, 1),
        ("max_drawdown", 0.0, 0),
        ("profit_factor", None, 1),  # it had a value
    ],
)
def test_only_what_got_worse_is_a_regression(tmp_path, capsys, metric, value, code):
    changed = portfolio(tmp_path, "two", metrics={**METRICS, metric: value})
    ended, document = gate(capsys, portfolio(tmp_path, "one"), changed)
    assert ended == code == document["exit_code"]
    assert [name for name, each in verdicts(document).items() if each != "passed"] == (
        [metric] if code else []
    )


def test_a_run_that_lost_every_value_is_a_regression_and_no_mistake(tmp_path, capsys):
    nothing = portfolio(tmp_path, "two", metrics=dict.fromkeys(METRICS))
    code, document = gate(capsys, portfolio(tmp_path, "one"), nothing)
    assert code == 1
    assert verdicts(document)["sharpe_ratio"] == "missing"


def test_more_and_fewer_trades_are_both_a_change(tmp_path, capsys):
    one = portfolio(tmp_path, "one")
    for trades, code in ((102, 0), (103, 1), (98, 0), (97, 1)):
        assert gate(capsys, one, portfolio(tmp_path, str(trades), trades=trades))[0] == code


@pytest.mark.parametrize(
    ("baseline", "current", "refusal"),
    [
        ({"trades": 0}, {"trades": 0}, "too_few_trades"),  # Q4: the reference passes
        ({"trades": 9}, {"trades": 9}, "too_few_trades"),
        ({}, {"inputs": {"panel": "sha256:9"}}, "data_changed"),
        ({}, {"config": {**CONFIG, "initial_cash": 1.0}}, "config_changed"),
    ],
)
def test_what_cannot_be_compared_is_neither_good_nor_bad(
    tmp_path, capsys, baseline, current, refusal
):
    one, two = portfolio(tmp_path, "one", **baseline), portfolio(tmp_path, "two", **current)
    code, document = gate(capsys, one, two)
    assert (code, document["verdict"]) == (2, "unusable")
    assert [each["code"] for each in document["refusals"]] == [refusal]
    assert run(["gate", str(one), str(two)]) == 2
    assert "cannot be compared" in capsys.readouterr().out


def test_files_of_the_same_content_may_lie_elsewhere(tmp_path, capsys):
    moved = portfolio(tmp_path, "two", config={**CONFIG, "data": {"panel": "other/panel.csv"}})
    assert gate(capsys, portfolio(tmp_path, "one"), moved)[0] == 0


def test_another_model_is_said_and_compared(tmp_path, capsys):
    one = single(tmp_path, "one")
    two = single(tmp_path, "two", model={"name": "m/2", "digest": "sha256:5"})
    assert run(["gate", str(one), str(two)]) == 0
    assert "another model" in capsys.readouterr().out


def rules(folder: Path, content: object) -> Path:
    path = folder / "rules.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


def test_rules_replace_the_defaults(tmp_path, capsys):
    one = portfolio(tmp_path, "one", trades=1)
    two = portfolio(
        tmp_path, "two", trades=1, metrics={**METRICS, "total_return": 0.05},
        inputs={"panel": "sha256:9"}, config={**CONFIG, "initial_cash": 1.0},
    )  # fmt: skip
    content = {
        "trade_count_min": 1,
        "same_data": False,
        "same_config": False,
        "metrics": {"total_return": {"absolute": 0.05}},
    }
    code, document = gate(capsys, one, two, "--rules", rules(tmp_path, content))
    assert code == 0
    assert verdicts(document) == {"total_return": "passed"}
    content["metrics"]["total_return"] = {"absolute": 0.04}
    assert gate(capsys, one, two, "--rules", rules(tmp_path, content))[0] == 1


@pytest.mark.parametrize(
    ("content", "field"),
    [
        ({"metrics": {"sharpe_ratoi": {"direction": "higher"}}}, "metrics.sharpe_ratoi"),
        ({"metrics": {"turnaround": {}}}, "metrics.turnaround.direction"),
        ({"metrics": {"win_rate": {"absolute": -1}}}, "metrics.win_rate.absolute"),
        ({"metrics": {"win_rate": {"relative": True}}}, "metrics.win_rate.relative"),
        ({"metrics": {"win_rate": {"direction": "up"}}}, "metrics.win_rate.direction"),
        ({"metrics": {}}, "metrics"),
        ({"trade_count_min": 0}, "trade_count_min"),
        ({"same_date": True}, "same_date"),
    ],
)
def test_a_mistake_in_the_rules_is_named(tmp_path, capsys, content, field):
    one = portfolio(tmp_path, "one")
    code, document = gate(capsys, one, one, "--rules", rules(tmp_path, content))
    assert code == 2
    assert field in [each["field"] for each in document["error"]["violations"]]


def written(count: str, metrics: str) -> str:
    return (
        '{"format": "backlane.portfolio_result.v1", "config": {}, "inputs": {}, '
        f'"counts": {{"trades": {count}}}, "metrics": {metrics}}}'
    )


BROKEN = {
    "empty": "",
    "list": "[]",
    "nothing": "{}",
    "format": '{"format": "other"}',
    "keys": '{"format": "backlane.portfolio_result.v1"}',
    "bytes": "\x00",
    "nan": written("100", '{"sharpe_ratio": NaN}'),
    "infinite": written("100", '{"sharpe_ratio": 1e999}'),
    "text": written("100", '{"sharpe_ratio": "1"}'),
    "count": written("true", '{"sharpe_ratio": 1}'),
    "half": written("100.5", '{"sharpe_ratio": 1}'),
}


@pytest.mark.parametrize("text", BROKEN.values(), ids=BROKEN)
def test_a_file_that_is_no_result_is_unusable(tmp_path, capsys, text):
    good = portfolio(tmp_path, "one")
    (tmp_path / "bad.json").write_text(text)
    for sides in ((good, tmp_path / "bad.json"), (tmp_path / "bad.json", good)):
        code, document = gate(capsys, *sides)
        assert code == 2
        assert document["error"]["exit_code"] == 2


def test_a_result_that_is_not_there_is_unusable(tmp_path, capsys):
    code, document = gate(capsys, portfolio(tmp_path, "one"), tmp_path / "none")
    assert code == 2
    assert document["error"]["reason"] == "RESULT_NOT_FOUND"


def test_two_kinds_of_run_are_not_compared(tmp_path, capsys):
    code, document = gate(capsys, portfolio(tmp_path, "one"), single(tmp_path, "two"))
    assert code == 2
    assert "is a portfolio run" in document["error"]["message"]


@pytest.mark.slow
def test_real_results_of_both_kinds_pass_against_themselves(tmp_path, capsys):
    write_result(run_sample(), tmp_path / "single")
    config, out = str(EXAMPLE), str(tmp_path / "portfolio")
    assert run(["portfolio", "run", "--local", "--config", config, "--out", out]) == 0
    capsys.readouterr()
    for kind in ("single", "portfolio"):
        code, document = gate(capsys, tmp_path / kind, tmp_path / kind)
        assert (code, document["baseline"]["kind"]) == (0, kind)
        assert document["baseline"]["trade_count"] >= 10
        assert len(document["metrics"]) == 6
        assert all(row["baseline"] is not None for row in document["metrics"])


def test_every_default_has_the_direction_that_rules_would_take():
    for each in (*DEFAULT_TOLERANCES, *(t for kind in DEFAULTS_BY_KIND.values() for t in kind)):
        assert each.direction is DIRECTIONS[each.metric]
    assert DIRECTIONS["max_drawdown"] is BetterDirection.LOWER
