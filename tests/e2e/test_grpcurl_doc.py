"""docs/grpcurl.md is true: its commands run, one after the other, with reflection alone."""

import base64
import itertools
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.cli_services import ROOT, command_line_on_services

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]

PAGE = ROOT / "docs" / "grpcurl.md"
BIN = Path(sys.executable).parent
DEFAULT_PORTS = {"operations": 7410, "models": 7411, "backtests": 7412}


def _script() -> str:
    return "\n".join(re.findall(r"^```sh\n(.*?)^```$", PAGE.read_text(), re.DOTALL | re.MULTILINE))


def _documents(text: str) -> list[Any]:
    """Every JSON document in a text, whatever lies between them."""
    decoder, found, position = json.JSONDecoder(), [], 0
    while (start := text.find("{", position)) >= 0:
        document, position = decoder.raw_decode(text, start)
        found.append(document)
    return found


@pytest.fixture(scope="module")
def said(tmp_path_factory: pytest.TempPathFactory) -> str:
    if not (BIN / "buf").exists():
        pytest.skip(f"buf is not installed in {BIN}: make setup")
    folder = tmp_path_factory.mktemp("grpcurl")
    with command_line_on_services(folder) as cli:
        assert cli.stack is not None
        script = _script()
        for name, port in DEFAULT_PORTS.items():
            script = script.replace(f"127.0.0.1:{port}", cli.stack.addresses.of(name))
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", script],
            cwd=folder,  # no protos here: what buf knows, it knows from reflection
            env={
                **os.environ,
                "PATH": f"{BIN}:{os.environ['PATH']}",
                "BUF_CACHE_DIR": str(folder / "buf"),
            },
            capture_output=True,
            text=True,
            timeout=120,
        )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_services_are_listed_and_well(said: str):
    for service in (
        "backlane.api.operations.v1.OperationsService",
        "backlane.api.models.v1.ModelsService",
        "backlane.api.backtest.v1.BacktestService",
        "google.longrunning.Operations",
        "grpc.health.v1.Health",
    ):
        assert service in said.splitlines()
    assert [each for each in _documents(said) if "status" in each] == [{"status": "SERVING"}] * 2


def test_the_watch_tells_everything_to_the_end_without_a_gap(said: str):
    messages = [each for each in _documents(said) if "phase" in each]
    assert messages[0]["phase"] == "PHASE_SNAPSHOT"
    live = [each for each in messages if each["phase"] == "PHASE_LIVE"]
    for before, after in itertools.pairwise(live):
        assert after["fromRevision"] == before["throughRevision"]
    states = [
        event["stateChanged"]["toState"]
        for each in messages
        for event in each.get("events", [])
        if "stateChanged" in event
    ]
    snapshot = messages[0]["operations"][0]["state"]
    assert [snapshot, *states][-1] == "STATE_SUCCEEDED"


def test_the_result_comes_with_its_trades_and_files(said: str):
    documents = _documents(said)
    summary = next(each["result"] for each in documents if "result" in each)
    trades = [trade for each in documents for trade in each.get("trades", [])]
    metrics = {each["id"]: each.get("value") for each in summary["metrics"]}
    assert len(trades) == metrics["total_trades"]
    content = b"".join(base64.b64decode(each["content"]) for each in documents if "content" in each)
    assert json.loads(content)["result_digest"] == summary["resultDigest"]


def test_a_portfolio_is_uploaded_run_and_decided_about(said: str):
    documents = _documents(said)
    (missing,) = (each["missingDigests"] for each in documents if "missingDigests" in each)
    uploaded = next(each for each in documents if "sizeBytes" in each)
    assert uploaded["digest"] == missing[0]
    outcome = next(each["outcome"] for each in documents if "outcome" in each)
    assert {order["symbol"] for order in outcome["orders"]} <= {"ASH", "OAK"}
    assert outcome["barTime"] == "2024-02-20T00:00:00Z"


def test_google_and_the_cursor_tell_of_the_same_run(said: str):
    documents = _documents(said)
    google = next(each for each in documents if "done" in each)
    assert google["metadata"]["operation"]["state"] == "STATE_SUCCEEDED"
    assert google["response"]["@type"].endswith("BacktestResult")
    page = next(each for each in documents if "throughIndex" in each)
    assert [point["index"] for point in page["points"]] == ["1", "2", "3"]


def test_a_paper_session_reports_each_bar(said: str):
    """A rise at the second bar is bought at the open of the third, 10."""
    documents = _documents(said)
    reports = [each["report"] for each in documents if "report" in each]
    assert [each["number"] for each in reports] == ["1", "2", "3"]
    assert [fill["price"] for each in reports for fill in each.get("fills", [])] == [10]
    finished = next(each["finished"]["result"] for each in documents if "finished" in each)
    assert finished["finalEquity"] == reports[-1]["equity"]
