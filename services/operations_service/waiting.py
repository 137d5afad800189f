"""Calls that wait: for work, for an end, and for directives."""

from collections.abc import AsyncGenerator

from backlane.clock import Clock
from backlane.errors import ServerDrainingError
from backlane.operations.commands import Claim
from backlane.operations.directives import Directive, directive_for
from backlane.operations.operation import Operation, State
from backlane.operations.store import MetricPage, OperationStore
from backlane.wire.operation_requests import MetricsRequest
from operations_service.routing import Router
from operations_service.watch import DRAINING_RETRY_DELAY_S


class Waits:
    """Keeps calls open until what they wait for has come, or the server drains."""

    def __init__(
        self, store: OperationStore, router: Router, clock: Clock, heartbeat_s: float
    ) -> None:
        self._store = store
        self._router = router
        self._clock = clock
        self._heartbeat_s = heartbeat_s
        self._is_draining = False

    async def drain(self) -> None:
        """Ends every wait that is open."""
        self._is_draining = True
        self._store.wake()
        self._router.release_all()

    async def claim(self, claim: Claim, wait_s: float) -> Operation | None:
        """Takes an operation as soon as there is one; None when there is none in time."""
        ends_s = self._clock.monotonic_s() + wait_s
        while True:
            seen = self._store.queued.count
            operation = await self._store.claim(claim)
            left_s = ends_s - self._clock.monotonic_s()
            if operation is not None or left_s <= 0 or self._is_draining:
                return operation
            due_s = await self._store.next_attempt_delay_s(claim.kinds)
            if due_s is not None:
                left_s = min(left_s, due_s)
            await self._store.queued.wait(left_s, after=seen)

    async def for_end(self, name: str, wait_s: float) -> Operation:
        """Returns the operation once it is terminal, or as it is when the time is over."""
        ends_s = self._clock.monotonic_s() + wait_s
        with self._router.subscribed(frozenset({name})) as news:
            while True:
                news.has_events = False
                operation = await self._store.get(name)
                left_s = ends_s - self._clock.monotonic_s()
                if operation.state.is_terminal or left_s <= 0 or self._is_draining:
                    return operation
                if not news.has_events:
                    await news.wait(left_s)

    async def for_points(self, asked: MetricsRequest) -> MetricPage:
        """Reads metric points; where there is none yet, waits for one, or for the end."""
        ends_s = self._clock.monotonic_s() + asked.wait_s
        with self._router.subscribed(frozenset({asked.operation})) as news:
            while True:
                news.has_events = False
                page = await self._store.list_metric_points(
                    asked.operation, asked.after_index, asked.series, asked.page_size
                )
                left_s = ends_s - self._clock.monotonic_s()
                if page.points or page.is_complete or left_s <= 0 or self._is_draining:
                    return page
                if not news.has_events:
                    await news.wait(left_s)

    async def directives(self, worker_id: str) -> AsyncGenerator[tuple[Directive, ...], None]:
        """Yields what the worker must do as soon as that is known, or nothing as a heartbeat."""
        told: set[tuple[str, int]] = set()
        while True:
            seen = self._store.cancelling.count
            held = await self._store.held_by(worker_id)
            cancelling = [one for one in held if one.state is State.CANCELLING]
            news = [one for one in cancelling if (one.name, one.epoch) not in told]
            told = {(one.name, one.epoch) for one in cancelling}
            yield tuple(directive_for(one, self._store.terms) for one in news)
            if self._is_draining:
                raise ServerDrainingError(
                    "The server is going down; ask another one for directives.",
                    retry_delay_s=DRAINING_RETRY_DELAY_S,
                )
            await self._store.cancelling.wait(self._heartbeat_s, after=seen)
