"""Paper sessions: streams in front, operations behind, and between them the sessions held here.

A session is an operation of a kind of its own, so that whoever is asked to go on with it can take
exactly that one. While it is held here its lease is kept, with a stream or without. It goes back to
the queue when no stream has come for a while, and when the service drains; a service that died
loses the lease. In each case the next stream takes it up again, out of its files.
"""

import asyncio
import uuid
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import structlog

from backlane.backtest.portfolio_session import PortfolioSession
from backlane.backtest.session_messages import (
    FinishSession,
    NextBars,
    ReportsReceived,
    ResumeSession,
    SessionAnswer,
    SessionFinished,
    SessionMessage,
    SessionOpened,
    StartSession,
)
from backlane.backtest.session_records import BarRow
from backlane.client.operations import AsyncOperationsClient
from backlane.client.workers import AsyncWorkerClient
from backlane.clock import Clock
from backlane.errors import (
    BacklaneError,
    CancelledRunError,
    FieldViolation,
    InternalError,
    InvalidRequestError,
    LimitExceededError,
    ServerDrainingError,
    ServiceUnavailableError,
)
from backlane.operations.commands import Outcome, Stopped, Succeeded
from backlane.operations.directives import Hold
from backlane.operations.limits import ATTEMPTS_MAX
from backlane.operations.operation import Operation, State
from backlane.rpc.error_catalog import error_from_parts
from backlane.sources.session_files import has_session, prune_sessions
from backlane.sources.strategy_packages import installed_strategies
from backlane.wire.paper_sessions import setup_to_payload
from backlane.wire.portfolio_runs import result_from_payload, result_to_payload
from backtest_service.ends import failed
from backtest_service.finished_runs import in_thread
from backtest_service.lease_keeper import LeaseKeeper
from backtest_service.paper_book import kept_reports
from backtest_service.paper_seats import Guest, PaperSeat
from backtest_service.run_directory import attempt_directory

PAPER_KIND = "paper.session"
"""What the kinds of sessions begin with; a part that is the session's own follows."""
UNACKNOWLEDGED_MAX = 1_000
"""Reports that a client may be behind with: a bar further on is refused until it acknowledges."""
THREADS_MAX = 4
"""Sessions that are traded on in the same moment; the others wait for their turn."""
TAKE_UP_S_MAX = 60.0
"""How long a stream waits for a session whose lease another process has, or had."""
ACQUIRE_WAIT_S = 1.0
RETRY_DELAY_S = 0.5
COMPLETE_TRIES_MAX = 20
"""Times that the end of a session is told to a registry that does not answer."""

ResultT = TypeVar("ResultT")

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class PaperTerms:
    """Where sessions are kept, how many are held at once, and how long one is without a stream."""

    home: Path
    results_dir: Path
    sessions_max: int
    idle_s: float


class PaperDesk:
    """Serves the streams of paper sessions; a background of backtest_service."""

    def __init__(
        self,
        terms: PaperTerms,
        operations: AsyncOperationsClient,
        worker: AsyncWorkerClient,
        clock: Clock,
    ) -> None:
        self._terms, self._operations, self._worker = terms, operations, worker
        self._clock = clock
        self._keeper = LeaseKeeper(worker, clock)
        self._seats: dict[str, PaperSeat] = {}
        self._turns: dict[str, asyncio.Lock] = {}
        self._keeping: set[asyncio.Task[None]] = set()
        self._is_started = False
        self._threads = ThreadPoolExecutor(THREADS_MAX, "paper session")
        self._draining = asyncio.Event()

    async def start(self) -> None:
        """Does nothing: the first session begins to keep leases."""

    async def drain(self) -> None:
        """Takes no more sessions, and gives those held here back to the queue."""
        self._draining.set()
        if self._keeping:
            await asyncio.wait(set(self._keeping))

    async def stop(self) -> None:
        """Ends everything; what is still held lapses."""
        for task in self._keeping:
            task.cancel()
        await asyncio.gather(*self._keeping, return_exceptions=True)
        if self._is_started:
            await self._keeper.stop()
        self._threads.shutdown(wait=False, cancel_futures=True)
        await self._worker.close()

    # --- the stream ---------------------------------------------------------------------------

    async def converse(
        self, messages: AsyncIterator[SessionMessage], client: str
    ) -> AsyncGenerator[SessionAnswer, None]:
        """Answers a stream; it ends with the session, with the client's side, or with an error.

        Raises what starting a session raises; LimitExceededError for too many sessions, or a client
        too far behind; CancelledRunError for a cancelled session, and the error of a failed one;
        ServiceUnavailableError and ServerDrainingError where it goes on with another stream.
        """
        first = await anext(messages, None)
        name, received = await self._named(first, client)
        found = await asyncio.shield(asyncio.create_task(self._take_up(name)))
        if isinstance(found, Operation):
            async with aclosing(self._told(found, received)) as answers:
                async for answer in answers:
                    yield answer
            return
        guest = found.welcome()
        try:
            async with aclosing(self._serve(found, guest, messages, received)) as answers:
                async for answer in answers:
                    yield answer
        finally:
            found.farewell(guest, self._clock.monotonic_s())

    async def _named(self, first: SessionMessage | None, client: str) -> tuple[str, int]:
        match first:
            case StartSession():
                return (await self._start(first, client)).name, 0
            case ResumeSession(operation, received):
                return operation, received
            case _:
                raise _refused("start", "A session begins with start, or with resume.")

    async def _start(self, wish: StartSession, client: str) -> Operation:
        """Opens the operation of a session that can be followed."""
        try:
            await asyncio.to_thread(PortfolioSession, wish.setup, installed_strategies())
        except InvalidRequestError as error:
            raise _as_start_error(error) from error
        return await self._operations.create(
            f"{PAPER_KIND}.s{wish.request_id.replace('-', '')[:24].lower()}",
            setup_to_payload(wish.setup),
            request_id=wish.request_id,
            client_name=client,
            max_attempts=ATTEMPTS_MAX,
        )

    async def _serve(
        self,
        seat: PaperSeat,
        guest: Guest,
        messages: AsyncIterator[SessionMessage],
        received: int,
    ) -> AsyncGenerator[SessionAnswer, None]:
        if received > seat.book.bar_count:
            raise _refused(
                "resume.received_number",
                f"{received} reports cannot have been received: {seat.book.bar_count} were made.",
            )
        yield SessionOpened(seat.name, seat.book.bar_count + 1)
        sent = acknowledged = received
        while True:
            while sent < seat.book.bar_count:
                sent += 1
                yield await asyncio.to_thread(seat.book.report, sent)
            match await guest.next_of(messages):
                case None:
                    return
                case ReportsReceived(number):
                    acknowledged = max(acknowledged, min(number, sent))
                case NextBars(bars):
                    for bar in bars:
                        _check_pace(bar, acknowledged)
                        guest.raise_if_gone()
                        await asyncio.shield(asyncio.create_task(self._feed(seat, bar)))
                        while sent < seat.book.bar_count:
                            sent += 1
                            yield await asyncio.to_thread(seat.book.report, sent)
                case FinishSession():
                    yield await asyncio.shield(asyncio.create_task(self._finish(seat)))
                    return
                case _:
                    raise _refused("start", "A stream starts or resumes a session once.")

    async def _feed(self, seat: PaperSeat, bar: BarRow) -> None:
        async with seat.turn:
            seat.raise_if_lost()
            try:
                await self._computed(seat.book.feed, bar)
            except InvalidRequestError as error:
                raise _of_bar(error, bar) from error
            except BacklaneError as error:
                await self._end(seat, failed(error))
                raise
            except Exception as error:
                _log.exception("unforeseen error", operation=seat.name)
                end = InternalError(f"Bar {bar.number} cannot be traded: {error!r}.")
                await self._end(seat, failed(end))
                raise end from error

    async def _finish(self, seat: PaperSeat) -> SessionFinished:
        async with seat.turn:
            seat.raise_if_lost()
            directory = attempt_directory(self._terms.results_dir, seat.operation)
            summary = await self._computed(seat.book.finish, directory)
            await self._end(seat, Succeeded(result_to_payload(summary)))
            return SessionFinished(summary)

    async def _end(self, seat: PaperSeat, outcome: Outcome) -> None:
        """Tells the registry how a session ended; then it is over here, too."""
        for left in reversed(range(COMPLETE_TRIES_MAX)):
            try:
                await self._worker.complete(seat.name, seat.lease.epoch, outcome)
                break
            except ServiceUnavailableError:
                if left == 0:
                    raise
                await asyncio.sleep(RETRY_DELAY_S)
        seat.end()
        seat.is_over.set()

    # --- sessions held here ---------------------------------------------------------------------

    async def _take_up(self, name: str) -> PaperSeat | Operation:
        """Returns the session, held here from now on; or its operation, where it has ended."""
        async with self._turns.setdefault(name, asyncio.Lock()):
            seat = self._seats.get(name)
            if seat is not None and not (seat.is_closing or seat.is_over.is_set()):
                return seat
            if self._draining.is_set():
                raise ServerDrainingError("The service is going down: resume in a moment.")
            if len(self._seats) >= self._terms.sessions_max:
                raise LimitExceededError(
                    f"{self._terms.sessions_max} sessions are held here: finish or cancel one.",
                    metadata={
                        "limit": "paper_sessions_max",
                        "maximum": str(self._terms.sessions_max),
                    },
                    retry_delay_s=1.0,
                )
            return await self._acquire(name)

    async def _acquire(self, name: str) -> PaperSeat | Operation:
        """Takes the lease of a session, and opens its files; waits for one that lapses."""
        ends_s = self._clock.monotonic_s() + TAKE_UP_S_MAX
        while True:
            operation = await self._operations.get(name)
            if not operation.kind.startswith(f"{PAPER_KIND}."):
                raise _refused(
                    "resume.operation", f"{name} is a {operation.kind}, no paper session."
                )
            if operation.state.is_terminal:
                return operation
            asked_s = self._clock.monotonic_s()
            request_id = str(uuid.uuid4())
            assignment = await self._worker.acquire(
                [operation.kind], wait_s=ACQUIRE_WAIT_S, request_id=request_id
            )
            if assignment is not None:
                break
            if self._clock.monotonic_s() >= ends_s or self._draining.is_set():
                raise ServiceUnavailableError(
                    f"{name} is held by another process: resume it in a moment.",
                    metadata={"operation": name},
                    retry_delay_s=1.0,
                )
        if not self._is_started:
            self._is_started = True
            await self._keeper.start()
        seat = PaperSeat(assignment.operation)
        self._seats[name] = seat
        holding = asyncio.create_task(self._keep(seat, assignment.hold, asked_s))
        self._keeping.add(holding)
        holding.add_done_callback(self._keeping.discard)
        await seat.is_held.wait()
        await self._open(seat)
        return seat

    async def _open(self, seat: PaperSeat) -> None:
        """Reads the files of a session; one that cannot be read has failed."""
        async with seat.turn:
            try:
                await self._computed(seat.open, self._terms.home)
            except BacklaneError as error:
                await self._end(seat, failed(error))
                raise
            except Exception as error:
                _log.exception("unforeseen error", operation=seat.name)
                end = InternalError(f"The session cannot be opened: {error!r}.")
                await self._end(seat, failed(end))
                raise end from error
            seat.left(self._clock.monotonic_s())

    async def _keep(self, seat: PaperSeat, hold: Hold, asked_s: float) -> None:
        """Keeps the lease of a session for as long as it is held here."""
        try:
            async with self._keeper.holding(hold, asked_s) as lease:
                seat.lease = lease
                seat.is_held.set()
                why = await seat.until_over(self._draining, self._terms.idle_s, self._clock)
                seat.is_closing = True
                async with seat.turn:
                    await self._let_go(seat, why)
        except BacklaneError as error:
            _log.warning("session not given back", operation=seat.name, reason=error.message)
        finally:
            if self._seats.get(seat.name) is seat:
                del self._seats[seat.name]
                self._turns.pop(seat.name, None)
            seat.close()
            with suppress(OSError):
                await asyncio.to_thread(prune_sessions, self._terms.home)

    async def _let_go(self, seat: PaperSeat, why: str) -> None:
        lease = seat.lease
        if lease.is_lost.is_set():
            seat.dismiss(ServiceUnavailableError("The lease of the session was lost: resume it."))
        elif seat.is_over.is_set():
            return
        elif lease.cancel_asked.is_set():
            seat.dismiss(CancelledRunError("The session was cancelled."))
            await self._worker.complete(seat.name, lease.epoch, Stopped())
            seat.end()
        else:
            seat.dismiss(ServerDrainingError(f"The session is put aside, {why}: resume it."))
            await self._computed(seat.keep_state)
            await self._worker.release(seat.name, lease.epoch, f"put aside, {why}")

    async def _told(
        self, operation: Operation, received: int
    ) -> AsyncGenerator[SessionAnswer, None]:
        """Yields what is left to be told of a session that has ended; raises how it failed."""
        if operation.state is State.CANCELLED:
            raise CancelledRunError("The session was cancelled.")
        error = operation.error
        if error is not None:
            raise error_from_parts(error.reason, error.message, error.metadata)
        if operation.result is None:
            raise InternalError(f"{operation.name} has ended without a result.")
        summary = result_from_payload(operation.result)
        yield SessionOpened(operation.name, summary.bar_count + 1)
        home, identity = self._terms.home, operation.name.removeprefix("operations/")
        if await asyncio.to_thread(has_session, home, identity):
            reports = in_thread(kept_reports(home, identity, received + 1))
            async with aclosing(reports):
                async for report in reports:
                    yield report
        yield SessionFinished(summary)

    async def _computed(self, function: Callable[..., ResultT], *arguments: Any) -> ResultT:
        """Returns what a function gives that trades, in one of the threads for that."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads, partial(function, *arguments))


def _refused(field: str, message: str) -> InvalidRequestError:
    return InvalidRequestError(message, violations=(FieldViolation(field, message),))


def _check_pace(bar: BarRow, acknowledged: int) -> None:
    if bar.number > acknowledged + UNACKNOWLEDGED_MAX:
        raise LimitExceededError(
            f"Bar {bar.number} is {bar.number - acknowledged} past the last report that was "
            f"acknowledged, {acknowledged}: acknowledge reports with `received`.",
            metadata={"limit": "UNACKNOWLEDGED_MAX", "maximum": str(UNACKNOWLEDGED_MAX)},
        )


def _of_bar(error: InvalidRequestError, bar: BarRow) -> InvalidRequestError:
    """Returns the error of a bar with its fields by their paths in the message."""
    root = f"bars.bars[{bar.number}]"
    renamed = tuple(
        FieldViolation(f"{root}.{each.field}" if each.field else root, each.description)
        for each in error.violations
    )
    return InvalidRequestError(error.message, metadata=error.metadata, violations=renamed)


def _as_start_error(error: InvalidRequestError) -> InvalidRequestError:
    """Returns the error of a setup with its fields by their paths in the message."""
    own = {"symbols", "bar_spacing"}
    renamed = tuple(
        FieldViolation(
            f"start.{each.field}" if each.field in own else f"start.config.{each.field}",
            each.description,
        )
        for each in error.violations
    )
    return InvalidRequestError(error.message, metadata=error.metadata, violations=renamed)
