"""Where results are kept, and which of them are too many."""

import os
from pathlib import Path

import pytest

from backlane.errors import InvalidRequestError
from backtest_service.run_directory import directory_of, prune, remove


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


def test_removing_takes_what_a_killed_worker_left(tmp_path: Path):
    (tmp_path / "abcd").mkdir()
    (tmp_path / ".abcd.77.tmp").mkdir()
    (tmp_path / "abcde").mkdir()
    remove(tmp_path / "abcd")
    assert [path.name for path in tmp_path.iterdir()] == ["abcde"]
