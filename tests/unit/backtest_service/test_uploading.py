"""The bounds of uploads: how many at once, how long a silence, how much room."""

import asyncio
import errno
import hashlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from backlane.clock import ManualClock
from backlane.errors import CallTimeoutError, LimitExceededError, StoreFullError
from backlane.sources.uploads import Arrival, UploadedFiles
from backlane.wire.portfolio_uploads import UploadOpening, UploadPart
from backtest_service import uploading
from backtest_service.uploading import Uploading, UploadLimits

pytestmark = pytest.mark.asyncio
CONTENT = b"timestamp,symbol"
OPENING = UploadOpening(f"sha256:{hashlib.sha256(CONTENT).hexdigest()}", len(CONTENT))


def desk(home: Path, kept_bytes_max: int = 10**9) -> Uploading:
    return Uploading(UploadedFiles(home), UploadLimits(10**6, kept_bytes_max), ManualClock())


async def parts(*given: UploadPart) -> AsyncIterator[UploadPart]:
    for part in given:
        yield part


def left(home: Path) -> list[Path]:
    return list((home / "uploads").glob("*"))


async def test_one_too_many_is_refused_with_a_delay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(uploading, "UPLOADS_AT_ONCE_MAX", 0)
    with pytest.raises(LimitExceededError) as caught:
        await desk(tmp_path).receive(parts(OPENING, CONTENT))
    assert caught.value.retry_delay_s


async def test_a_silence_ends_an_upload(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uploading, "STALL_S", 0.01)

    async def silent() -> AsyncIterator[UploadPart]:
        yield OPENING
        await asyncio.Event().wait()

    with pytest.raises(CallTimeoutError):
        await desk(tmp_path).receive(silent())
    assert left(tmp_path) == []


async def test_a_full_disk_is_said_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Arrival, "append", full)
        with pytest.raises(StoreFullError):
            await desk(tmp_path).receive(parts(OPENING, CONTENT))
    assert left(tmp_path) == []
    uploaded = await desk(tmp_path).receive(parts(OPENING, CONTENT[:5], CONTENT[5:]))
    assert (uploaded.digest, uploaded.was_known) == (OPENING.digest, False)
    assert [path.read_bytes() for path in left(tmp_path)] == [CONTENT]
