"""Operations, and what is asked about them, for tests of stores and of the service."""

# Tests assert; ruff forbids it elsewhere.
# ruff: noqa: S101

from backlane.operations.commands import Claim, NewOperation
from backlane.operations.events import OperationEvent, StateChanged
from backlane.operations.lease import LeaseTerms
from backlane.operations.operation import Operation, Payload, State
from backlane.operations.selection import Selection
from backlane.operations.store import OperationStore

TERMS = LeaseTerms(ttl_s=15.0, renew_interval_s=5.0, grace_s=10.0)
KIND = "backtest.run"
EVERYTHING = Selection()
RESULT = Payload("type.googleapis.com/test.Result", b"\x08\x01")


def request(number: int = 1, **fields: object) -> NewOperation:
    """A wish to have something run; the same number gives the same request_id."""
    known: dict[str, object] = {
        "request_id": f"00000000-0000-4000-8000-{number:012d}",
        "kind": KIND,
        "spec": Payload("type.googleapis.com/test.Spec", b"\x0a\x01x"),
    }
    return NewOperation(**{**known, **fields})  # type: ignore[arg-type]


def claim(number: int = 1, worker_id: str = "worker-1", kind: str = KIND) -> Claim:
    """A wish for work; the same number gives the same request_id."""
    return Claim(f"00000000-0000-4000-9000-{number:012d}", worker_id, (kind,))


async def running(store: OperationStore, number: int = 1, **fields: object) -> Operation:
    """An operation that worker-1 holds."""
    await store.create(request(number, **fields))
    held = await store.claim(claim(number))
    assert held is not None
    return held


async def log(
    store: OperationStore, selection: Selection = EVERYTHING, after: int = 0
) -> list[OperationEvent]:
    """All events after a revision; pages must tile on the way."""
    events: list[OperationEvent] = []
    while after < store.revision:
        page = await store.read_events(selection, after)
        assert page.through_revision > after
        assert all(after < event.revision <= page.through_revision for event in page.events)
        events.extend(page.events)
        after = page.through_revision
    return events


def states(events: list[OperationEvent]) -> list[tuple[State | None, State, str]]:
    """The moves that events tell of."""
    bodies = [event.body for event in events]
    return [
        (body.from_state, body.to_state, body.reason)
        for body in bodies
        if isinstance(body, StateChanged)
    ]
