"""An operations_service in this process, its clients, and what a watch brought."""

from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import Any

from backlane.client.operations import AsyncOperationsClient
from backlane.client.workers import AsyncWorkerClient
from backlane.operations.events import OperationEvent, StateChanged
from backlane.operations.operation import Payload, State
from backlane.operations.watching import WatchMessage
from backlane.testing.servers import running
from operations_service.app import build
from operations_service.settings import OperationsServiceSettings

KIND = "backtest.run"
SPEC = Payload("type.googleapis.com/test.Spec", b"\x0a\x01x")
RESULT = Payload("type.googleapis.com/test.Result", b"\x08\x01")


@asynccontextmanager
async def served(folder: Path, **settings: Any) -> AsyncIterator[str]:
    known = {"port": 0, "data_dir": folder, "drain_grace_s": 5.0, **settings}
    async with running(build(OperationsServiceSettings(**known))) as address:
        yield address


@asynccontextmanager
async def both(
    address: str, worker_id: str = "worker-1"
) -> AsyncIterator[tuple[AsyncOperationsClient, AsyncWorkerClient]]:
    clients = AsyncOperationsClient(address), AsyncWorkerClient(address, worker_id)
    async with clients[0] as client, clients[1] as worker:
        yield client, worker


async def started(client: AsyncOperationsClient, worker: AsyncWorkerClient) -> tuple[str, int]:
    """Makes an operation and gives it to the worker; returns its name and epoch."""
    made = await client.create(KIND, SPEC)
    assignment = await worker.acquire([KIND], wait_s=5)
    assert assignment is not None
    assert assignment.operation.name == made.name
    return made.name, assignment.hold.epoch


async def collect(watch: Any) -> list[WatchMessage]:
    async with aclosing(watch) as messages:
        return [message async for message in messages]


def events_of(messages: list[WatchMessage]) -> list[OperationEvent]:
    return [event for message in messages for event in message.events]


def moves_of(messages: list[WatchMessage]) -> list[State]:
    bodies = [event.body for event in events_of(messages)]
    return [body.to_state for body in bodies if isinstance(body, StateChanged)]
