"""What every `OperationStore` must do about attempts: subclass it as `operation_store` says."""

# pytest asserts; ruff forbids it elsewhere.
# ruff: noqa: S101

import asyncio
import struct
from collections.abc import Awaitable
from dataclasses import replace

import pytest

from backlane.clock import ManualClock
from backlane.errors import (
    CheckpointOutOfOrderError,
    LeaseLostError,
    NothingToResumeError,
    OperationNotFoundError,
    OperationNotTerminalError,
    RequestIdReusedError,
)
from backlane.operations.commands import Failed, Resumption, Stopped, Succeeded, TelemetryBatch
from backlane.operations.events import CheckpointCommitted, MetricPoint, TradesAppended
from backlane.operations.operation import Checkpoint, Operation, OperationError, Progress, State
from backlane.operations.store import OperationStore, Renewal
from backlane.testing.contracts.operation_store import OpenStore
from backlane.testing.operations import EVERYTHING, KIND, RESULT, claim, log, request, running

RETRYABLE = Failed(OperationError("WORKER_LOST", "the process died", {}, 14), is_retryable=True)


def checkpoint(number: int) -> Checkpoint:
    """The checkpoint of a number, as a worker commits it."""
    digest = bytes([number]) * 32
    uri = f"home:checkpoints/x/{number:06d}.ckpt"
    return Checkpoint(number, uri, digest, 100 * number, 10 * number, "engine.v1", b"s" * 32)


def resumption(number: int, name: str) -> Resumption:
    """A wish to go on; the same number gives the same request_id."""
    return Resumption(f"00000000-0000-4000-a000-{number:012d}", name)


@pytest.mark.asyncio
class OperationAttemptsContract:
    """The promises about leases, retries, checkpoints and what comes again, as tests."""

    async def test_the_highest_priority_goes_first_and_among_equals_the_oldest(
        self, open_store: OpenStore
    ) -> None:
        """Over all kinds that the worker takes."""
        async with open_store() as store:
            wanted = [(0, KIND), (5, "other.run"), (5, KIND), (-5, KIND), (9, "third.run")]
            made = [
                await store.create(request(n, priority=priority, kind=kind))
                for n, (priority, kind) in enumerate(wanted, 1)
            ]
            taken = [
                await store.claim(replace(claim(n), kinds=(KIND, "other.run"))) for n in range(1, 6)
            ]
        order = [made[1], made[2], made[0], made[3]]
        assert [one.name for one in taken if one] == [one.name for one in order]
        assert taken[4] is None

    async def test_sixteen_claimers_at_once_never_get_the_same(self, open_store: OpenStore) -> None:
        """Each takes until there is nothing left."""
        async with open_store() as store:
            made = [await store.create(request(n)) for n in range(1, 101)]

            async def take(worker: int) -> list[str]:
                names = []
                for number in range(101):
                    taken = await store.claim(claim(1000 * worker + number, f"worker-{worker}"))
                    if taken is None:
                        break
                    names.append(taken.name)
                return names

            taken = await asyncio.gather(*map(take, range(16)))
        names = [name for mine in taken for name in mine]
        assert sorted(names) == sorted(one.name for one in made)

    async def test_an_attempt_that_failed_is_tried_again_after_its_pause(
        self, open_store: OpenStore, clock: ManualClock
    ) -> None:
        """After 0.2 s, and then after 0.8 s; the history is kept over a restart."""
        async with open_store() as store:
            held = await running(store, max_attempts=3)
            assert await store.next_attempt_delay_s((KIND,)) is None
            queued = await store.complete(held.name, held.epoch, RETRYABLE)
            assert (queued.state, queued.failure_count) == (State.QUEUED, 1)
            assert await store.claim(claim(2)) is None
            assert await store.next_attempt_delay_s((KIND,)) == pytest.approx(0.2)
            assert await store.next_attempt_delay_s(("other.run",)) is None
            clock.advance(0.2)
            again = await store.claim(claim(2))
            assert again is not None
            await store.complete(again.name, again.epoch, RETRYABLE)
        async with open_store() as store:
            assert await store.next_attempt_delay_s(("other.run", KIND)) == pytest.approx(0.8)
            clock.advance(0.8)
            last = await store.claim(claim(3))
            assert last is not None
            assert await store.next_attempt_delay_s((KIND,)) is None
            ended = await store.complete(last.name, last.epoch, RETRYABLE)
        assert (ended.state, ended.attempt, ended.failure_count) == (State.FAILED, 3, 3)
        assert [failure.attempt for failure in ended.failures] == [1, 2, 3]

    async def test_what_is_given_back_is_queued_and_no_attempt_is_counted(
        self, open_store: OpenStore
    ) -> None:
        """Somebody else takes it at once, with its checkpoint."""
        async with open_store() as store:
            held = await running(store)
            await store.commit_checkpoint(held.name, held.epoch, checkpoint(1))
            queued = await store.release(held.name, held.epoch, "the worker goes down")
            assert (queued.state, queued.release_count, queued.failure_count) == (
                State.QUEUED,
                1,
                0,
            )
            with pytest.raises(LeaseLostError):
                await store.release(held.name, held.epoch, "again")
            taken = await store.claim(claim(2, "worker-2"))
        assert taken is not None
        assert (taken.attempt, taken.epoch) == (2, 2)
        assert [one.number for one in taken.checkpoints] == [1]

    async def test_what_nobody_begins_in_time_fails(
        self, open_store: OpenStore, clock: ManualClock
    ) -> None:
        """Also when the registry was down meanwhile; one that began is left alone."""
        async with open_store() as store:
            begun = await running(store, 1, queue_timeout_s=60.0)
            waiting = await store.create(request(2, queue_timeout_s=60.0))
            patient = await store.create(request(3))
            await store.release(begun.name, begun.epoch, "went down")
            clock.advance(59.9)
            assert await store.expire_lapsed() == ()
        clock.advance(0.1)
        async with open_store() as store:
            assert await store.expire_lapsed() == (waiting.name,)
            assert await store.expire_lapsed() == ()
            ended = await store.get(waiting.name)
            assert (await store.get(patient.name)).state is State.QUEUED
            assert (await store.get(begun.name)).state is State.QUEUED
        assert ended.error is not None
        assert ended.error.reason == "QUEUE_TIMEOUT"

    async def test_an_attempt_beyond_its_time_ends_badly(
        self, open_store: OpenStore, clock: ManualClock
    ) -> None:
        """However faithfully its lease is renewed."""
        async with open_store() as store:
            held = await running(store, attempt_timeout_s=25.0, max_attempts=2)
            for _ in range(2):
                clock.advance(10)
                await store.renew("worker-1", [Renewal(held.name, held.epoch)])
                assert await store.expire_lapsed() == ()
            clock.advance(5)
            assert await store.expire_lapsed() == (held.name,)
            queued = await store.get(held.name)
        assert (queued.state, queued.failures[0].reason) == (State.QUEUED, "ATTEMPT_TIMEOUT")

    async def test_a_cancel_that_nobody_follows_ends_the_operation(
        self, open_store: OpenStore, clock: ManualClock
    ) -> None:
        """After the grace and its margin, though the worker renews on."""
        async with open_store() as store:
            held = await running(store)
            await store.request_cancel(held.name, "enough")
            clock.advance(10)
            await store.renew("worker-1", [Renewal(held.name, held.epoch)])
            assert await store.expire_lapsed() == ()
            clock.advance(5)
            assert await store.expire_lapsed() == (held.name,)
            assert (await store.get(held.name)).state is State.CANCELLED
            with pytest.raises(LeaseLostError):
                await store.complete(held.name, held.epoch, Succeeded(RESULT))

    async def test_a_jump_of_the_wall_clock_ends_no_lease(
        self, open_store: OpenStore, clock: ManualClock
    ) -> None:
        """An hour forward, and two back: leases count on the monotonic clock."""
        async with open_store() as store:
            held = await running(store)
            for jump_s in (3600.0, -7200.0):
                clock.jump(jump_s)
                assert await store.expire_lapsed() == ()
                clock.advance(5)
                await store.append(held.name, held.epoch, TelemetryBatch(0))
            clock.advance(5)
            assert await store.expire_lapsed() == (held.name,)

    async def test_checkpoints_are_committed_in_order_and_the_newest_two_are_kept(
        self, open_store: OpenStore
    ) -> None:
        """One that is repeated changes nothing; a late holder of the lease is refused."""
        async with open_store() as store:
            held = await running(store)
            for number in (1, 2):
                reply = await store.commit_checkpoint(held.name, held.epoch, checkpoint(number))
                assert reply.dropped == ()
            revision = store.revision
            again = await store.commit_checkpoint(held.name, held.epoch, checkpoint(2))
            assert again.checkpoint.number == 2
            assert store.revision == revision
            for wrong in (4, 1):
                with pytest.raises(CheckpointOutOfOrderError):
                    await store.commit_checkpoint(held.name, held.epoch, checkpoint(wrong))
            reply = await store.commit_checkpoint(held.name, held.epoch, checkpoint(3))
            assert [one.number for one in reply.dropped] == [1]
            with pytest.raises(LeaseLostError):
                await store.commit_checkpoint(held.name, held.epoch - 1, checkpoint(4))
            fresh = await log(store)
            kept = await store.get(held.name)
        async with open_store() as store:
            assert await log(store) == fresh
            assert replace(await store.get(held.name), progress=kept.progress) == kept
        assert [one.number for one in kept.checkpoints] == [3, 2]
        committed = [e.body for e in fresh if isinstance(e.body, CheckpointCommitted)]
        assert [one.checkpoint.number for one in committed] == [1, 2, 3]
        assert committed[2].checkpoint == reply.checkpoint == kept.checkpoints[0]

    async def test_an_operation_that_failed_is_resumed_as_a_new_one(
        self, open_store: OpenStore
    ) -> None:
        """Once per request, with the source's checkpoints; the source stays as it is."""
        async with open_store() as store:
            held = await running(store, labels={"sweep": "a"}, priority=3, max_attempts=2)
            with pytest.raises(OperationNotTerminalError):
                await store.resume(resumption(1, held.name))
            await store.commit_checkpoint(held.name, held.epoch, checkpoint(1))
            failure = Failed(OperationError("OUT_OF_MEMORY", "too much"))
            source = await store.complete(held.name, held.epoch, failure)
            made = await asyncio.gather(*(store.resume(resumption(1, held.name)) for _ in range(4)))
        async with open_store() as store:
            again = await store.resume(resumption(1, held.name))
            with pytest.raises(RequestIdReusedError):
                await store.create(request(7, request_id=resumption(1, "").request_id))
            with pytest.raises(OperationNotFoundError):
                await store.resume(resumption(2, "operations/none"))
            taken = await store.claim(claim(2))
            assert await store.get(source.name) == source
        assert {one.name for one in made} == {again.name}
        assert (again.resumed_from, again.checkpoint_number) == (source.name, 1)
        assert (again.spec, again.labels, again.priority) == (source.spec, {"sweep": "a"}, 3)
        assert taken is not None
        assert taken.checkpoints == source.checkpoints

    async def test_what_left_no_checkpoint_cannot_be_resumed(self, open_store: OpenStore) -> None:
        """Nor can what has succeeded, whatever it left."""
        async with open_store() as store:
            made = await store.create(request(1))
            await store.request_cancel(made.name, "")
            done = await running(store, 2)
            await store.complete(done.name, done.epoch, Succeeded(RESULT))
            for name in (made.name, done.name):
                with pytest.raises(NothingToResumeError):
                    await store.resume(resumption(1, name))

    async def test_what_a_next_attempt_reports_again_is_kept_once(
        self, open_store: OpenStore, clock: ManualClock
    ) -> None:
        """Points by series and step, trades by number; read from the disk and from memory alike."""
        points = tuple(
            MetricPoint(series, step, step / 3) for step in range(1500) for series in ("a", "b")
        )
        async with open_store() as store:
            held = await running(store, max_attempts=2)
            await store.append(
                held.name, held.epoch, TelemetryBatch(1, points[:2500], (b"1", b"2"))
            )
            await store.complete(held.name, held.epoch, RETRYABLE)
            clock.advance(0.2)
        async with open_store() as store:
            again = await store.claim(claim(2))
            assert again is not None
            for number, start in enumerate(range(0, 3000, 500), 1):
                batch = TelemetryBatch(number, points[start : start + 500])
                await store.append(again.name, again.epoch, batch)
            await store.append(
                again.name, again.epoch, TelemetryBatch(7, trades=(b"2", b"3"), first_trade=2)
            )
            page = await store.list_metric_points(held.name, 0, frozenset(), 5000)
            events = await log(store)
        assert [(p.series, p.step, p.value) for p in page.points] == [
            (p.series, p.step, p.value) for p in points
        ]
        assert [p.index for p in page.points] == list(range(1, 3001))
        trades = [e.body.trades for e in events if isinstance(e.body, TradesAppended)]
        assert trades == [(b"1", b"2"), (b"3",)]

    async def test_an_attempt_that_reports_other_bits_ends_the_operation(
        self, open_store: OpenStore
    ) -> None:
        """The last bit is enough; NaN is equal to itself."""
        (nan,) = struct.unpack("<d", struct.pack("<d", float("nan")))
        points = (MetricPoint("x", 0, nan), MetricPoint("x", 1, 0.1 + 0.2))
        async with open_store() as store:
            held = await running(store, max_attempts=5)
            await store.append(held.name, held.epoch, TelemetryBatch(1, points))
            await store.release(held.name, held.epoch, "")
            again = await store.claim(claim(2))
            assert again is not None
            same = await store.append(again.name, again.epoch, TelemetryBatch(1, points[:1]))
            assert same.state is State.RUNNING
            other = (MetricPoint("x", 1, 0.3),)
            ended = await store.append(again.name, again.epoch, TelemetryBatch(2, other))
            assert (await store.get(held.name)) == ended
        assert ended.state is State.FAILED
        assert ended.error is not None
        assert ended.error.reason == "NONDETERMINISTIC_REPLAY"

    async def test_renewals_and_progress_cost_no_revision(
        self, open_store: OpenStore, clock: ManualClock
    ) -> None:
        """And both are seen by whoever asks for what a worker holds."""
        async with open_store() as store:
            held = await running(store)
            clock.advance(10)
            report = TelemetryBatch(0, progress=Progress(1, 5, 10, "bar"))
            await store.append(held.name, held.epoch, report)
            await store.renew("worker-1", [Renewal(held.name, held.epoch)])
            (seen,) = await store.held_by("worker-1")
            assert await store.held_by("worker-2") == ()
            assert store.revision == 2
        assert seen.progress == report.progress
        assert seen.lease is not None
        assert seen.lease.renewal_number == 1

    async def test_a_cancel_races_with_the_end_and_one_of_them_wins(
        self, open_store: OpenStore
    ) -> None:
        """Whichever: it is one end, told once, and the other learns of it."""
        async with open_store() as store:
            for number in range(1, 21):
                held = await running(store, number)
                ends = await asyncio.gather(*_shuffled(number, store, held), return_exceptions=True)
                assert any(isinstance(one, Operation) for one in ends)
                last = await store.get(held.name)
                assert last.state in (State.SUCCEEDED, State.CANCELLED)
            moves = [event for event in await log(store) if event.sequence > 2]
        ended = [event.operation for event in moves if _is_end(event.body)]
        assert sorted(ended) == sorted(set(ended))
        assert len(ended) == 20
        assert EVERYTHING.chooses(last)


def _shuffled(number: int, store: OperationStore, held: Operation) -> list[Awaitable[Operation]]:
    """The cancel, its acknowledgement and the result, in one of three orders."""
    calls: list[Awaitable[Operation]] = [
        store.request_cancel(held.name, "now"),
        store.complete(held.name, held.epoch, Succeeded(RESULT)),
        store.complete(held.name, held.epoch, Stopped()),
    ]
    turn = number % 3
    orders = (
        calls,
        [calls[1], calls[0], calls[2]],
        [calls[0], calls[2], calls[1]],
    )
    return orders[turn]


def _is_end(body: object) -> bool:
    to_state = getattr(body, "to_state", None)
    return to_state is not None and to_state.is_terminal
