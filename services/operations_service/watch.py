"""Watches: each one a cursor in the log, woken when the log grows.

There is no queue per watcher. One that reads slowly lags behind in the log, and loses nothing but
progress that a newer report has replaced.
"""

from collections.abc import AsyncGenerator, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from backlane.clock import Clock
from backlane.errors import ServerDrainingError
from backlane.operations.events import Deleted, OperationEvent, StateChanged
from backlane.operations.operation import Operation, Progress
from backlane.operations.store import OperationStore, Snapshot
from backlane.operations.tokens import ResumeToken
from backlane.operations.watching import Phase, StartAt, WatchMessage, WatchRequest
from operations_service.queries import not_found, operation_bytes
from operations_service.tail import PAGE_BYTES_MAX

DRAINING_RETRY_DELAY_S = 1.0


class Watches:
    """Follows the log for any number of readers, until the server drains."""

    def __init__(self, store: OperationStore, clock: Clock, bookmark_interval_s: float) -> None:
        self._store = store
        self._clock = clock
        self._bookmark_interval_s = bookmark_interval_s
        self._is_draining = False

    async def drain(self) -> None:
        """Tells every reader where to go on, and ends its stream."""
        self._is_draining = True
        self._store.wake()

    async def follow(self, request: WatchRequest) -> AsyncGenerator[WatchMessage, None]:
        """Yields what happens to the chosen operations, without gaps, as `WatchMessage` says.

        Ends when names were given, all of them are terminal, and everything about them was told.

        Raises:
            OperationNotFoundError: a name is that of no operation.
            InvalidResumeTokenError, ResumeTokenForeignError, ResumeTokenAheadError,
                ResumeTokenCompactedError: the resume token leads nowhere.
            LimitExceededError: too many operations for a snapshot.
            ServerDrainingError: the server goes down; the message before has the token.

        """
        reader = await self._opened(request)
        for message in reader.first_messages():
            yield message
        while not reader.is_done:
            seen = self._store.changed.count
            page = await self._store.read_events(request.selection, reader.read_revision)
            reader.take(page.events, page.through_revision)
            progress = self._due_progress(reader)
            if reader.has_news(progress):
                yield reader.live(progress)
            if self._is_draining:
                yield reader.message(Phase.DRAINING)
                raise ServerDrainingError(
                    "The server is going down; resume the watch with its last token.",
                    metadata={"resume_token": reader.token()},
                    retry_delay_s=DRAINING_RETRY_DELAY_S,
                )
            if not reader.is_done and reader.read_revision >= self._store.revision:
                await self._store.changed.wait(self._patience_s(reader), after=seen)

    async def _opened(self, request: WatchRequest) -> "_Reader":
        """Finds the place to begin, and which of the named operations are still to end."""
        selection = request.selection
        states, revision = await self._store.states(selection.names)
        for name in sorted(selection.names - states.keys()):
            raise not_found(name)
        reader = _Reader(self._store.registry_uid, request, self._clock)
        reader.bookmark_interval_s = request.bookmark_interval_s or self._bookmark_interval_s
        if request.resume_token:
            token = ResumeToken.parse(request.resume_token)
            token.check(self._store.registry_uid, revision, selection)
            reader.begin(token.revision)
        elif request.start is StartAt.OLDEST:
            reader.begin(self._store.oldest_revision)
        else:
            for name in sorted(name for name, state in states.items() if state is None):
                raise not_found(name)
            reader.tick = self._store.progress_since(selection, 0).tick
            reader.begin_with(await self._store.snapshot(selection))
            return reader
        ended = {name for name, state in states.items() if state is None or state.is_terminal}
        reader.pending = set(selection.names - ended)
        reader.settled_revision = revision
        return reader

    def _due_progress(self, reader: "_Reader") -> Mapping[str, Progress]:
        """Returns what was reported since the last time, when it is time and the log is read."""
        is_early = self._clock.monotonic_s() < reader.next_progress_s
        if is_early or reader.read_revision < self._store.revision:
            return {}
        page = self._store.progress_since(reader.request.selection, reader.tick)
        reader.tick = page.tick
        return page.progress

    def _patience_s(self, reader: "_Reader") -> float:
        """Returns how long to wait for a change before there is something to say without one."""
        now_s = self._clock.monotonic_s()
        due_s = reader.next_bookmark_s
        if self._store.progress_since(reader.request.selection, reader.tick).progress:
            due_s = min(due_s, reader.next_progress_s)
        return max(due_s - now_s, 0.0)


@dataclass(slots=True)
class _Reader:
    """Where one reader is: what was read for it, what was sent to it, and what is due when."""

    registry_uid: str
    request: WatchRequest
    clock: Clock
    bookmark_interval_s: float = 0.0
    read_revision: int = 0
    sent_revision: int = 0
    settled_revision: int = 0
    """The revision at which `pending` is true; the end cannot come before it was sent."""
    pending: set[str] = field(default_factory=set)
    tick: int = 0
    next_progress_s: float = 0.0
    next_bookmark_s: float = 0.0
    _events: tuple[OperationEvent, ...] = ()
    _snapshot: Snapshot | None = None

    def begin(self, revision: int) -> None:
        """Stands after a revision; a first bookmark is due at once, so that a token is known."""
        self.read_revision = self.sent_revision = revision

    def begin_with(self, snapshot: Snapshot) -> None:
        """Stands at a snapshot, which is still to be sent."""
        self._snapshot = snapshot
        self.read_revision = self.settled_revision = snapshot.revision
        if self.request.selection.names:
            live = (one.name for one in snapshot.operations if not one.state.is_terminal)
            self.pending = set(live)

    @property
    def is_done(self) -> bool:
        """Whether all named operations have ended, and all about them was sent."""
        return (
            bool(self.request.selection.names)
            and not self.pending
            and self.sent_revision >= self.settled_revision
            and not self._events
        )

    def first_messages(self) -> Iterator[WatchMessage]:
        """Yields the snapshot, if there is one, and the message that says that it is whole."""
        if self._snapshot is None:
            return
        for operations in _parts(self._snapshot.operations):
            # No revision and no token yet: a snapshot that breaks off is begun anew.
            yield WatchMessage(Phase.SNAPSHOT, 0, 0, "", self.clock.now_ns(), operations=operations)
        self._snapshot = None
        yield self.message(Phase.SYNCED)

    def take(self, events: tuple[OperationEvent, ...], through_revision: int) -> None:
        """Notes what was read, to be sent by the next message."""
        self._events = events
        self.read_revision = through_revision
        self.pending -= set(_ended(events))

    def has_news(self, progress: Mapping[str, Progress]) -> bool:
        """Whether there is something to send: events, progress, the last stretch, a bookmark."""
        is_last = bool(self.request.selection.names) and not self.pending
        is_due = self.clock.monotonic_s() >= self.next_bookmark_s
        return bool(self._events or progress or is_last or is_due)

    def live(self, progress: Mapping[str, Progress]) -> WatchMessage:
        """Returns the message with what was read, and notes when the next progress may come."""
        if progress:
            self.next_progress_s = self.clock.monotonic_s() + self.request.progress_interval_s
        return self.message(Phase.LIVE, progress)

    def message(self, phase: Phase, progress: Mapping[str, Progress] | None = None) -> WatchMessage:
        """Returns the message up to what was read; it tiles with the one before."""
        message = WatchMessage(
            phase=phase,
            from_revision=self.sent_revision,
            through_revision=self.read_revision,
            resume_token=self.token(),
            server_time_ns=self.clock.now_ns(),
            events=self._events,
            progress=progress or {},
        )
        self._events = ()
        self.sent_revision = self.read_revision
        self.next_bookmark_s = self.clock.monotonic_s() + self.bookmark_interval_s
        return message

    def token(self) -> str:
        """Returns the token after everything that was read."""
        place = ResumeToken.at(self.registry_uid, self.read_revision, self.request.selection)
        return str(place)


def _ended(events: Iterable[OperationEvent]) -> Iterator[str]:
    for event in events:
        body = event.body
        is_end = isinstance(body, StateChanged) and body.to_state.is_terminal
        if is_end or isinstance(body, Deleted):
            yield event.operation


def _parts(operations: Iterable[Operation]) -> Iterator[tuple[Operation, ...]]:
    """Cuts operations into messages of at most 1 MiB; a larger one travels alone."""
    part: list[Operation] = []
    size_bytes = 0
    for operation in operations:
        size = operation_bytes(operation)
        if part and size_bytes + size > PAGE_BYTES_MAX:
            yield tuple(part)
            part, size_bytes = [], 0
        part.append(operation)
        size_bytes += size
    if part:
        yield tuple(part)
