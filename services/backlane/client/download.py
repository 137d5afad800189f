"""Writes the files of a result as they arrive: all of them with the right digests, or nothing."""

import hashlib
import os
import shutil
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import Self

from backlane.backtest.summary import ResultFile
from backlane.errors import InternalError, PathEscapesRootError

_MARK = "result.json"


class Download:
    """A result directory in the making; leaving the context without `keep` removes it.

    An earlier result in the same place is replaced; any other folder is refused with
    FileExistsError, so that no one loses files by a typing error.
    """

    def __init__(self, directory: Path, files: Iterable[ResultFile]) -> None:
        self._directory = directory
        self._scratch = directory.with_name(f".{directory.name}.{os.getpid()}.part")
        self._names = {file.name for file in files}
        for name in self._names:
            _check_name(name)
        self._refuse_other_folder()

    def __enter__(self) -> Self:
        """Makes the scratch folder beside the directory."""
        shutil.rmtree(self._scratch, ignore_errors=True)
        self._scratch.mkdir(parents=True)
        return self

    def path(self, file: ResultFile) -> Path:
        """Returns where the bytes of a file go for the time being."""
        return self._scratch / file.name

    def append(self, file: ResultFile, content: bytes) -> None:
        """Adds bytes to the end of a file."""
        with self.path(file).open("ab") as opened:
            opened.write(content)

    def check(self, file: ResultFile) -> None:
        """Raises InternalError when the bytes are not those that were promised."""
        path = self.path(file)
        path.touch()
        with path.open("rb") as opened:
            digest = "sha256:" + hashlib.file_digest(opened, "sha256").hexdigest()
        if digest != file.digest:
            raise InternalError(
                f"{file.name} arrived as {digest}, but it is {file.digest}: it was damaged on the "
                "way, or where it is kept. Download it again, or run the backtest again.",
                metadata={"file": file.name, "digest": digest, "expected_digest": file.digest},
            )

    def keep(self) -> None:
        """Puts the finished directory in its place."""
        self._refuse_other_folder()
        if self._directory.exists():
            shutil.rmtree(self._directory)
        self._scratch.rename(self._directory)

    def __exit__(
        self,
        _type: type[BaseException] | None,
        _error: BaseException | None,
        _traceback: TracebackType | None,
    ) -> None:
        """Removes what was not kept."""
        shutil.rmtree(self._scratch, ignore_errors=True)

    def _refuse_other_folder(self) -> None:
        if not self._directory.exists():
            return
        names = (
            {path.name for path in self._directory.iterdir()} if self._directory.is_dir() else None
        )
        is_result = names is not None and _MARK in names and names <= self._names
        if names != set() and not is_result:
            raise FileExistsError(
                f"{self._directory} exists and is no result directory: choose another one."
            )


def _check_name(name: str) -> None:
    if Path(name).name != name or name in {"", ".", ".."}:
        raise PathEscapesRootError(
            f"The service names a file {name!r}, which would leave the result directory.",
            metadata={"name": name},
        )
