"""The writes of the registry: look up, let `backlane.operations` decide, save.

A command decides before it writes: one that raises has written nothing, so that it fails alone
while the rest of its batch is committed.
"""

import json
from collections.abc import Sequence

from backlane import failpoints
from backlane.errors import LeaseLostError, OperationNotFoundError, RequestIdReusedError
from backlane.operations import checkpoints, telemetry, transitions
from backlane.operations.admission import AdmissionLimits, admit
from backlane.operations.checkpoints import CheckpointReply
from backlane.operations.commands import Claim, NewOperation, Outcome, Resumption, TelemetryBatch
from backlane.operations.lease import Instant, LeaseTerms
from backlane.operations.operation import Checkpoint, Operation
from backlane.operations.store import Renewal, RenewalReply
from operations_service import statements
from operations_service.memory import Stored
from operations_service.rows import Row
from operations_service.transaction import Transaction

QUEUE_TIMEOUTS_MAX = 1_000
"""Operations that one look at the queue ends; the next look finds the others."""


def create(
    tx: Transaction, request: NewOperation, limits: AdmissionLimits, name: str, uid: str
) -> Operation:
    """Accepts an operation, or finds the one that this request made before."""
    before = _made_before(tx, request)
    if before is not None:
        return before
    admit(tx.load_of(request.client), request.client, limits)
    made = tx.add(transitions.create(request, name, uid, tx.now), request.request_id)
    _keep_request(tx, request, name)
    return made


def resume(
    tx: Transaction, request: Resumption, limits: AdmissionLimits, name: str, uid: str
) -> Operation:
    """Accepts an operation that goes on from another, or finds the one made before."""
    before = _made_before(tx, request)
    if before is not None:
        return before
    source = tx.load(request.name).operation
    change = transitions.resume(source, request, name, uid, tx.now)
    admit(tx.load_of(request.client), request.client, limits)
    made = tx.add(change, request.request_id)
    _keep_request(tx, request, name)
    return made


def claim(tx: Transaction, claim: Claim, terms: LeaseTerms) -> Operation | None:
    """Gives the queued operation of the kinds that goes first to the worker."""
    now = tx.now
    before = next((one for one in tx.held() if _is_answer(one, claim, now)), None)
    if before is not None:
        return before.operation
    candidates = [row for kind in claim.kinds if (row := _next_queued(tx, kind, now)) is not None]
    if not candidates:
        return None
    first = min(candidates, key=lambda row: (-row["priority"], row["id"]))
    failpoints.reached("lease.before_grant")
    stored = tx.load(first["name"])
    return tx.save(stored, transitions.grant(stored.operation, claim, terms, now))


def renew(
    tx: Transaction, worker_id: str, renewals: Sequence[Renewal], terms: LeaseTerms
) -> list[RenewalReply]:
    """Renews each lease of the worker that is still good."""
    return [_renewed(tx, worker_id, renewal, terms) for renewal in renewals]


def append(tx: Transaction, name: str, epoch: int, batch: TelemetryBatch) -> Operation:
    """Adds a batch of telemetry to the log."""
    stored = tx.load(name)
    recorded = tx.recorded(stored, batch)
    change = telemetry.append(stored.operation, epoch, batch, tx.now, recorded)
    return tx.save(stored, change)


def commit_checkpoint(
    tx: Transaction, name: str, epoch: int, checkpoint: Checkpoint
) -> CheckpointReply:
    """Makes a checkpoint the one that a next attempt begins from."""
    stored = tx.load(name)
    change, reply = checkpoints.commit(stored.operation, epoch, checkpoint, tx.now)
    tx.save(stored, change)
    return reply


def release(tx: Transaction, name: str, epoch: int, reason: str) -> Operation:
    """Gives an operation back to the queue."""
    stored = tx.load(name)
    return tx.save(stored, transitions.release(stored.operation, epoch, reason, tx.now))


def complete(tx: Transaction, name: str, epoch: int, outcome: Outcome) -> Operation:
    """Ends an operation as its worker says."""
    stored = tx.load(name)
    return tx.save(stored, transitions.complete(stored.operation, epoch, outcome, tx.now))


def request_cancel(tx: Transaction, name: str, reason: str) -> Operation:
    """Asks for cancel of an operation."""
    stored = tx.load(name)
    return tx.save(stored, transitions.request_cancel(stored.operation, reason, tx.now))


def delete(tx: Transaction, name: str) -> None:
    """Deletes a terminal operation."""
    stored = tx.load(name)
    tx.save(stored, transitions.delete(stored.operation, tx.now))


def expire_lapsed(tx: Transaction, terms: LeaseTerms) -> tuple[str, ...]:
    """Does what the passing of time asks for, to what is held and to what waits too long."""
    now = tx.now
    overdue = tx.session.rows(
        statements.SELECT_QUEUE_OVERDUE, {"now_ns": now.wall_ns, "most": QUEUE_TIMEOUTS_MAX}
    )
    candidates = [*tx.held(), *(tx.load(row["name"]) for row in overdue)]
    changed = []
    for stored in candidates:
        change = transitions.expire(stored.operation, terms, now)
        if change.events:
            tx.save(stored, change)
            changed.append(stored.operation.name)
    return tuple(changed)


def probe(tx: Transaction) -> None:
    """Has the registry's row written, as any change would."""
    tx.is_changed = True


def _made_before(tx: Transaction, request: NewOperation | Resumption) -> Operation | None:
    row = tx.session.first(statements.SELECT_REQUEST, {"wanted_request_id": request.request_id})
    if row is None:
        return None
    before = json.loads(row["digests"])
    _refuse_other_request(request.request_id, row["name"], before, request.digests())
    return tx.load(row["name"]).operation


def _keep_request(tx: Transaction, request: NewOperation | Resumption, name: str) -> None:
    digests = json.dumps(request.digests())
    values = {"request_id": request.request_id, "name": name, "digests": digests}
    tx.session.run(statements.INSERT_REQUEST_ID, values)


def _next_queued(tx: Transaction, kind: str, now: Instant) -> Row | None:
    values = {"wanted_kind": kind}
    if tx.session.run(statements.END_WAITING, {**values, "now_ns": now.wall_ns}) > 0:
        tx.is_changed = True
    return tx.session.first(statements.SELECT_NEXT_QUEUED, values)


def _renewed(tx: Transaction, worker_id: str, renewal: Renewal, terms: LeaseTerms) -> RenewalReply:
    try:
        stored = tx.load(renewal.operation)
        change = transitions.renew(stored.operation, worker_id, renewal.epoch, terms, tx.now)
    except (LeaseLostError, OperationNotFoundError) as error:
        return RenewalReply(renewal, None, error.message)
    return RenewalReply(renewal, tx.save(stored, change))


def _is_answer(stored: Stored, claim: Claim, now: Instant) -> bool:
    """Whether the claim came before, and got this operation."""
    lease = stored.operation.lease
    return (
        lease is not None
        and lease.worker_id == claim.worker_id
        and lease.request_id == claim.request_id
        and lease.is_live(now)
    )


def _refuse_other_request(
    request_id: str, name: str, before: dict[str, str], now: dict[str, str]
) -> None:
    differing = sorted(field for field in {*before, *now} if before.get(field) != now.get(field))
    if differing:
        raise RequestIdReusedError(
            f"request_id {request_id} made {name} before, from a request that differs in "
            f"{', '.join(differing)}. Make a new request_id for each new request.",
            metadata={
                "request_id": request_id,
                "operation": name,
                "differing_fields": ",".join(differing),
            },
        )
