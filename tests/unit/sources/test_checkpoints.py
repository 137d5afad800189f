"""Checkpoint files: whole or not at all, never overwritten, checked when read."""

import errno
import hashlib
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from backlane import failpoints
from backlane.errors import CheckpointCorruptError, CheckpointForeignError
from backlane.operations.operation import Checkpoint
from backlane.sources.checkpoints import Abandoned, CheckpointFiles, WrittenCheckpoint

NAME = "operations/abc-1"
PARTS = (b"one", memoryview(b"two" * 1000), b"")
CONTENT = b"".join(bytes(part) for part in PARTS)


@pytest.fixture(autouse=True)
def _disarmed() -> Iterator[None]:
    yield
    failpoints.arm("")


def committed(written: WrittenCheckpoint) -> Checkpoint:
    return Checkpoint(
        1, written.uri, written.sha256, written.size_bytes, 10, "f", hashlib.sha256().digest()
    )


def names(home: Path, operation: str = NAME) -> list[str]:
    folder = home / "checkpoints" / operation.removeprefix("operations/")
    return sorted(path.name for path in folder.glob("*")) if folder.is_dir() else []


def test_what_was_written_is_read_back(tmp_path: Path) -> None:
    files = CheckpointFiles(tmp_path)
    written = files.write(NAME, 7, PARTS)
    digest = hashlib.sha256(CONTENT)
    assert written.uri == f"home:checkpoints/abc-1/000007-{digest.hexdigest()[:12]}.ckpt"
    assert (written.sha256, written.size_bytes) == (digest.digest(), len(CONTENT))
    assert files.read(committed(written)) == CONTENT
    assert len(names(tmp_path)) == 1


def test_it_is_read_wherever_the_home_is_mounted(tmp_path: Path) -> None:
    written = CheckpointFiles(tmp_path / "here").write(NAME, 1, PARTS)
    (tmp_path / "here").rename(tmp_path / "there")
    assert CheckpointFiles(tmp_path / "there").read(committed(written)) == CONTENT


def test_a_file_is_never_overwritten(tmp_path: Path) -> None:
    files = CheckpointFiles(tmp_path)
    first = files.write(NAME, 1, PARTS)
    (path,) = (tmp_path / "checkpoints" / "abc-1").iterdir()
    before = path.stat().st_ino
    assert files.write(NAME, 1, PARTS) == first
    assert path.stat().st_ino == before
    other = files.write(NAME, 1, (b"of another attempt",))
    assert other.uri != first.uri
    assert len(names(tmp_path)) == 2


@pytest.mark.parametrize("damage", ["changed", "truncated", "longer", "removed"])
def test_damage_is_found(tmp_path: Path, damage: str) -> None:
    files = CheckpointFiles(tmp_path)
    checkpoint = committed(files.write(NAME, 1, PARTS))
    (path,) = (tmp_path / "checkpoints" / "abc-1").iterdir()
    changed = {
        "changed": b"0" + CONTENT[1:],
        "truncated": CONTENT[:-1],
        "longer": CONTENT + b"0",
    }
    if damage == "removed":
        path.unlink()
    else:
        path.write_bytes(changed[damage])
    with pytest.raises(CheckpointCorruptError) as caught:
        files.read(checkpoint)
    assert caught.value.metadata["uri"] == checkpoint.uri


@pytest.mark.parametrize(
    "uri",
    [
        "",
        "file:///etc/passwd",
        "home:checkpoints/../data/x.ckpt",
        "home:checkpoints/abc-1/../../secret.ckpt",
        "home:checkpoints/abc-1/000001-ABCDEF012345.ckpt",
        "home:results/abc-1/000001-abcdef012345.ckpt",
        "s3://bucket/000001-abcdef012345.ckpt",
    ],
)
def test_no_uri_leads_out_of_the_checkpoints(tmp_path: Path, uri: str) -> None:
    files = CheckpointFiles(tmp_path)
    checkpoint = replace(committed(files.write(NAME, 1, PARTS)), uri=uri)
    with pytest.raises(CheckpointForeignError):
        files.read(checkpoint)


def test_no_name_leads_out_of_the_checkpoints(tmp_path: Path) -> None:
    for name in ("operations/../x", "operations/", "operations/a/b", "operations/A"):
        with pytest.raises(ValueError, match="operation_id"):
            CheckpointFiles(tmp_path).write(name, 1, PARTS)


def test_a_full_disk_leaves_nothing_behind(tmp_path: Path) -> None:
    failpoints.arm("checkpoint.full=error")
    with pytest.raises(OSError, match="No space") as caught:
        CheckpointFiles(tmp_path).write(NAME, 1, PARTS)
    assert caught.value.errno == errno.ENOSPC
    assert names(tmp_path) == []


def test_one_that_is_no_longer_wanted_leaves_nothing_behind(tmp_path: Path) -> None:
    files = CheckpointFiles(tmp_path)

    def parts() -> Iterator[bytes]:
        yield b"begun"
        files.is_wanted = False
        yield b"and given up"

    with pytest.raises(Abandoned):
        files.write(NAME, 1, parts())
    assert names(tmp_path) == []


def test_only_files_of_the_own_folder_are_removed(tmp_path: Path) -> None:
    files = CheckpointFiles(tmp_path)
    mine, others = files.write(NAME, 1, PARTS), files.write("operations/source", 1, PARTS)
    files.remove(NAME, [mine.uri, others.uri])
    files.remove(NAME, [mine.uri])  # again
    assert names(tmp_path) == []
    assert files.read(committed(others)) == CONTENT
    files.remove_all("operations/source")
    assert names(tmp_path, "operations/source") == []


def test_old_folders_are_found_oldest_first(tmp_path: Path) -> None:
    files = CheckpointFiles(tmp_path)
    assert files.folders(10**30, 10) == []
    for age, name in enumerate(("young", "middle", "oldest")):
        files.write(f"operations/{name}", 1, PARTS)
        os.utime(tmp_path / "checkpoints" / name, (1_000 - 100 * age, 1_000 - 100 * age))
    (tmp_path / "checkpoints" / "Not Ours").mkdir()
    assert files.folders(950 * 10**9, 10) == ["operations/oldest", "operations/middle"]
    assert files.folders(950 * 10**9, 1) == ["operations/oldest"]
