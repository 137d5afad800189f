"""Following a watch over reconnects: what must hold from one message to the next.

Both clients share it. The server promises that messages tile the log and that each operation's
events count 1, 2, 3, ...; here that is checked, so that a gap is an error and never a surprise.
"""

import asyncio
import threading
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass, replace
from typing import Any

from backlane.clock import Clock
from backlane.errors import (
    BacklaneError,
    InternalError,
    ServerDrainingError,
    ServiceUnavailableError,
    SlowConsumerError,
    StoreUnavailableError,
)
from backlane.operations.watching import Phase, WatchMessage, WatchRequest

RECONNECT_DEADLINE_S = 60.0
"""How long a watch tries to come back before it gives up."""

RETRY_DELAY_S_MIN, RETRY_DELAY_S_MAX = 0.1, 2.0

SILENT_BOOKMARKS = 3
"""Bookmarks that may be missed before the server counts as gone."""

SEQUENCES_MAX = 10_000
"""Operations whose sequence is checked at once; the tiling is checked whatever their number."""

_PASSING = (
    ServiceUnavailableError,
    ServerDrainingError,
    StoreUnavailableError,
    SlowConsumerError,
)


@dataclass(frozen=True, slots=True)
class Reconnected:
    """A watch was interrupted and is back: nothing was missed, nothing comes twice.

    `error` is why; `attempts` how often it was tried; `duration_s` how long nothing came;
    `revision` where it goes on.
    """

    error: BacklaneError
    attempts: int
    duration_s: float
    revision: int


OnReconnect = Callable[[Reconnected], None]
OnLost = Callable[[BacklaneError, float], None]
"""Is told once that the connection is lost, and for how many seconds it will be tried again."""


def silent(peer: str, silence_s: float) -> ServiceUnavailableError:
    """Returns the error for a server that says nothing though it promised to."""
    return ServiceUnavailableError(
        f"{peer} was silent for {silence_s:g} s, though it promised a sign of life: "
        "it hangs, or the network lost it.",
        metadata={"peer": peer, "silence_s": f"{silence_s:g}"},
    )


class Continuity:
    """Where a watch is, and whether each message continues the one before."""

    def __init__(self, request: WatchRequest) -> None:
        self._request = request
        self._token = request.resume_token
        self._through: int | None = None
        self._sequences: dict[str, int] = {}

    @property
    def revision(self) -> int:
        """The revision up to which everything was received."""
        return self._through or 0

    def next_request(self) -> WatchRequest:
        """Returns the request that goes on after the last message."""
        return replace(self._request, resume_token=self._token)

    def accept(self, message: WatchMessage) -> None:
        """Takes a message.

        Raises:
            InternalError: it does not continue the one before; the server broke its promise.

        """
        if message.phase is Phase.SNAPSHOT:
            for operation in message.operations:
                self._note(operation.name, operation.event_sequence)
            return
        if (
            self._through is not None
            and message.phase is not Phase.SYNCED
            and message.from_revision != self._through
        ):
            raise _broken(f"message from {message.from_revision} after {self._through}")
        for event in message.events:
            before = self._sequences.get(event.operation)
            # A filter by state passes over events, and their numbers with them.
            is_whole = not self._request.selection.states
            if is_whole and before is not None and event.sequence != before + 1:
                raise _broken(f"event {event.sequence} of {event.operation} after {before}")
            self._note(event.operation, event.sequence)
        self._through = message.through_revision
        self._token = message.resume_token

    def _note(self, name: str, sequence: int) -> None:
        self._sequences.pop(name, None)
        self._sequences[name] = sequence
        if len(self._sequences) > SEQUENCES_MAX:
            del self._sequences[next(iter(self._sequences))]


class Recovery:
    """Decides whether to try again, and after which pause."""

    def __init__(
        self,
        clock: Clock,
        deadline_s: float,
        on_reconnect: OnReconnect | None,
        on_lost: OnLost | None = None,
    ) -> None:
        self._clock = clock
        self._deadline_s = deadline_s
        self._on_reconnect = on_reconnect
        self._on_lost = on_lost
        self._was_connected = False
        self._error: BacklaneError | None = None
        self._since_s = 0.0
        self._attempts = 0

    def succeeded(self, revision: int = 0) -> None:
        """Notes that something came from the server."""
        self._was_connected = True
        if self._error is not None and self._on_reconnect is not None:
            duration_s = self._clock.monotonic_s() - self._since_s
            self._on_reconnect(Reconnected(self._error, self._attempts, duration_s, revision))
        self._error = None
        self._attempts = 0

    def pause_s(self, error: BacklaneError) -> float:
        """Returns the seconds to wait before the next try.

        Raises:
            BacklaneError: the error itself, when it will not pass, when the deadline is over, or
                when there was no connection to begin with.

        """
        now_s = self._clock.monotonic_s()
        if self._error is None:
            self._since_s = now_s
        is_over = now_s - self._since_s >= self._deadline_s
        if not (self._was_connected and isinstance(error, _PASSING)) or is_over:
            raise error
        if self._error is None and self._on_lost is not None:
            self._on_lost(error, self._deadline_s)
        self._error = error
        self._attempts += 1
        return float(min(RETRY_DELAY_S_MIN * 2 ** min(self._attempts - 1, 8), RETRY_DELAY_S_MAX))


class Watchdog:
    """Cancels a call that is waited for too long; a context around each wait."""

    def __init__(self, call: Any, silence_s: float) -> None:
        self._call = call
        self._silence_s = silence_s
        self._timer: threading.Timer | None = None
        self.has_bitten = False

    def __enter__(self) -> None:
        self._timer = threading.Timer(self._silence_s, self._bite)
        self._timer.daemon = True
        self._timer.start()

    def __exit__(self, *_error: object) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def _bite(self) -> None:
        self.has_bitten = True
        self._call.cancel()


async def read_promptly(call: Any, silence_s: float, peer: str) -> AsyncGenerator[Any, None]:
    """Yields the responses of a call, and ends it when none comes for `silence_s`.

    The whole call is cancelled, never a single read of it, which would leak inside grpc.
    """
    loop = asyncio.get_running_loop()
    has_bitten = False

    def bite() -> None:
        nonlocal has_bitten
        has_bitten = True
        call.cancel()

    timer = loop.call_later(silence_s, bite)
    try:
        async for response in call:
            timer.cancel()
            yield response
            timer = loop.call_later(silence_s, bite)
    except asyncio.CancelledError:
        # Ours, when the timer cancelled the call; else somebody cancels this task.
        task = asyncio.current_task()
        if has_bitten and not (task and task.cancelling()):
            raise silent(peer, silence_s) from None
        raise
    finally:
        timer.cancel()
        call.cancel()


def _broken(problem: str) -> InternalError:
    return InternalError(
        f"The watch has a gap ({problem}); that is a bug of operations_service. "
        "List the operations to see them as they are.",
        metadata={"problem": problem},
    )
