"""Worker processes: started by exec, spoken to, ended, and what their end is called."""

import asyncio
import os
import signal
from pathlib import Path

import psutil
import pytest

from backlane.backtest.checkpoint_policy import CheckpointPolicy
from backlane.backtest.request import parse_request
from backlane.errors import WorkerLostError
from backtest_service.link import LOST_PARENT
from backtest_service.messages import (
    FRAME_BYTES_MAX,
    RunFailed,
    StartRun,
    WorkerSetup,
    content_length,
    pack,
    unpack,
)
from backtest_service.worker import Worker, WorkerDied, explain_exit

NOWHERE = "127.0.0.1:1"


def setup_of(home: Path) -> WorkerSetup:
    return WorkerSetup(home, NOWHERE, 4 * 2**30, CheckpointPolicy(), "warning", "console")


def command(home: Path) -> StartRun:
    content = {"model": {"name": "m", "version": "1"}, "symbol": "S"}
    directory = home / "results" / "r" / "attempt-1"
    return StartRun("operations/r", parse_request(content), directory, b"\x00" * 32)


@pytest.mark.slow
@pytest.mark.asyncio
async def test_a_worker_lives_through_its_runs_and_dies_when_told(tmp_path: Path):
    worker = Worker(setup_of(tmp_path), start_timeout_s=60)
    assert not worker.is_running
    await worker.ensure_started()
    first = worker.pid
    assert os.getpgid(first) == first != os.getpgid(0)
    for _ in range(2):
        await worker.start_run(command(tmp_path))
        ended = await worker.receive()
        assert isinstance(ended, RunFailed)
        assert ended.reason == "SERVICE_UNAVAILABLE"
    await worker.ensure_started()
    assert worker.pid == first
    worker.kill()
    assert not worker.is_running  # at once, although the process may not be gone yet
    with pytest.raises(WorkerDied, match="SIGKILL"):
        await worker.receive()
    await worker.ensure_started()
    assert worker.pid != first
    await worker.close()


@pytest.mark.slow
@pytest.mark.asyncio
async def test_a_worker_whose_supervisor_is_gone_ends(tmp_path: Path):
    worker = Worker(setup_of(tmp_path), start_timeout_s=60)
    await worker.ensure_started()
    process = psutil.Process(worker.pid)
    assert worker._writer is not None
    worker._writer.close()
    code = await asyncio.to_thread(process.wait, 10)
    assert code in (LOST_PARENT, None)  # None: asyncio was faster to take the exit code
    await worker.close()


@pytest.mark.asyncio
async def test_a_worker_that_does_not_come_up_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("sys.executable", "/bin/false")
    worker = Worker(setup_of(tmp_path), start_timeout_s=5)
    with pytest.raises(WorkerLostError, match="exited with code 1"):
        await worker.ensure_started()
    await worker.close()


@pytest.mark.parametrize(
    ("code", "text"),
    [
        (0, "it exited with code 0"),
        (7, "it exited with code 7"),
        (-signal.SIGKILL, "killed by SIGKILL"),
        (-signal.SIGSEGV, "killed by SIGSEGV: it touched memory"),
        (-signal.SIGABRT, "killed by SIGABRT: a library gave up"),
        (-signal.SIGTERM, "killed by SIGTERM"),
    ],
)
def test_an_exit_code_is_explained(code: int, text: str):
    assert text in explain_exit(code)


def test_messages_survive_their_frames():
    message = RunFailed("REASON", "text", {"a": "b"})
    packed = pack(message)
    assert content_length(packed[:4]) == len(packed) - 4
    assert unpack(packed[4:]) == message


def test_messages_have_a_limit_on_both_ends():
    with pytest.raises(ValueError, match="bytes"):
        pack(b"x" * (FRAME_BYTES_MAX + 1))
    with pytest.raises(ValueError, match="bytes"):
        content_length((FRAME_BYTES_MAX + 1).to_bytes(4, "big"))
