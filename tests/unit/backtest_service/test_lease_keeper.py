"""Leases are renewed in time, count from before they were asked for, and end before they lapse."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from typing import Any, cast

import pytest

from backlane.clock import ManualClock
from backlane.errors import ServiceUnavailableError
from backlane.operations.directives import Action, Directive, Hold
from backlane.operations.store import Renewal
from backtest_service.lease_keeper import LeaseKeeper

NAME = "operations/abcd"
HOLD = Hold(NAME, epoch=3, ttl_s=15.0, renew_interval_s=5.0)


class Registry:
    """Answers renewals as it is told, after `travel_s`."""

    def __init__(self, clock: ManualClock, travel_s: float = 0.0) -> None:
        self._clock = clock
        self._travel_s = travel_s
        self.answer: Directive | None = Directive(NAME, Action.CONTINUE, HOLD)
        self.asked = asyncio.Event()
        self.pushed: list[Directive] = []

    async def renew(self, renewals: Sequence[Renewal], *, deadline_s: float) -> list[Directive]:
        assert renewals == [Renewal(NAME, 3)]
        assert deadline_s > 0
        self._clock.advance(self._travel_s)
        self.asked.set()
        if self.answer is None:
            raise ServiceUnavailableError("nobody there")
        return [self.answer]

    async def watch_directives(self) -> AsyncGenerator[Directive, None]:
        for directive in self.pushed:
            yield directive
        await asyncio.Event().wait()


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


def keeper_of(registry: Registry, clock: ManualClock) -> LeaseKeeper:
    return LeaseKeeper(cast(Any, registry), clock)


@pytest.mark.asyncio
async def test_a_lease_counts_from_before_it_was_asked_for(clock: ManualClock):
    registry = Registry(clock, travel_s=4.0)
    keeper = keeper_of(registry, clock)
    async with keeper.holding(HOLD, asked_s=0.0) as lease:
        assert lease.expires_s == 15.0
        clock.advance(5.0)
        await keeper._renew_all()
        # Asked at 5, answered at 9: good until 5 + 15, and to be given up 2 s before.
        assert (lease.expires_s, lease.stops_s) == (20.0, 18.0)


@pytest.mark.asyncio
async def test_a_lease_that_cannot_be_renewed_is_given_up_before_it_lapses(clock: ManualClock):
    registry = Registry(clock)
    registry.answer = None
    keeper = keeper_of(registry, clock)
    async with keeper.holding(HOLD, asked_s=0.0) as lease:
        clock.advance(12.9)
        assert await keeper._renew_all() == pytest.approx(0.1)  # looks again when it must stop
        assert not lease.is_lost.is_set()
        clock.advance(0.1)
        await keeper._renew_all()
        assert lease.is_lost.is_set()


@pytest.mark.asyncio
async def test_a_short_lease_is_given_up_a_fifth_before_its_end(clock: ManualClock):
    keeper = keeper_of(Registry(clock), clock)
    async with keeper.holding(Hold(NAME, 3, 4.0, 1.0), asked_s=0.0) as lease:
        assert lease.stops_s == pytest.approx(3.2)


@pytest.mark.asyncio
async def test_what_the_registry_says_is_done(clock: ManualClock):
    registry = Registry(clock)
    keeper = keeper_of(registry, clock)
    async with keeper.holding(HOLD, asked_s=0.0) as lease:
        registry.answer = Directive(NAME, Action.CANCEL, HOLD, grace_s=7.0)
        await keeper._renew_all()
        assert lease.cancel_asked.is_set()
        assert lease.cancel_grace_s == 7.0
        assert not lease.is_lost.is_set()
        registry.answer = Directive(NAME, Action.ABANDON, reason="another has it")
        await keeper._renew_all()
        assert lease.is_lost.is_set()


@pytest.mark.asyncio
async def test_a_directive_for_an_earlier_lease_is_none_for_this_one(clock: ManualClock):
    registry = Registry(clock)
    keeper = keeper_of(registry, clock)
    async with keeper.holding(HOLD, asked_s=0.0) as lease:
        registry.answer = Directive(NAME, Action.CANCEL, Hold(NAME, 2, 15.0, 5.0))
        await keeper._renew_all()
        assert not lease.cancel_asked.is_set()


@pytest.mark.asyncio
async def test_a_pushed_cancel_arrives_and_prolongs_nothing(clock: ManualClock):
    registry = Registry(clock)
    registry.answer = None
    registry.pushed = [Directive(NAME, Action.CANCEL, HOLD, grace_s=1.0)]
    keeper = keeper_of(registry, clock)
    async with keeper.holding(HOLD, asked_s=-3.0) as lease:
        await keeper.start()
        async with asyncio.timeout(5):
            await lease.cancel_asked.wait()
            await registry.asked.wait()  # a new lease is renewed without waiting
        assert lease.expires_s == 12.0
        await keeper.stop()
