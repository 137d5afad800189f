"""What is asked of a watch, and what it says."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from backlane.operations.events import OperationEvent
from backlane.operations.operation import Operation, Progress
from backlane.operations.selection import Selection

BOOKMARK_INTERVAL_S_DEFAULT = 5.0
BOOKMARK_INTERVAL_S_MIN = 1.0
BOOKMARK_INTERVAL_S_MAX = 60.0
PROGRESS_INTERVAL_S_MIN = 0.1
"""Progress comes ten times a second at most, however fast the loop is that makes it."""
PROGRESS_INTERVAL_S_MAX = 60.0


class Phase(StrEnum):
    """What a message of a watch is."""

    SNAPSHOT = "SNAPSHOT"
    SYNCED = "SYNCED"
    LIVE = "LIVE"
    DRAINING = "DRAINING"


class StartAt(StrEnum):
    """Where a watch without a resume token begins."""

    SNAPSHOT = "SNAPSHOT"
    OLDEST = "OLDEST"


@dataclass(frozen=True, slots=True)
class WatchRequest:
    """A wish to follow some operations; a `resume_token` goes before `start`.

    `bookmark_interval_s` is the longest silence, None for the server's default;
    `progress_interval_s` the shortest time between two messages with nothing but progress.
    """

    selection: Selection
    resume_token: str = ""
    start: StartAt = StartAt.SNAPSHOT
    bookmark_interval_s: float | None = None
    progress_interval_s: float = PROGRESS_INTERVAL_S_MIN


@dataclass(frozen=True, slots=True)
class WatchMessage:
    """A stretch of the log: every chosen event in (from_revision, through_revision].

    Consecutive messages tile: each `from_revision` is the `through_revision` before it. A LIVE
    message without events and progress is a bookmark.
    """

    phase: Phase
    from_revision: int
    through_revision: int
    resume_token: str
    server_time_ns: int
    events: tuple[OperationEvent, ...] = ()
    operations: tuple[Operation, ...] = ()
    progress: Mapping[str, Progress] = field(default_factory=dict)
