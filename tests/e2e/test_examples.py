"""The examples, and the Python in README.md, run against three real services as they stand."""

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.cli_services import ROOT, CommandLine, command_line_on_services

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]

EXAMPLES = sorted((ROOT / "examples").glob("*.py"))


def _python_in(page: Path) -> list[str]:
    return re.findall(r"^```python\n(.*?)^```$", page.read_text(), re.DOTALL | re.MULTILINE)


@pytest.fixture(scope="module")
def cli(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CommandLine]:
    with command_line_on_services(tmp_path_factory.mktemp("examples")) as command_line:
        yield command_line


def _run(cli: CommandLine, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, *arguments],
        env=cli.environment,
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_runs(cli: CommandLine, example: Path):
    assert _run(cli, str(example)).strip()


def test_the_python_of_the_readme_runs(cli: CommandLine):
    printed = [float(_run(cli, "-c", block)) for block in _python_in(ROOT / "README.md")]
    assert len(printed) == 2
    assert printed[0] == printed[1]


def test_an_example_in_process_gives_the_digest_of_the_services(cli: CommandLine):
    name = cli.json("backtest", "run", "--model", "rsi_bb", "--symbol", "SYNTHETIC_EURUSD")
    assert name["result_digest"] in _run(cli, str(ROOT / "examples" / "in_process.py"))


def test_the_page_shows_the_examples_as_they_are():
    shown = _python_in(ROOT / "docs" / "sdk.md")
    assert shown
    assert set(shown) == {example.read_text() for example in EXAMPLES}


def test_every_page_that_the_readme_names_is_there():
    named = re.findall(r"\]\((docs/[\w.-]+)\)", (ROOT / "README.md").read_text())
    assert [page for page in named if not (ROOT / page).exists()] == []
