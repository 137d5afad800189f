"""Where the shared reference data lies, for tests that use it and skip where it is absent."""

import os
from pathlib import Path

import pytest

SHARED = Path(__file__).resolve().parents[2] / "shared"
KTRDR = Path(os.environ.get("BACKLANE_KTRDR", SHARED / "reference" / "ktrdr"))
"""The recorded vectors of the reference; BACKLANE_KTRDR names another set of the same shape."""
MARKET_DATA = SHARED / "data"

needs_shared = pytest.mark.skipif(
    not (SHARED.is_dir() or KTRDR.is_dir()),
    reason=f"the shared reference data is not there: {SHARED}",
)
