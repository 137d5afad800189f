"""A client in another language, made from protos/ alone, starts a run and follows its watch."""

import fcntl
import json
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.e2e.cli_services import ROOT, RUN, SYMBOL, command_line_on_services

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

SOURCE = Path(__file__).parent / "node"
INSTALLED = ROOT / ".tools" / "node-client"
INSTALL_TIMEOUT_S = 180


@pytest.fixture(scope="module")
def client() -> Path:
    """The script beside its packages, which npm installs once."""
    for program in ("node", "npm"):
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not installed")
    INSTALLED.mkdir(parents=True, exist_ok=True)
    with (INSTALLED / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # one installation at a time
        _install()
    shutil.copy(SOURCE / "run_backtest.js", INSTALLED)
    return INSTALLED / "run_backtest.js"


def _install() -> None:
    wanted, stamp = (SOURCE / "package-lock.json").read_bytes(), INSTALLED / "installed.json"
    if stamp.exists() and stamp.read_bytes() == wanted:
        return
    for name in ("package.json", "package-lock.json"):
        shutil.copy(SOURCE / name, INSTALLED)
    done = subprocess.run(
        ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"],
        cwd=INSTALLED,
        capture_output=True,
        text=True,
        timeout=INSTALL_TIMEOUT_S,
    )
    if done.returncode != 0:
        pytest.skip(f"npm cannot install the packages of the client: {done.stderr[-500:]}")
    stamp.write_bytes(wanted)


def test_node_runs_a_backtest_and_follows_it_to_the_end(client: Path, tmp_path: Path):
    spec = {"model": "models/rsi_bb", "symbol": SYMBOL, "timeframe": "1h"}
    with command_line_on_services(tmp_path) as cli:
        assert cli.stack is not None
        addresses = cli.stack.addresses
        done = subprocess.run(
            [
                *("node", str(client), str(ROOT / "protos")),
                *(addresses.backtests, addresses.operations, json.dumps(spec)),
            ],
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        lines = [json.loads(line) for line in done.stdout.splitlines()]
        ours = cli.json(*RUN)
    started, ended = lines[0], lines[-1]
    assert started["event"] == "started"
    assert ended["event"] == "ended"
    assert ended["operation"] == started["operation"]
    assert ended["gaps"] == 0
    assert ended["sequences"] == list(range(1, len(ended["sequences"]) + 1))
    assert ended["states"][0] == "STATE_QUEUED"
    assert ended["states"][-1] == "STATE_SUCCEEDED"
    assert ended["result_digest"] == ours["result_digest"]
    assert ended["metrics"] == len(ours["metrics"])
