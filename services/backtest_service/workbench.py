"""What every run in a worker process works with: where to say how far it is, and to keep it."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import structlog
from numpy.typing import NDArray

from backlane.backtest.checkpoint_file import Binding, CheckpointFormat, CheckpointT
from backlane.backtest.observer import PhaseTimer, raise_if_cancelled
from backlane.clock import SystemClock
from backlane.operations.limits import TRADES_PER_OPERATION_MAX
from backlane.sources.checkpoints import CheckpointFiles
from backtest_service.board import Board
from backtest_service.checkpoint_writer import CheckpointWriter, read_newest
from backtest_service.link import Link
from backtest_service.messages import (
    TRADES_PER_MESSAGE_MAX,
    EquityReached,
    NoteWritten,
    SliceSimulated,
    StartRun,
    WorkerSetup,
)
from backtest_service.trades import packed

_log = structlog.get_logger(__name__)


class BoardObserver:
    """Tells the board where the run is, and the supervisor what was traded."""

    def __init__(self, board: Board, link: Link) -> None:
        self._board = board
        self._link = link
        self._sent_count = 0

    def entered(self, phase: str, total_units: int) -> None:
        """Shows a new phase; a run that is to stop stops here."""
        raise_if_cancelled(self._board.slot)
        self._board.enter(phase, total_units)

    def advanced(self, completed_units: int) -> None:
        """Shows how far the phase is."""
        self._board.advance(completed_units)

    def simulated(
        self, bar_index: int, time_ns: int, equity: float, trades: NDArray[np.void]
    ) -> None:
        """Sends the trades of a slice, and the equity at its end."""
        reached = EquityReached(bar_index, time_ns, equity)
        # One more than the registry keeps: that one makes it say that the rest is in the result.
        room = TRADES_PER_OPERATION_MAX + 1 - self._sent_count
        kept = trades[: max(0, room)]
        self._sent_count += len(kept)
        while len(kept) > TRADES_PER_MESSAGE_MAX:
            self._link.send(SliceSimulated(packed(kept[:TRADES_PER_MESSAGE_MAX])))
            kept = kept[TRADES_PER_MESSAGE_MAX:]
        self._link.send(SliceSimulated(packed(kept), reached))


@dataclass(frozen=True, slots=True)
class Workbench:
    """The board, the link to the supervisor, and the checkpoints of one worker process."""

    setup: WorkerSetup
    board: Board
    link: Link
    checkpoints: CheckpointFiles

    def observer(self) -> PhaseTimer:
        """Returns the observer of a new run."""
        return PhaseTimer(SystemClock(), BoardObserver(self.board, self.link))

    def note(self, text: str) -> None:
        """Tells a line for people, and logs it."""
        _log.info("note", text=text)
        self.link.send(NoteWritten(text))

    def newest_checkpoint(
        self, command: StartRun, kind: CheckpointFormat[CheckpointT], binding: Binding
    ) -> CheckpointT | None:
        """Returns the checkpoint to go on from, told by a note; None for the start."""
        return read_newest(self.checkpoints, command, kind, binding, self.note)

    @contextmanager
    def writer(
        self,
        command: StartRun,
        kind: CheckpointFormat[CheckpointT],
        binding: Binding,
        resume: CheckpointT | None,
    ) -> Iterator[CheckpointWriter[CheckpointT]]:
        """Returns what takes the checkpoints of a run, in a context that ends with it."""
        policy = self.setup.checkpoint_policy
        writer = CheckpointWriter(
            self.checkpoints, self.link, command, kind, binding, policy, SystemClock(), resume
        )
        try:
            yield writer
        finally:
            writer.close()
