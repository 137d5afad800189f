"""Ways in which the core could be wrong; the search must find every one of them.

Each mutant is the real function with one thought of it missing. A proof that lets one of these
live proves nothing.
"""

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest

from backlane.operations import checkpoints, telemetry, transitions
from backlane.operations.commands import Failed, Succeeded
from backlane.operations.events import StateChanged
from backlane.operations.lease import Instant, Lease
from backlane.operations.operation import Operation, State
from backlane.operations.transitions import Change, logged

Install = Callable[[pytest.MonkeyPatch], None]
MUTANTS: dict[str, Install] = {}

_REAL = {
    name: getattr(transitions, name)
    for name in (
        "_attempt_failed",
        "_with_failure",
        "complete",
        "expire",
        "fence",
        "grant",
        "is_claimable",
        "logged",
        "release",
        "renew",
        "request_cancel",
        "resume",
    )
}
real: Any = type("Real", (), {name: staticmethod(function) for name, function in _REAL.items()})
real_append, real_commit = telemetry.append, checkpoints.commit
LONG_AGO = Instant(0, float("-inf"))


def mutant(install: Install) -> Install:
    MUTANTS[install.__name__] = install
    return install


def unfenced(operation: Operation, epoch: int, now: Instant) -> Lease:
    """Lets everyone write; makes a lease up where there is none."""
    del now
    made_up = Lease(operation.name, operation.epoch, "w1", "0", float("inf"))
    return operation.lease or replace(made_up, epoch=epoch)


@contextlib.contextmanager
def swapped(module: Any, name: str, value: object) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, name, value)
        yield


def forced(operation: Operation, to_state: State, reason: str, now: Instant) -> Change:
    """A move that asks no table."""
    body = StateChanged(operation.state, to_state, reason)
    return logged(replace(operation, state=to_state), [body], now)


def _without_fence(name: str) -> Callable[..., Change]:
    def changed(*arguments: Any) -> Change:
        with swapped(transitions, "fence", unfenced):
            change: Change = _REAL[name](*arguments)
        return change

    return changed


@mutant
def no_fence_in_complete(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(transitions, "complete", _without_fence("complete"))


@mutant
def no_fence_in_release(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(transitions, "release", _without_fence("release"))


@mutant
def no_fence_in_renew(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(transitions, "renew", _without_fence("renew"))


@mutant
def no_fence_in_append(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(telemetry, "fence", unfenced)


@mutant
def no_fence_in_commit(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(checkpoints, "fence", unfenced)


def _fence_everywhere(patch: pytest.MonkeyPatch, fence: Callable[..., Lease]) -> None:
    for module in (transitions, telemetry, checkpoints):
        patch.setattr(module, "fence", fence)


@mutant
def fence_ignores_epoch(patch: pytest.MonkeyPatch) -> None:
    _fence_everywhere(patch, lambda one, _epoch, now: real.fence(one, one.epoch, now))


@mutant
def fence_ignores_expiry(patch: pytest.MonkeyPatch) -> None:
    _fence_everywhere(patch, lambda one, epoch, _now: real.fence(one, epoch, LONG_AGO))


@mutant
def fence_takes_the_next_epoch(patch: pytest.MonkeyPatch) -> None:
    _fence_everywhere(patch, lambda one, epoch, now: real.fence(one, min(epoch, one.epoch), now))


@mutant
def terminal_state_reopens(patch: pytest.MonkeyPatch) -> None:
    def expire(one: Operation, terms: Any, now: Instant) -> Change:
        if one.state is State.FAILED and one.failure_count < one.max_attempts:
            opened = replace(one, error=None, end_time_ns=None)
            return forced(opened, State.QUEUED, "RETRIED", now)
        change: Change = real.expire(one, terms, now)
        return change

    patch.setattr(transitions, "expire", expire)


@mutant
def result_replaces_a_failure(patch: pytest.MonkeyPatch) -> None:
    def complete(one: Operation, epoch: int, outcome: Any, now: Instant) -> Change:
        if one.state is State.FAILED and isinstance(outcome, Succeeded):
            late = replace(one, error=None, result=outcome.result)
            return forced(late, State.SUCCEEDED, "COMPLETED", now)
        change: Change = real.complete(one, epoch, outcome, now)
        return change

    patch.setattr(transitions, "complete", complete)


@mutant
def checkpoint_goes_back(patch: pytest.MonkeyPatch) -> None:
    def commit(one: Operation, epoch: int, checkpoint: Any, now: Instant) -> Any:
        return real_commit(
            replace(one, checkpoint_number=checkpoint.number - 1), epoch, checkpoint, now
        )

    patch.setattr(checkpoints, "commit", commit)


@mutant
def checkpoint_doubles(patch: pytest.MonkeyPatch) -> None:
    def commit(one: Operation, epoch: int, checkpoint: Any, now: Instant) -> Any:
        if one.checkpoint_number:
            checkpoint = replace(checkpoint, number=one.checkpoint_number + 1)
        return real_commit(one, epoch, checkpoint, now)

    patch.setattr(checkpoints, "commit", commit)


@mutant
def only_one_checkpoint_is_kept(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(checkpoints, "CHECKPOINTS_KEPT", 1)


@mutant
def running_without_a_lease(patch: pytest.MonkeyPatch) -> None:
    def expire(one: Operation, terms: Any, now: Instant) -> Change:
        if one.state is State.RUNNING and one.lease and not one.lease.is_live(now):
            return Change(replace(one, lease=None))
        change: Change = real.expire(one, terms, now)
        return change

    patch.setattr(transitions, "expire", expire)


@mutant
def attempts_are_not_counted(patch: pytest.MonkeyPatch) -> None:
    def grant(one: Operation, claim: Any, terms: Any, now: Instant) -> Change:
        change: Change = real.grant(one, claim, terms, now)
        return replace(change, operation=replace(change.operation, attempt=one.attempt))

    patch.setattr(transitions, "grant", grant)


@mutant
def grant_keeps_the_epoch(patch: pytest.MonkeyPatch) -> None:
    def grant(one: Operation, claim: Any, terms: Any, now: Instant) -> Change:
        if not one.epoch:
            first: Change = real.grant(one, claim, terms, now)
            return first
        change: Change = real.grant(replace(one, epoch=one.epoch - 1), claim, terms, now)
        return change

    patch.setattr(transitions, "grant", grant)


@mutant
def grant_keeps_old_progress(patch: pytest.MonkeyPatch) -> None:
    def grant(one: Operation, claim: Any, terms: Any, now: Instant) -> Change:
        change: Change = real.grant(one, claim, terms, now)
        progress = telemetry.Progress(9)
        return replace(change, operation=replace(change.operation, progress=progress))

    patch.setattr(transitions, "grant", grant)


@mutant
def failures_are_not_counted(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(transitions, "_with_failure", lambda one, lease, error, now: one)
    patch.setattr(transitions, "retry_delay_s", lambda count: 1.0)


@mutant
def failure_bound_is_off_by_one(patch: pytest.MonkeyPatch) -> None:
    def attempt_failed(one: Operation, *arguments: Any) -> Change:
        change: Change = real._attempt_failed(
            replace(one, max_attempts=one.max_attempts + 1), *arguments
        )
        return replace(change, operation=replace(change.operation, max_attempts=one.max_attempts))

    patch.setattr(transitions, "_attempt_failed", attempt_failed)


@mutant
def failure_needs_no_pause(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(transitions, "retry_delay_s", lambda count: 0.0)


@mutant
def pause_is_ignored(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(transitions, "is_claimable", lambda one, now: one.state is State.QUEUED)


@mutant
def given_back_is_forgotten(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(
        transitions,
        "is_claimable",
        lambda one, now: real.is_claimable(one, now) and not one.release_count,
    )


@mutant
def cancel_of_a_queued_one_is_only_noted(patch: pytest.MonkeyPatch) -> None:
    def request_cancel(one: Operation, reason: str, now: Instant) -> Change:
        if one.state is State.QUEUED:
            return Change(replace(one, cancel_reason=reason))
        change: Change = real.request_cancel(one, reason, now)
        return change

    patch.setattr(transitions, "request_cancel", request_cancel)


@mutant
def cancel_takes_the_lease(patch: pytest.MonkeyPatch) -> None:
    def request_cancel(one: Operation, reason: str, now: Instant) -> Change:
        change: Change = real.request_cancel(one, reason, now)
        return replace(change, operation=replace(change.operation, lease=None))

    patch.setattr(transitions, "request_cancel", request_cancel)


@mutant
def cancelled_one_is_queued_again(patch: pytest.MonkeyPatch) -> None:
    def expire(one: Operation, terms: Any, now: Instant) -> Change:
        if one.state is State.CANCELLING and one.lease and not one.lease.is_live(now):
            return forced(replace(one, lease=None), State.QUEUED, "LEASE_EXPIRED", now)
        change: Change = real.expire(one, terms, now)
        return change

    patch.setattr(transitions, "expire", expire)


@mutant
def cancel_is_never_overdue(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(transitions, "_is_cancel_overdue", lambda lease, terms, now: False)


@mutant
def expire_ignores_liveness(patch: pytest.MonkeyPatch) -> None:
    def expire(*arguments: Any) -> Change:
        with swapped(Lease, "is_live", lambda lease, now: False):
            change: Change = real.expire(*arguments)
        return change

    patch.setattr(transitions, "expire", expire)


@mutant
def attempt_is_never_overdue(patch: pytest.MonkeyPatch) -> None:
    def expire(one: Operation, terms: Any, now: Instant) -> Change:
        change: Change = real.expire(replace(one, attempt_timeout_s=None), terms, now)
        kept = replace(change.operation, attempt_timeout_s=one.attempt_timeout_s)
        return replace(change, operation=kept)

    patch.setattr(transitions, "expire", expire)


@mutant
def queue_timeout_hits_what_has_begun(patch: pytest.MonkeyPatch) -> None:
    def expire(one: Operation, terms: Any, now: Instant) -> Change:
        if one.state is not State.QUEUED:
            begun: Change = real.expire(one, terms, now)
            return begun
        change: Change = real.expire(replace(one, attempt=0), terms, now)
        return replace(change, operation=replace(change.operation, attempt=one.attempt))

    patch.setattr(transitions, "expire", expire)


@mutant
def another_worker_renews(patch: pytest.MonkeyPatch) -> None:
    def renew(one: Operation, worker: str, epoch: int, terms: Any, now: Instant) -> Change:
        holder = one.lease.worker_id if one.lease else worker
        change: Change = real.renew(one, holder, epoch, terms, now)
        return change

    patch.setattr(transitions, "renew", renew)


@mutant
def renewal_does_not_extend(patch: pytest.MonkeyPatch) -> None:
    def renewed(lease: Lease, terms: Any, now: Instant) -> Lease:
        del terms
        return replace(lease, expires_at_s=now.monotonic_s)

    patch.setattr(Lease, "renewed", renewed)


@mutant
def same_failure_is_counted_twice(patch: pytest.MonkeyPatch) -> None:
    def complete(one: Operation, epoch: int, outcome: Any, now: Instant) -> Change:
        change: Change = real.complete(one, epoch, outcome, now)
        is_repeat = change == Change(one) and isinstance(outcome, Failed)
        if not is_repeat or one.state is not State.QUEUED:
            return change
        return Change(replace(one, failure_count=one.failure_count + 1))

    patch.setattr(transitions, "complete", complete)


@mutant
def worker_ends_as_cancelled_at_will(patch: pytest.MonkeyPatch) -> None:
    def complete(one: Operation, epoch: int, outcome: Any, now: Instant) -> Change:
        if isinstance(outcome, transitions.Stopped) and one.state is State.RUNNING:
            lease = real.fence(one, epoch, now)
            error = transitions._cancelled(one)
            ended = replace(one, lease=None, end_time_ns=now.wall_ns, error=error)
            del lease
            return forced(ended, State.CANCELLED, "CANCEL_ACKNOWLEDGED", now)
        change: Change = real.complete(one, epoch, outcome, now)
        return change

    patch.setattr(transitions, "complete", complete)


@mutant
def retryable_error_ends_at_once(patch: pytest.MonkeyPatch) -> None:
    def complete(one: Operation, epoch: int, outcome: Any, now: Instant) -> Change:
        if isinstance(outcome, Failed):
            outcome = replace(outcome, is_retryable=False)
        change: Change = real.complete(one, epoch, outcome, now)
        return change

    patch.setattr(transitions, "complete", complete)


@mutant
def release_is_counted_as_a_failure(patch: pytest.MonkeyPatch) -> None:
    def release(one: Operation, *arguments: Any) -> Change:
        change: Change = real.release(one, *arguments)
        counted = replace(
            change.operation, failure_count=one.failure_count + 1, release_count=one.release_count
        )
        return replace(change, operation=counted)

    patch.setattr(transitions, "release", release)


@mutant
def release_is_never_counted(patch: pytest.MonkeyPatch) -> None:
    def release(one: Operation, *arguments: Any) -> Change:
        change: Change = real.release(one, *arguments)
        kept = replace(change.operation, release_count=one.release_count)
        return replace(change, operation=kept)

    patch.setattr(transitions, "release", release)


@mutant
def release_keeps_the_lease(patch: pytest.MonkeyPatch) -> None:
    def release(one: Operation, *arguments: Any) -> Change:
        change: Change = real.release(one, *arguments)
        return replace(change, operation=replace(change.operation, lease=one.lease))

    patch.setattr(transitions, "release", release)


@mutant
def batch_order_is_not_checked(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(telemetry, "_check_order", lambda lease, number: None)


@mutant
def batch_is_applied_again(patch: pytest.MonkeyPatch) -> None:
    def append(one: Operation, epoch: int, batch: Any, now: Instant, recorded: Any) -> Change:
        lease = telemetry.fence(one, epoch, now)
        if batch.batch_number <= lease.batch_number:
            one = replace(one, lease=replace(lease, batch_number=batch.batch_number - 1))
        return real_append(one, epoch, batch, now, recorded)

    patch.setattr(telemetry, "append", append)


@mutant
def replay_is_appended_again(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(telemetry, "_news", lambda one, batch: batch)


@mutant
def replay_with_equal_bits_fails(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(
        telemetry,
        "_differing",
        lambda points, recorded: (p for p in points if (p.series, p.step) in recorded),
    )


@mutant
def progress_after_the_end(patch: pytest.MonkeyPatch) -> None:
    def append(one: Operation, epoch: int, batch: Any, now: Instant, recorded: Any) -> Change:
        if one.lease is None and epoch == one.epoch:
            return Change(replace(one, progress=batch.progress))
        return real_append(one, epoch, batch, now, recorded)

    patch.setattr(telemetry, "append", append)


@mutant
def older_progress_wins(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(telemetry, "_with_progress", lambda one, news: replace(one, progress=news))


@mutant
def event_numbers_have_a_hole(patch: pytest.MonkeyPatch) -> None:
    def with_hole(one: Operation, bodies: Any, now: Instant) -> Change:
        skipped = one.event_sequence + (1 if one.state is State.CANCELLING else 0)
        change: Change = real.logged(replace(one, event_sequence=skipped), bodies, now)
        return change

    patch.setattr(transitions, "logged", with_hole)


@mutant
def success_is_resumed(patch: pytest.MonkeyPatch) -> None:
    def resume(source: Operation, *arguments: Any) -> Change:
        if source.state is State.SUCCEEDED and source.checkpoints:
            source = replace(source, state=State.FAILED)
        change: Change = real.resume(source, *arguments)
        return change

    patch.setattr(transitions, "resume", resume)


@mutant
def resumed_one_begins_at_the_beginning(patch: pytest.MonkeyPatch) -> None:
    def resume(*arguments: Any) -> Change:
        change: Change = real.resume(*arguments)
        return replace(change, operation=replace(change.operation, checkpoints=()))

    patch.setattr(transitions, "resume", resume)
