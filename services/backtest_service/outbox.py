"""What a run reports, on its way to the registry: in order, without loss, ten times a second.

Trades and points gather while a report is under way. A batch keeps its number until the registry
has acknowledged it, so that a retry over a restart is neither lost nor applied twice.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

import structlog

from backlane.client.workers import AsyncWorkerClient
from backlane.clock import Clock
from backlane.errors import (
    CallTimeoutError,
    LeaseLostError,
    LimitExceededError,
    ServerDrainingError,
    ServiceUnavailableError,
    StoreUnavailableError,
)
from backlane.operations.commands import TelemetryBatch
from backlane.operations.events import MetricPoint
from backlane.operations.limits import NOTE_CHARACTERS_MAX, NOTES_PER_BATCH_MAX
from backlane.operations.operation import Progress
from backtest_service.lease_keeper import HeldLease

REPORT_INTERVAL_S = 0.1
TRADES_PER_BATCH = 2_000
POINTS_PER_BATCH = 2_000
TRADES_WAITING_MAX = 20_000
"""Beyond it the run waits: whoever writes faster than the registry takes has to."""
RETRY_DELAY_S_MIN, RETRY_DELAY_S_MAX = 0.1, 1.0

_PASSING = (
    CallTimeoutError,
    LimitExceededError,
    ServerDrainingError,
    ServiceUnavailableError,
    StoreUnavailableError,
)

AnswerT = TypeVar("AnswerT")

_log = structlog.get_logger(__name__)


async def persist(
    lease: HeldLease, call: Callable[[], Awaitable[AnswerT]], clock: Clock
) -> AnswerT | None:
    """Makes a call again and again until it is answered; None once the lease is lost.

    Raises the errors that do not pass.
    """
    delay_s = RETRY_DELAY_S_MIN
    while not lease.is_lost.is_set() and clock.monotonic_s() < lease.expires_s:
        try:
            return await call()
        except LeaseLostError as error:
            lease.lose(error.message)
        except _PASSING as error:
            _log.info("registry not reached", operation=lease.operation, reason=error.message)
            await asyncio.sleep(delay_s)
            delay_s = min(2 * delay_s, RETRY_DELAY_S_MAX)
    return None


class Outbox:
    """The reports of one run."""

    def __init__(self, client: AsyncWorkerClient, lease: HeldLease, clock: Clock) -> None:
        self._client = client
        self._lease = lease
        self._clock = clock
        self._trades: list[bytes] = []
        self._points: list[MetricPoint] = []
        self._notes: list[str] = []
        self._first_trade = 1
        self._progress: Progress | None = None
        self._batch_number = 0
        self._news = asyncio.Event()
        self._room = asyncio.Event()
        self._under_way: TelemetryBatch | None = None

    async def add(self, trades: tuple[bytes, ...], points: tuple[MetricPoint, ...]) -> None:
        """Takes trades and points, in order; waits while too much is waiting already."""
        while len(self._trades) >= TRADES_WAITING_MAX and not self._lease.is_lost.is_set():
            self._room.clear()
            await self._room.wait()
        self._trades += trades
        self._points += points
        self._news.set()

    def note(self, text: str) -> None:
        """Takes a line for people."""
        if len(self._notes) < NOTES_PER_BATCH_MAX:
            self._notes.append(text[:NOTE_CHARACTERS_MAX])
        self._news.set()

    def report(self, progress: Progress) -> None:
        """Takes a report of progress; the newest one wins."""
        self._progress = progress
        self._news.set()

    async def send_forever(self) -> None:
        """Sends what there is, then rests; raises what the registry says of a wrong report."""
        while not self._lease.is_lost.is_set():
            await self._news.wait()
            await self._send_next()
            await asyncio.sleep(REPORT_INTERVAL_S)
        self._room.set()

    async def flush(self) -> None:
        """Returns once everything is acknowledged, or the lease is lost."""
        while self._has_news() and not self._lease.is_lost.is_set():
            await self._send_next()

    def _has_news(self) -> bool:
        return bool(
            self._under_way or self._trades or self._points or self._notes or self._progress
        )

    async def _send_next(self) -> None:
        self._news.clear()
        # One that was sent and not answered is sent again as it was: the registry may have it.
        self._under_way = self._under_way or self._next_batch()
        if self._under_way is None:
            return
        batch = self._under_way
        if await persist(self._lease, lambda: self._append(batch), self._clock) is None:
            return
        self._batch_number = max(self._batch_number, batch.batch_number)
        self._under_way = None
        if self._has_news():
            self._news.set()

    def _next_batch(self) -> TelemetryBatch | None:
        trades, points = self._trades[:TRADES_PER_BATCH], self._points[:POINTS_PER_BATCH]
        progress, self._progress = self._progress, None
        notes, self._notes = tuple(self._notes), []
        if not (trades or points or notes or progress):
            return None
        del self._trades[: len(trades)]
        del self._points[: len(points)]
        self._room.set()
        first_trade, self._first_trade = self._first_trade, self._first_trade + len(trades)
        return TelemetryBatch(
            self._batch_number + 1 if trades or points or notes else 0,
            points=tuple(points),
            trades=tuple(trades),
            first_trade=first_trade,
            notes=notes,
            progress=progress,
        )

    async def _append(self, batch: TelemetryBatch) -> int:
        return await self._client.append(self._lease.operation, self._lease.epoch, batch)
