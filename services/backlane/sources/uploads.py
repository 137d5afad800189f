"""Files that clients sent, kept under the SHA-256 of their bytes: whole or not at all.

    home/uploads/{64 hex}

A file has one content for ever, so that a run which names a digest gets those bytes or an error.
The time of a file is that of its last use; the least recently used go first when there are too
many.
"""

import hashlib
import os
import re
import uuid
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from backlane.errors import (
    FieldViolation,
    InvalidRequestError,
    PayloadTooLargeError,
    UploadDigestMismatchError,
    UploadNotFoundError,
)

UPLOADS_FOLDER = "uploads"
KEPT_S_MIN = 86_400
"""A file that was used within so many seconds is never removed: a run that waits may need it."""
_PREFIX = "sha256:"
_HEX = re.compile(r"[0-9a-f]{64}")


class UploadedFiles:
    """The uploads under one home."""

    def __init__(self, home: Path) -> None:
        self._folder = home / UPLOADS_FOLDER

    def find(self, digest: str) -> Path:
        """Returns the file of a digest, and counts it as used; raises UploadNotFoundError."""
        path = self._path(digest)
        try:
            os.utime(path)
        except OSError as error:
            raise UploadNotFoundError(
                f"There is no file {digest} here: upload it, then run it again.",
                metadata={"upload": digest},
            ) from error
        return path

    def size_bytes(self, digest: str) -> int | None:
        """Returns how many bytes the file has; None where there is none. Counts as a use."""
        path = self._path(digest)
        with suppress(OSError):
            os.utime(path)
            return path.stat().st_size
        return None

    def missing(self, digests: Iterable[str]) -> list[str]:
        """Returns those that are not kept, in the order given; the others count as used."""
        return [digest for digest in digests if self.size_bytes(digest) is None]

    def receive(self, digest: str, size_bytes: int) -> "Arrival":
        """Returns a file in the making; leaving its context without `keep` removes it."""
        self._folder.mkdir(parents=True, exist_ok=True)
        return Arrival(self._path(digest), digest, size_bytes)

    def prune(self, bytes_max: int, now_s: float) -> int:
        """Removes the least recently used beyond `bytes_max` in all; returns how many.

        `now_s` is seconds since 1970. Files of the last day stay, and so may more than that.
        """
        found = []
        for path in self._folder.glob("*"):
            with suppress(FileNotFoundError):
                about = path.stat()
                found.append((about.st_mtime, about.st_size, path))
        surplus, removed = sum(size for _, size, _ in found) - bytes_max, 0
        for used_s, size, path in sorted(found):
            if surplus <= 0 or now_s - used_s < KEPT_S_MIN:
                break
            path.unlink(missing_ok=True)
            surplus, removed = surplus - size, removed + 1
        return removed

    def _path(self, digest: str) -> Path:
        name = digest.removeprefix(_PREFIX)
        if not (digest.startswith(_PREFIX) and _HEX.fullmatch(name)):
            raise ValueError(f"{digest!r} is no digest")
        return self._folder / name


class Arrival:
    """One file that is being received; counts and digests its bytes as they come."""

    def __init__(self, path: Path, digest: str, size_bytes: int) -> None:
        self._path = path
        self._digest = digest
        self._size_bytes = size_bytes
        self._scratch = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
        self._sum = hashlib.sha256()
        self._received_bytes = 0

    def __enter__(self) -> Self:
        """Opens the scratch file beside the place."""
        self._file = self._scratch.open("xb", buffering=0)
        return self

    def append(self, content: bytes) -> None:
        """Writes the next bytes; raises PayloadTooLargeError beyond the size that was named."""
        self._received_bytes += len(content)
        if self._received_bytes > self._size_bytes:
            raise PayloadTooLargeError(
                f"More than the {self._size_bytes} bytes came that the opening named.",
                metadata={"size_bytes": str(self._size_bytes)},
                violations=size_violations(self._size_bytes, "but more bytes came"),
            )
        self._sum.update(content)
        view = memoryview(content)
        while view:
            view = view[self._file.write(view) :]

    def keep(self) -> None:
        """Puts the whole file in its place, on disk for good.

        Raises InvalidRequestError for fewer bytes than were named, and UploadDigestMismatchError
        for others than those of the digest.
        """
        if self._received_bytes != self._size_bytes:
            raise InvalidRequestError(
                f"{self._received_bytes} bytes came of {self._size_bytes}: send the file again.",
                violations=size_violations(self._size_bytes, f"{self._received_bytes} came"),
            )
        found = f"{_PREFIX}{self._sum.hexdigest()}"
        if found != self._digest:
            raise UploadDigestMismatchError(
                f"The bytes that came are {found}, not {self._digest}: the file changed while it "
                "was sent, or was damaged on the way. Send it again.",
                metadata={"digest": found, "expected_digest": self._digest},
            )
        os.fsync(self._file.fileno())
        self._scratch.rename(self._path)
        _sync(self._path.parent)

    def __exit__(
        self,
        _type: type[BaseException] | None,
        _error: BaseException | None,
        _traceback: TracebackType | None,
    ) -> None:
        """Closes it, and removes what was not kept."""
        self._file.close()
        self._scratch.unlink(missing_ok=True)


def size_violations(size_bytes: int, problem: str) -> tuple[FieldViolation, ...]:
    """Returns what is wrong with the size that an opening named."""
    return (FieldViolation("opening.size_bytes", f"is {size_bytes}, {problem}"),)


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
