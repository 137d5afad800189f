"""The folders of the results: where each is, what is in it, and which are too many."""

import shutil
from pathlib import Path

from backlane.backtest.summary import ResultFile
from backlane.errors import InvalidRequestError
from backlane.sources.results import RESULT_FILES, file_digest
from backlane.wire.operation_requests import name_from_proto


def directory_of(results_dir: Path, operation: str, *, field: str = "operation") -> Path:
    """Returns the folder of an operation's result; its name cannot leave `results_dir`.

    Raises InvalidRequestError, naming `field`, for what is no operations/{operation_id}.
    """
    return results_dir / name_from_proto(operation, field).removeprefix("operations/")


def list_files(directory: Path) -> tuple[ResultFile, ...]:
    """Returns the files of a result, with the digests of their bytes."""
    return tuple(
        ResultFile(name, (directory / name).stat().st_size, file_digest(directory / name))
        for name in RESULT_FILES
    )


def remove(directory: Path) -> None:
    """Removes a result that does not count, or what there is of one."""
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
        remove(path)
    return len(surplus)
