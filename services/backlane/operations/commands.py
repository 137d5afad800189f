"""What clients and workers ask of the registry, as plain records."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field

from backlane.operations.events import MetricPoint
from backlane.operations.operation import OperationError, Payload, Progress


@dataclass(frozen=True, slots=True)
class NewOperation:
    """A client's wish to have something run. `request_id` is the same on every retry of it.

    `client` names who asks; it is no part of the request, so that a retry from elsewhere is one.
    """

    request_id: str
    kind: str
    spec: Payload
    labels: Mapping[str, str] = field(default_factory=dict)
    max_attempts: int = 1
    priority: int = 0
    queue_timeout_s: float | None = None
    attempt_timeout_s: float | None = None
    client: str = ""

    def digests(self) -> dict[str, str]:
        """Returns a SHA-256 for each field that a retry must repeat, by the field's name."""
        labels = "\x00".join(f"{key}\x01{self.labels[key]}" for key in sorted(self.labels))
        return {
            "kind": _sha256(self.kind.encode()),
            "spec": _sha256(self.spec.type_url.encode(), self.spec.value),
            "labels": _sha256(labels.encode()),
            "max_attempts": _sha256(str(self.max_attempts).encode()),
            "priority": _sha256(str(self.priority).encode()),
            "queue_timeout": _sha256(repr(self.queue_timeout_s).encode()),
            "attempt_timeout": _sha256(repr(self.attempt_timeout_s).encode()),
        }


@dataclass(frozen=True, slots=True)
class Resumption:
    """A client's wish to go on from where an operation stopped, as a new operation."""

    request_id: str
    name: str
    client: str = ""

    def digests(self) -> dict[str, str]:
        """Returns a SHA-256 for each field that a retry must repeat, by the field's name."""
        return {"resumed_from": _sha256(self.name.encode())}


@dataclass(frozen=True, slots=True)
class Claim:
    """A worker's wish for work of one of `kinds`. `request_id` is the same on every retry."""

    request_id: str
    worker_id: str
    kinds: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class TelemetryBatch:
    """What a run reports. `trades` are serialized messages.

    `batch_number` counts 1, 2, 3, ... within the lease; it is 0 for a report of nothing but
    progress, which needs no order. `first_trade` is the number of the first of the trades: they
    count 1, 2, 3, ... within the run, so that an attempt that goes over the same bars again is
    seen to repeat them.
    """

    batch_number: int
    points: tuple[MetricPoint, ...] = ()
    trades: tuple[bytes, ...] = ()
    first_trade: int = 1
    notes: tuple[str, ...] = ()
    progress: Progress | None = None


@dataclass(frozen=True, slots=True)
class Succeeded:
    """The run ended with a result."""

    result: Payload


@dataclass(frozen=True, slots=True)
class Failed:
    """The run ended with an error; with `is_retryable` another attempt may do better."""

    error: OperationError
    is_retryable: bool = False


@dataclass(frozen=True, slots=True)
class Stopped:
    """The run stopped because cancel was asked."""


Outcome = Succeeded | Failed | Stopped


def _sha256(*parts: bytes) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(len(part).to_bytes(8, "big"))
        digest.update(part)
    return digest.hexdigest()
