"""Where a client finds the services."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from backlane.client.connection import Addresses, home_folder
from backlane.errors import InvalidRequestError


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / "run").mkdir()
    return tmp_path


def write(home: Path, text: str) -> None:
    (home / "run" / "addresses.json").write_text(text, encoding="utf-8")


def test_the_default_is_this_machine(home: Path):
    assert Addresses.resolve(environ={"BACKLANE_HOME": str(home)}) == Addresses(
        operations="127.0.0.1:7410", models="127.0.0.1:7411", backtests="127.0.0.1:7412"
    )


def test_argument_before_environment_before_file_before_default(home: Path):
    write(home, json.dumps({"operations": "file:1", "models": "file:2", "backtests": "file:3"}))
    environ = {
        "BACKLANE_HOME": str(home),
        "BACKLANE_OPERATIONS_ADDRESS": "env:1",
        "BACKLANE_MODELS_ADDRESS": "env:2",
    }
    found = Addresses.resolve(operations="argument:1", environ=environ)
    assert found == Addresses(operations="argument:1", models="env:2", backtests="file:3")
    assert found.of("models") == "env:2"


def test_a_file_may_name_some_of_them(home: Path):
    write(home, json.dumps({"models": "file:2", "pid": 7}))
    found = Addresses.resolve(environ={"BACKLANE_HOME": str(home)})
    assert found == Addresses(models="file:2")


@pytest.mark.parametrize("text", ["{", "[]", '{"models": 7411}', ""])
def test_a_damaged_file_is_named(home: Path, text: str):
    write(home, text)
    with pytest.raises(InvalidRequestError, match=r"addresses\.json"):
        Addresses.resolve(environ={"BACKLANE_HOME": str(home)})


def test_home_is_below_the_users_home_unless_set():
    assert home_folder({}) == Path.home() / ".local/share/backlane"
    assert home_folder({"BACKLANE_HOME": "/data"}) == Path("/data")


def test_the_import_is_light():
    code = (
        "import sys, backlane.client.connection as _; "
        "heavy = {'numpy', 'pandas', 'torch', 'numba', 'pydantic', 'structlog', 'pyarrow'} "
        "& set(sys.modules); "
        "sys.exit(str(heavy) if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
