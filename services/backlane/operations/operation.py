"""An operation: one record, never changed in place."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from backlane.operations.lease import Lease


class State(StrEnum):
    """Where an operation stands. Values are stored: never rename one."""

    QUEUED = "QUEUED"
    RUNNING = "RUNNING"
    CANCELLING = "CANCELLING"
    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"

    @property
    def is_terminal(self) -> bool:
        """Whether nothing changes any more."""
        return self in TERMINAL_STATES

    @property
    def is_held(self) -> bool:
        """Whether a worker holds the lease."""
        return self in HELD_STATES


TERMINAL_STATES = frozenset({State.SUCCEEDED, State.FAILED, State.CANCELLED})
"""States that absorb."""

HELD_STATES = frozenset({State.RUNNING, State.CANCELLING})
"""States in which there is a lease, and the only ones."""


@dataclass(frozen=True, slots=True)
class Payload:
    """A typed message that the registry stores and hands on without looking inside.

    `type_url` names the type as google.protobuf.Any does; `value` is the serialized message.
    """

    type_url: str
    value: bytes


@dataclass(frozen=True, slots=True)
class OperationError:
    """Why an operation did not succeed.

    `reason` is UPPER_SNAKE_CASE; `metadata` repeats every value that `message` names. `code` is
    the status number that came with a worker's error, 0 for causes that the registry decides.
    """

    reason: str
    message: str
    metadata: Mapping[str, str] = field(default_factory=dict)
    code: int = 0


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a run is; the latest report wins. Times are UTC nanoseconds, None when unknown.

    `version` grows with each report within an attempt; `total_units` is 0 when unknown.
    """

    version: int
    completed_units: int = 0
    total_units: int = 0
    unit: str = ""
    phase: str = ""
    report_time_ns: int | None = None
    simulated_time_ns: int | None = None
    equity: float = 0.0
    trade_count: int = 0


@dataclass(frozen=True, slots=True)
class AttemptFailure:
    """An attempt that ended badly, and what the registry learned of it."""

    attempt: int
    worker_id: str
    reason: str
    message: str
    time_ns: int


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A point from which a run can go on; the registry keeps where it lies, not what is in it.

    `number` counts 1, 2, 3, ... within the operation. `sha256` and `spec_sha256` are 32 bytes.
    `attempt` and `commit_time_ns` are the registry's.
    """

    number: int
    uri: str
    sha256: bytes
    size_bytes: int
    completed_units: int
    format: str
    spec_sha256: bytes
    attempt: int = 0
    commit_time_ns: int = 0


@dataclass(frozen=True, slots=True)
class TelemetryCounts:
    """How much telemetry the log of an operation holds, and how much was dropped at a limit.

    `last_steps` is the last step of each series, by which a replay is told from news.
    """

    trades: int = 0
    notes: int = 0
    last_steps: Mapping[str, int] = field(default_factory=dict)
    dropped_points: int = 0
    dropped_trades: int = 0
    dropped_notes: int = 0


@dataclass(frozen=True, slots=True)
class Operation:
    """One long-running operation. Times are UTC nanoseconds.

    `epoch` is the fencing token of the newest lease, 0 before the first; `lease` is there in
    RUNNING and CANCELLING alone. `event_sequence` and `metric_index` count without holes.
    `revision` is the registry's, at the last durable change.

    `attempt` counts grants; `failure_count` counts the attempts that ended badly, which
    `max_attempts` bounds, and `failures` tells of the newest ones. `release_count` counts those
    that a worker gave back. `checkpoints` are those that are kept, newest first. Until
    `next_attempt_ns` a queued operation is given to nobody.
    """

    name: str
    uid: str
    kind: str
    state: State
    spec: Payload
    create_time_ns: int
    labels: Mapping[str, str] = field(default_factory=dict)
    max_attempts: int = 1
    attempt: int = 0
    epoch: int = 0
    lease: Lease | None = None
    event_sequence: int = 0
    metric_index: int = 0
    counts: TelemetryCounts = TelemetryCounts()
    revision: int = 0
    start_time_ns: int | None = None
    end_time_ns: int | None = None
    cancel_reason: str = ""
    priority: int = 0
    client: str = ""
    queue_timeout_s: float | None = None
    attempt_timeout_s: float | None = None
    next_attempt_ns: int | None = None
    expire_time_ns: int | None = None
    failure_count: int = 0
    release_count: int = 0
    failures: tuple[AttemptFailure, ...] = ()
    checkpoints: tuple[Checkpoint, ...] = ()
    checkpoint_number: int = 0
    resumed_from: str = ""
    progress: Progress | None = None
    result: Payload | None = None
    error: OperationError | None = None
    is_deleted: bool = False
