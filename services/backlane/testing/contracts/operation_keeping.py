"""What every `OperationStore` must do about much, and about old things.

Subclass it as `operation_store` says. `open_store` takes `admission` and `retention` here.
"""

# pytest asserts; ruff forbids it elsewhere.
# ruff: noqa: S101

import asyncio

import pytest

from backlane.clock import ManualClock
from backlane.errors import (
    OperationNotFoundError,
    QueueFullError,
    RequestIdReusedError,
    ResumeTokenCompactedError,
)
from backlane.operations.admission import AdmissionLimits
from backlane.operations.commands import Succeeded, TelemetryBatch
from backlane.operations.events import MetricPoint
from backlane.operations.operation import Operation, State
from backlane.operations.retention import RetentionPolicy
from backlane.operations.selection import ListOrder, Selection
from backlane.operations.store import OperationStore
from backlane.testing.contracts.operation_store import OpenStore
from backlane.testing.operations import EVERYTHING, KIND, RESULT, claim, log, request, running

DAY_S = 86_400.0


async def done(store: OperationStore, number: int, **fields: object) -> Operation:
    """An operation with points that has succeeded."""
    held = await running(store, number, **fields)
    points = tuple(MetricPoint("equity", n, float(n)) for n in range(3))
    await store.append(held.name, held.epoch, TelemetryBatch(1, points, notes=("a line",)))
    return await store.complete(held.name, held.epoch, Succeeded(RESULT))


async def listed(
    store: OperationStore, selection: Selection, order: ListOrder, page_size: int
) -> list[str]:
    """All names of a list, page by page."""
    names: list[str] = []
    cursor = None
    while True:
        page = await store.list_operations(selection, page_size, cursor, order)
        assert len(page.operations) <= page_size
        names.extend(one.name for one in page.operations)
        cursor = page.next_cursor
        if cursor is None:
            return names


@pytest.mark.asyncio
class OperationKeepingContract:
    """The promises about limits, lists and retention, as tests."""

    async def test_a_client_may_have_so_many_on_their_way(self, open_store: OpenStore) -> None:
        """Those that ended count no more; asked together or one by one, and over a restart."""
        admission = AdmissionLimits(live_per_client_max=3, queued_max=100)
        async with open_store(admission=admission) as store:
            asked = (store.create(request(n, client="ann")) for n in range(1, 6))
            answers = await asyncio.gather(*asked, return_exceptions=True)
            made = [one for one in answers if isinstance(one, Operation)]
            refused = [one for one in answers if isinstance(one, QueueFullError)]
            assert (len(made), len(refused)) == (3, 2)
            assert refused[0].retry_delay_s is not None
            assert refused[0].metadata["limit_name"] == "live_operations_per_client"
            await store.create(request(6, client="bob"))
        async with open_store(admission=admission) as store:
            assert (await store.create(request(1, client="ann"))).name == made[0].name
            with pytest.raises(QueueFullError):
                await store.create(request(4, client="ann"))
            await store.request_cancel(made[0].name, "")
            await store.create(request(4, client="ann"))

    async def test_so_many_may_wait_for_a_worker(self, open_store: OpenStore) -> None:
        """One that was taken makes room, and takes it again when it is given back."""
        admission = AdmissionLimits(queued_max=2)
        async with open_store(admission=admission) as store:
            for number in (1, 2):
                await store.create(request(number, client=f"client-{number}"))
            with pytest.raises(QueueFullError, match="wait for a worker"):
                await store.create(request(3))
            held = await store.claim(claim())
            assert held is not None
            await store.create(request(3))
            await store.release(held.name, held.epoch, "")
            with pytest.raises(QueueFullError):
                await store.create(request(4))

    async def test_lists_go_both_ways_whatever_is_chosen(self, open_store: OpenStore) -> None:
        """Every filter against a plain look at all operations, in pages of any size."""
        states = (State.QUEUED, State.RUNNING, State.CANCELLED)
        async with open_store() as store:
            for number in range(1, 41):
                labels = {"sweep": f"s{number % 3}", "owner": f"o{number % 2}"}
                kind = KIND if number % 4 else "other.run"
                made = await store.create(request(number, labels=labels, kind=kind))
                if number % 5 == 0:
                    await store.request_cancel(made.name, "")
                if number % 10 == 0:
                    await store.delete(made.name)
                if number % 7 == 0:
                    await store.claim(claim(number, kind=kind))
            everyone = (await store.snapshot(EVERYTHING)).operations
            assert len(everyone) == 36
            for selection in (
                EVERYTHING,
                Selection(states=frozenset({State.QUEUED})),
                Selection(states=frozenset(states)),
                Selection(kinds=frozenset({KIND})),
                Selection(kinds=frozenset({KIND, "other.run"}), states=frozenset(states[:2])),
                Selection(kinds=frozenset({"other.run", "none"}), labels={"sweep": "s1"}),
                Selection(labels={"sweep": "s0"}),
                Selection(labels={"sweep": "s1", "owner": "o1"}),
                Selection(labels={"sweep": "s2"}, states=frozenset({State.CANCELLED})),
                Selection(
                    labels={"sweep": "s2", "owner": "o0"},
                    states=frozenset(states),
                    kinds=frozenset({KIND}),
                ),
                Selection(names=frozenset(one.name for one in everyone[3:9])),
                Selection(names=frozenset({everyone[0].name}), states=frozenset({State.FAILED})),
            ):
                names = [one.name for one in everyone if selection.chooses(one)]
                found = await store.snapshot(selection)
                assert [one.name for one in found.operations] == names
                for page_size in (1, 7, 50):
                    oldest = await listed(store, selection, ListOrder.OLDEST_FIRST, page_size)
                    newest = await listed(store, selection, ListOrder.NEWEST_FIRST, page_size)
                    assert oldest == names
                    assert newest == names[::-1]

    async def test_what_ended_long_ago_goes_as_a_whole(
        self, open_store: OpenStore, clock: ManualClock
    ) -> None:
        """Record, events and points; what came later stays, and what has not ended."""
        async with open_store() as store:
            live = await store.create(request(1, kind="other.run"))
            old = [await done(store, number) for number in (2, 3)]
            assert old[0].expire_time_ns == clock.now_ns() + int(7 * DAY_S * 1e9)
            clock.advance(7 * DAY_S)
            new = await done(store, 4)
            tried = await store.compact(7 * DAY_S, EVERYTHING, is_dry_run=True)
            assert (tried.operation_count, tried.has_more) == (2, False)
            assert (await store.get(old[0].name)).name == old[0].name
            removed = await store.compact(7 * DAY_S, EVERYTHING)
            assert (removed.operation_count, removed.has_more) == (2, False)
            assert store.oldest_revision == old[1].revision
            for one in old:
                with pytest.raises(OperationNotFoundError):
                    await store.get(one.name)
            names = await listed(store, EVERYTHING, ListOrder.OLDEST_FIRST, 10)
            assert names == [live.name, new.name]
            assert (await store.states(frozenset({old[0].name})))[0] == {}
            with pytest.raises(ResumeTokenCompactedError) as raised:
                await store.read_events(EVERYTHING, old[1].revision - 1)
            assert raised.value.metadata["oldest_revision"] == str(old[1].revision)
            kept = await log(store, after=store.oldest_revision)
            assert (await store.compact(7 * DAY_S, EVERYTHING)).operation_count == 0
        async with open_store() as store:
            assert store.oldest_revision == old[1].revision
            assert await log(store, after=store.oldest_revision) == kept
            page = await store.list_metric_points(new.name, 0, frozenset(), 10)
            assert len(page.points) == 3
        assert {event.operation for event in kept} == {new.name}

    async def test_a_late_retry_is_told_that_the_operation_is_gone(
        self, open_store: OpenStore, clock: ManualClock
    ) -> None:
        """For thirty days it runs nothing twice; after that nobody asks any more."""
        async with open_store() as store:
            gone = await done(store, 1)
            clock.advance(8 * DAY_S)
            await store.compact(7 * DAY_S, EVERYTHING)
            clock.advance(30 * DAY_S - 1)
            await store.compact(7 * DAY_S, EVERYTHING)
            with pytest.raises(OperationNotFoundError):
                await store.create(request(1))
            with pytest.raises(RequestIdReusedError):
                await store.create(request(1, priority=1))
            clock.advance(1)
            await store.compact(7 * DAY_S, EVERYTHING)
            assert (await store.create(request(1))).name != gone.name

    async def test_much_is_removed_in_short_transactions(
        self, open_store: OpenStore, clock: ManualClock
    ) -> None:
        """Batches of the policy's size; a choice is kept to, and deleted ones go, too."""
        retention = RetentionPolicy(batch_operations=2)
        async with open_store(retention=retention) as store:
            for number in range(1, 8):
                await done(store, number, labels={"sweep": "a" if number % 2 else "b"})
            page = await store.list_operations(Selection(labels={"sweep": "b"}), 1)
            await store.delete(page.operations[0].name)
            clock.advance(60)
            chosen = Selection(labels={"sweep": "b"}, states=frozenset({State.SUCCEEDED}))
            assert (await store.compact(61, chosen)).operation_count == 0
            assert (await store.compact(60, chosen)).operation_count == 3
            left = await listed(store, EVERYTHING, ListOrder.OLDEST_FIRST, 50)
            assert len(left) == 4
            assert (await store.compact(0, EVERYTHING)).operation_count == 4
            assert (await store.snapshot(EVERYTHING)).operations == ()

    async def test_no_more_than_so_many_ended_ones_are_kept(
        self, open_store: OpenStore, clock: ManualClock
    ) -> None:
        """Those that ended first go early."""
        async with open_store(retention=RetentionPolicy(finished_max=2)) as store:
            made = []
            for number in range(1, 6):
                made.append(await done(store, number))
                clock.advance(1)
            narrowed = Selection(kinds=frozenset({KIND}))
            assert (await store.compact(DAY_S, narrowed)).operation_count == 0
            assert (await store.compact(DAY_S, EVERYTHING)).operation_count == 3
            left = await listed(store, EVERYTHING, ListOrder.OLDEST_FIRST, 50)
        assert left == [one.name for one in made[3:]]
