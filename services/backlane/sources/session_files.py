"""What is kept of a session: its bars, its reports, and now and then its state.

    home/sessions/{operation_id}/bars.log      every bar that was taken, on the disk at once
    home/sessions/{operation_id}/reports.log   what was made of each
    home/sessions/{operation_id}/state         the state after some bar, to go on from
    home/sessions/{operation_id}/ended         there once the session is over

A record of a log is its length and its CRC-32, u32 little-endian each, then its bytes. What a
broken write left at the end of a log is cut off when it is opened.
"""

import os
import shutil
import struct
import zlib
from contextlib import suppress
from pathlib import Path

SESSIONS_FOLDER = "sessions"
RECORD_BYTES_MAX = 4 << 20
"""A longer record is none: it would not fit a message."""
ENDED_KEPT_MAX = 1_000
"""Sessions that ended and are kept, so that a client which lost the end can ask again."""
_HEAD = struct.Struct("<II")
_ENDED = "ended"


class RecordLog:
    """Records that are appended, and read by their index."""

    def __init__(self, path: Path) -> None:
        """Opens a log, or makes one; cuts off what is broken at its end."""
        self._file = path.open("a+b")
        self._places: list[int] = []
        self._end = 0
        self._scan()
        self._file.truncate(self._end)

    def _scan(self) -> None:
        size = os.fstat(self._file.fileno()).st_size
        while self._end + _HEAD.size <= size:
            content = self._record_at(self._end)
            if content is None:
                return
            self._places.append(self._end)
            self._end += _HEAD.size + len(content)

    def _record_at(self, place: int) -> bytes | None:
        descriptor = self._file.fileno()
        length, crc = _HEAD.unpack(os.pread(descriptor, _HEAD.size, place))
        if length > RECORD_BYTES_MAX:
            return None
        content = os.pread(descriptor, length, place + _HEAD.size)
        return content if len(content) == length and zlib.crc32(content) == crc else None

    def __len__(self) -> int:
        return len(self._places)

    def append(self, content: bytes, *, is_synced: bool) -> None:
        """Appends a record; with `is_synced` it is on the disk when this returns."""
        self._file.write(_HEAD.pack(len(content), zlib.crc32(content)) + content)
        self._file.flush()
        if is_synced:
            self.sync()
        self._places.append(self._end)
        self._end += _HEAD.size + len(content)

    def read(self, index: int) -> bytes:
        """Returns a record by its index from 0; raises IndexError, and OSError for a broken one."""
        content = self._record_at(self._places[index])
        if content is None:
            raise OSError(f"record {index} of {self._file.name} is damaged")
        return content

    def sync(self) -> None:
        """Has everything on the disk."""
        os.fdatasync(self._file.fileno())

    def close(self) -> None:
        """Closes the file of the log."""
        self._file.close()


class SessionFiles:
    """The files of one session."""

    def __init__(self, home: Path, operation_id: str) -> None:
        """Opens what is there, or begins."""
        self._folder = home / SESSIONS_FOLDER / operation_id
        self._folder.mkdir(parents=True, exist_ok=True)
        self.bars = RecordLog(self._folder / "bars.log")
        self.reports = RecordLog(self._folder / "reports.log")

    def read_state(self) -> bytes | None:
        """Returns the bytes of the newest state, None where there is none."""
        with suppress(FileNotFoundError):
            return (self._folder / "state").read_bytes()
        return None

    def write_state(self, content: bytes) -> None:
        """Keeps a state in the place of the one before, whole or not at all."""
        self.reports.sync()
        scratch = self._folder / ".state.tmp"
        with scratch.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        scratch.replace(self._folder / "state")

    def end(self) -> None:
        """Notes that the session is over."""
        (self._folder / _ENDED).touch()

    def close(self) -> None:
        """Closes both of the logs."""
        self.bars.close()
        self.reports.close()


def has_session(home: Path, operation_id: str) -> bool:
    """Says whether anything of a session is kept here."""
    return (home / SESSIONS_FOLDER / operation_id / "reports.log").is_file()


def prune_sessions(home: Path, kept_max: int = ENDED_KEPT_MAX) -> int:
    """Removes the oldest sessions that ended, beyond so many; returns how many."""
    ended = sorted(
        (home / SESSIONS_FOLDER).glob(f"*/{_ENDED}"), key=lambda each: each.stat().st_mtime_ns
    )
    surplus = ended[: max(0, len(ended) - kept_max)]
    for mark in surplus:
        shutil.rmtree(mark.parent, ignore_errors=True)
    return len(surplus)
