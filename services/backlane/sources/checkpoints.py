"""Checkpoints on disk: written whole or not at all, never overwritten, and checked when read.

    home/checkpoints/{operation_id}/{number:06d}-{sha256[:12]}.ckpt

A file is named in the registry by a URI relative to the home, so that every machine may mount the
home where it likes. The folder belongs to the operation whose worker wrote into it; a run that was
resumed from another reads the files of that one, and writes its own.
"""

import errno
import hashlib
import os
import re
import shutil
import uuid
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from backlane import failpoints
from backlane.errors import CheckpointCorruptError, CheckpointForeignError
from backlane.operations.operation import Checkpoint

CHECKPOINTS_FOLDER = "checkpoints"
WRITE_BYTES = 4 * 2**20
"""Bytes that are written between two looks at whether the checkpoint is still wanted."""
_SCHEME = "home:"
_NAME = re.compile(r"[a-z0-9][a-z0-9-]*")
_URI = re.compile(
    rf"{_SCHEME}{CHECKPOINTS_FOLDER}/({_NAME.pattern})/([0-9]{{6,}}-[0-9a-f]{{12}}\.ckpt)"
)

Part = bytes | memoryview


@dataclass(frozen=True, slots=True)
class WrittenCheckpoint:
    """A file that is on disk for good; `sha256` is 32 bytes."""

    uri: str
    sha256: bytes
    size_bytes: int


class Abandoned(Exception):  # noqa: N818 - no error: the writer was told to stop
    """The checkpoint is no longer wanted; nothing was left of it."""


class CheckpointFiles:
    """The checkpoints under one home."""

    def __init__(self, home: Path) -> None:
        self._home = home
        self._folder = home / CHECKPOINTS_FOLDER
        self.is_wanted = True

    def write(self, operation: str, number: int, parts: Iterable[Part]) -> WrittenCheckpoint:
        """Writes a checkpoint of `operations/{id}`, syncs it, and gives it its name.

        Raises OSError when it cannot be written, and Abandoned once `is_wanted` is False; in both
        cases nothing is left of it.
        """
        folder = self._folder_of(operation)
        folder.mkdir(parents=True, exist_ok=True)
        scratch = folder / f".{number:06d}-{uuid.uuid4().hex}.tmp"
        try:
            digest, size_bytes = self._write_scratch(scratch, parts)
            path = folder / f"{number:06d}-{digest.hex()[:12]}.ckpt"
            # Another file can stand here only with the same content: then it is left alone.
            if not path.exists():
                scratch.rename(path)
            _sync(folder)
        finally:
            scratch.unlink(missing_ok=True)
        uri = f"{_SCHEME}{path.relative_to(self._home).as_posix()}"
        return WrittenCheckpoint(uri, digest, size_bytes)

    def _write_scratch(self, path: Path, parts: Iterable[Part]) -> tuple[bytes, int]:
        digest, size_bytes = hashlib.sha256(), 0
        with path.open("wb", buffering=0) as file:
            for part in parts:
                view = memoryview(part)
                for start in range(0, len(view), WRITE_BYTES):
                    if not self.is_wanted:
                        raise Abandoned
                    _refuse_when_full(path)
                    piece = view[start : start + WRITE_BYTES]
                    digest.update(piece)
                    size_bytes += len(piece)
                    _write_all(file.fileno(), piece)
            os.fsync(file.fileno())
        return digest.digest(), size_bytes

    def read(self, checkpoint: Checkpoint) -> bytes:
        """Returns the bytes that were committed.

        Raises CheckpointCorruptError when they are missing, cut off or changed, and
        CheckpointForeignError when the URI is none of ours.
        """
        path = self._path_of(checkpoint.uri)
        try:
            content = path.read_bytes()
        except OSError as error:
            raise _corrupt(checkpoint, f"it cannot be read: {error.strerror}") from error
        if len(content) != checkpoint.size_bytes:
            problem = f"it has {len(content)} bytes instead of {checkpoint.size_bytes}"
            raise _corrupt(checkpoint, problem)
        if hashlib.sha256(content).digest() != checkpoint.sha256:
            raise _corrupt(checkpoint, "its SHA-256 is not the one that was committed")
        return content

    def remove(self, operation: str, uris: Iterable[str]) -> None:
        """Removes files of this operation's own folder; those of others stay."""
        folder = self._folder_of(operation)
        for uri in uris:
            path = self._path_of(uri)
            if path.parent == folder:
                path.unlink(missing_ok=True)

    def remove_all(self, operation: str) -> None:
        """Removes the operation's folder, with all that is in it."""
        shutil.rmtree(self._folder_of(operation), ignore_errors=True)

    def folders(self, older_than_ns: int, limit: int) -> list[str]:
        """Returns operations with a folder that nothing was written into since, oldest first.

        `older_than_ns` is UTC nanoseconds on this machine's clock.
        """
        found = []
        for path in self._folder.glob("*"):
            try:
                changed_ns = path.stat().st_mtime_ns
            except FileNotFoundError:
                continue
            if changed_ns < older_than_ns and path.is_dir() and _NAME.fullmatch(path.name):
                found.append((changed_ns, path.name))
        return [f"operations/{name}" for _, name in sorted(found)[:limit]]

    def _folder_of(self, operation: str) -> Path:
        name = operation.removeprefix("operations/")
        if not _NAME.fullmatch(name):
            raise ValueError(f"{operation!r} is no operations/{{operation_id}}")
        return self._folder / name

    def _path_of(self, uri: str) -> Path:
        match = _URI.fullmatch(uri)
        if match is None:
            raise CheckpointForeignError(
                f"The checkpoint lies at {uri!r}, where this worker cannot read.",
                metadata={"uri": uri},
            )
        return self._folder / match[1] / match[2]


def _corrupt(checkpoint: Checkpoint, problem: str) -> CheckpointCorruptError:
    return CheckpointCorruptError(
        f"The checkpoint is damaged: {problem}.",
        metadata={"uri": checkpoint.uri, "problem": problem},
    )


def _refuse_when_full(path: Path) -> None:
    try:
        failpoints.reached("checkpoint.full")
    except failpoints.FailpointError as error:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path)) from error


def _write_all(descriptor: int, piece: memoryview) -> None:
    while piece:
        piece = piece[os.write(descriptor, piece) :]


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
