"""Keeps the leases of all runs alive, and tells each run when it must stop.

A lease counts from before the renewal was sent, on this machine's monotonic clock. A run whose
lease is not renewed in time stops by itself a moment before the registry gives it to someone else.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import structlog

from backlane.client.workers import AsyncWorkerClient
from backlane.clock import Clock
from backlane.errors import BacklaneError
from backlane.operations.directives import Action, Directive, Hold
from backlane.operations.limits import RENEWALS_PER_CALL_MAX
from backlane.operations.store import Renewal

FENCE_S_MAX = 2.0
"""A run stops this long before its lease lapses, or a fifth of it before where that is shorter."""
RENEW_DEADLINE_S_MIN = 0.5
"""A lease that looks lapsed is asked about all the same: it may have been granted later."""
RETRY_DELAY_S = 0.5
"""Pause before a failed renewal is tried again, and a lost stream of directives."""

_log = structlog.get_logger(__name__)


class HeldLease:
    """The right to one run, as its holder sees it."""

    def __init__(self, hold: Hold, expires_s: float) -> None:
        self.operation = hold.operation
        self.epoch = hold.epoch
        self.renew_interval_s = hold.renew_interval_s
        self.fence_s = min(FENCE_S_MAX, hold.ttl_s / 5)
        self.expires_s = expires_s
        self.is_lost = asyncio.Event()
        self.cancel_asked = asyncio.Event()
        self.cancel_grace_s = 0.0

    @property
    def stops_s(self) -> float:
        """Returns the monotonic time at which the holder must have stopped."""
        return self.expires_s - self.fence_s

    def lose(self, reason: str) -> None:
        """Notes that nothing more may be written under it."""
        if not self.is_lost.is_set():
            _log.warning("lease lost", operation=self.operation, epoch=self.epoch, reason=reason)
            self.is_lost.set()


class LeaseKeeper:
    """Renews what is held, all leases in one call, and listens for directives."""

    def __init__(self, client: AsyncWorkerClient, clock: Clock) -> None:
        self._client = client
        self._clock = clock
        self._held: dict[str, HeldLease] = {}
        self._changed = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Begins to renew and to listen."""
        self._tasks = [
            asyncio.create_task(self._renew_forever(), name="lease renewals"),
            asyncio.create_task(self._listen_forever(), name="directives"),
        ]

    async def stop(self) -> None:
        """Ends both; what is still held lapses."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    @asynccontextmanager
    async def holding(self, hold: Hold, asked_s: float) -> AsyncIterator[HeldLease]:
        """Keeps a lease alive inside the context; `asked_s` is when it was asked for."""
        lease = HeldLease(hold, asked_s + hold.ttl_s)
        self._held[hold.operation] = lease
        self._changed.set()
        try:
            yield lease
        finally:
            del self._held[hold.operation]

    async def _renew_forever(self) -> None:
        while True:
            self._changed.clear()
            pause_s = await self._renew_all()
            try:
                async with asyncio.timeout(pause_s):
                    await self._changed.wait()
            except TimeoutError:
                continue

    async def _renew_all(self) -> float | None:
        """Renews every lease once; returns the seconds until the next time, None when idle."""
        leases = [lease for lease in self._held.values() if not lease.is_lost.is_set()]
        pause_s = min((lease.renew_interval_s for lease in leases), default=None)
        for start in range(0, len(leases), RENEWALS_PER_CALL_MAX):
            if not await self._renew(leases[start : start + RENEWALS_PER_CALL_MAX]):
                pause_s = min(RETRY_DELAY_S, pause_s or RETRY_DELAY_S)
        now_s = self._clock.monotonic_s()
        for lease in leases:
            if now_s >= lease.stops_s:
                lease.lose("it could not be renewed in time")
        left_s = min((lease.stops_s - now_s for lease in self._live()), default=None)
        return pause_s if pause_s is None or left_s is None else max(0.0, min(pause_s, left_s))

    async def _renew(self, leases: list[HeldLease]) -> bool:
        asked_s = self._clock.monotonic_s()
        left_s = min(lease.stops_s for lease in leases) - asked_s
        deadline_s = max(RENEW_DEADLINE_S_MIN, left_s)
        renewals = [Renewal(lease.operation, lease.epoch) for lease in leases]
        try:
            directives = await self._client.renew(renewals, deadline_s=deadline_s)
        except BacklaneError as error:
            _log.warning("leases not renewed", count=len(leases), reason=error.message)
            return False
        for directive in directives:
            self._obey(directive, asked_s)
        return True

    async def _listen_forever(self) -> None:
        while True:
            try:
                async for directive in self._client.watch_directives():
                    # The time to live of a pushed directive began before it was sent to us, but
                    # we cannot tell when: only answers to our own calls prolong a lease.
                    self._obey(directive, None)
            except BacklaneError as error:
                # Renewals bring the same directives, only later.
                _log.debug("no directives", reason=error.message)
            await asyncio.sleep(RETRY_DELAY_S)

    def _obey(self, directive: Directive, asked_s: float | None) -> None:
        lease = self._held.get(directive.operation)
        if lease is None or (directive.hold is not None and directive.hold.epoch != lease.epoch):
            return
        if directive.action is Action.ABANDON:
            lease.lose(directive.reason)
            return
        if directive.hold is not None and asked_s is not None:
            lease.expires_s = max(lease.expires_s, asked_s + directive.hold.ttl_s)
        if directive.action is Action.CANCEL:
            lease.cancel_grace_s = directive.grace_s
            lease.cancel_asked.set()

    def _live(self) -> list[HeldLease]:
        return [lease for lease in self._held.values() if not lease.is_lost.is_set()]
