"""`backlane backtest verify`, `explain` and `audit` over real bundles and result directories."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from backlane.audit.stamp import parse_stamp
from backlane.cli import main
from backlane.cli.exit_codes import ExitCode
from backlane.sources.catalog import Catalog
from backlane.sources.engine_source import engine_digest
from backlane.sources.synthetic import SYNTHETIC_SYMBOL
from tests.bundle_maker import BundleMaker
from tests.e2e.stack import MODEL, short_bars
from tests.shared import KTRDR, needs_shared

LOOSE = ("--threshold", "0", "--min-separation", "2", "--allow-short")


class Place:
    """A home with bars, a folder of models, and one result of the two."""

    def __init__(self, folder: Path) -> None:
        self.home, self.models, self.result = folder / "home", folder / "models", folder / "result"
        Catalog(self.home).import_bars(short_bars(), "synthetic")
        BundleMaker(seed=10).write(self.models / MODEL / "1")
        self.request = ("--model", MODEL, "--symbol", SYNTHETIC_SYMBOL, *LOOSE, *self.where)
        done = main.run(["backtest", "run", "--local", *self.request, "--out", str(self.result)])
        assert done == ExitCode.OK

    @property
    def where(self) -> tuple[str, ...]:
        return ("--home", str(self.home), "--models-dir", str(self.models))


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    return Place(tmp_path_factory.mktemp("audited"))


@pytest.fixture
def say(capsys: pytest.CaptureFixture[str]):
    """Runs a command with --json; returns its exit code and its one document."""

    def run(*arguments: object) -> tuple[int, Any]:
        capsys.readouterr()
        code = main.run([*map(str, arguments), "--json"])
        return code, json.loads(capsys.readouterr().out)

    return run


@pytest.fixture
def copy(place: Place, tmp_path: Path) -> Path:
    """A copy of the result that a test may spoil."""
    return Path(shutil.copytree(place.result, tmp_path / "copy"))


def test_a_result_is_verified(place: Place, say):
    code, document = say("backtest", "verify", place.result, *place.where)
    assert (code, document["is_same"], document["first_difference"]) == (0, True, None)
    assert document["engine"]["is_same"] is True
    recorded = json.loads((place.result / "result.json").read_text())
    assert document["digests"]["result_digest"]["again"] == recorded["result_digest"]


def test_a_changed_engine_of_the_same_version_is_said(place: Place, copy: Path, say):
    document = json.loads((copy / "result.json").read_text())
    document["versions"]["engine"] = "sha256:0ther"
    (copy / "result.json").write_text(json.dumps(document))
    code, compared = say("backtest", "verify", copy, *place.where)
    assert (code, compared["is_same"], compared["engine"]["is_same"]) == (0, True, False)
    assert compared["engine"]["statement"] == (
        f"Engine differs: result was made by sha256:0ther, this is {engine_digest()}."
    )


def test_a_changed_request_is_found(place: Place, copy: Path, say):
    request = json.loads((copy / "request.json").read_text())
    (copy / "request.json").write_text(json.dumps(request | {"slippage_rate": 0.001}))
    code, document = say("backtest", "verify", copy, *place.where)
    assert (code, document["first_difference"]) == (1, "config")
    config = next(part for part in document["parts"] if part["part"] == "config")
    assert config["detail"] == "slippage_rate 0.0005 -> 0.001"


def test_a_changed_file_is_found_with_its_bar(place: Place, copy: Path, say):
    lines = (copy / "equity.csv").read_text().splitlines()
    time, equity, *rest = lines[50].split(",")
    lines[50] = ",".join([time, str(float(equity) + 1), *rest])
    (copy / "equity.csv").write_text("\n".join(lines) + "\n")
    code, document = say("backtest", "verify", copy, *place.where)
    assert (code, document["first_difference"]) == (1, "equity")
    assert document["parts"][-1]["detail"].startswith(f"row 50, {time}: equity ")


def test_another_model_and_other_bars_are_found(place: Place, tmp_path: Path, say):
    other = BundleMaker(seed=11).write(tmp_path / "models" / MODEL / "1")
    code, document = say("backtest", "verify", place.result, *place.where, "--model-path", other)
    assert (code, document["first_difference"]) == (1, "model")
    assert [part["part"] for part in document["parts"] if not part["is_same"]][:2] == [
        "model",
        "scores",
    ]


def test_what_is_not_there_cannot_be_compared(place: Place, tmp_path: Path, say):
    nowhere = tmp_path / "nowhere"
    for arguments in (
        (nowhere, *place.where),
        (place.result, "--home", nowhere, "--models-dir", place.models),
        (place.result, "--home", place.home, "--models-dir", nowhere),
        (place.result, *place.where, "--data", "1h"),
        (place.result, *place.where, "--data", f"1h={nowhere}"),
    ):
        code, document = say("backtest", "verify", *arguments)
        assert code == ExitCode.USAGE
        assert document["error"]["exit_code"] == ExitCode.USAGE


def test_a_trade_is_explained_from_its_decision(place: Place, say):
    header, line, *_ = (place.result / "trades.csv").read_text().splitlines()
    trade = dict(zip(header.split(","), line.split(","), strict=True))
    code, on_fill = say("explain", place.result, "--time", trade["entry_time"], *place.where)
    assert code == 0
    assert on_fill["fills"][0]["price"] == float(trade["entry_price"])
    before = json.loads((place.result / "result.json").read_text())["first_bar"]
    assert on_fill["open_time"] == trade["entry_time"] != before
    assert on_fill["notes"] == []
    rsi = on_fill["indicators"][0]
    assert rsi["indicator"] == "rsi_14"
    assert 0 <= rsi["value"] <= 100
    assert rsi["bar_time"] == trade["entry_time"]


def test_a_moment_within_a_bar_will_do_and_the_directory_is_enough(
    place: Place, tmp_path: Path, say, capsys
):
    first = json.loads((place.result / "result.json").read_text())["first_bar"]
    within = first.replace(":00:00Z", ":30:00Z")
    nowhere = ("--home", tmp_path, "--models-dir", tmp_path)
    code, document = say("explain", place.result, "--time", within, *nowhere)
    assert (code, document["open_time"], document["number"]) == (0, first, 1)
    assert document["indicators"] == []
    assert "No indicator values" in document["notes"][0]
    assert main.run(["explain", str(place.result), "--time", within, *map(str, nowhere)]) == 0
    said = capsys.readouterr().out
    for word in ("feature", "confidence", "separation", "decision", "equity"):
        assert word in said


@pytest.mark.parametrize("time", ["soon", "1999-01-01", "2099-01-01T00:00:00Z"])
def test_a_moment_without_a_bar_is_a_usage_error(place: Place, say, time):
    code, document = say("explain", place.result, "--time", time, *place.where)
    assert code == ExitCode.USAGE
    assert document["error"]["violations"][0]["field"] == "--time"


@pytest.mark.parametrize("audit", ["lookahead", "warmup"])
def test_a_clean_model_is_stamped(place: Place, tmp_path: Path, say, audit):
    out = tmp_path / "stamp.json"
    code, document = say("audit", audit, *place.request, "--seed", 3, "--out", out)
    assert (code, document["verdict"], document["findings"]) == (0, "clean", [])
    stamp = parse_stamp(json.loads(out.read_text()))
    assert stamp.to_document() == document
    assert stamp.is_passed
    recorded = json.loads((place.result / "result.json").read_text())
    assert document["config_digest"] == recorded["config_digest"]
    assert document["dataset_digests"] == recorded["datasets"]
    assert document["model_digest"] == recorded["model"]["digest"]


def test_a_cold_start_fails_the_audit(place: Place, capsys):
    cold = ("--switch", "history_before_start=false", "--switch", "fixed_warmup_bars=20")
    code = main.run(["audit", "warmup", *place.request, *cold, "--starts", "5"])
    assert code == ExitCode.FAILED
    said = capsys.readouterr().out
    assert "1h_rsi_f_t0" in said
    assert "begins cold" in said
    assert "NOT WARM" in said


@needs_shared
@pytest.mark.slow
@pytest.mark.parametrize("profile", ["ktrdr-head", "default"])
def test_the_reference_looks_ahead_and_we_do_not(say, profile):
    """SPEC 3.3: base 5m sees 1h bars before they closed."""
    bundle = next((KTRDR / "bundles" / "mtf_base5m").iterdir())
    data = KTRDR / "data"
    code, document = say(
        *("audit", "lookahead", "--model", bundle, "--symbol", "EURUSD", "--profile", profile),
        *("--data", f"5m={data}/EURUSD_5m.csv.gz", "--data", f"1h={data}/EURUSD_1h.csv"),
        *("--start", "2023-05-01", "--end", "2023-05-27", "--bars", 10),
    )
    columns = {each["column"]: each for each in document["findings"] if each["stage"] == "features"}
    if profile == "default":
        assert (code, document["verdict"]) == (0, "clean")
        return
    assert code == ExitCode.FAILED
    assert columns
    assert all(name.startswith("1h_") for name in columns)
    assert all("shows the 1h bar that opened at" in each["cause"] for each in columns.values())
