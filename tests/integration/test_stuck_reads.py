"""A read that gRPC forgets: the call has ended, and neither its end nor a cancel ends the read.

Seen with grpcio 1.85.1 when connections are reset while many watches begin anew (the state of such
a call: a status of UNAVAILABLE, and `receive_message` due for ever). The calls here are played.
"""

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing
from typing import Any

import grpc
import pytest

from backlane.api.operations.v1 import operations_service_pb2 as pb
from backlane.client.connection import Connection
from backlane.client.operations import OperationsClient, watch_request
from backlane.client.watching import Reconnected, read_promptly
from backlane.errors import ServiceUnavailableError
from backlane.operations.watching import Phase

SILENCE_S = 0.05


class Forgotten:
    """A call whose read never ends; `cancel` has no effect, for the call has a status."""

    def __init__(self) -> None:
        self.is_let_go = threading.Event()
        self.cancelled = 0

    def cancel(self) -> bool:
        self.cancelled += 1
        return False

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        self.is_let_go.wait()
        raise StopIteration

    def __aiter__(self) -> AsyncIterator[Any]:
        return self

    async def __anext__(self) -> Any:
        await asyncio.get_running_loop().create_future()


class Answered(Forgotten):
    """A call that brings one message, and the end."""

    def __init__(self) -> None:
        super().__init__()
        self._messages = iter(
            [
                pb.WatchOperationsResponse(
                    phase=pb.WatchOperationsResponse.PHASE_SYNCED,
                    from_revision=3,
                    through_revision=3,
                    resume_token="token",
                )
            ]
        )

    def __next__(self) -> Any:
        return next(self._messages)


@pytest.fixture
def forgotten() -> Iterator[Forgotten]:
    call = Forgotten()
    yield call
    call.is_let_go.set()


def test_a_watch_leaves_a_read_that_grpc_forgot_and_its_channel(
    forgotten: Forgotten, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = iter([forgotten, Answered()])
    opened: list[grpc.Channel] = []

    class Stub:
        def __init__(self, channel: grpc.Channel) -> None:
            opened.append(channel)

        def WatchOperations(self, *_: object, **__: object) -> Forgotten:
            return next(calls)

    stub = Connection.stub
    monkeypatch.setattr(Connection, "stub", lambda self, _, purpose: stub(self, Stub, purpose))
    reconnects: list[Reconnected] = []
    request = watch_request(bookmark_interval_s=SILENCE_S / 2.8)
    with OperationsClient("127.0.0.1:1") as client:
        client._connection.has_answered = True  # what is lost is come back to
        messages = list(client.watch(request, on_reconnect=reconnects.append))
    assert [message.phase for message in messages] == [Phase.SYNCED]
    assert forgotten.cancelled == 1
    (reconnect,) = reconnects
    assert isinstance(reconnect.error, ServiceUnavailableError)
    assert "was silent for 0.05 s" in reconnect.error.message
    assert opened[0] is not opened[1]


@pytest.mark.asyncio
async def test_an_async_reader_leaves_a_read_that_grpc_forgot(forgotten: Forgotten) -> None:
    async with aclosing(read_promptly(forgotten, SILENCE_S, "the peer")) as responses:
        with pytest.raises(ServiceUnavailableError, match=r"the peer was silent for 0\.05 s"):
            await anext(responses)
    assert forgotten.cancelled >= 1
