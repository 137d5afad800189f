"""docs/tutorial.md: its files are those of the example, and its commands do what it says."""

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from backlane.cli import main
from backlane.sources.strategy_packages import STRATEGY_GROUP
from tests.e2e.cli_services import ROOT

EXAMPLE = ROOT / "examples" / "portfolio" / "own_strategy"
PAGE = (ROOT / "docs" / "tutorial.md").read_text()
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)
COMMANDS = [
    line
    for language, text in BLOCKS
    for line in text.splitlines()
    if language == "sh" and line.startswith("backlane ")
]
pytestmark = pytest.mark.slow


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What `pip install` leaves: the module, and its entry point beside it."""
    (tmp_path / "channel_strategy.py").write_text((EXAMPLE / "channel_strategy.py").read_text())
    about = tmp_path / "channel_strategy-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: channel-strategy\nVersion: 1.0\n")
    points = f"[{STRATEGY_GROUP}]\nchannel = channel_strategy:CHANNEL\n"
    (about / "entry_points.txt").write_text(points)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "channel_strategy", raising=False)
    return tmp_path


def run(line: str, folder: Path) -> int:
    """Runs a command of the page, its files in `folder`."""
    words = [
        str(ROOT / word) if word.startswith("examples/") else word for word in shlex.split(line)[1:]
    ]
    return main.run([str(folder / word) if word == "channel_result" else word for word in words])


def test_the_page_shows_the_files_as_they_are():
    shown = {}
    for language, text in BLOCKS:
        head, _, rest = text.partition("\n")
        if language in {"python", "toml", "yaml"}:
            shown[Path(head.removeprefix("# ")).name] = rest
    there = {path.name: path.read_text() for path in EXAMPLE.iterdir() if path.is_file()}
    assert shown == there


def test_the_strategy_takes_thirty_lines():
    assert len((EXAMPLE / "channel_strategy.py").read_text().splitlines()) <= 30
    assert 'channel = "channel_strategy:CHANNEL"' in (EXAMPLE / "pyproject.toml").read_text()


def test_its_own_test_passes():
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", EXAMPLE,
         "-c", "/dev/null", EXAMPLE],
        capture_output=True, text=True, timeout=110, check=False, cwd=ROOT,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_command_of_the_page_does_what_it_says(installed: Path):
    assert [line.split()[1:3] for line in COMMANDS] == [
        ["portfolio", "run"],
        ["cycle", "run"],
        ["audit", "lookahead"],
        ["audit", "warmup"],
    ]
    assert [run(line, installed) for line in COMMANDS] == [0, 0, 0, 0]
    assert (installed / "channel_result" / "fills.csv").read_text().count("\n") > 5


def test_the_mistake_of_the_page_is_found(installed: Path, capsys: pytest.CaptureFixture[str]):
    module = installed / "channel_strategy.py"
    lines = module.read_text().splitlines(keepends=True)
    assert "row + 1]" in lines[20]
    lines[20] = lines[20].replace("row + 1]", "row + 2]")
    module.write_text("".join(lines))
    capsys.readouterr()
    assert run(f"{COMMANDS[2]} --json", installed) == 1
    stamp = json.loads(capsys.readouterr().out)
    first = next(each for each in stamp["findings"] if each["stage"] == "signals")
    assert (first["column"], first["instrument"]) == ("channel.direction", "OAK")
    assert first["first_bar"] in PAGE


def test_so_is_too_little_history(installed: Path, capsys: pytest.CaptureFixture[str]):
    capsys.readouterr()
    assert run(COMMANDS[3].replace("--history 10", "--history 5 --json"), installed) == 1
    stamp = json.loads(capsys.readouterr().out)
    assert {each["bars_needed"] for each in stamp["findings"] if each["stage"] == "targets"} == {9}
