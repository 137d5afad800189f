"""Three real services with the models of models/ and synthetic bars, and `backlane` on them."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.stack import Stack

ROOT = Path(__file__).resolve().parents[2]
SYMBOL = "SYNTHETIC_EURUSD"
RUN = ("backtest", "run", "--model", "rsi_bb", "--symbol", SYMBOL, "--timeframe", "1h")
COMMAND_TIMEOUT_S = 90.0


class CommandLine:
    """Runs `backlane` as a process of its own, on one home."""

    def __init__(self, home: Path, stack: Stack | None = None) -> None:
        self.home = home
        self.stack = stack
        self.environment = {**os.environ, "BACKLANE_HOME": str(home)}
        if stack is not None:
            self.environment |= {
                "BACKLANE_OPERATIONS_ADDRESS": stack.addresses.operations,
                "BACKLANE_MODELS_ADDRESS": stack.addresses.models,
                "BACKLANE_BACKTESTS_ADDRESS": stack.addresses.backtests,
            }

    def run(self, *arguments: object) -> subprocess.CompletedProcess[str]:
        """Runs a command to its end."""
        return subprocess.run(
            self._words(arguments),
            env=self.environment,
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=COMMAND_TIMEOUT_S,
            check=False,
        )

    def ok(self, *arguments: object) -> str:
        """Runs a command that must succeed; returns what it wrote to stdout."""
        done = self.run(*arguments)
        assert done.returncode == 0, done.stderr + done.stdout
        return done.stdout

    def json(self, *arguments: object) -> Any:
        """Runs a command that must succeed; returns its one document."""
        return json.loads(self.ok(*arguments, "--json"))

    def start(self, *arguments: object) -> subprocess.Popen[str]:
        """Starts a command in a process group of its own."""
        return subprocess.Popen(
            self._words(arguments),
            env=self.environment,
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def enter(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Puts this very process where the commands are run: many of them take less time so."""
        monkeypatch.chdir(ROOT)
        for name, value in self.environment.items():
            if name.startswith("BACKLANE_"):
                monkeypatch.setenv(name, value)

    @staticmethod
    def _words(arguments: tuple[object, ...]) -> list[str]:
        return [sys.executable, "-m", "backlane.cli.main", *map(str, arguments)]


@contextmanager
def command_line_on_services(folder: Path) -> Iterator[CommandLine]:
    """Starts the services in a new home with a year of synthetic bars."""
    home = folder / "home"
    stack = Stack(home, ROOT / "models", folder)
    CommandLine(home).ok("data", "sample", "--years", 1)
    yield from (CommandLine(home, running) for running in stack.running())
