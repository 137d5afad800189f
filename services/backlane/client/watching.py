"""Following a watch over reconnects: what must hold from one message to the next.

Both clients share it. The server promises that messages tile the log and that each operation's
events count 1, 2, 3, ...; here that is checked, so that a gap is an error and never a surprise.
"""

import asyncio
import queue
import random
import threading
from collections.abc import AsyncGenerator, Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any, Self

from backlane.client.replicas import ELSEWHERE
from backlane.clock import Clock
from backlane.errors import (
    BacklaneError,
    CallTimeoutError,
    InternalError,
    LimitExceededError,
    RateLimitError,
    ServiceUnavailableError,
    SlowConsumerError,
    WatchLimitError,
)
from backlane.operations.watching import (
    BOOKMARK_INTERVAL_S_DEFAULT,
    Phase,
    WatchMessage,
    WatchRequest,
)

RECONNECT_DEADLINE_S = 60.0
"""How long a watch tries to come back before it gives up."""

RETRY_DELAY_S_MIN, RETRY_DELAY_S_MAX = 0.1, 0.2
"""Pauses between two tries to come back; a server that restarts is missed for no longer."""

JITTER = 0.5
"""Up to this fraction of a pause is left out, by chance."""

SILENT_BOOKMARKS = 2.8
"""Intervals without a bookmark after which the server counts as gone: two are missed, and the third
is as good as. Less than three, so that it is noticed within 15 s where bookmarks come every 5 s."""

CANCEL_S = 1.0
"""For a read to end after its call was cancelled; it takes a millisecond, unless grpc forgot it."""

ANSWERS_MAX = 1
"""Responses that were read and not yet taken: one is read for each that is asked for."""

SEQUENCES_MAX = 10_000
"""Operations whose sequence is checked at once; the tiling is checked whatever their number."""

_PASSING = (
    *ELSEWHERE,
    SlowConsumerError,
    CallTimeoutError,
    # The places of a connection that broke are free again once the server has noticed.
    WatchLimitError,
    LimitExceededError,
    RateLimitError,
)


@dataclass(frozen=True, slots=True)
class Reconnected:
    """A watch was interrupted and is back: nothing was missed, nothing comes twice.

    `error` is why; `attempts` how often it was tried; `duration_s` how long nothing came;
    `revision` where it goes on; `address` who answers now.
    """

    error: BacklaneError
    attempts: int
    duration_s: float
    revision: int
    address: str = ""


OnReconnect = Callable[[Reconnected], None]
OnLost = Callable[[BacklaneError, float], None]
"""Is told once that the connection is lost, and for how many seconds it will be tried again."""


def silence_s(request: WatchRequest) -> float:
    """Returns the seconds of silence after which the server of a watch counts as gone."""
    return SILENT_BOOKMARKS * (request.bookmark_interval_s or BOOKMARK_INTERVAL_S_DEFAULT)


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
    """Decides whether to try again, and after which pause.

    A connection that was lost is tried for `deadline_s`, a first one for `first_s`; with
    `was_connected` there was one before.
    """

    def __init__(
        self,
        clock: Clock,
        deadline_s: float,
        on_reconnect: OnReconnect | None,
        on_lost: OnLost | None = None,
        *,
        first_s: float = 0.0,
        was_connected: bool = False,
    ) -> None:
        self._clock = clock
        self._deadline_s = deadline_s
        self._on_reconnect = on_reconnect
        self._on_lost = on_lost
        self._first_s = min(first_s, deadline_s)
        self._was_connected = was_connected
        self._error: BacklaneError | None = None
        self._since_s = 0.0
        self._attempts = 0

    def succeeded(self, revision: int = 0, address: str = "") -> None:
        """Notes that something came from the server."""
        was_lost = self._was_connected and self._error is not None
        self._was_connected = True
        error, self._error = self._error, None
        if was_lost and error is not None and self._on_reconnect is not None:
            duration_s = self._clock.monotonic_s() - self._since_s
            self._on_reconnect(Reconnected(error, self._attempts, duration_s, revision, address))
        self._attempts = 0

    def pause_s(self, error: BacklaneError) -> float:
        """Returns the seconds to wait before the next try.

        Raises:
            BacklaneError: the error itself, when it will not pass, or when the time is over.

        """
        now_s = self._clock.monotonic_s()
        if self._error is None:
            self._since_s = now_s
        passing = _PASSING if self._was_connected else ELSEWHERE
        deadline_s = self._deadline_s if self._was_connected else self._first_s
        if not isinstance(error, passing) or now_s - self._since_s >= deadline_s:
            raise error
        if self._error is None and self._was_connected and self._on_lost is not None:
            self._on_lost(error, self._deadline_s)
        self._error = error
        self._attempts += 1
        pause_s = float(min(RETRY_DELAY_S_MIN * 2 ** min(self._attempts - 1, 8), RETRY_DELAY_S_MAX))
        # Many readers of one server must not come back in the same instant.
        pause_s *= 1 - JITTER * random.random()  # noqa: S311 - nothing to guess here
        return max(pause_s, error.retry_delay_s or 0.0)


class PromptReader:
    """Reads a call in a thread of its own, so that who waits for a response can stop waiting.

    grpc 1.85 at times ends a call that never connected, and leaves a read of it open for ever:
    no deadline and no cancel ends that read, for the call has a status already. Such a read is
    left alone: `is_stuck` says so, and whoever has the channel must not close it, since that waits
    for the read, too. Silence counts while somebody waits; one response is read for each that is
    asked for. A context around the whole call, which it ends.
    """

    def __init__(self, call: Any, silence_s: float, peer: str) -> None:
        self._call = call
        self._silence_s = silence_s
        self._peer = peer
        self._wanted = threading.Semaphore(0)
        self._is_over = False
        self._answers: queue.Queue[Any] = queue.Queue(ANSWERS_MAX)
        self._thread = threading.Thread(target=self._read_wanted, name="watch reader", daemon=True)
        self.is_stuck = False

    def __iter__(self) -> Iterator[Any]:
        """Yields the responses; raises what the call ended with.

        Raises:
            ServiceUnavailableError: none came for `silence_s`.

        """
        while True:
            self._wanted.release()
            try:
                answer = self._answers.get(timeout=self._silence_s)
            except queue.Empty:
                raise silent(self._peer, self._silence_s) from None
            if answer is None:
                return
            if isinstance(answer, Exception):
                raise answer
            yield answer

    def _read_wanted(self) -> None:
        while self._wanted.acquire() and not self._is_over:
            try:
                answer = next(self._call, None)
            except Exception as error:  # noqa: BLE001 - it is raised where the response is awaited
                answer = error
            self._answers.put(answer)

    def __enter__(self) -> Self:
        """Begins to read."""
        self._thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        """Ends the call, and the thread unless grpc keeps it."""
        self._is_over = True
        self._call.cancel()
        self._wanted.release()
        self._thread.join(CANCEL_S)
        self.is_stuck = self._thread.is_alive()


async def read_promptly(call: Any, silence_s: float, peer: str) -> AsyncGenerator[Any, None]:
    """Yields the responses of a call, and ends it when none comes for `silence_s`.

    The whole call is cancelled, never a single read of it, which would leak inside grpc; unless
    the read outlives its call by CANCEL_S, as `PromptReader` tells. Then it is left to leak.
    """
    loop = asyncio.get_running_loop()
    responses = aiter(call)
    has_bitten = False

    def bite() -> None:
        nonlocal has_bitten
        has_bitten = True
        call.cancel()

    try:
        while True:
            timer = loop.call_later(silence_s, bite)
            try:
                async with asyncio.timeout(silence_s + CANCEL_S):
                    response = await anext(responses)
            except StopAsyncIteration:
                return
            finally:
                timer.cancel()
            yield response
    except TimeoutError:
        raise silent(peer, silence_s) from None
    except asyncio.CancelledError:
        # Ours, when the timer cancelled the call; else somebody cancels this task.
        task = asyncio.current_task()
        if has_bitten and not (task and task.cancelling()):
            raise silent(peer, silence_s) from None
        raise
    finally:
        call.cancel()


def _broken(problem: str) -> InternalError:
    return InternalError(
        f"The watch has a gap ({problem}); that is a bug of operations_service. "
        "List the operations to see them as they are.",
        metadata={"problem": problem},
    )
