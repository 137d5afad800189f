"""Where results are kept, and which of them are too many."""

import os
from dataclasses import replace
from pathlib import Path

import pytest

from backlane.errors import InvalidRequestError
from backlane.operations.operation import Operation, Payload, State
from backtest_service.run_directory import (
    attempt_directory,
    directory_of,
    list_files,
    prune,
    remove,
    remove_others,
)


def test_each_operation_has_a_folder(tmp_path: Path):
    assert directory_of(tmp_path, "operations/abc-123") == tmp_path / "abc-123"


@pytest.mark.parametrize(
    "name", ["", "abc-123", "operations/", "operations/../../etc", "operations/a/b", "/etc/passwd"]
)
def test_no_name_leads_out_of_the_results(tmp_path: Path, name: str):
    with pytest.raises(InvalidRequestError) as caught:
        directory_of(tmp_path, name)
    assert caught.value.violations[0].field == "operation"


def test_the_oldest_beyond_the_limit_go(tmp_path: Path):
    for age, name in enumerate(("newest", "middle", "oldest")):
        (tmp_path / name).mkdir()
        os.utime(tmp_path / name, (1_000_000 - age, 1_000_000 - age))
    (tmp_path / "Not Ours").mkdir()
    (tmp_path / ".hidden").mkdir()
    assert prune(tmp_path, 2) == 1
    assert {path.name for path in tmp_path.iterdir()} == {
        *("newest", "middle", "Not Ours", ".hidden")
    }
    assert prune(tmp_path, 2) == 0


def test_no_results_folder_is_no_result_too_many(tmp_path: Path):
    assert prune(tmp_path / "absent", 1) == 0


def test_each_attempt_has_a_folder_of_its_own(tmp_path: Path):
    operation = Operation("operations/abc-123", "u", "k", State.SUCCEEDED, Payload("t", b""), 0)
    found = attempt_directory(tmp_path, replace(operation, attempt=3))
    assert found == tmp_path / "abc-123" / "attempt-3"


def attempts(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_removing_takes_what_a_killed_worker_left_of_its_attempt_alone(tmp_path: Path):
    folder = tmp_path / "abcd"
    for name in ("attempt-1", ".attempt-1.77.tmp", "attempt-2", "attempt-11"):
        (folder / name).mkdir(parents=True)
    remove(folder / "attempt-1")
    assert attempts(folder) == {"attempt-2", "attempt-11"}
    remove(folder / "attempt-2")
    remove(folder / "attempt-11")
    assert not folder.exists()


def test_what_other_attempts_left_goes_once_one_has_succeeded(tmp_path: Path):
    folder = tmp_path / "abcd"
    for name in ("attempt-1", "attempt-2", ".attempt-2.77.tmp", "attempt-3"):
        (folder / name).mkdir(parents=True)
    remove_others(folder / "attempt-3")
    assert attempts(folder) == {"attempt-3"}


def test_the_files_of_a_result_that_are_there_are_listed(tmp_path: Path):
    (tmp_path / "result.json").write_bytes(b"{}")
    (tmp_path / "trades.csv").write_bytes(b"")
    (tmp_path / "notes.txt").write_bytes(b"mine")
    listed = {file.name: (file.size_bytes, file.digest) for file in list_files(tmp_path)}
    # As printf '{}' | sha256sum and sha256sum < /dev/null say.
    braces = "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"
    nothing = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    assert listed == {
        "result.json": (2, f"sha256:{braces}"),
        "trades.csv": (0, f"sha256:{nothing}"),
    }
