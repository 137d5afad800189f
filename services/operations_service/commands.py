"""The writes of the registry: look up, let `backlane.operations` decide, save.

A command decides before it writes: one that raises has written nothing, so that it fails alone
while the rest of its batch is committed.
"""

from collections.abc import Sequence

from backlane.errors import LeaseLostError, OperationNotFoundError, RequestIdReusedError
from backlane.operations import telemetry, transitions
from backlane.operations.commands import Claim, NewOperation, Outcome, TelemetryBatch
from backlane.operations.lease import Instant, LeaseTerms
from backlane.operations.operation import Operation
from backlane.operations.store import Renewal, RenewalReply
from operations_service import statements
from operations_service.transaction import Stored, Transaction


def create(tx: Transaction, request: NewOperation, name: str, uid: str) -> Operation:
    """Accepts an operation, or finds the one that this request made before."""
    digests = request.digests()
    found = tx.connection.execute(
        statements.SELECT_REQUEST, {"wanted_request_id": request.request_id}
    )
    before = found.first()
    if before is not None:
        _refuse_other_request(request.request_id, before.name, before.digests, digests)
        return tx.load(before.name).operation
    stored = tx.add(transitions.create(request, name, uid, tx.now))
    tx.connection.execute(
        statements.INSERT_REQUEST_ID,
        {
            "request_id": request.request_id,
            "operation_id": stored.row_id,
            "digests": digests,
        },
    )
    return stored.operation


def claim(tx: Transaction, claim: Claim, terms: LeaseTerms) -> Operation | None:
    """Gives the oldest queued operation of the kinds to the worker."""
    now = tx.now
    before = next((one for one in tx.held() if _is_answer(one, claim, now)), None)
    if before is not None:
        return before.operation
    wanted = {"wanted_kinds": list(claim.kinds)}
    name = tx.connection.execute(statements.SELECT_OLDEST_QUEUED, wanted).scalar()
    if name is None:
        return None
    stored = tx.load(name)
    return tx.save(stored, transitions.grant(stored.operation, claim, terms, now))


def renew(
    tx: Transaction, worker_id: str, renewals: Sequence[Renewal], terms: LeaseTerms
) -> list[RenewalReply]:
    """Renews each lease of the worker that is still good; nothing of it is written."""
    return [_renewed(tx, worker_id, renewal, terms) for renewal in renewals]


def append(tx: Transaction, name: str, epoch: int, batch: TelemetryBatch) -> Operation:
    """Adds a batch of telemetry to the log."""
    stored = tx.load(name)
    return tx.save(stored, telemetry.append(stored.operation, epoch, batch, tx.now))


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


def expire_lapsed(tx: Transaction) -> tuple[str, ...]:
    """Takes every lease away whose time ran out."""
    now = tx.now
    lapsed = [stored for stored in tx.held() if _is_lapsed(stored, now.monotonic_s)]
    for stored in lapsed:
        tx.save(stored, transitions.expire(stored.operation, now))
    return tuple(stored.operation.name for stored in lapsed)


def probe(tx: Transaction) -> None:
    """Writes one row that means nothing."""
    tx.connection.execute(statements.COUNT_PROBE)


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


def _is_lapsed(stored: Stored, monotonic_s: float) -> bool:
    lease = stored.operation.lease
    return lease is not None and lease.expires_at_s <= monotonic_s


def _refuse_other_request(
    request_id: str, name: str, before: dict[str, str], now: dict[str, str]
) -> None:
    differing = sorted(field for field in now if before.get(field) != now[field])
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
