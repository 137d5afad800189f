"""Watches: each one a cursor in the log, woken when the log grows.

There is no queue per watcher. One that reads slowly lags behind in the log, and loses nothing but
progress that a newer report has replaced.
"""

from collections import OrderedDict
from collections.abc import AsyncGenerator, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache

from backlane import failpoints
from backlane.clock import Clock
from backlane.errors import ServerDrainingError, StoreUnavailableError
from backlane.operations.events import Deleted, OperationEvent, StateChanged
from backlane.operations.operation import Operation, Progress
from backlane.operations.store import (
    FOREIGN_CHANGE_S_MAX,
    EventPage,
    OperationStore,
    Snapshot,
)
from backlane.operations.tokens import ResumeToken
from backlane.operations.watching import Phase, StartAt, WatchMessage, WatchRequest
from operations_service.queries import not_found, operation_bytes
from operations_service.routing import Router, Subscription
from operations_service.tail import PAGE_BYTES_MAX

DRAINING_RETRY_DELAY_S = 0.2
"""Soon: another replica may be there, and the next start of this one takes about a second."""

TOKEN_AHEAD_S_MAX = 4 * FOREIGN_CHANGE_S_MAX
"""How long a token may be ahead of this replica: the one that made it may have seen more of the
log. One that is ahead for longer comes from a log that has since gone back."""

SHARED_REQUESTS_MAX = 256
"""Requests that are kept for the next reader who asks the same."""

SHARED_PAGES_MAX, SHARED_PAGE_EVENTS_MAX = 32, 100
"""Pages, and events in each, that are kept for the next reader at the same place."""

PAUSE_S_MIN = 0.005
"""Shortest wait between two looks."""


class Watches:
    """Follows the log for any number of readers, until the server drains."""

    def __init__(
        self, store: OperationStore, router: Router, clock: Clock, bookmark_interval_s: float
    ) -> None:
        self._store = store
        self._router = router
        self._clock = clock
        self._bookmark_interval_s = bookmark_interval_s
        self._is_draining = False
        self._requests: OrderedDict[tuple[object, ...], WatchRequest] = OrderedDict()
        self._pages: OrderedDict[tuple[str, int, int], EventPage] = OrderedDict()

    async def drain(self) -> None:
        """Tells every reader where to go on, and ends its stream."""
        self._is_draining = True
        self._router.release_all()

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
        request = self._shared(request)
        names = request.selection.names
        with self._router.subscribed(names, wants_progress=True) as news:
            reader = await self._opened(request)
            for message in reader.first_messages():
                yield message
            reached("watch.between_snapshot_and_live")
            while not reader.is_done:
                await self._read(reader, news)
                progress = self._due_progress(reader, news)
                if reader.has_news(progress):
                    yield reader.live(progress)
                if self._is_draining:
                    yield reader.message(Phase.DRAINING)
                    raise _draining(reader)
                if not (reader.is_done or news.has_events):
                    await news.wait(self._patience_s(reader, news))

    def _shared(self, request: WatchRequest) -> WatchRequest:
        """Returns an equal request that another reader has, so that it is in memory once."""
        key = (
            request.selection.digest(),
            request.resume_token,
            request.start,
            request.bookmark_interval_s,
            request.progress_interval_s,
        )
        known = self._requests.setdefault(key, request)
        if len(self._requests) > SHARED_REQUESTS_MAX:
            self._requests.popitem(last=False)
        return known

    async def _opened(self, request: WatchRequest) -> "_Reader":
        """Finds the place to begin, and which of the named operations are still to end."""
        selection = request.selection
        reader = _Reader(self._store.registry_uid, request, self._clock)
        reader.bookmark_interval_s = request.bookmark_interval_s or self._bookmark_interval_s
        if request.resume_token:
            reader.begin(await self._revision_of(request))
        elif request.start is StartAt.OLDEST:
            reader.begin(self._store.oldest_revision)
        states, revision = await self._store.states(selection.names)
        for name in sorted(selection.names - states.keys()):
            raise not_found(name)
        if not request.resume_token and request.start is StartAt.SNAPSHOT:
            for name in sorted(name for name, state in states.items() if state is None):
                raise not_found(name)
            reader.tick = self._store.progress_since(selection, 0).tick
            reader.begin_with(await self._store.snapshot(selection))
            return reader
        ended = {name for name, state in states.items() if state is None or state.is_terminal}
        reader.pending = set(selection.names - ended)
        reader.settled_revision = revision
        return reader

    async def _revision_of(self, request: WatchRequest) -> int:
        """Returns where a token leads, once this replica has seen as much of the log."""
        token = ResumeToken.parse(request.resume_token)
        ends_s = self._clock.monotonic_s() + TOKEN_AHEAD_S_MAX
        while token.revision > self._store.revision and not self._is_draining:
            seen = self._store.changed.count
            left_s = ends_s - self._clock.monotonic_s()
            if left_s <= 0 or token.registry_uid != self._store.registry_uid:
                break
            await self._store.changed.wait(left_s, after=seen)
        token.check(self._store.registry_uid, self._store.revision, request.selection)
        return token.revision

    async def _read(self, reader: "_Reader", news: Subscription) -> None:
        """Reads one page on, or, where nothing concerns the reader, up to what was routed."""
        if not news.has_events:
            reader.skip_to(self._router.revision)
            return
        # Cleared before it is read: what is committed from here on sets it again.
        news.has_events = False
        newest = self._store.revision
        page = await self._page(reader, newest)
        reader.take(page.events, page.through_revision)
        if page.through_revision < newest:
            news.has_events = True
            reached("watch.page_edge")

    async def _page(self, reader: "_Reader", newest: int) -> EventPage:
        """Reads a page, or has it from a reader of the same selection at the same place."""
        place = (reader.digest, reader.read_revision, newest)
        known = self._pages.get(place)
        if known is not None:
            return known
        page = await self._store.read_events(reader.request.selection, reader.read_revision)
        if len(page.events) <= SHARED_PAGE_EVENTS_MAX:
            self._pages[place] = page
            if len(self._pages) > SHARED_PAGES_MAX:
                self._pages.popitem(last=False)
        return page

    def _due_progress(self, reader: "_Reader", news: Subscription) -> Mapping[str, Progress]:
        """Returns what was reported since the last time, when it is time and the log is read."""
        is_early = self._clock.monotonic_s() < reader.next_progress_s
        if not news.has_progress or is_early or reader.read_revision < self._store.revision:
            return {}
        news.has_progress = False
        page = self._store.progress_since(reader.request.selection, reader.tick)
        reader.tick = page.tick
        return page.progress

    def _patience_s(self, reader: "_Reader", news: Subscription) -> float:
        """Returns how long to wait for a change before there is something to say without one."""
        due_s = reader.next_bookmark_s
        if news.has_progress:
            due_s = min(due_s, reader.next_progress_s)
        # Progress waits until the router has seen all events: a little, not again at once.
        return max(due_s - self._clock.monotonic_s(), PAUSE_S_MIN)


def reached(name: str) -> None:
    """Lets a test break a watch here, in a way that its reader may come back from."""
    try:
        failpoints.reached(name)
    except failpoints.FailpointError as error:
        raise StoreUnavailableError(
            f"The watch was broken by the failpoint {name}; resume it with its last token.",
            metadata={"failpoint": name},
        ) from error


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
    digest: str = ""
    _events: tuple[OperationEvent, ...] = ()
    _snapshot: Snapshot | None = None

    def __post_init__(self) -> None:
        self.digest = self.request.selection.digest()

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

    def skip_to(self, revision: int) -> None:
        """Notes that nothing up to a revision concerns this reader."""
        self.read_revision = max(self.read_revision, revision)

    def take(self, events: tuple[OperationEvent, ...], through_revision: int) -> None:
        """Notes what was read, to be sent by the next message."""
        self._events = events
        self.read_revision = max(self.read_revision, through_revision)
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
        return _token(self.registry_uid, self.read_revision, self.digest)


@lru_cache(maxsize=256)
def _token(registry_uid: str, revision: int, digest: str) -> str:
    """Returns the text of a token; many readers stand at the same place."""
    return str(ResumeToken(registry_uid, revision, digest))


def _draining(reader: _Reader) -> ServerDrainingError:
    return ServerDrainingError(
        "The server is going down; resume the watch with its last token.",
        metadata={"resume_token": reader.token()},
        retry_delay_s=DRAINING_RETRY_DELAY_S,
    )


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
