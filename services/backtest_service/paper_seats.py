"""A paper session that is held by this process, and the stream that is its guest."""

import asyncio
import math
from collections.abc import AsyncIterator
from pathlib import Path

from backlane.backtest.session_messages import SessionMessage
from backlane.clock import Clock
from backlane.errors import BacklaneError, InternalError, ServiceUnavailableError
from backlane.operations.operation import Operation
from backtest_service.lease_keeper import HeldLease
from backtest_service.paper_book import PaperBook


class Guest:
    """One stream of a session; a newer one takes its place."""

    def __init__(self) -> None:
        self._why: BacklaneError | None = None
        self._gone = asyncio.Event()

    def dismiss(self, why: BacklaneError) -> None:
        """Ends the stream with an error, at the next message that it waits for."""
        self._why = self._why or why
        self._gone.set()

    def raise_if_gone(self) -> None:
        """Raises why the stream was dismissed, if it was."""
        if self._why is not None:
            raise self._why

    async def next_of(self, messages: AsyncIterator[SessionMessage]) -> SessionMessage | None:
        """Returns the next message, None at the end; raises as `raise_if_gone` while it waits."""
        coming = asyncio.ensure_future(anext(messages, None))
        gone = asyncio.ensure_future(self._gone.wait())
        try:
            await asyncio.wait({coming, gone}, return_when=asyncio.FIRST_COMPLETED)
            self.raise_if_gone()
            return await coming
        finally:
            for task in (coming, gone):
                task.cancel()
            await asyncio.wait({coming, gone})


class PaperSeat:
    """A session held here: its operation, its lease, its book, and who is served."""

    def __init__(self, operation: Operation) -> None:
        self.operation, self.name = operation, operation.name
        self.turn = asyncio.Lock()
        """Held while the book is used."""
        self.is_held, self.is_over = asyncio.Event(), asyncio.Event()
        self.is_closing = False
        self._left_s = math.inf
        self._lease: HeldLease | None = None
        self._book: PaperBook | None = None
        self._guest: Guest | None = None
        self._changed = asyncio.Event()

    @property
    def lease(self) -> HeldLease:
        """The lease, once `is_held`."""
        if self._lease is None:
            raise InternalError("The session has no lease yet.")
        return self._lease

    @lease.setter
    def lease(self, lease: HeldLease) -> None:
        self._lease = lease

    @property
    def book(self) -> PaperBook:
        """The book, once it is open."""
        if self._book is None:
            raise InternalError("The session is not open yet.")
        return self._book

    def open(self, home: Path) -> None:
        """Opens the book; raises what `PaperBook` raises."""
        self._book = PaperBook(home, self.operation)

    def welcome(self) -> Guest:
        """Returns the guest that is served from now on; an earlier one has to go."""
        self.dismiss(ServiceUnavailableError("Another stream goes on with the session."))
        self._guest = Guest()
        self._changed.set()
        return self._guest

    def farewell(self, guest: Guest, now_s: float) -> None:
        """Notes that a guest is gone, at a monotonic time."""
        if self._guest is guest:
            self._guest = None
            self.left(now_s)

    def left(self, now_s: float) -> None:
        """Notes that nobody is served from now on, at a monotonic time."""
        self._left_s = now_s
        self._changed.set()

    def dismiss(self, why: BacklaneError) -> None:
        """Ends the stream that is served, if there is one."""
        if self._guest is not None:
            self._guest.dismiss(why)

    def raise_if_lost(self) -> None:
        """Raises ServiceUnavailableError once the session is no longer to be written here."""
        if self.is_closing or self.is_over.is_set() or self.lease.is_lost.is_set():
            raise ServiceUnavailableError("The session is no longer held here: resume it.")

    async def until_over(self, draining: asyncio.Event, idle_s: float, clock: Clock) -> str:
        """Waits until the session is to be let go, and returns why."""
        events = (self.lease.is_lost, self.lease.cancel_asked, self.is_over, draining)
        reasons = ("lease lost", "cancelled", "over", "the service is going down")
        waits = [asyncio.ensure_future(each.wait()) for each in events]
        try:
            while True:
                for each, reason in zip(events, reasons, strict=True):
                    if each.is_set():
                        return reason
                left_s = None
                if self._guest is None:
                    left_s = self._left_s + idle_s - clock.monotonic_s()
                    if left_s <= 0:
                        return "no stream came"
                self._changed.clear()
                changed = asyncio.ensure_future(self._changed.wait())
                try:
                    await asyncio.wait(
                        {*waits, changed},
                        timeout=None if left_s == math.inf else left_s,
                        return_when=asyncio.FIRST_COMPLETED,
                    )
                finally:
                    changed.cancel()
        finally:
            for wait in waits:
                wait.cancel()

    def keep_state(self) -> None:
        """Keeps the state of the book, if it is open."""
        if self._book is not None:
            self._book.keep_state()

    def end(self) -> None:
        """Notes in its files that the session is over."""
        if self._book is not None:
            self._book.end()

    def close(self) -> None:
        """Closes the files of the session."""
        if self._book is not None:
            self._book.close()
