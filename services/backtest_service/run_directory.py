"""The folders of the results: where each is, what is in it, and which are too many.

home/results/{operation_id}/attempt-{number}/
"""

import shutil
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from backlane.backtest.summary import ResultFile
from backlane.errors import InvalidRequestError
from backlane.operations.operation import Operation
from backlane.sources.results import RESULT_FILES, file_digest
from backlane.wire.operation_requests import name_from_proto

RESULTS_FOLDER = "results"
"""Where they are under the home, a folder for each operation."""
ATTEMPT = "attempt-"
"""What the folder of an attempt is called, before its number."""


def directory_of(results_dir: Path, operation: str, *, field: str = "operation") -> Path:
    """Returns the folder of an operation's result; its name cannot leave `results_dir`.

    Raises InvalidRequestError, naming `field`, for what is no operations/{operation_id}.
    """
    return results_dir / name_from_proto(operation, field).removeprefix("operations/")


def attempt_directory(results_dir: Path, operation: Operation) -> Path:
    """Returns the folder of the operation's newest attempt: the one that counts once it succeeded.

    Each attempt has its own, so that one that was given up and writes on spoils nothing.
    """
    return directory_of(results_dir, operation.name) / f"{ATTEMPT}{operation.attempt}"


def list_files(directory: Path, names: Sequence[str] = RESULT_FILES) -> tuple[ResultFile, ...]:
    """Returns the files of a result that are there, with the digests of their bytes.

    `names` are those that its kind of run writes. A result that an earlier version wrote may have
    fewer than one of today.
    """
    paths = [directory / name for name in names]
    return tuple(
        ResultFile(path.name, path.stat().st_size, file_digest(path))
        for path in paths
        if path.is_file()
    )


def remove(directory: Path) -> None:
    """Removes what an attempt left; and the operation's folder, once nothing else is in it."""
    _remove_attempt(directory)
    with suppress(OSError):
        directory.parent.rmdir()


def remove_others(directory: Path) -> None:
    """Removes what the other attempts of the same operation left."""
    for other in directory.parent.glob(f"{ATTEMPT}*"):
        if other != directory:
            _remove_attempt(other)


def _remove_attempt(directory: Path) -> None:
    shutil.rmtree(directory, ignore_errors=True)
    for scratch in directory.parent.glob(f".{directory.name}.*.tmp"):
        shutil.rmtree(scratch, ignore_errors=True)


def prune(results_dir: Path, results_max: int) -> int:
    """Removes the oldest results beyond `results_max`; returns how many."""
    found = []
    for path in results_dir.glob("[!.]*"):
        try:
            directory_of(results_dir, f"operations/{path.name}")
            found.append((path.stat().st_mtime_ns, path))
        except (InvalidRequestError, FileNotFoundError):
            continue  # not one of ours, or gone this moment
    surplus = sorted(found)[: max(0, len(found) - results_max)]
    for _, path in surplus:
        shutil.rmtree(path, ignore_errors=True)
    return len(surplus)
