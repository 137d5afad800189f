"""Streams of rows and bytes that go on where they broke off: a reader sees each of them once."""

# grpc's callables are generic in types-grpcio alone.
from __future__ import annotations

import asyncio
import time
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

from backlane.client.watching import RECONNECT_DEADLINE_S, Recovery
from backlane.errors import BacklaneError, InternalError

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Iterator

    from backlane.client.connection import AioConnection, Connection
    from backlane.clock import Clock


class Place:
    """How many rows or bytes of a stream have been read, over all its parts."""

    def __init__(self, offset: int) -> None:
        self.offset = offset

    def passed(self, count: int) -> None:
        """Notes that so many more are read."""
        self.offset += count

    def checked(self, message: Any) -> Any:
        """Returns a message that goes on where the last one ended."""
        begins = message.byte_offset if hasattr(message, "byte_offset") else message.row_offset
        if begins != self.offset:
            raise InternalError(
                f"The stream has a gap: {begins} comes after {self.offset}; that is a bug of "
                "backtest_service.",
                metadata={"offset": str(begins), "expected": str(self.offset)},
            )
        return message


def resumed(
    connection: Connection,
    factory: Callable[[Any], Any],
    method: str,
    request: Callable[[int], Any],
    place: Place,
    clock: Clock,
) -> Iterator[Any]:
    """Yields the messages of a stream, over breaks of it; `request` makes one from an offset.

    The reader moves `place` on. Raises a BacklaneError for what does not pass.
    """
    recovery = Recovery(clock, RECONNECT_DEADLINE_S, None)
    while True:
        try:
            stub = connection.stub(factory, "watch")
            for message in connection.stream(getattr(stub, method), request(place.offset)):
                recovery.succeeded()
                yield place.checked(message)
        except BacklaneError as error:
            time.sleep(recovery.pause_s(error))
        else:
            return


async def aio_resumed(
    connection: AioConnection,
    factory: Callable[[Any], Any],
    method: str,
    request: Callable[[int], Any],
    place: Place,
    clock: Clock,
) -> AsyncGenerator[Any, None]:
    """Does the same in an event loop; see `resumed`."""
    recovery = Recovery(clock, RECONNECT_DEADLINE_S, None)
    while True:
        try:
            stub: Any = connection.stub(factory, "watch")
            messages: Any = connection.stream(getattr(stub, method), request(place.offset))
            async with aclosing(messages):
                async for message in messages:
                    recovery.succeeded()
                    yield place.checked(message)
        except BacklaneError as error:
            await asyncio.sleep(recovery.pause_s(error))
        else:
            return
