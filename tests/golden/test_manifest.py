"""Every file of the recorded vectors is as it was recorded, and some golden test reads it."""

import csv
import hashlib
import os
from fnmatch import fnmatchcase
from importlib import import_module
from pathlib import Path

import pytest

from tests.shared import KTRDR, needs_shared

READS = ("MANIFEST.csv",)

pytestmark = needs_shared

READ_BY_NO_TEST = {
    "README.md": "says what the files are, for people",
    "SPEC.md": "the rules; tests/golden/test_reference_bugs.py counts its mistakes",
    "bundles/*/*/metadata.json": "an older form of metadata_v3.json, which no backtest reads",
    "bundles/*/*/metrics.json": "the history of a training that never was",
}
"""Kinds of files that need no test, and why."""


def recorded_files() -> list[str]:
    return sorted(path.relative_to(KTRDR).as_posix() for path in KTRDR.rglob("*") if path.is_file())


def read_kinds() -> dict[str, str]:
    """Returns the patterns that the golden tests say they read, with the module that says so."""
    modules = sorted(Path(__file__).parent.glob("test_*.py"))
    return {
        pattern: path.stem
        for path in modules
        for pattern in import_module(f"tests.golden.{path.stem}").READS
    }


def test_every_file_is_read_by_a_test_or_excused() -> None:
    patterns = [*read_kinds(), *READ_BY_NO_TEST]
    unread = [
        name
        for name in recorded_files()
        if not any(fnmatchcase(name, pattern) for pattern in patterns)
    ]
    assert unread == []


def test_every_pattern_is_of_a_file_that_there_is() -> None:
    if "BACKLANE_KTRDR" in os.environ:
        pytest.skip("another set of vectors may have fewer kinds of files")
    names = recorded_files()
    for pattern in [*read_kinds(), *READ_BY_NO_TEST]:
        assert any(fnmatchcase(name, pattern) for name in names), pattern


def test_every_file_has_the_content_that_was_recorded() -> None:
    path = KTRDR / "MANIFEST.csv"
    if not path.is_file():
        pytest.skip(f"this set has no manifest: {path}")
    with path.open() as file:
        for row in csv.DictReader(file):
            content = (KTRDR / row["path"]).read_bytes()
            assert hashlib.sha256(content).hexdigest() == row["sha256"], row["path"]
