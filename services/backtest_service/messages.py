"""What a supervisor and its worker process say to each other over their socket.

Each message is a pickle behind its length. Both ends are the same code of the same user, and the
socket has no name: nobody else can speak on it.
"""

import pickle
import struct
from dataclasses import dataclass, field
from pathlib import Path

from backlane.backtest.checkpoint_policy import CheckpointPolicy
from backlane.backtest.cycle_outcome import CycleOutcome, CycleRequest
from backlane.backtest.portfolio_request import PortfolioRequest
from backlane.backtest.request import BacktestRequest
from backlane.errors import FieldViolation
from backlane.operations.operation import Checkpoint, Payload

FRAME_BYTES_MAX = 16 * 1024 * 1024
"""Size of one message; the largest hold TRADES_PER_MESSAGE_MAX trades."""
TRADES_PER_MESSAGE_MAX = 1_000

_LENGTH = struct.Struct("!I")
LENGTH_BYTES = _LENGTH.size


@dataclass(frozen=True, slots=True)
class WorkerSetup:
    """The first message to a worker: where things are, and how much it may take."""

    home: Path
    models_address: str
    memory_bytes_max: int
    checkpoint_policy: CheckpointPolicy
    log_level: str
    log_format: str


@dataclass(frozen=True, slots=True)
class StartRun:
    """Asks a worker to run a request and to leave the result in `directory`.

    `checkpoints` are those to go on from, newest first; `spec_sha256` is what they are bound to.
    The next one that is written has `checkpoint_number`.
    """

    operation: str
    request: BacktestRequest | PortfolioRequest
    directory: Path
    spec_sha256: bytes
    checkpoints: tuple[Checkpoint, ...] = ()
    checkpoint_number: int = 1


@dataclass(frozen=True, slots=True)
class StartCycle:
    """Asks a worker for one cycle, which leaves nothing behind but its answer."""

    request: CycleRequest


@dataclass(frozen=True, slots=True)
class WorkerReady:
    """A worker has imported what it needs, and waits."""


@dataclass(frozen=True, slots=True)
class EquityReached:
    """The equity at the end of a slice of the simulation."""

    bar_index: int
    time_ns: int
    equity: float


@dataclass(frozen=True, slots=True)
class SliceSimulated:
    """Trades closed in a slice, packed, in order; `reached` comes with the last of them."""

    trades: bytes
    reached: EquityReached | None = None


@dataclass(frozen=True, slots=True)
class CheckpointWritten:
    """A checkpoint is on disk, and is to be committed."""

    checkpoint: Checkpoint


@dataclass(frozen=True, slots=True)
class NoteWritten:
    """A line for people."""

    text: str


@dataclass(frozen=True, slots=True)
class RunSucceeded:
    """The result is in its directory; `result` is what the operation will carry."""

    result: Payload


@dataclass(frozen=True, slots=True)
class RunFailed:
    """The run ended with an error of backlane.errors, in parts."""

    reason: str
    message: str
    metadata: dict[str, str] = field(default_factory=dict)
    violations: tuple[FieldViolation, ...] = ()


@dataclass(frozen=True, slots=True)
class RunStopped:
    """The run saw that it was to stop."""


@dataclass(frozen=True, slots=True)
class CycleDecided:
    """The cycle that was asked for is done."""

    outcome: CycleOutcome


FromWorker = (
    WorkerReady
    | SliceSimulated
    | CheckpointWritten
    | NoteWritten
    | RunSucceeded
    | RunFailed
    | RunStopped
    | CycleDecided
)


def pack(message: object) -> bytes:
    """Returns the length and the bytes of a message; raises ValueError over FRAME_BYTES_MAX."""
    content = pickle.dumps(message, protocol=pickle.HIGHEST_PROTOCOL)
    if len(content) > FRAME_BYTES_MAX:
        raise ValueError(f"{type(message).__name__} has {len(content)} bytes")
    return _LENGTH.pack(len(content)) + content


def content_length(header: bytes) -> int:
    """Returns the length that a header announces; raises ValueError over FRAME_BYTES_MAX."""
    length: int = _LENGTH.unpack(header)[0]
    if length > FRAME_BYTES_MAX:
        raise ValueError(f"a message of {length} bytes")
    return length


def unpack(content: bytes) -> object:
    """Returns the message of bytes that the other end of the socket sent."""
    return pickle.loads(content)  # noqa: S301 - from our own process: see the module
