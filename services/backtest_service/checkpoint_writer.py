"""Checkpoints of one run, in the worker process: written beside the loop, read when it begins."""

import threading
from collections.abc import Callable
from typing import Generic

import structlog

from backlane import failpoints
from backlane.backtest.checkpoint_file import Binding, CheckpointFormat, CheckpointT
from backlane.backtest.checkpoint_policy import CheckpointPolicy, CheckpointSchedule
from backlane.clock import Clock
from backlane.errors import CheckpointCorruptError, CheckpointForeignError
from backlane.operations.operation import Checkpoint
from backlane.sources.checkpoints import Abandoned, CheckpointFiles
from backtest_service.link import Link
from backtest_service.messages import CheckpointWritten, NoteWritten, StartRun

_log = structlog.get_logger(__name__)


class CheckpointWriter(Generic[CheckpointT]):
    """Takes checkpoints where they are due, and writes each in a thread while the run goes on.

    A `CheckpointTaker` of any kind of run. What cannot be written is said once, and costs nothing
    but itself.
    """

    def __init__(
        self,
        files: CheckpointFiles,
        link: Link,
        command: StartRun,
        kind: CheckpointFormat[CheckpointT],
        binding: Binding,
        policy: CheckpointPolicy,
        clock: Clock,
        resume: CheckpointT | None,
    ) -> None:
        self._files = files
        self._link = link
        self._command = command
        self._kind = kind
        self._binding = binding
        self._clock = clock
        self._number = command.checkpoint_number
        self._begun_at = _extent(resume)
        self._schedule = CheckpointSchedule(
            policy, clock.monotonic_s(), resume.simulated_bars if resume else 0
        )
        self._problem = ""
        self._writing: threading.Thread | None = None

    def is_due(self, simulated_bars: int) -> bool:
        """Says whether one is due; never while the last one is being written."""
        if simulated_bars:
            failpoints.reached("worker.slice_simulated")
        is_busy = self._writing is not None and self._writing.is_alive()
        return not is_busy and self._schedule.is_due(self._clock.monotonic_s(), simulated_bars)

    def take(self, checkpoint: CheckpointT, *, is_final: bool = False) -> None:
        """Begins to write it; a final one is on disk when this returns, or cannot be."""
        if is_final:
            self.close()
            if _extent(checkpoint) > self._begun_at:
                self._write(checkpoint)
            return
        self._schedule.taken(self._clock.monotonic_s(), checkpoint.simulated_bars)
        self._writing = threading.Thread(
            target=self._write, args=(checkpoint,), name="checkpoint", daemon=True
        )
        self._writing.start()

    def close(self) -> None:
        """Gives up the one that is being written, if there is one."""
        if self._writing is not None:
            self._files.is_wanted = False
            self._writing.join()
            self._files.is_wanted = True
            self._writing = None

    def _write(self, checkpoint: CheckpointT) -> None:
        begun_s = self._clock.monotonic_s()
        try:
            written = self._files.write(
                self._command.operation, self._number, self._kind.encode(checkpoint, self._binding)
            )
        except Abandoned:
            return
        except OSError as error:
            self._say(error.strerror or str(error))
        except MemoryError:
            self._say("there is no memory left for it")
        else:
            failpoints.reached("checkpoint.blob_written")
            committed = Checkpoint(
                number=self._number,
                uri=written.uri,
                sha256=written.sha256,
                size_bytes=written.size_bytes,
                completed_units=checkpoint.simulated_bars,
                format=self._kind.name,
                spec_sha256=self._command.spec_sha256,
            )
            self._number += 1
            self._link.send(CheckpointWritten(committed))
        now_s = self._clock.monotonic_s()
        self._schedule.written(now_s, now_s - begun_s)

    def _say(self, problem: str) -> None:
        _log.warning("checkpoint not written", number=self._number, reason=problem)
        if problem != self._problem:
            self._problem = problem
            self._link.send(
                NoteWritten(
                    f"Checkpoint {self._number} could not be written: {problem}. The run goes on "
                    "without it; after a failure it would begin further back."
                )
            )


def _extent(checkpoint: CheckpointT | None) -> tuple[int, int]:
    return checkpoint.extent if checkpoint else (0, 0)


def read_newest(
    files: CheckpointFiles,
    command: StartRun,
    kind: CheckpointFormat[CheckpointT],
    binding: Binding,
    note: Callable[[str], None],
) -> CheckpointT | None:
    """Returns the newest checkpoint that can be used, None for the start of the run.

    It is told by a note, and so is each one that cannot be used, with what the run does instead.
    """
    for index, committed in enumerate(command.checkpoints):
        try:
            _check_record(committed, command, kind.name)
            found = kind.decode(files.read(committed), binding)
        except (CheckpointCorruptError, CheckpointForeignError) as error:
            older = command.checkpoints[index + 1 :]
            instead = f"checkpoint {older[0].number}" if older else "the start"
            what = "is damaged" if isinstance(error, CheckpointCorruptError) else "is foreign"
            problem = error.metadata.get("problem") or error.message.rstrip(".")
            note(f"Checkpoint {committed.number} {what}: {problem}; going on from {instead}.")
        else:
            note(f"Going on from checkpoint {committed.number}, {found.reach}.")
            return found
    return None


def _check_record(committed: Checkpoint, command: StartRun, format_name: str) -> None:
    """Refuses by its record what need not be read for that."""
    for what, found, expected in (
        ("format", committed.format, format_name),
        ("spec_sha256", committed.spec_sha256.hex(), command.spec_sha256.hex()),
    ):
        if found != expected:
            raise CheckpointForeignError(
                f"its {what} is {found}, and {expected} was expected",
                metadata={"field": what, "found": found, "expected": expected},
            )
