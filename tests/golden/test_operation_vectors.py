"""The reference's registry of operations: its legal moves are ours, its illegal ones are refused.

The recording is of a registry without leases, whose callers change states at will (SPEC §13). A
worker here must hold the lease of an operation; states that have ended stay (`transitions`).
"""

from dataclasses import replace
from typing import Any

import pytest

from backlane.errors import LeaseLostError, NothingToResumeError, OperationNotTerminalError
from backlane.operations import transitions
from backlane.operations.commands import Claim, Failed, NewOperation, Resumption, Stopped, Succeeded
from backlane.operations.lease import Instant, LeaseTerms
from backlane.operations.operation import Checkpoint, Operation, OperationError, Payload, State
from tests.golden.vectors import KTRDR, cases, read_json
from tests.shared import needs_shared

READS = ("runtime/operations.json",)

pytestmark = needs_shared

NOW = Instant(wall_ns=0, monotonic_s=0.0)
TERMS = LeaseTerms(ttl_s=60.0, renew_interval_s=20.0, grace_s=10.0)
ANYTHING = Payload("type.googleapis.com/test.Anything", b"")
STATES = {
    "pending": State.QUEUED,
    "resuming": State.QUEUED,  # a resume is a new operation, which waits as any other
    "running": State.RUNNING,
    "completed": State.SUCCEEDED,
    "failed": State.FAILED,
    "cancelled": State.CANCELLED,
}
HELD_ELSEWHERE = {
    "id formats": "names are `operations/{uuid}`: tests/contract/test_operation_store.py",
    "duplicate id": "the registry names operations; a request_id makes creation idempotent",
    "unknown parent": "there are no parents; sweeps are a later part",
    "start unknown": "OPERATION_NOT_FOUND: the contract of stores",
    "complete unknown": "OPERATION_NOT_FOUND, not silence: the contract of stores",
    "cancel unknown": "OPERATION_NOT_FOUND, not a dictionary: the contract of stores",
    "get unknown": "OPERATION_NOT_FOUND, not None: the contract of stores",
    "metrics unknown": "OPERATION_NOT_FOUND: the contract of stores",
    "cleanup_old_operations(24)": "retention deletes by age and number: the contract of stores",
    "retry of a completed one": "attempts are the registry's own; a resume of it is refused here",
    "bridge pull with 1 s cache": "nothing is pulled: events are appended to a log and watched",
    "bridge status": "there is no bridge: progress is an event",
    "parent progress and cascade": "there are no parents; sweeps are a later part",
    "token fetched twice then cancelled": "a cancel is a state of the operation, not an object",
    "active_only": "lists are filtered by state: the contract of stores",
    "worker registry": "workers do not register: they claim, and hold a lease",
}
"""Cases that say nothing about what we compute, and where their like is held."""


def accepted() -> Operation:
    request = NewOperation(request_id="r", kind="backtest.run", spec=ANYTHING)
    return transitions.create(request, "operations/1", "1", NOW).operation


def act(operation: Operation, action: str) -> Operation:
    """Does what the recording calls an action, with a worker that follows a cancel at once."""
    if action == "start":
        if not transitions.is_claimable(operation, NOW):
            raise LeaseLostError("there is nothing to claim")
        claim = Claim("c", "worker", ("backtest.run",))
        return transitions.grant(operation, claim, TERMS, NOW).operation
    if action == "complete":
        outcome = Succeeded(ANYTHING)
        return transitions.complete(operation, operation.epoch, outcome, NOW).operation
    if action == "fail":
        failed = Failed(OperationError("BOOM", "boom"))
        return transitions.complete(operation, operation.epoch, failed, NOW).operation
    if action == "cancel":
        asked = transitions.request_cancel(operation, "why", NOW).operation
        if asked.state is State.CANCELLING:
            asked = transitions.complete(asked, asked.epoch, Stopped(), NOW).operation
        return asked
    kept = Checkpoint(1, "file:///x", bytes(32), 1, 1, "x", bytes(32))
    source = replace(operation, checkpoints=(kept,))
    request = Resumption(request_id="again", name=operation.name)
    return transitions.resume(source, request, "operations/2", "2", NOW).operation


def rows_of(case_name: str) -> list[Any]:
    found = [c for c in read_json(KTRDR / "runtime" / "operations.json") if c["case"] == case_name]
    return found[0]["rows"] if found else []


@pytest.mark.parametrize(
    "row", rows_of("transitions without a database"), ids=lambda row: "-".join(row["actions"])
)
def test_legal_moves_are_the_references_and_the_end_is_the_end(row: dict[str, Any]) -> None:
    operation, has_left_the_rails = accepted(), False
    assert operation.state is STATES[row["states"][0]]
    for action, recorded in zip(row["actions"], row["states"][1:], strict=True):
        before = operation
        try:
            operation = act(before, action)
        except (LeaseLostError, NothingToResumeError, OperationNotTerminalError):
            operation = before
        if before.state.is_terminal and action != "resume":
            assert operation == before  # there, a completion or failure overwrites the end
        is_unheld = action in ("complete", "fail") and before.state is State.QUEUED
        has_left_the_rails = (
            has_left_the_rails
            or is_unheld
            or (
                before.state.is_terminal and action != "resume" and STATES[recorded] != before.state
            )
        )
        if not has_left_the_rails:
            assert operation.state is STATES[recorded]


def test_a_cancel_before_the_run_begins_ends_it() -> None:
    """There, a cancel before the run has asked for its token goes unheard."""
    (case,) = [
        case.values[0]
        for case in cases("runtime", "operations.json")
        if case.values[0]["case"] == "cancel before the token exists"
    ]
    assert case["token_cancelled"] is False
    cancelled = act(accepted(), "cancel")
    assert cancelled.state is State.CANCELLED
    assert not transitions.is_claimable(cancelled, NOW)


def test_what_no_worker_keeps_alive_is_taken_away() -> None:
    """There after 60 s without a claim; here when the lease runs out."""
    rows = rows_of("orphan detector")
    assert rows[-1]["status"]["orphan"] == "failed"
    held = act(accepted(), "start")
    early = Instant(wall_ns=0, monotonic_s=TERMS.ttl_s - 1)
    late = Instant(wall_ns=0, monotonic_s=TERMS.ttl_s + 1)
    assert transitions.expire(held, TERMS, early).operation is held
    lost = transitions.expire(held, TERMS, late).operation
    assert lost.state is State.FAILED  # one attempt was all that it was given
    assert lost.error is not None
    assert lost.error.reason == "WORKER_LOST"


@pytest.mark.parametrize("case", [*cases("runtime", "operations.json")])
def test_every_recorded_case_is_held_somewhere(case: dict[str, Any]) -> None:
    here = ("transitions without a database", "cancel before the token exists", "orphan detector")
    assert (case["case"] in here) is not (case["case"] in HELD_ELSEWHERE)
