"""How a run under way is shown: a live bar on a terminal, a line now and then anywhere else."""

import time
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Protocol, Self

from backlane.cli.output import console, is_terminal, say_aside
from backlane.cli.status import Pace, RunStatus, describe, duration, plural, short_time

if TYPE_CHECKING:
    from rich.progress import TaskID

LINE_INTERVAL_S = 1.0
"""Shortest time between two lines of the same phase."""


class Display(Protocol):
    """Shows the readings of one run, and lines about it; a context that is left at its end."""

    def show(self, status: RunStatus) -> None:
        """Shows how far the run is."""
        ...

    def note(self, text: str) -> None:
        """Shows a line that stays."""
        ...

    def __enter__(self) -> Self:
        """Begins to show."""
        ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Leaves the terminal as it was."""
        ...


class LineDisplay:
    """Writes a line for each phase, and at most one a second within it."""

    def __init__(self, monotonic_s: Callable[[], float] = time.monotonic) -> None:
        self._monotonic_s = monotonic_s
        self._pace = Pace(monotonic_s)
        self._phase: str | None = None
        self._is_complete = False
        self._shown_s = 0.0

    def show(self, status: RunStatus) -> None:
        """Writes the reading when it is due: the first and the last of a phase always are."""
        self._pace.observe(status)
        now_s = self._monotonic_s()
        is_new = status.phase != self._phase
        is_complete = 0 < status.total <= status.completed
        just_done = is_complete and not self._is_complete
        if not (is_new or just_done or now_s - self._shown_s >= LINE_INTERVAL_S):
            return
        self._phase, self._is_complete, self._shown_s = status.phase, is_complete, now_s
        say_aside(describe(status, self._pace))

    def note(self, text: str) -> None:
        """Writes the line, on stderr."""
        say_aside(text)

    def __enter__(self) -> Self:
        """Needs nothing to begin."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Needs nothing to end."""


class BarDisplay:
    """Draws a bar with the pace, the date reached, equity, trades and the time left."""

    def __init__(self) -> None:
        from rich.progress import BarColumn, Progress, TextColumn

        self._pace = Pace(time.monotonic)
        self._progress = Progress(
            TextColumn("{task.description:<10}"),
            BarColumn(bar_width=24),
            TextColumn("{task.fields[reading]}"),
            console=console(aside=True),
            transient=True,
        )
        self._task: TaskID = self._progress.add_task("waiting", total=None, reading="")

    def show(self, status: RunStatus) -> None:
        """Draws the reading in place of the last one."""
        self._pace.observe(status)
        self._progress.update(
            self._task,
            description=status.phase or "waiting",
            completed=status.completed,
            total=status.total or None,
            reading=_reading(status, self._pace),
        )

    def note(self, text: str) -> None:
        """Writes the line above the bar."""
        self._progress.console.print(text, markup=False, highlight=False)

    def __enter__(self) -> Self:
        """Begins to draw."""
        self._progress.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Takes the bar away."""
        self._progress.stop()


def new_display(*, as_json: bool) -> Display:
    """Returns the bar for a terminal, lines on stderr for anything else."""
    return LineDisplay() if as_json or not is_terminal() else BarDisplay()


def _reading(status: RunStatus, pace: Pace) -> str:
    parts = []
    if status.total:
        parts.append(f"{100 * status.completed / status.total:3.0f} %")
    if pace.bars_per_s is not None:
        parts.append(f"{pace.bars_per_s:,.0f} bars/s")
    if status.time_ns is not None:
        parts.append(f"[cyan]{short_time(status.time_ns)}[/]")
        if status.equity is not None:
            parts += [f"{status.equity:,.2f}", plural(status.trade_count, "trade")]
    left_s = pace.left_s(status)
    if left_s is not None:
        parts.append(f"ETA {duration(left_s)}")
    return "  ".join(parts)
