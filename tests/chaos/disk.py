"""A small disk that can be filled up and freed while others write to it."""

import os
import subprocess
from contextlib import suppress
from pathlib import Path
from typing import Self

FILL_BYTES = 1 << 16


class SmallDisk:
    """A tmpfs of `size_mib` MiB at `folder` while entered, where that may be mounted.

    Elsewhere `is_there` is false, the folder lies on the machine's own disk, and cannot be filled.
    """

    def __init__(self, folder: Path, size_mib: int) -> None:
        self.folder = folder
        self.is_there = False
        self._size_mib = size_mib
        self._ballast = folder / ".ballast"

    def fill(self) -> None:
        """Takes all the room there is left."""
        with self._ballast.open("wb", buffering=0) as file, suppress(OSError):
            while True:
                if file.write(bytes(FILL_BYTES)) < FILL_BYTES:
                    break

    def free(self) -> None:
        """Gives the room back."""
        self._ballast.unlink(missing_ok=True)

    def __enter__(self) -> Self:
        """Mounts it."""
        self.folder.mkdir(parents=True, exist_ok=True)
        options = f"size={self._size_mib}m,mode=0755"
        command = ["mount", "-t", "tmpfs", "-o", options, "chaos", str(self.folder)]
        with suppress(OSError):
            done = subprocess.run(command, capture_output=True, check=False)
            self.is_there = os.geteuid() == 0 and done.returncode == 0
        return self

    def __exit__(self, *_error: object) -> None:
        """Unmounts it; what somebody still has open goes when they close it."""
        if self.is_there:
            subprocess.run(
                ["umount", "-l", str(self.folder)],
                capture_output=True,
                check=False,
            )
