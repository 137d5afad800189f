"""One server per data folder: two that write one SQLite file would damage it."""

import fcntl
import os
from pathlib import Path
from typing import IO

from backlane.errors import StoreUnavailableError


class DataLock:
    """Holds the lock file of a store until `release`, or the end of the process."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: IO[str] | None = None

    def acquire(self) -> None:
        """Takes the lock.

        Raises:
            StoreUnavailableError: another process has it; the message says which.

        """
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o600)
        file = os.fdopen(descriptor, "r+", encoding="ascii")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            holder = file.read().strip() or "unknown"
            file.close()
            raise StoreUnavailableError(
                f"{self._path.parent} is in use by another operations_service (process {holder}). "
                "Stop that one, or give this one a data folder of its own.",
                metadata={"path": str(self._path), "process": holder},
            ) from error
        file.truncate()
        file.write(f"{os.getpid()}\n")
        file.flush()
        self._file = file

    def release(self) -> None:
        """Gives the lock back. The file stays: removing it would race with the next server."""
        if self._file is not None:
            self._file.close()
            self._file = None
