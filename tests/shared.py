"""Where the shared reference data lies, for tests that use it and skip where it is absent."""

from pathlib import Path

import pytest

SHARED = Path(__file__).resolve().parents[2] / "shared"
KTRDR = SHARED / "reference" / "ktrdr"
MARKET_DATA = SHARED / "data"

needs_shared = pytest.mark.skipif(
    not SHARED.is_dir(), reason=f"the shared reference data is not there: {SHARED}"
)
