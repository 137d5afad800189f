"""The real service over a real socket, on both stores, against a model (SERVICES.md 4.4, L2).

Hypothesis makes up what clients and workers call, in any order, with leases that are long gone,
messages that are repeated, and restarts of the server in between; time is a clock that the test
moves. A model of a page says what each answer must be, and a watcher that reconnects at random must
have seen it all. `make prove EXAMPLES=500` tries more.
"""

import os
import sys
import uuid
from collections.abc import Coroutine, Iterator
from contextlib import aclosing
from pathlib import Path
from typing import Any, ClassVar

import pytest
from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    rule,
    run_state_machine_as_test,
)

from backlane.client.operations import watch_request
from backlane.errors import BacklaneError
from backlane.operations.directives import Action
from backlane.operations.operation import Operation, State
from backlane.operations.selection import Selection
from backlane.operations.store import Renewal
from backlane.operations.tokens import ResumeToken
from backlane.testing.servers import wait_until_async
from tests.contract.stores import fresh_schema
from tests.proofs.checker import Ledger, WatchChecker, told
from tests.proofs.laws import ENDED
from tests.proofs.mutants import MUTANTS
from tests.proofs.stage import (
    DEEDS,
    EXPECTED,
    ON_A_LEASE,
    ON_A_NAME,
    RESTARTS_MAX,
    SPEC,
    TTL_S,
    WORKERS,
    Known,
    Lease,
    Stage,
    batch_of,
    checkpoint_of,
    outcome_of,
)

EXAMPLES = int(os.environ.get("PROVE_EXAMPLES", "100"))


class LiveRegistry(RuleBasedStateMachine):
    """The rules; `stage` is set by the test."""

    stage: ClassVar[Stage]

    @initialize()
    def begin(self) -> None:
        self.kind = f"test.k{uuid.uuid4().hex[:12]}"
        self.selection = Selection(kinds=frozenset({self.kind}))
        self.known: dict[str, Known] = {}
        self.requests: dict[str, tuple[str, dict[str, Any]]] = {}
        self.claims: dict[Lease, str] = {}
        self.ledger = Ledger()
        self.origin = self.stage.run(self.stage.client.list_page(self.selection)).resume_token
        self.checker = WatchChecker("watcher", sees_all=False)
        self.checker.token = self.origin
        self.names: list[str] = []
        self.leases: list[Lease] = []
        self.restarts = 0
        for max_attempts in ("3", "1"):
            self.submit(max_attempts)
            self.claim(WORKERS[0])

    @rule(what=st.sampled_from(DEEDS), which=st.sampled_from([0, 0, 0, 1, 1, 2, 3, 4]))
    def step(self, what: str, which: int) -> None:
        """One rule with much to choose from: of many, hypothesis leaves most out of an example.

        What is newest is chosen most often, and what is long gone as well.
        """
        method, _, argument = what.partition(" ")
        chosen: list[Any] = []
        if method in ON_A_NAME:
            chosen = [self.names[-1 - which % len(self.names)]]
        if method in ON_A_LEASE:
            chosen = [self.leases[-1 - which % len(self.leases)]]
        getattr(self, method)(*chosen, *filter(None, [argument]))

    # --- clients -------------------------------------------------------------------------------

    def submit(self, attempts: str) -> None:
        max_attempts, priority = int(attempts), 7 * (len(self.names) % 3 == 2)
        options = {"max_attempts": max_attempts, "priority": priority}
        request_id = str(uuid.uuid4())
        made = self.create(request_id, options)
        known = Known(made.name, len(self.known), max_attempts, priority)
        self.known[made.name] = known
        self.names.append(made.name)
        self.requests[made.name] = (request_id, options)
        self.check(known, made)

    def submit_again(self, name: str) -> None:
        """The answer was lost: the same request finds what it made; another one is refused."""
        if name not in self.requests:
            return  # it was made by a resume
        request_id, options = self.requests[name]
        if self.known[name].is_deleted:
            self.refused(self.create_call(request_id, options), "OPERATION_NOT_FOUND")
            return
        self.check(self.known[name], self.create(request_id, options))
        other = {**options, "max_attempts": options["max_attempts"] + 1}
        self.refused(self.create_call(request_id, other), "REQUEST_ID_REUSED")

    def cancel(self, name: str) -> None:
        known = self.known[name]
        call = self.stage.client.cancel(name, "asked")
        if known.is_deleted:
            self.refused(call, "OPERATION_NOT_FOUND")
            return
        if known.state is State.QUEUED:
            known.state = State.CANCELLED
        elif known.state is State.RUNNING:
            known.state = State.CANCELLING
        self.check(known, self.stage.run(call))
        if known.state in (State.CANCELLED, State.CANCELLING):
            self.ledger.cancelled(name)

    def delete(self, name: str) -> None:
        known = self.known[name]
        call = self.stage.client.delete(name)
        if known.is_deleted:
            self.refused(call, "OPERATION_NOT_FOUND")
        elif known.state not in ENDED:
            self.refused(call, "OPERATION_NOT_TERMINAL")
        else:
            self.stage.run(call)
            known.is_deleted = True
            self.ledger.deleted(name)

    def resume(self, name: str) -> None:
        source, request_id = self.known[name], str(uuid.uuid4())
        call = self.stage.client.resume(name, request_id=request_id)
        if source.is_deleted:
            self.refused(call, "OPERATION_NOT_FOUND")
        elif source.state not in ENDED:
            self.refused(call, "OPERATION_NOT_TERMINAL")
        elif source.state is State.SUCCEEDED or not source.checkpoint:
            self.refused(call, "NOTHING_TO_RESUME")
        else:
            made = self.stage.run(call)
            known = Known(made.name, len(self.known), source.max_attempts, source.priority)
            known.checkpoint = source.checkpoint
            self.known[made.name] = known
            assert made.resumed_from == name
            self.stage.seen["resumed"] += 1
            self.ledger.created(request_id, made.name)
            self.names.append(made.name)
            self.check(known, made)
            assert self.stage.run(self.stage.client.resume(name, request_id=request_id)) == made

    def look(self, name: str) -> None:
        known = self.known[name]
        if known.is_deleted:
            self.refused(self.stage.client.get(name), "OPERATION_NOT_FOUND")
        else:
            self.check(known, self.stage.run(self.stage.client.get(name)))

    def list_all(self) -> None:
        page = self.stage.run(self.stage.client.list_page(self.selection, page_size=1000))
        alive = [one for one in self.known.values() if not one.is_deleted]
        assert [one.name for one in page.operations] == [one.name for one in reversed(alive)]
        for operation in page.operations:
            self.check(self.known[operation.name], operation)

    # --- workers -------------------------------------------------------------------------------

    def claim(self, worker: str) -> None:
        request_id = str(uuid.uuid4())
        call = self.stage.workers[worker].acquire([self.kind], wait_s=0, request_id=request_id)
        assignment = self.stage.run(call)
        waiting = [one for one in self.known.values() if one.is_claimable(self.now_s)]
        if not waiting:
            assert assignment is None
            return
        expected = min(waiting, key=lambda one: (-one.priority, one.order))
        assert assignment is not None
        assert assignment.operation.name == expected.name
        expected.state, expected.holder = State.RUNNING, worker
        expected.epoch += 1
        expected.batch = 0
        expected.expires_s = self.now_s + TTL_S
        assert assignment.hold.epoch == expected.epoch
        self.check(expected, assignment.operation)
        lease = (expected.name, worker, expected.epoch)
        self.leases.append(lease)
        self.claims[lease] = request_id

    def claim_again(self, lease: Lease) -> None:
        """The answer was lost: the same request finds the lease that it got, while that lives."""
        if not self.holds(lease):
            return  # it would be a new claim
        request_id = self.claims[lease]
        worker = self.stage.workers[lease[1]]
        again = self.stage.run(worker.acquire([self.kind], wait_s=0, request_id=request_id))
        assert again is not None
        assert (again.operation.name, again.hold.epoch) == (lease[0], lease[2])

    def renew(self, lease: Lease) -> None:
        name, worker, epoch = lease
        (directive,) = self.stage.run(self.stage.workers[worker].renew([Renewal(name, epoch)]))
        if not self.holds(lease):
            assert directive.action is Action.ABANDON
            return
        known = self.known[name]
        known.expires_s = max(known.expires_s, self.now_s + TTL_S)
        is_cancelling = known.state is State.CANCELLING
        assert directive.action is (Action.CANCEL if is_cancelling else Action.CONTINUE)

    def renew_as_another(self, lease: Lease) -> None:
        name, worker, epoch = lease
        other = WORKERS[1 - WORKERS.index(worker)]
        (directive,) = self.stage.run(self.stage.workers[other].renew([Renewal(name, epoch)]))
        assert directive.action is Action.ABANDON

    def append(self, lease: Lease, place: str) -> None:
        name, worker, epoch = lease
        known = self.known[name]
        number = known.batch + {"again": 0, "next": 1, "ahead": 2}[place]
        batch = batch_of(epoch, number or 1)
        call = self.stage.workers[worker].append(name, epoch, batch)
        if not self.holds(lease):
            self.refused(call, self.loss(known))
        elif batch.batch_number > known.batch + 1:
            self.refused(call, "BATCH_OUT_OF_ORDER")
        else:
            if number > known.batch and batch.points[-1].step in known.steps:
                self.stage.seen["a replay"] += 1
            known.steps |= {point.step for point in batch.points}
            known.batch = max(known.batch, batch.batch_number)
            assert self.stage.run(call) == len(known.steps)
            self.ledger.appended(name, batch)

    def append_other_bits(self, lease: Lease) -> None:
        """A step that the log has, with another value: the run is not deterministic."""
        name, worker, epoch = lease
        known = self.known[name]
        number = known.batch + 1
        if not self.holds(lease) or number not in known.steps:
            return
        batch = batch_of(epoch, number, value=-1.0)
        assert self.stage.run(self.stage.workers[worker].append(name, epoch, batch)) == len(
            known.steps
        )
        known.fail("NONDETERMINISTIC_REPLAY", self.now_s, is_retryable=False)
        self.stage.seen["NONDETERMINISTIC_REPLAY"] += 1
        self.look(name)

    def commit(self, lease: Lease, place: str) -> None:
        name, worker, epoch = lease
        known = self.known[name]
        number = known.checkpoint + {"again": 0, "next": 1, "ahead": 2}[place]
        checkpoint = checkpoint_of(number or 1, 0)
        call = self.stage.workers[worker].commit_checkpoint(name, epoch, checkpoint)
        if not self.holds(lease):
            self.refused(call, self.loss(known))
        elif checkpoint.number > known.checkpoint + 1:
            self.refused(call, "CHECKPOINT_OUT_OF_ORDER")
        else:
            reply = self.stage.run(call)
            is_new = checkpoint.number > known.checkpoint
            known.checkpoint = max(known.checkpoint, checkpoint.number)
            assert reply.checkpoint.sha256 == checkpoint.sha256
            dropped = [known.checkpoint - 2] if is_new and known.checkpoint > 2 else []
            assert [one.number for one in reply.dropped] == dropped
            if is_new:
                self.ledger.committed(name, checkpoint.number, checkpoint.sha256)

    def complete(self, lease: Lease, kind: str) -> None:
        name, worker, epoch = lease
        known = self.known[name]
        call = self.stage.workers[worker].complete(name, epoch, outcome_of(kind, epoch))
        if known.is_deleted:
            self.refused(call, "OPERATION_NOT_FOUND")
        elif known.was_told(kind, epoch):
            self.check(known, self.stage.run(call))
            self.stage.seen["the same end again"] += 1
        elif not self.holds(lease):
            self.refused(call, "LEASE_LOST")
        elif kind == "stopped" and known.state is State.RUNNING:
            self.refused(call, "VALIDATION_FAILED")
        else:
            is_running = known.state is State.RUNNING
            if kind in ("failed", "retryable"):
                is_retryable = kind == "retryable" and is_running
                known.fail(f"epoch {epoch}", self.now_s, is_retryable=is_retryable)
            else:
                known.state = State.SUCCEEDED if kind == "succeeded" else State.CANCELLED
                known.holder = ""
            self.check(known, self.stage.run(call))
            self.ledger.completed(name, known.state)

    def release(self, lease: Lease) -> None:
        name, worker, epoch = lease
        known = self.known[name]
        call = self.stage.workers[worker].release(name, epoch, "the worker drains")
        if not self.holds(lease):
            self.refused(call, self.loss(known))
            return
        is_running = known.state is State.RUNNING
        known.state = State.QUEUED if is_running else State.CANCELLED
        known.holder, known.due_s = "", 0.0
        self.check(known, self.stage.run(call))

    def hand_over(self, lease: Lease) -> None:
        """Gives it back and has another worker take it, who goes over the same again."""
        known = self.known[lease[0]]
        if not self.holds(lease) or known.state is not State.RUNNING:
            return
        self.append(lease, "next")
        self.release(lease)
        while known.state is State.QUEUED:
            self.claim(WORKERS[1 - WORKERS.index(lease[1])])
        self.append(self.leases[-1], "next")

    def fail_and_resume(self, lease: Lease) -> None:
        self.commit(lease, "next")
        self.complete(lease, "failed")
        self.resume(lease[0])

    # --- time and trouble ----------------------------------------------------------------------

    def let_time_pass(self, seconds: str) -> None:
        """Whatever lapses by it is taken away, and each holder of it is refused from now on."""
        self.stage.clock.advance(float(seconds))
        for known in self.known.values():
            if not known.holder or self.now_s < known.expires_s:
                continue
            if known.state is State.CANCELLING:
                known.state, known.holder = State.CANCELLED, ""
            else:
                known.fail("", self.now_s, is_retryable=True)
            self.stage.run(self.expired(known))
            self.stage.seen["expired"] += 1

    def watch(self, messages: str) -> None:
        """Goes on from the token over a new connection, for a few messages."""
        self.stage.run(self.follow(self.checker, messages_max=int(messages)))

    def restart(self) -> None:
        """The server ends and begins again; leases are as good as they were, on a clock at rest."""
        if self.restarts == RESTARTS_MAX:
            return
        self.restarts += 1
        self.stage.restart()
        for known in self.known.values():
            if known.holder:
                known.expires_s = self.now_s + TTL_S

    def teardown(self) -> None:
        """A watcher that was there, and one that comes late, have both seen it all."""
        if not hasattr(self, "known"):
            return
        late = WatchChecker("late", sees_all=False)
        late.token = self.origin
        for checker in (self.checker, late):
            self.stage.run(self.follow(checker))
        for known in self.known.values():
            self.look(known.name)
        assert self.checker.operations == late.operations
        assert set(late.operations) == set(self.known)
        problems = self.ledger.problems_in(late.operations, is_settled=False)
        assert not told([self.checker.problems, late.problems, problems])

    # --- how -----------------------------------------------------------------------------------

    @property
    def now_s(self) -> float:
        return self.stage.clock.monotonic_s()

    def refused(self, call: Coroutine[Any, Any, Any], reason: str) -> None:
        with pytest.raises(BacklaneError) as raised:
            self.stage.run(call)
        assert raised.value.reason == reason
        self.stage.seen[reason] += 1

    def create_call(self, request_id: str, options: dict[str, Any]) -> Coroutine[Any, Any, Any]:
        return self.stage.client.create(self.kind, SPEC, request_id=request_id, **options)

    def create(self, request_id: str, options: dict[str, Any]) -> Operation:
        made: Operation = self.stage.run(self.create_call(request_id, options))
        self.ledger.created(request_id, made.name)
        return made

    def holds(self, lease: Lease) -> bool:
        name, worker, epoch = lease
        known = self.known[name]
        return (known.holder, known.epoch) == (worker, epoch) and self.now_s < known.expires_s

    def loss(self, known: Known) -> str:
        return "OPERATION_NOT_FOUND" if known.is_deleted else "LEASE_LOST"

    def check(self, known: Known, operation: Operation) -> None:
        """Compares all that a client is shown with the model."""
        self.stage.seen[known.state] += 1
        numbers = range(known.checkpoint, max(known.checkpoint - 2, 0), -1)
        assert (operation.state, operation.attempt) == (known.state, known.epoch)
        assert len(operation.failures) == known.failures
        assert operation.metric_index == len(known.steps)
        assert [one.number for one in operation.checkpoints] == list(numbers)
        assert (operation.error is not None) == (known.state in (State.FAILED, State.CANCELLED))
        assert (operation.result is not None) == (known.state is State.SUCCEEDED)

    async def expired(self, known: Known) -> None:
        async def is_seen() -> bool:
            operation = await self.stage.client.get(known.name)
            return operation.state is known.state

        await wait_until_async(is_seen)

    async def follow(self, checker: WatchChecker, messages_max: int | None = None) -> None:
        """Reads a watch on from its token: for some messages, or all that there is by now."""
        page = await self.stage.client.list_page(self.selection, page_size=1)
        newest = ResumeToken.parse(page.resume_token).revision
        token, count = checker.token, 0
        if ResumeToken.parse(token).revision >= newest:
            return
        checker.connected(with_token=True)
        request = watch_request(selection=self.selection, resume_token=token)
        async with aclosing(self.stage.client.watch(request)) as messages:
            async for message in messages:
                checker.accept(message)
                count += 1
                if count == messages_max or message.through_revision >= newest:
                    return


@pytest.fixture(params=["sqlite", "postgresql"])
def store_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'operations.sqlite'}"
        return
    with fresh_schema() as url:
        yield url.render_as_string(hide_password=False)


def play(stage: Stage, **options: Any) -> None:
    """Runs the machine on a service, and ends it."""
    stage.open()
    try:
        machine: Any = type("OnStage", (LiveRegistry,), {"stage": stage})
        rules = settings(stateful_step_count=50, deadline=None, **options)
        run_state_machine_as_test(machine, settings=rules)
    finally:
        stage.close()


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.timeout(0)
def test_the_service_does_what_the_model_says(store_url: str) -> None:
    stage = Stage(store_url)
    play(stage, max_examples=max(EXAMPLES // 2, 1))
    sys.stdout.write(f"\n{stage.restarts} restarts; {dict(stage.seen)}")
    missed = EXPECTED - stage.seen.keys()
    assert EXAMPLES < 100 or not missed, f"never came up: {sorted(missed)}"
    assert stage.restarts > 0


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["another_worker_renews", "fence_ignores_epoch", "replay_is_appended_again"]
)
def test_a_service_with_a_defect_is_found_out(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    MUTANTS[name](monkeypatch)
    stage = Stage(f"sqlite:///{tmp_path / 'operations.sqlite'}")
    with pytest.raises((AssertionError, pytest.fail.Exception, BacklaneError)):
        play(stage, max_examples=30, phases=[Phase.generate], report_multiple_bugs=False)
