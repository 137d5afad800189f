"""The digest of the engine's source changes with every file that decides what a run gives."""

import shutil
from pathlib import Path

import pytest

import backlane
from backlane.audit import verify
from backlane.sources.engine_source import ENGINE, ENGINE_STAGES, engine_digest, source_digest
from tests.architecture.source import PIPELINE

LIBRARY = Path(backlane.__file__).parent


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    for stage in ENGINE_STAGES:
        shutil.copytree(LIBRARY / stage, tmp_path / stage)
    shutil.copy(LIBRARY / "jit.py", tmp_path)
    return tmp_path


def test_every_stage_of_the_pipeline_counts():
    # audit comes after the engine and looks at what it gave.
    assert (*ENGINE_STAGES, "audit") == PIPELINE
    assert verify.ENGINE == ENGINE


def test_the_same_files_elsewhere_are_the_same_engine(copy: Path):
    (copy / "cli").mkdir()
    (copy / "cli" / "main.py").write_text("print('no part of the engine')\n")
    (copy / "cycle" / "notes.txt").write_text("nor is this\n")
    assert source_digest(copy) == engine_digest()


@pytest.mark.parametrize("stage", ENGINE_STAGES)
def test_one_character_in_any_stage_makes_another_engine(copy: Path, stage: str):
    before = source_digest(copy)
    path = copy / stage / "__init__.py"
    path.write_text(path.read_text() + "#")
    assert source_digest(copy) != before


def test_a_file_that_moves_or_joins_makes_another_engine(copy: Path):
    digests = {source_digest(copy)}
    (copy / "cycle" / "more.py").write_text("")
    digests.add(source_digest(copy))
    (copy / "cycle" / "more.py").rename(copy / "cycle" / "moved.py")
    digests.add(source_digest(copy))
    assert len(digests) == 3


def test_the_ends_of_lines_make_no_difference(copy: Path):
    before = source_digest(copy)
    path = copy / "jit.py"
    path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))
    assert source_digest(copy) == before
