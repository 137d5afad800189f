"""Tells those who wait about an operation that something happened to it, and nobody else.

One task follows the log for all of them: what a commit costs grows with the number of readers that
it concerns, not with the number that there are.
"""

import asyncio
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import structlog

from backlane.errors import BacklaneError
from backlane.operations.selection import Selection
from backlane.operations.store import FOREIGN_CHANGE_S_MAX, OperationStore

_EVERYTHING = Selection()

_log = structlog.get_logger(__name__)


class Subscription:
    """What one reader waits for: changes of some operations, or of any when it names none.

    `has_events` is set when the log has something new about them, `has_progress` when a report of
    progress has; the reader clears each one before it looks. Both are set to begin with.
    """

    def __init__(self, names: frozenset[str], *, wants_progress: bool) -> None:
        self.names = names
        self.has_events = True
        self.has_progress = wants_progress
        self.wants_progress = wants_progress
        self._waiter: asyncio.Future[None] | None = None

    async def wait(self, timeout_s: float) -> None:
        """Returns once something new is set, at a release, or after `timeout_s`."""
        loop = asyncio.get_running_loop()
        waiter = loop.create_future()
        timer = loop.call_later(timeout_s, _settle, waiter)
        self._waiter = waiter
        try:
            await waiter
        finally:
            self._waiter = None
            timer.cancel()

    def release(self) -> None:
        """Ends the wait that is under way, if there is one."""
        if self._waiter is not None:
            _settle(self._waiter)

    def notify_events(self) -> None:
        """Says that the log has something new."""
        if not self.has_events:
            self.has_events = True
            self.release()

    def notify_progress(self) -> None:
        """Says that progress was reported."""
        if self.wants_progress and not self.has_progress:
            self.has_progress = True
            self.release()


class Router:
    """Follows the log from start to stop, and tells the subscriptions that an event concerns."""

    def __init__(self, store: OperationStore) -> None:
        self._store = store
        self._by_name: dict[str, set[Subscription]] = {}
        self._of_any: set[Subscription] = set()
        self._revision = 0
        self._tick = 0
        self._task: asyncio.Task[None] | None = None

    @property
    def revision(self) -> int:
        """Every event up to here has been told to those whom it concerns."""
        return self._revision

    @contextmanager
    def subscribed(
        self, names: frozenset[str], *, wants_progress: bool = False
    ) -> Iterator[Subscription]:
        """Yields a subscription that is told of everything from here on."""
        subscription = Subscription(names, wants_progress=wants_progress)
        for group in self._groups(names):
            group.add(subscription)
        try:
            yield subscription
        finally:
            self._forget(subscription)

    def release_all(self) -> None:
        """Ends all waits that are under way."""
        for subscription in self._all():
            subscription.release()

    async def start(self) -> None:
        """Begins at the newest revision; comes after the start of the store."""
        self._revision = self._store.revision
        self._task = asyncio.create_task(self._run(), name="event routing")

    async def stop(self) -> None:
        """Ends, wherever it is."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> None:
        while True:
            seen = self._store.changed.count
            try:
                await self._route()
            except BacklaneError as error:
                # Those who wait look for themselves, and learn of the error if it concerns them.
                _log.warning("routing_failed", reason=error.reason, error=error.message)
                self._resynchronize()
                await asyncio.sleep(FOREIGN_CHANGE_S_MAX)
            await self._store.changed.wait(FOREIGN_CHANGE_S_MAX, after=seen)

    async def _route(self) -> None:
        while self._revision < self._store.revision:
            page = await self._store.read_events(_EVERYTHING, self._revision)
            self._revision = page.through_revision
            if page.events:
                concerned = self._concerned({event.operation for event in page.events})
                for subscription in concerned:
                    subscription.notify_events()
        progress = self._store.progress_since(_EVERYTHING, self._tick)
        self._tick = progress.tick
        if progress.progress:
            for subscription in self._concerned(progress.progress):
                subscription.notify_progress()

    def _resynchronize(self) -> None:
        self._revision = self._store.revision
        for subscription in self._all():
            subscription.notify_events()

    def _concerned(self, names: Iterable[str]) -> list[Subscription]:
        found = list(self._of_any)
        for name in names:
            found.extend(self._by_name.get(name, ()))
        return found

    def _all(self) -> set[Subscription]:
        return self._of_any.union(*self._by_name.values())

    def _groups(self, names: frozenset[str]) -> list[set[Subscription]]:
        if not names:
            return [self._of_any]
        return [self._by_name.setdefault(name, set()) for name in names]

    def _forget(self, subscription: Subscription) -> None:
        self._of_any.discard(subscription)
        for name in subscription.names:
            group = self._by_name[name]
            group.discard(subscription)
            if not group:
                del self._by_name[name]


def _settle(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)
