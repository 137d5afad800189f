"""Session files: what a broken write left is cut off, what was whole stays."""

import os
from pathlib import Path

import pytest

from backlane.sources.session_files import RecordLog, SessionFiles, has_session, prune_sessions

RECORDS = [b"one", b"", b"three" * 100]


def records_of(path: Path) -> list[bytes]:
    log = RecordLog(path)
    try:
        return [log.read(index) for index in range(len(log))]
    finally:
        log.close()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    log = RecordLog(tmp_path / "a.log")
    for record in RECORDS:
        log.append(record, is_synced=True)
    log.close()
    return tmp_path / "a.log"


def test_records_are_read_back(path: Path) -> None:
    assert records_of(path) == RECORDS


def test_whatever_breaks_off_leaves_the_whole_records(path: Path) -> None:
    """3 heads of 8 bytes, and 3, 0 and 500 bytes: the records end at 11, 19 and 527."""
    content = path.read_bytes()
    assert len(content) == 527
    for size in range(527):
        path.write_bytes(content[:size])
        whole = (size >= 11) + (size >= 19)
        assert records_of(path) == RECORDS[:whole], size
        assert path.stat().st_size == (0, 11, 19)[whole]


def test_a_damaged_record_ends_the_log(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[30] ^= 1
    path.write_bytes(bytes(content))
    assert records_of(path) == RECORDS[:2]


def test_a_log_goes_on_after_a_cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:20])
    log = RecordLog(path)
    log.append(b"new", is_synced=False)
    assert log.read(2) == b"new"
    with pytest.raises(IndexError):
        log.read(3)
    log.close()
    assert records_of(path) == [*RECORDS[:2], b"new"]


def test_the_oldest_sessions_that_ended_go(tmp_path: Path) -> None:
    for at, name in enumerate(("a", "b", "c", "live")):
        files = SessionFiles(tmp_path, name)
        files.write_state(name.encode())
        assert files.read_state() == name.encode()
        files.close()
        if name != "live":
            files.end()
            mark = tmp_path / "sessions" / name / "ended"
            stamp = 1_000 + at
            os.utime(mark, (stamp, stamp))
    assert prune_sessions(tmp_path, 1) == 2
    assert [name for name in ("a", "b", "c", "live") if has_session(tmp_path, name)] == [
        "c",
        "live",
    ]
