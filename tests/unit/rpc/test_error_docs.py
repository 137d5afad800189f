"""docs/errors.md, generated from the error table."""

import subprocess
import sys
from pathlib import Path

from backlane.rpc.error_catalog import CATALOG
from backlane.rpc.exit_codes import ExitCode

ROOT = Path(__file__).resolve().parents[3]


def test_the_page_is_what_the_table_says():
    command = [sys.executable, "scripts/generate_error_docs.py", "--check"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_page_names_every_reason_and_exit_code():
    page = (ROOT / "docs" / "errors.md").read_text(encoding="utf-8")
    assert all(f"| `{cls.reason}` | `{cls.__name__}` |" in page for cls in CATALOG)
    assert all(f"| {int(code)} | {code.help} |" in page for code in ExitCode)
