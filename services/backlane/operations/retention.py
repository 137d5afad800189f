"""How long what has ended is kept."""

from dataclasses import dataclass

from backlane.operations.operation import Operation
from backlane.operations.records import replace

NS_PER_S = 1_000_000_000


@dataclass(frozen=True, slots=True)
class RetentionPolicy:
    """What is kept, and how long. Operations that have not ended are kept whole, always.

    An operation goes as a whole: its record, its events, points and checkpoints. A watch from
    before its last event is then answered RESUME_TOKEN_COMPACTED.
    """

    finished_s: float = 7 * 86_400.0
    """Seconds from the end of an operation to its removal."""
    request_id_s: float = 30 * 86_400.0
    """Seconds from the removal of an operation to that of its request_id: until then a late retry
    is told that the operation is gone, and runs nothing twice."""
    finished_max: int = 1_000_000
    """Ended operations that are kept at most: beyond it the ones that ended first go early."""
    batch_operations: int = 100
    """Operations removed in one transaction, so that others can write in between."""


def with_expiry(operation: Operation, policy: RetentionPolicy) -> Operation:
    """Returns a terminal operation with the time after which it may go; others as they are."""
    if operation.end_time_ns is None:
        return operation
    expire_time_ns = operation.end_time_ns + int(policy.finished_s * NS_PER_S)
    return replace(operation, expire_time_ns=expire_time_ns)
