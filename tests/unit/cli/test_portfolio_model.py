"""`backlane portfolio run --local` with bundles, stored factors and trades in result.json."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from backlane.cli.main import run

EXAMPLES = Path(__file__).parents[3] / "examples" / "portfolio"
MODELS = Path(__file__).parents[3] / "models"
FACTORS = {
    "name": "multifactor_long_short",
    "parameters": {"factors": [{"name": "rv_20", "weight": 1}]},
}


def written(folder: Path, example: str, **changes: Any) -> str:
    """Writes an example with changes, and returns its path."""
    content = yaml.safe_load((EXAMPLES / example).read_text())
    content["data"] = {"panel": str(EXAMPLES / content["data"]["panel"])}
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump({**content, **changes}))
    return str(path)


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_the_example_of_a_model_runs(tmp_path: Path) -> None:
    out = tmp_path / "out"
    example = str(EXAMPLES / "model.yaml")
    assert run(["portfolio", "run", "--local", example, "--out", str(out), "--with-trades"]) == 0
    result = json.loads((out / "result.json").read_text())
    assert result["counts"]["fills"] > 5
    assert {each["symbol"] for each in result["trades"]} == {"ASH", "ELM"}
    lines = (out / "trades.csv").read_text().splitlines()
    assert len(result["trades"]) == len(lines) - 1


def test_a_bundle_is_named_by_its_place_in_the_models_folder(tmp_path: Path) -> None:
    plain, named = tmp_path / "plain", tmp_path / "named"
    example = EXAMPLES / "model.yaml"
    strategy = yaml.safe_load(example.read_text())["strategy"]
    strategy["parameters"]["model"] = "rsi_bb"
    config = written(tmp_path, "model.yaml", strategy=strategy)
    assert run(["portfolio", "run", "--local", str(example), "--out", str(plain)]) == 0
    where = ["--models-dir", str(MODELS)]
    assert run(["portfolio", "run", "--local", config, "--out", str(named), *where]) == 0
    assert files(plain)["fills.csv"] == files(named)["fills.csv"]


def test_a_model_that_is_not_there_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    strategy = {"name": "model", "parameters": {"model": "nowhere"}}
    config = written(tmp_path, "model.yaml", strategy=strategy)
    assert run(["portfolio", "run", "--local", config, "--models-dir", str(MODELS)]) != 0
    assert "nowhere" in capsys.readouterr().err


def test_a_meta_model_changes_what_is_traded(tmp_path: Path) -> None:
    strategy = {"name": "trend_baseline", "parameters": {"fast": 5, "slow": 20}}
    meta = {"model": {"path": str(MODELS / "rsi_bb" / "1")}, "min_confidence": 0.4}
    found = {}
    for name, more in (("plain", {}), ("trusted", {"meta_model": meta})):
        config = written(tmp_path, "model.yaml", strategy=strategy, **more)
        assert run(["portfolio", "run", "--local", config, "--out", str(tmp_path / name)]) == 0
        found[name] = json.loads((tmp_path / name / "result.json").read_text())
    assert found["trusted"]["config"]["meta_model"]["min_confidence"] == 0.4
    assert "meta_model" not in found["plain"]["config"]
    assert found["trusted"]["counts"]["fills"] != found["plain"]["counts"]["fills"]


def test_factors_come_from_the_store_of_a_home_that_is_there(tmp_path: Path) -> None:
    home, config = tmp_path / "home", written(tmp_path, "trend.yaml", strategy=FACTORS)
    command = ["portfolio", "run", "--local", config, "--home", str(home), "--out"]
    assert run([*command, str(tmp_path / "none")]) == 0
    assert not home.exists()  # none is made
    home.mkdir()
    assert run([*command, str(tmp_path / "off"), "--no-factor-store"]) == 0
    assert not list(home.iterdir())
    assert run([*command, str(tmp_path / "stored")]) == 0
    assert (home / "factors").is_dir()
    assert run([*command, str(tmp_path / "found")]) == 0
    results = [files(tmp_path / name) for name in ("none", "off", "stored", "found")]
    assert all(each == results[0] for each in results)


def test_trades_are_listed_by_local_runs_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["portfolio", "run", str(EXAMPLES / "trend.yaml"), "--with-trades"]) == 2
    assert "--local" in capsys.readouterr().err
