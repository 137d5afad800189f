"""docs/errors.md, generated from the error table."""

import subprocess
import sys
from pathlib import Path

import pytest

from backlane.rpc.error_catalog import CATALOG
from backlane.rpc.exit_codes import ExitCode
from backlane.testing.broken_files import BROKEN_FILES, ODD_FILES
from backlane.testing.hostile_bundles import HOSTILE_BUNDLES

ROOT = Path(__file__).resolve().parents[3]


@pytest.mark.slow
def test_the_page_is_what_the_table_and_every_case_say():
    command = [sys.executable, "scripts/generate_error_docs.py", "--check"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_page_has_every_hostile_bundle_and_broken_file():
    page = (ROOT / "docs" / "errors.md").read_text(encoding="utf-8")
    for case in (*HOSTILE_BUNDLES, *BROKEN_FILES):
        assert f"\n| {case.name} | {case.done} | `{case.error.reason}` | " in page
    assert all(f"\n| {case.name} | {case.done} | " in page for case in ODD_FILES)


def test_the_page_names_every_reason_and_exit_code():
    page = (ROOT / "docs" / "errors.md").read_text(encoding="utf-8")
    assert all(f"| `{cls.reason}` | `{cls.__name__}` |" in page for cls in CATALOG)
    assert all(f"| {int(code)} | {code.help} |" in page for code in ExitCode)
