"""What `backlane` says and how it ends when a command cannot be carried out."""

import json
import subprocess
import sys

import pytest
import typer

from backlane import errors
from backlane.cli import failure, main
from backlane.cli.exit_codes import ExitCode
from backlane.errors import FieldViolation, InvalidRequestError


def test_a_mistyped_command_is_answered_with_the_right_one(capsys):
    assert main.run(["bakctest"]) == ExitCode.USAGE
    said = capsys.readouterr()
    assert "Did you mean 'backtest'?" in said.err
    assert said.out == ""


def test_a_mistyped_command_in_a_group_too(capsys):
    assert main.run(["data", "improt"]) == ExitCode.USAGE
    assert "Did you mean 'import'?" in capsys.readouterr().err


def test_a_mistyped_option_is_answered_with_the_right_one_and_the_help_to_read(capsys):
    assert main.run(["backtest", "run", "--symbl", "X"]) == ExitCode.USAGE
    said = capsys.readouterr().err
    assert "--symbol" in said
    assert "backlane backtest run --help" in said


def test_a_usage_error_is_json_when_json_was_asked(capsys):
    assert main.run(["backtest", "run", "--json", "--cash", "much"]) == ExitCode.USAGE
    said = capsys.readouterr()
    error = json.loads(said.out)["error"]
    assert error["reason"] == "USAGE"
    assert "--cash" in error["message"]
    assert error["exit_code"] == 2
    assert said.err == ""


def test_every_violation_is_a_line_of_its_own(capsys):
    violations = (FieldViolation("symbol", "is empty"), FieldViolation("end", "is before start"))
    error = InvalidRequestError("The request is not valid. And so on.", violations=violations)
    assert failure.report_error(error, as_json=False) == ExitCode.USAGE
    assert capsys.readouterr().err.splitlines() == [
        "error: The request is not valid.",
        "  - symbol: is empty",
        "  - end: is before start",
    ]


def test_an_error_says_what_to_do_when_its_message_does_not(capsys):
    failure.report_error(errors.BundleCorruptError("model.pt is cut off."), as_json=False)
    assert capsys.readouterr().err.splitlines() == [
        "error: model.pt is cut off.",
        "try: Copy the bundle anew from where it was trained.",
    ]


def test_an_error_is_json_with_all_that_it_knows(capsys):
    error = errors.ModelNotFoundError("There is no models/x here.", metadata={"name": "models/x"})
    assert failure.report_error(error, as_json=True) == ExitCode.FAILED
    document = json.loads(capsys.readouterr().out)["error"]
    assert document["reason"] == "MODEL_NOT_FOUND"
    assert document["metadata"] == {"name": "models/x"}
    assert document["exit_code"] == 1
    assert "backlane model list" in document["advice"]


def test_a_missing_package_names_the_extra_that_brings_it(capsys):
    missing = ModuleNotFoundError("No module named 'numba'", name="numba")
    assert failure.report_missing_module(missing, as_json=False) == ExitCode.FAILED
    assert "backlane[engine]" in capsys.readouterr().err


def test_a_missing_module_of_no_extra_is_a_defect(capsys):
    missing = ModuleNotFoundError("No module named 'backlane.nothing'", name="backlane.nothing")
    assert failure.report_missing_module(missing, as_json=False) == ExitCode.INTERNAL
    assert "defect" in capsys.readouterr().err


def test_something_unforeseen_shows_its_traceback_only_when_asked(capsys, monkeypatch):
    failure.report_unforeseen(ValueError("odd"), as_json=False)
    assert len(capsys.readouterr().err.splitlines()) == 1
    monkeypatch.setenv("BACKLANE_TRACEBACK", "1")
    assert failure.report_unforeseen(ValueError("odd"), as_json=False) == ExitCode.INTERNAL
    assert "ValueError: odd\n" in capsys.readouterr().err


def test_a_command_may_end_with_a_code_of_its_own(monkeypatch):
    app = typer.Typer()

    @app.command()
    def ends() -> None:
        raise typer.Exit(ExitCode.CANCELLED)

    monkeypatch.setattr(main, "app", app)
    assert main.run([]) == ExitCode.CANCELLED


def test_a_file_that_is_not_there_is_named(capsys, tmp_path):
    missing = tmp_path / "nothing.yaml"
    assert main.run(["backtest", "run", "--request", str(missing)]) == ExitCode.FAILED
    assert capsys.readouterr().err == f"error: {missing}: No such file or directory\n"


def test_no_command_at_all_shows_the_help(capsys):
    assert main.run([]) == ExitCode.USAGE
    said = capsys.readouterr()
    assert "Commands:" in said.out + said.err


@pytest.mark.parametrize("command", list(main._COMMANDS))
def test_every_command_answers_help(command: str):
    done = subprocess.run(
        [sys.executable, "-m", "backlane.cli.main", command, "--help"],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert f"backlane {command}" in done.stdout
    assert "--install-completion" not in done.stdout


def test_the_version_command_lists_what_computes(capsys):
    assert main.run(["version", "--json"]) == ExitCode.OK
    assert {"backlane", "python", "numpy", "torch"} <= json.loads(capsys.readouterr().out).keys()
