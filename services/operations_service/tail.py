"""What the registry keeps in memory beside the file: the newest events, and progress."""

from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass

from backlane.operations.events import OperationEvent, wire_bytes
from backlane.operations.operation import Operation, Progress
from backlane.operations.selection import Selection
from backlane.operations.store import EventPage, ProgressPage

PAGE_BYTES_MAX = 1 << 20
"""A page of events ends before it grows beyond this; a single larger event travels alone."""

PAGE_EVENTS_MAX = 1_000
"""Events in one page."""

TAIL_EVENTS_MAX = 8_192
"""Newest events kept in memory, so that watchers who keep up never read the file."""

TAIL_BYTES_MAX = 16 << 20
"""Bytes of those events."""


@dataclass(frozen=True, slots=True)
class LoggedEvent:
    """An event, the operation as it was right after it, and about its bytes on the wire."""

    event: OperationEvent
    operation: Operation
    size_bytes: int

    @classmethod
    def of(cls, event: OperationEvent, operation: Operation) -> "LoggedEvent":
        """Returns the entry of an event, measured."""
        return cls(event, operation, wire_bytes(event))


class Tail:
    """The newest events, in order and without holes."""

    def __init__(self, events_max: int = TAIL_EVENTS_MAX, bytes_max: int = TAIL_BYTES_MAX) -> None:
        self._events_max = events_max
        self._bytes_max = bytes_max
        self._entries: list[LoggedEvent] = []
        self._size_bytes = 0

    def extend(self, entries: Iterable[LoggedEvent]) -> None:
        """Adds newer events; lets go of the oldest ones beyond the limits, a quarter at a time."""
        for entry in entries:
            self._entries.append(entry)
            self._size_bytes += entry.size_bytes
        while len(self._entries) > self._events_max or self._size_bytes > self._bytes_max:
            gone = max(1, len(self._entries) // 4)
            self._size_bytes -= sum(entry.size_bytes for entry in self._entries[:gone])
            del self._entries[:gone]

    def clear(self) -> None:
        """Forgets everything that it holds."""
        self._entries.clear()
        self._size_bytes = 0

    def read(self, selection: Selection, after: int, through: int) -> EventPage | None:
        """Returns a page of (after, through]; None when its first events are no longer here."""
        if not self._entries or after + 1 < self._entries[0].event.revision:
            return None
        start = after + 1 - self._entries[0].event.revision
        events: list[OperationEvent] = []
        size_bytes = 0
        for entry in self._entries[start:]:
            if entry.event.revision > through:
                break
            if not selection.chooses_event(entry.event, entry.operation):
                continue
            if events and size_bytes + entry.size_bytes > PAGE_BYTES_MAX:
                return EventPage(tuple(events), events[-1].revision)
            events.append(entry.event)
            size_bytes += entry.size_bytes
            if len(events) == PAGE_EVENTS_MAX:
                return EventPage(tuple(events), entry.event.revision)
        return EventPage(tuple(events), through)


class ProgressBoard:
    """The newest progress of each operation that a worker holds."""

    def __init__(self) -> None:
        self._tick = 0
        self._reports: OrderedDict[str, tuple[int, Operation]] = OrderedDict()

    def report(self, operation: Operation) -> None:
        """Puts up the operation's progress if it is news; takes it down when nobody runs it."""
        before = self._reports.get(operation.name)
        if operation.progress is None or not operation.state.is_held:
            self._reports.pop(operation.name, None)
        elif before is not None and before[1].progress is operation.progress:
            self._reports[operation.name] = (before[0], operation)
        else:
            self._tick += 1
            self._reports[operation.name] = (self._tick, operation)
            self._reports.move_to_end(operation.name)

    def since(self, selection: Selection, tick: int) -> ProgressPage:
        """Returns what was reported after `tick`; the cost is that of the reports since then."""
        fresh: dict[str, Progress] = {}
        for name, (reported, operation) in reversed(self._reports.items()):
            if reported <= tick:
                break
            if operation.progress is not None and selection.chooses(operation):
                fresh[name] = operation.progress
        return ProgressPage(fresh, self._tick)
