"""What every `OperationStore` must do; subclass it and give it the fixtures named below.

`clock` is the ManualClock of the store. `open_store` returns an asynchronous context with a started
store on that clock, with the TERMS of `backlane.testing.operations`; opening again, after the first
was left, opens the same data.
"""

# pytest asserts; ruff forbids it elsewhere.
# ruff: noqa: S101

import asyncio
import math
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager

import pytest

from backlane.clock import ManualClock
from backlane.errors import (
    BatchOutOfOrderError,
    LeaseLostError,
    OperationNotFoundError,
    OperationNotTerminalError,
    RequestIdReusedError,
)
from backlane.operations.commands import (
    Failed,
    Stopped,
    Succeeded,
    TelemetryBatch,
)
from backlane.operations.events import (
    Deleted,
    MetricPoint,
    MetricsAppended,
    Note,
    TradesAppended,
)
from backlane.operations.operation import Operation, OperationError, Progress, State
from backlane.operations.selection import Selection
from backlane.operations.store import OperationStore, Renewal
from backlane.testing.operations import (
    EVERYTHING,
    KIND,
    RESULT,
    claim,
    log,
    request,
    running,
    states,
)

OpenStore = Callable[..., AbstractAsyncContextManager[OperationStore]]


@pytest.mark.asyncio
class OperationStoreContract:
    """The promises of the port, as tests."""

    async def test_an_operation_that_was_accepted_is_there_after_reopening(
        self, open_store: OpenStore
    ) -> None:
        """Durable means: in another store on the same data, to the last field."""
        async with open_store() as store:
            made = await store.create(request(labels={"sweep": "a"}, max_attempts=3))
            uid = store.registry_uid
        async with open_store() as store:
            assert await store.get(made.name) == made
            assert (store.registry_uid, store.revision) == (uid, 1)

    async def test_the_same_request_makes_one_operation(self, open_store: OpenStore) -> None:
        """Eight callers at once, and one more after reopening."""
        async with open_store() as store:
            made = await asyncio.gather(*(store.create(request()) for _ in range(8)))
        async with open_store() as store:
            again = await store.create(request())
            page = await store.list_operations(EVERYTHING, 50)
        assert {operation.name for operation in [*made, again]} == {page.operations[0].name}
        assert len(page.operations) == 1

    async def test_another_request_under_the_same_id_is_refused_with_the_difference(
        self, open_store: OpenStore
    ) -> None:
        """The error names the fields, the operation that has the id stays as it is."""
        async with open_store() as store:
            made = await store.create(request())
            other = request(kind="other.run", labels={"a": "b"})
            with pytest.raises(RequestIdReusedError) as raised:
                await store.create(other)
            assert raised.value.metadata["differing_fields"] == "kind,labels"
            assert await store.get(made.name) == made

    async def test_an_unknown_name_is_not_found(self, open_store: OpenStore) -> None:
        """Whatever is asked about it."""
        name = "operations/none"
        async with open_store() as store:
            for ask in (
                store.get(name),
                store.request_cancel(name, ""),
                store.delete(name),
                store.complete(name, 1, Stopped()),
                store.append(name, 1, TelemetryBatch(1)),
                store.list_metric_points(name, 0, frozenset(), 10),
            ):
                with pytest.raises(OperationNotFoundError):
                    await ask

    async def test_work_is_given_out_oldest_first_and_once(self, open_store: OpenStore) -> None:
        """Two workers at once never get the same operation."""
        async with open_store() as store:
            made = [await store.create(request(n)) for n in range(1, 5)]
            claims = [claim(n, f"worker-{n}") for n in range(1, 7)]
            got = await asyncio.gather(*map(store.claim, claims))
        assert [one.name for one in got if one] == [one.name for one in made]
        assert got[4:] == [None, None]

    async def test_a_worker_gets_only_its_kinds(self, open_store: OpenStore) -> None:
        """Other work stays queued."""
        async with open_store() as store:
            await store.create(request())
            assert await store.claim(claim(kind="other.run")) is None

    async def test_a_claim_that_is_repeated_gets_the_same_operation(
        self, open_store: OpenStore
    ) -> None:
        """A lost answer strands no lease: not at once, and not over a restart."""
        async with open_store() as store:
            await store.create(request(1))
            await store.create(request(2))
            first = await store.claim(claim())
            assert await store.claim(claim()) == first
        async with open_store() as store:
            again = await store.claim(claim())
        assert first is not None
        assert again is not None
        assert (again.name, again.epoch) == (first.name, first.epoch)

    async def test_a_lease_that_is_renewed_outlives_its_time(
        self, open_store: OpenStore, clock: ManualClock
    ) -> None:
        """Three times 10 s are more than the 15 s of one lease."""
        async with open_store() as store:
            held = await running(store)
            for _ in range(3):
                clock.advance(10)
                assert await store.expire_lapsed() == ()
                (reply,) = await store.renew("worker-1", [Renewal(held.name, held.epoch)])
                assert reply.operation is not None

    async def test_a_lease_that_lapsed_ends_the_last_attempt_as_failed(
        self, open_store: OpenStore, clock: ManualClock
    ) -> None:
        """The reason names the worker, and the worker is refused from then on."""
        async with open_store() as store:
            held = await running(store)
            clock.advance(15)
            assert await store.expire_lapsed() == (held.name,)
            ended = await store.get(held.name)
            assert ended.state is State.FAILED
            assert ended.error is not None
            assert ended.error.reason == "WORKER_LOST"
            assert ended.error.metadata["worker_id"] == "worker-1"
            (reply,) = await store.renew("worker-1", [Renewal(held.name, held.epoch)])
            assert reply.operation is None
            with pytest.raises(LeaseLostError):
                await store.complete(held.name, held.epoch, Succeeded(RESULT))

    async def test_a_lapsed_lease_is_refused_before_anyone_looked(
        self, open_store: OpenStore, clock: ManualClock
    ) -> None:
        """The fence does not wait for the scanner."""
        async with open_store() as store:
            held = await running(store)
            clock.advance(15)
            with pytest.raises(LeaseLostError):
                await store.append(held.name, held.epoch, TelemetryBatch(1, notes=("late",)))

    async def test_with_attempts_left_another_worker_takes_over(
        self, open_store: OpenStore, clock: ManualClock
    ) -> None:
        """The epoch grows, and the first worker's writes are refused."""
        async with open_store() as store:
            first = await running(store, max_attempts=2)
            clock.advance(15)
            await store.expire_lapsed()
            assert await store.claim(claim(2, "worker-2")) is None
            clock.advance(0.2)
            second = await store.claim(claim(2, "worker-2"))
            assert second is not None
            assert (second.name, second.epoch, second.attempt) == (first.name, 2, 2)
            with pytest.raises(LeaseLostError):
                await store.complete(first.name, first.epoch, Succeeded(RESULT))
            ended = await store.complete(second.name, second.epoch, Succeeded(RESULT))
            assert ended.state is State.SUCCEEDED

    async def test_a_restart_gives_live_leases_their_full_time(
        self, open_store: OpenStore, clock: ManualClock
    ) -> None:
        """A worker could not renew while the registry was down: that is not held against it."""
        async with open_store() as store:
            held = await running(store)
        clock.advance(3600)
        async with open_store() as store:
            assert await store.expire_lapsed() == ()
            clock.advance(14)
            await store.append(held.name, held.epoch, TelemetryBatch(1, notes=("alive",)))
            clock.advance(1)
            assert await store.expire_lapsed() == (held.name,)

    async def test_telemetry_is_kept_in_order_to_the_bit(self, open_store: OpenStore) -> None:
        """Points, trades and notes, NaN and the negative zero among them; read from the disk."""
        values = (1.5, -0.0, math.inf, 5e-324, 0.1 + 0.2)
        points = tuple(MetricPoint("equity", n, value, n * 10) for n, value in enumerate(values))
        nan = MetricPoint("loss", 0, math.nan)
        async with open_store() as store:
            held = await running(store)
            batch = TelemetryBatch(1, (*points, nan), (b"\x08\x01", b"\x08\x02"), notes=("hello",))
            grown = await store.append(held.name, held.epoch, batch)
            assert grown.metric_index == 6
            live = await log(store, after=2)
        async with open_store() as store:
            read = await log(store, after=2)
            page = await store.list_metric_points(held.name, 0, frozenset(), 100)
        assert repr(read) == repr(live)
        bodies = [event.body for event in read]
        assert isinstance(bodies[0], MetricsAppended)
        assert bodies[1:] == [TradesAppended((b"\x08\x01", b"\x08\x02")), Note("hello")]
        assert repr(page.points) == repr(bodies[0].points)
        assert [point.index for point in page.points] == [1, 2, 3, 4, 5, 6]
        assert repr([point.value for point in page.points]) == repr([*values, math.nan])

    async def test_a_batch_that_is_repeated_is_applied_once(self, open_store: OpenStore) -> None:
        """At once, and over a restart."""
        batch = TelemetryBatch(1, (MetricPoint("equity", 1, 1.0),))
        async with open_store() as store:
            held = await running(store)
            await store.append(held.name, held.epoch, batch)
            again = await store.append(held.name, held.epoch, batch)
            assert again.metric_index == 1
        async with open_store() as store:
            again = await store.append(held.name, held.epoch, batch)
            assert again.metric_index == 1
            assert len(await log(store)) == 3

    async def test_a_batch_after_a_missing_one_is_refused(self, open_store: OpenStore) -> None:
        """The error says which one is expected."""
        async with open_store() as store:
            held = await running(store)
            with pytest.raises(BatchOutOfOrderError) as raised:
                await store.append(held.name, held.epoch, TelemetryBatch(2, notes=("x",)))
        assert raised.value.metadata["expected"] == "1"

    async def test_progress_is_latest_wins_and_no_event(self, open_store: OpenStore) -> None:
        """An older report changes nothing; readers see the newest; the log does not grow."""
        async with open_store() as store:
            held = await running(store)
            for version in (1, 3, 2):
                report = TelemetryBatch(0, progress=Progress(version, version * 100, 1000, "bar"))
                await store.append(held.name, held.epoch, report)
            assert store.revision == 2
            page = store.progress_since(EVERYTHING, 0)
            assert page.progress[held.name].version == 3
            assert store.progress_since(EVERYTHING, page.tick).progress == {}
            assert store.progress_since(Selection(kinds=frozenset({"other.run"})), 0).progress == {}
            assert (await store.get(held.name)).progress == page.progress[held.name]
            ended = await store.complete(held.name, held.epoch, Succeeded(RESULT))
            assert ended.progress == page.progress[held.name]
            assert store.progress_since(EVERYTHING, 0).progress == {}

    async def test_metric_points_are_read_by_cursor_and_series(self, open_store: OpenStore) -> None:
        """The cursor moves on over other series; complete only when terminal and read out."""
        series = ("a", "b", "a", "b", "b")
        points = tuple(MetricPoint(name, n, float(n)) for n, name in enumerate(series))
        async with open_store() as store:
            held = await running(store)
            await store.append(held.name, held.epoch, TelemetryBatch(1, points))
            page = await store.list_metric_points(held.name, 0, frozenset(), 2)
            assert ([p.index for p in page.points], page.through_index) == ([1, 2], 2)
            page = await store.list_metric_points(held.name, 0, frozenset("a"), 10)
            assert ([p.index for p in page.points], page.through_index) == ([1, 3], 5)
            assert not page.is_complete
            await store.complete(held.name, held.epoch, Succeeded(RESULT))
            assert (await store.list_metric_points(held.name, 5, frozenset(), 10)).is_complete
            assert not (await store.list_metric_points(held.name, 0, frozenset(), 2)).is_complete

    async def test_the_same_end_again_changes_nothing(self, open_store: OpenStore) -> None:
        """Another end than the recorded one is refused."""
        error = OperationError("OUT_OF_MEMORY", "too much", {"limit": "1"}, 8)
        async with open_store() as store:
            held = await running(store)
            ended = await store.complete(held.name, held.epoch, Failed(error))
            assert await store.complete(held.name, held.epoch, Failed(error)) == ended
            assert ended.error == error
            with pytest.raises(LeaseLostError):
                await store.complete(held.name, held.epoch, Succeeded(RESULT))
            assert store.revision == ended.revision == 3

    async def test_cancel_of_a_queued_operation_ends_it_at_once(
        self, open_store: OpenStore
    ) -> None:
        """Nobody can claim it afterwards, and cancelling again changes nothing."""
        async with open_store() as store:
            made = await store.create(request())
            ended = await store.request_cancel(made.name, "a mistake")
            assert ended.state is State.CANCELLED
            assert ended.error is not None
            assert (ended.error.reason, ended.cancel_reason) == ("CANCEL_REQUESTED", "a mistake")
            assert await store.claim(claim()) is None
            assert await store.request_cancel(made.name, "again") == ended

    async def test_cancel_of_a_running_operation_waits_for_its_worker(
        self, open_store: OpenStore
    ) -> None:
        """The worker is told by its renewal, and ends it."""
        async with open_store() as store:
            held = await running(store)
            assert (await store.request_cancel(held.name, "why")).state is State.CANCELLING
            (told,) = await store.held_by("worker-1")
            assert (told.state, told.cancel_reason) == (State.CANCELLING, "why")
            ended = await store.complete(held.name, held.epoch, Stopped())
            assert ended.state is State.CANCELLED
            assert await store.held_by("worker-1") == ()
            moves = states(await log(store))
        assert moves == [
            (None, State.QUEUED, "CREATED"),
            (State.QUEUED, State.RUNNING, "LEASE_GRANTED"),
            (State.RUNNING, State.CANCELLING, "CANCEL_REQUESTED"),
            (State.CANCELLING, State.CANCELLED, "CANCEL_ACKNOWLEDGED"),
        ]

    async def test_cancel_of_a_dead_worker_ends_with_its_lease(
        self, open_store: OpenStore, clock: ManualClock
    ) -> None:
        """Cancelled, not failed, and not given to another worker."""
        async with open_store() as store:
            held = await running(store, max_attempts=3)
            await store.request_cancel(held.name, "")
            clock.advance(15)
            await store.expire_lapsed()
            assert (await store.get(held.name)).state is State.CANCELLED

    async def test_only_terminal_operations_are_deleted(self, open_store: OpenStore) -> None:
        """The record goes; the log keeps its events and says so by one more."""
        async with open_store() as store:
            held = await running(store)
            with pytest.raises(OperationNotTerminalError):
                await store.delete(held.name)
            await store.complete(held.name, held.epoch, Succeeded(RESULT))
            await store.delete(held.name)
            with pytest.raises(OperationNotFoundError):
                await store.get(held.name)
            with pytest.raises(OperationNotFoundError):
                await store.delete(held.name)
            with pytest.raises(OperationNotFoundError):
                await store.create(request())
            assert (await store.list_operations(EVERYTHING, 10)).operations == ()
            assert await store.states(frozenset({held.name, "operations/none"})) == (
                {held.name: None},
                4,
            )
            assert isinstance((await log(store))[-1].body, Deleted)

    async def test_lists_are_newest_first_in_pages_that_stay_put(
        self, open_store: OpenStore
    ) -> None:
        """Operations that are made meanwhile do not shift the pages that follow."""
        async with open_store() as store:
            made = [await store.create(request(n)) for n in range(1, 6)]
            first = await store.list_operations(EVERYTHING, 2)
            await store.create(request(6))
            second = await store.list_operations(EVERYTHING, 2, first.next_cursor)
            third = await store.list_operations(EVERYTHING, 2, second.next_cursor)
        listed = [*first.operations, *second.operations, *third.operations]
        assert [one.name for one in listed] == [one.name for one in reversed(made)]
        assert third.next_cursor is None

    async def test_filters_choose_by_state_kind_and_labels(self, open_store: OpenStore) -> None:
        """In lists, in snapshots and in the log alike."""
        async with open_store() as store:
            held = await running(store, 1, labels={"sweep": "a", "n": "1"})
            queued = await store.create(request(2, labels={"sweep": "a", "n": "2"}))
            other = await store.create(request(3, kind="other.run"))
            chosen = {
                held.name: Selection(states=frozenset({State.RUNNING})),
                queued.name: Selection(labels={"sweep": "a", "n": "2"}),
                other.name: Selection(kinds=frozenset({"other.run"})),
            }
            for name, selection in chosen.items():
                page = await store.list_operations(selection, 10)
                assert [one.name for one in page.operations] == [name]
                found = await store.snapshot(selection)
                assert [one.name for one in found.operations] == [name]
                assert {event.operation for event in await log(store, selection)} == {name}
            both = await store.list_operations(Selection(labels={"sweep": "a"}), 10)
            assert [one.name for one in both.operations] == [queued.name, held.name]

    async def test_the_log_reads_the_same_from_memory_and_from_disk(
        self, open_store: OpenStore
    ) -> None:
        """Whatever the selection: a state is chosen by either side of a change."""
        selections = (
            EVERYTHING,
            Selection(states=frozenset({State.RUNNING})),
            Selection(kinds=frozenset({KIND})),
            Selection(labels={"n": "2"}),
        )
        async with open_store() as store:
            for number in (1, 2, 3):
                held = await running(store, number, labels={"n": str(number)})
                notes = TelemetryBatch(1, notes=tuple(f"line {n}" for n in range(number)))
                await store.append(held.name, held.epoch, notes)
                if number > 1:
                    await store.complete(held.name, held.epoch, Succeeded(RESULT))
            names = Selection(names=frozenset({held.name}))
            fresh = [await log(store, selection) for selection in (*selections, names)]
        async with open_store() as store:
            stored = [await log(store, selection) for selection in (*selections, names)]
        assert stored == fresh
        assert (State.RUNNING, State.SUCCEEDED, "COMPLETED") in states(fresh[1])

    async def test_revisions_and_sequences_have_no_holes(self, open_store: OpenStore) -> None:
        """Writers at once, on several operations; each event is read once, in order."""
        async with open_store() as store:
            held = [await running(store, n) for n in range(1, 5)]

            async def report(operation: Operation) -> None:
                for number in range(1, 11):
                    batch = TelemetryBatch(number, notes=(f"{operation.name} {number}",))
                    await store.append(operation.name, operation.epoch, batch)

            await asyncio.gather(*map(report, held))
            events = await log(store)
        assert [event.revision for event in events] == list(range(1, 4 * 12 + 1))
        for operation in held:
            mine = [event.sequence for event in events if event.operation == operation.name]
            assert mine == list(range(1, 13))

    async def test_reports_and_the_end_of_one_run_may_be_committed_together(
        self, open_store: OpenStore
    ) -> None:
        """Each finds what the ones before it did, and the rows are those of the last one."""

        def point(step: int) -> TelemetryBatch:
            return TelemetryBatch(step, points=(MetricPoint("equity", step, step / 2),))

        async with open_store() as store:
            one = await running(store)
            _, _, ended, late = await asyncio.gather(
                store.append(one.name, one.epoch, point(1)),
                store.append(one.name, one.epoch, point(2)),
                store.complete(one.name, one.epoch, Succeeded(RESULT)),
                store.append(one.name, one.epoch, point(3)),
                return_exceptions=True,
            )
            assert isinstance(late, LeaseLostError)
        async with open_store() as store:
            assert await store.get(one.name) == ended
            events = await log(store)
            page = await store.list_metric_points(one.name, 0, frozenset(), 10)
        assert (ended.state, ended.metric_index, ended.event_sequence) == (State.SUCCEEDED, 2, 5)
        assert [event.sequence for event in events] == [1, 2, 3, 4, 5]
        assert [(each.index, each.value) for each in page.points] == [(1, 0.5), (2, 1.0)]

    async def test_a_command_that_is_refused_takes_no_other_with_it(
        self, open_store: OpenStore
    ) -> None:
        """Asked for at once, so that a store may commit them together."""
        async with open_store() as store:
            results = await asyncio.gather(
                store.create(request(1)),
                store.delete("operations/none"),
                store.create(request(1, kind="other.run")),
                store.create(request(2)),
                return_exceptions=True,
            )
            kinds = [type(one) for one in results]
            assert kinds == [Operation, OperationNotFoundError, RequestIdReusedError, Operation]
            assert store.revision == 2

    async def test_whoever_waits_is_woken_after_the_change_can_be_read(
        self, open_store: OpenStore
    ) -> None:
        """And a signal that came before the wait began is not missed."""
        async with open_store() as store:
            seen = store.changed.count
            waiter = asyncio.create_task(store.changed.wait(30, after=seen))
            made = await store.create(request())
            async with asyncio.timeout(5):
                await waiter
                await store.changed.wait(30, after=seen)
                await store.queued.wait(30, after=0)
            assert store.changed.count > seen
            assert (await log(store))[0].operation == made.name

    async def test_the_probe_writes_and_changes_nothing(self, open_store: OpenStore) -> None:
        """It is what health asks."""
        async with open_store() as store:
            await store.probe()
            assert store.revision == 0
