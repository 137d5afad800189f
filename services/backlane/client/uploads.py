"""The files of a portfolio: found beside its configuration, digested, and sent in parts."""

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from backlane.api.portfolios.v1 import portfolio_service_pb2 as pb
from backlane.backtest.portfolio_request import PortfolioRequest, file_roles
from backlane.errors import FieldViolation, InvalidRequestError
from backlane.wire.portfolio_uploads import CHUNK_BYTES_MAX

BYTES_PER_S_MIN = 256 * 1024
UPLOAD_S_MIN = 60.0
"""An upload gets so many seconds, or those that its bytes take at the slowest pace, if longer."""


@dataclass(frozen=True, slots=True)
class LocalFile:
    """A file of this machine, with the digest of its bytes when they were read."""

    path: Path
    digest: str
    size_bytes: int

    @classmethod
    def at(cls, path: Path) -> "LocalFile":
        """Returns the file at a path; raises OSError when it cannot be read."""
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
            return cls(path, f"sha256:{digest}", file.tell())

    @property
    def deadline_s(self) -> float:
        """Returns how long its upload may take."""
        return max(UPLOAD_S_MIN, self.size_bytes / BYTES_PER_S_MIN)

    def messages(self) -> Iterator[pb.UploadFileRequest]:
        """Yields the opening, then the bytes in order."""
        opening = pb.UploadOpening(digest=self.digest, size_bytes=self.size_bytes)
        yield pb.UploadFileRequest(opening=opening)
        with self.path.open("rb") as file:
            while content := file.read(CHUNK_BYTES_MAX):
                yield pb.UploadFileRequest(content=content)


def local_files(config: Mapping[str, Any], folder: Path) -> dict[str, LocalFile]:
    """Returns the files that a configuration names, by their names in it, relative to `folder`.

    Raises InvalidRequestError, naming each field whose file is not there.
    """
    found, violations = {}, []
    for role, name in file_roles(config).items():
        path = folder / name
        if path.is_file():
            found[name] = LocalFile.at(path)
        else:
            violations.append(FieldViolation(f"data.{role}", f"there is no file {str(path)!r}"))
    if violations:
        lines = "; ".join(f"{each.field}: {each.description}" for each in violations)
        raise InvalidRequestError(
            f"The configuration is not valid. {lines}", violations=tuple(violations)
        )
    return found


def request_of(config: Mapping[str, Any], files: Mapping[str, LocalFile]) -> PortfolioRequest:
    """Returns the request for a configuration and its files."""
    return PortfolioRequest(config, {name: file.digest for name, file in sorted(files.items())})
