"""Which exit code each error ends with, and that the page says the same."""

import re
from pathlib import Path

import pytest

from backlane import errors
from backlane.cli.exit_codes import ExitCode, exit_code_of

CLI_PAGE = Path(__file__).resolve().parents[3] / "docs" / "cli.md"


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (errors.InvalidRequestError, ExitCode.USAGE),
        (errors.ServiceUnavailableError, ExitCode.UNREACHABLE),
        (errors.ServerDrainingError, ExitCode.UNREACHABLE),
        (errors.CallTimeoutError, ExitCode.UNREACHABLE),
        (errors.CancelledRunError, ExitCode.CANCELLED),
        (errors.InternalError, ExitCode.INTERNAL),
        (errors.ModelNotFoundError, ExitCode.FAILED),
        (errors.WorkerLostError, ExitCode.FAILED),
    ],
)
def test_an_error_ends_a_command_with_its_code(error, code):
    assert exit_code_of(error("What.")) is code


def test_the_page_lists_every_exit_code_with_its_meaning():
    listed = dict(re.findall(r"^\| (\d+) \| (.+?) \|$", CLI_PAGE.read_text(), re.MULTILINE))
    assert listed == {str(int(code)): code.meaning for code in ExitCode}
