"""Checkpoints of a run, written beside it and read when it begins: real files, a real socket."""

import socket
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from backlane import failpoints
from backlane.backtest.checkpoint import BACKTEST_CHECKPOINTS, FORMAT, Binding
from backlane.backtest.checkpoint import Checkpoint as RunCheckpoint
from backlane.backtest.checkpoint_policy import CheckpointPolicy
from backlane.backtest.request import parse_request
from backlane.clock import ManualClock
from backlane.operations.operation import Checkpoint
from backlane.sources.checkpoints import CheckpointFiles
from backtest_service.checkpoint_writer import CheckpointWriter, read_newest
from backtest_service.link import Link
from backtest_service.messages import (
    LENGTH_BYTES,
    CheckpointWritten,
    NoteWritten,
    StartRun,
    content_length,
    unpack,
)

NAME, SPEC = "operations/abc-1", b"\x07" * 32
BINDING = Binding(SPEC.hex(), "sha256:model")
REQUEST = parse_request({"model": {"name": "m", "version": "1"}, "symbol": "S"})
COMMAND = StartRun(NAME, REQUEST, Path("unused"), SPEC, (), 4)


def scored(rows: int) -> RunCheckpoint:
    return RunCheckpoint(100, np.full((rows, 3), rows, dtype=np.float32))


class Run:
    """A writer, and the supervisor's end of its socket."""

    def __init__(self, home: Path, resume: RunCheckpoint | None = None) -> None:
        ours, theirs = socket.socketpair()
        self.clock = ManualClock()
        self.files = CheckpointFiles(home)
        self.writer = CheckpointWriter(
            self.files,
            Link(theirs, on_lost=lambda _: None),
            COMMAND,
            BACKTEST_CHECKPOINTS,
            BINDING,
            CheckpointPolicy(30, 1_000),
            self.clock,
            resume,
        )
        self._theirs = theirs
        self._file = ours.makefile("rb")
        self._ours = ours

    def received(self) -> object:
        return unpack(self._file.read(content_length(self._file.read(LENGTH_BYTES))))

    def close(self) -> None:
        self.writer.close()
        self._theirs.shutdown(socket.SHUT_RDWR)
        self._file.close()
        self._ours.close()
        self._theirs.close()


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Run]:
    run = Run(tmp_path)
    yield run
    run.close()
    failpoints.arm("")


def written(run: Run, rows: int) -> Checkpoint:
    run.writer.take(scored(rows))
    message = run.received()
    assert isinstance(message, CheckpointWritten)
    return message.checkpoint


def test_each_is_written_numbered_and_told(run: Run):
    for number, rows in ((4, 10), (5, 20)):
        checkpoint = written(run, rows)
        assert (checkpoint.number, checkpoint.format) == (number, FORMAT)
        assert (checkpoint.spec_sha256, checkpoint.completed_units) == (SPEC, 0)
        assert len(run.files.read(checkpoint)) == checkpoint.size_bytes


def test_it_is_due_by_time_and_by_bars(run: Run):
    assert not run.writer.is_due(999)
    assert run.writer.is_due(1_000)
    run.clock.advance(30)
    assert run.writer.is_due(0)


def test_the_newest_that_can_be_used_is_read(run: Run, tmp_path: Path):
    older, newest = written(run, 10), written(run, 20)
    command = replace(COMMAND, checkpoints=(newest, older))
    notes: list[str] = []
    found = read_newest(run.files, command, BACKTEST_CHECKPOINTS, BINDING, notes.append)
    assert found is not None
    assert len(found.scores) == 20
    assert notes == ["Going on from checkpoint 5, with 20 of 100 bars scored."]


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"sha256": b"\x00" * 32}, "5 is damaged: its SHA-256"),
        ({"size_bytes": 3}, "5 is damaged: it has"),
        ({"format": "backlane.checkpoint.v0"}, "5 is foreign: its format is backlane.checkp"),
        ({"spec_sha256": b"\x01" * 32}, "5 is foreign: its spec_sha256 is 0101"),
        ({"uri": "s3://elsewhere"}, "5 is foreign: The checkpoint lies at 's3://elsewhere'"),
    ],
)
def test_one_that_cannot_be_used_is_passed_over_and_told(
    run: Run, change: dict[str, object], why: str
):
    older, newest = written(run, 10), written(run, 20)
    command = replace(COMMAND, checkpoints=(replace(newest, **change), older))
    notes: list[str] = []
    found = read_newest(run.files, command, BACKTEST_CHECKPOINTS, BINDING, notes.append)
    assert found is not None
    assert len(found.scores) == 10
    assert why in notes[0]
    assert notes[0].endswith("going on from checkpoint 4.")


def test_without_one_that_can_be_used_the_run_begins_at_the_start(run: Run):
    newest = written(run, 20)
    notes: list[str] = []
    command = replace(COMMAND, checkpoints=(newest,))
    other = replace(BINDING, model_digest="sha256:other")
    assert read_newest(run.files, command, BACKTEST_CHECKPOINTS, other, notes.append) is None
    assert "model_digest" in notes[0]
    assert notes[0].endswith("going on from the start.")


def test_what_cannot_be_written_is_told_once(run: Run):
    failpoints.arm("checkpoint.full=error")
    run.writer.take(scored(10))
    note = run.received()
    assert isinstance(note, NoteWritten)
    assert "No space left on device" in note.text
    run.writer.take(scored(20), is_final=True)
    failpoints.arm("")
    run.writer.take(scored(30), is_final=True)
    message = run.received()  # nothing in between
    assert isinstance(message, CheckpointWritten)
    assert message.checkpoint.number == 4


def test_a_last_one_without_news_is_not_written(tmp_path: Path):
    run = Run(tmp_path, resume=scored(50))
    run.writer.take(scored(50), is_final=True)
    assert not list(tmp_path.rglob("*.ckpt"))
    run.writer.take(scored(51), is_final=True)
    assert len(list(tmp_path.rglob("*.ckpt"))) == 1
    run.close()
