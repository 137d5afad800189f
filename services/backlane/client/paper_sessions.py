"""Paper sessions from a program: bars in, reports out, over breaks of the stream.

with PaperSession.start(setup) as session:
    for report in session.follow(bars):
        ...
    summary = session.finish()

Every bar is traded on once and every report is returned once, whatever breaks in between: bars have
numbers, and what the service keeps is asked for when a stream is opened again. Loads no numpy.
"""

# grpc's callables are generic in types-grpcio alone.
from __future__ import annotations

import asyncio
import queue
import time
import uuid
from collections import deque
from typing import TYPE_CHECKING, Any, Self

from backlane.api.portfolios.v1.portfolio_service_pb2_grpc import PortfolioServiceStub
from backlane.backtest.session_messages import (
    FinishSession,
    NextBars,
    ReportsReceived,
    ResumeSession,
    SessionFinished,
    SessionMessage,
    SessionOpened,
    StartSession,
)
from backlane.backtest.session_records import BarReport
from backlane.client.connection import Addresses, AioConnection, Connection
from backlane.client.portfolios import SERVICE_NAME
from backlane.client.watching import Recovery
from backlane.clock import SystemClock
from backlane.errors import BacklaneError, InternalError, ServiceUnavailableError
from backlane.wire.paper_sessions import answer_from_proto, message_to_proto

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Iterator

    from backlane.backtest.portfolio_summary import PortfolioSummary
    from backlane.backtest.session_records import BarRow, SessionSetup
    from backlane.client.watching import OnReconnect
    from backlane.clock import Clock

WINDOW_BARS = 100
"""Bars that `follow` sends ahead of the reports that it has returned."""
ACKNOWLEDGED_EVERY = 50
"""Reports after which the service is told that they are here."""
SAYING_MAX = 4 * WINDOW_BARS
"""Messages on their way out: the bars of a window, their acknowledgements, and room to spare."""
RECONNECT_DEADLINE_S = 120.0
"""How long a session tries to come back: the lease of a service that died has to lapse first."""


class _Talk:
    """What was said so far, by both sides, without any transport."""

    def __init__(self, first: StartSession | ResumeSession) -> None:
        self._first = first
        self.operation = ""
        self.next_number = 1
        self.received = first.received_number if isinstance(first, ResumeSession) else 0
        self.waiting: deque[BarRow] = deque()
        self.is_finishing = False
        self.summary: PortfolioSummary | None = None

    def opening(self) -> SessionMessage:
        """Returns the first message of a stream."""
        if self.operation:
            return ResumeSession(self.operation, self.received)
        return self._first

    def opened(self, answer: Any) -> list[SessionMessage]:
        """Takes the first answer of a stream; returns what is to be said again."""
        if not isinstance(answer, SessionOpened):
            raise _unexpected(answer)
        self.operation = answer.operation
        self.next_number = max(self.next_number, answer.next_number)
        missing = tuple(bar for bar in self.waiting if bar.number >= answer.next_number)
        messages: list[SessionMessage] = [NextBars((bar,)) for bar in missing]
        return [*messages, FinishSession()] if self.is_finishing else messages

    def sent(self, bar: BarRow) -> SessionMessage:
        """Notes a bar that is sent, and returns the message."""
        self.waiting.append(bar)
        self.next_number = max(self.next_number, bar.number + 1)
        return NextBars((bar,))

    def take(self, answer: Any) -> tuple[BarReport | None, SessionMessage | None]:
        """Takes an answer; returns the report that it is, and what to say to it, if anything."""
        match answer:
            case BarReport():
                if answer.number != self.received + 1:
                    raise _unexpected(answer)
                self.received = answer.number
                while self.waiting and self.waiting[0].number <= answer.number:
                    self.waiting.popleft()
                is_due = answer.number % ACKNOWLEDGED_EVERY == 0
                return answer, ReportsReceived(answer.number) if is_due else None
            case SessionFinished(summary):
                self.summary = summary
                return None, None
            case None:
                return None, None
            case _:
                raise _unexpected(answer)


class PaperSession:
    """A session for a program with threads; every failure is a BacklaneError.

    A bar that is refused ends the stream with InvalidRequestError and changes nothing: the next
    call goes on with the session.
    """

    def __init__(
        self,
        first: StartSession | ResumeSession,
        address: str | None = None,
        *,
        client_name: str | None = None,
        clock: Clock | None = None,
        on_reconnect: OnReconnect | None = None,
        reconnect_deadline_s: float = RECONNECT_DEADLINE_S,
    ) -> None:
        """Opens the session; `start` and `resume` make the first message."""
        address = Addresses.resolve(backtests=address).backtests
        self._connection = Connection("backtests", address, [SERVICE_NAME], client=client_name)
        self._talk = _Talk(first)
        self._recovery = Recovery(clock or SystemClock(), reconnect_deadline_s, on_reconnect)
        self._call: Any = None
        self._saying: queue.Queue[SessionMessage | None] = queue.Queue(SAYING_MAX)
        try:
            self._retried(lambda: None)
        except BaseException:
            self.close()
            raise

    @classmethod
    def start(
        cls,
        setup: SessionSetup,
        address: str | None = None,
        *,
        request_id: str | None = None,
        **options: Any,
    ) -> Self:
        """Opens a new session; the same request_id again opens the same one."""
        return cls(StartSession(request_id or str(uuid.uuid4()), setup), address, **options)

    @classmethod
    def resume(
        cls, operation: str, address: str | None = None, *, received: int = 0, **options: Any
    ) -> Self:
        """Goes on with a session after the last report that the caller has, 0 for none.

        `next_number` then says which bar to feed next.
        """
        return cls(ResumeSession(operation, received), address, **options)

    @property
    def operation(self) -> str:
        """The name of its operation."""
        return self._talk.operation

    @property
    def next_number(self) -> int:
        """The number of the bar to feed next."""
        return self._talk.next_number

    @property
    def received(self) -> int:
        """The number of the last report that was returned, 0 for none."""
        return self._talk.received

    def feed(self, bar: BarRow) -> BarReport:
        """Sends a bar and returns its report; reports of bars before it must have been read."""
        return next(self.follow([bar]))

    def follow(self, bars: Iterable[BarRow]) -> Iterator[BarReport]:
        """Yields the report of every bar that the caller does not have yet, in order.

        Bars are sent ahead, so that the service never waits for the next one.
        """
        for bar in bars:
            if bar.number >= self._talk.next_number:
                self._say(self._talk.sent(bar))
            while self._talk.next_number - self._talk.received > WINDOW_BARS:
                yield self._report()
        while self._talk.received + 1 < self._talk.next_number:
            yield self._report()

    def finish(self) -> PortfolioSummary:
        """Ends the session, and returns the summary of its result, which is kept."""
        if not self._talk.is_finishing:
            self._talk.is_finishing = True
            self._say(FinishSession())
        while self._talk.summary is None:
            self._retried(self._read)
        return self._talk.summary

    def _report(self) -> BarReport:
        while True:
            report: BarReport | None = self._retried(self._read)
            if report is not None:
                return report

    def _read(self) -> BarReport | None:
        report, said = self._talk.take(self._answer())
        if said is not None:
            self._say(said)
        return report

    def _answer(self) -> Any:
        with self._connection.errors():
            try:
                return answer_from_proto(next(self._call))
            except StopIteration:
                raise ServiceUnavailableError("The stream of the session ended early.") from None

    def _retried(self, read: Any) -> Any:
        """Returns what `read` does on a stream that is open; opens it again when it breaks."""
        while True:
            try:
                if self._call is None:
                    self._open()
                return read()
            except BacklaneError as error:
                self._hang_up()
                if isinstance(error, InternalError):
                    raise
                time.sleep(self._recovery.pause_s(error))

    def _open(self) -> None:
        self._saying = queue.Queue(SAYING_MAX)
        stub: Any = self._connection.stub(PortfolioServiceStub, "watch")
        messages = _said(self._saying)
        self._saying.put(self._talk.opening())
        with self._connection.errors():
            self._call = stub.PaperSession(messages, metadata=self._connection.metadata())
        for message in self._talk.opened(self._answer()):
            self._saying.put(message)
        self._recovery.succeeded()

    def _say(self, message: SessionMessage) -> None:
        if self._call is not None:
            self._saying.put(message)

    def _hang_up(self) -> None:
        self._saying.put(None)
        if self._call is not None:
            self._call.cancel()
            self._call = None

    def close(self) -> None:
        """Ends the stream; the session stays, to be resumed, finished or cancelled."""
        self._hang_up()
        self._connection.close()

    def __enter__(self) -> Self:
        """Returns itself."""
        return self

    def __exit__(self, *_error: object) -> None:
        """Ends the stream; the session stays."""
        self.close()


class AsyncPaperSession:
    """A session for one event loop; otherwise as PaperSession."""

    def __init__(
        self,
        first: StartSession | ResumeSession,
        address: str | None = None,
        *,
        client_name: str | None = None,
        clock: Clock | None = None,
        on_reconnect: OnReconnect | None = None,
        reconnect_deadline_s: float = RECONNECT_DEADLINE_S,
    ) -> None:
        """Connects when its context is entered; `start` and `resume` make the first message."""
        address = Addresses.resolve(backtests=address).backtests
        self._connection = AioConnection("backtests", address, [SERVICE_NAME], client=client_name)
        self._talk = _Talk(first)
        self._recovery = Recovery(clock or SystemClock(), reconnect_deadline_s, on_reconnect)
        self._call: Any = None
        self._answers: Any = None
        self._saying: asyncio.Queue[SessionMessage | None] = asyncio.Queue(SAYING_MAX)

    @classmethod
    def start(
        cls,
        setup: SessionSetup,
        address: str | None = None,
        *,
        request_id: str | None = None,
        **options: Any,
    ) -> Self:
        """Makes a new session; see PaperSession.start."""
        return cls(StartSession(request_id or str(uuid.uuid4()), setup), address, **options)

    @classmethod
    def resume(
        cls, operation: str, address: str | None = None, *, received: int = 0, **options: Any
    ) -> Self:
        """Goes on with a session; see PaperSession.resume."""
        return cls(ResumeSession(operation, received), address, **options)

    @property
    def operation(self) -> str:
        """The name of its operation."""
        return self._talk.operation

    @property
    def next_number(self) -> int:
        """The number of the bar to feed next."""
        return self._talk.next_number

    @property
    def received(self) -> int:
        """The number of the last report that was returned, 0 for none."""
        return self._talk.received

    async def feed(self, bar: BarRow) -> BarReport:
        """Sends a bar and returns its report; reports of bars before it must have been read."""
        if bar.number >= self._talk.next_number:
            self._say(self._talk.sent(bar))
        return await self._report()

    async def follow(
        self, bars: Iterable[BarRow] | AsyncIterator[BarRow]
    ) -> AsyncGenerator[BarReport, None]:
        """Yields the report of every bar that the caller does not have yet, in order."""
        async for bar in _each(bars):
            if bar.number >= self._talk.next_number:
                self._say(self._talk.sent(bar))
            while self._talk.next_number - self._talk.received > WINDOW_BARS:
                yield await self._report()
        while self._talk.received + 1 < self._talk.next_number:
            yield await self._report()

    async def finish(self) -> PortfolioSummary:
        """Ends the session, and returns the summary of its result, which is kept."""
        if not self._talk.is_finishing:
            self._talk.is_finishing = True
            self._say(FinishSession())
        while self._talk.summary is None:
            await self._retried(is_opening=False)
        return self._talk.summary

    async def _report(self) -> BarReport:
        while True:
            report = await self._retried(is_opening=False)
            if report is not None:
                return report

    async def _retried(self, *, is_opening: bool) -> BarReport | None:
        while True:
            try:
                if self._call is None:
                    await self._open()
                if is_opening:
                    return None
                report, said = self._talk.take(await self._answer())
            except BacklaneError as error:
                self._hang_up()
                if isinstance(error, InternalError):
                    raise
                await asyncio.sleep(self._recovery.pause_s(error))
            else:
                if said is not None:
                    self._say(said)
                return report

    async def _open(self) -> None:
        self._saying = asyncio.Queue(SAYING_MAX)
        factory: Any = PortfolioServiceStub
        stub: Any = self._connection.stub(factory, "watch")
        self._saying.put_nowait(self._talk.opening())
        with self._connection.errors():
            self._call = stub.PaperSession(
                _messages(self._saying), metadata=self._connection.metadata()
            )
        self._answers = aiter(self._call)
        for message in self._talk.opened(await self._answer()):
            self._saying.put_nowait(message)
        self._recovery.succeeded()

    async def _answer(self) -> Any:
        with self._connection.errors():
            try:
                return answer_from_proto(await anext(self._answers))
            except StopAsyncIteration:
                raise ServiceUnavailableError("The stream of the session ended early.") from None

    def _say(self, message: SessionMessage) -> None:
        if self._call is not None:
            self._saying.put_nowait(message)

    def _hang_up(self) -> None:
        self._saying.put_nowait(None)
        if self._call is not None:
            self._call.cancel()
            self._call = None

    async def close(self) -> None:
        """Ends the stream; the session stays, to be resumed, finished or cancelled."""
        self._hang_up()
        await self._connection.close()

    async def __aenter__(self) -> Self:
        """Opens the session."""
        try:
            await self._retried(is_opening=True)
        except BaseException:
            await self.close()
            raise
        return self

    async def __aexit__(self, *_error: object) -> None:
        """Ends the stream; the session stays."""
        await self.close()


def _said(saying: queue.Queue[SessionMessage | None]) -> Iterator[Any]:
    while (message := saying.get()) is not None:
        yield message_to_proto(message)


async def _messages(saying: asyncio.Queue[SessionMessage | None]) -> AsyncGenerator[Any, None]:
    while (message := await saying.get()) is not None:
        yield message_to_proto(message)


async def _each(bars: Iterable[BarRow] | AsyncIterator[BarRow]) -> AsyncGenerator[BarRow, None]:
    if hasattr(bars, "__aiter__"):
        async for bar in bars:
            yield bar
    else:
        for bar in bars:
            yield bar


def _unexpected(answer: object) -> InternalError:
    said = type(answer).__name__ if not isinstance(answer, BarReport) else f"report {answer.number}"
    return InternalError(
        f"The session answered {said} out of order; that is a bug of backtest_service.",
        metadata={"answer": said},
    )
