"""operations_service as a process, and what a worker of it writes.

The limits for one client are raised here by settings: one benchmark stands for many clients. A
lease lasts an hour, so that nothing has to renew it while something else is measured.
"""

import socket
import uuid
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

import psutil

from backlane.api.operations.v1 import worker_service_pb2 as worker_pb
from backlane.client.async_operations import AsyncOperationsClient
from backlane.client.workers import AsyncWorkerClient
from backlane.operations.commands import TelemetryBatch
from backlane.operations.directives import Assignment
from backlane.operations.events import MetricPoint
from backlane.operations.operation import Payload
from backlane.testing.servers import ServiceProcess
from backlane.wire.worker_requests import telemetry_to_proto

KIND = "bench.run"
SPEC = Payload("type.googleapis.com/bench.Spec", bytes(200))
RAISED_LIMITS = {
    "CLIENT_CALLS_PER_S": "1000000",
    "CLIENT_CALLS_BURST": "1000000",
    "WATCHES_PER_CLIENT_MAX": "2000",
    "LIVE_PER_CLIENT_MAX": "1000000",
    "LEASE_TTL_S": "3600",
    "LOG_LEVEL": "warning",
}


def free_ports(count: int) -> list[int]:
    """Returns ports that nobody uses now: a server that is restarted is found where it was."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


def registry(folder: Path, **settings: str) -> ServiceProcess:
    """Returns a registry on a fixed free port, its file in `folder`; still to be started."""
    folder.mkdir(parents=True, exist_ok=True)
    own = {"DATA_DIR": str(folder / "registry"), "PORT": str(free_ports(1)[0])}
    chosen = {**own, **RAISED_LIMITS, **settings}
    env = {f"BACKLANE_OPERATIONS_{name}": value for name, value in chosen.items()}
    return ServiceProcess(
        "operations_service",
        env_prefix="BACKLANE_OPERATIONS_",
        folder=folder,
        env={"BACKLANE_HOME": str(folder), **env},
    )


def resident_bytes(process: ServiceProcess) -> int:
    """Returns the memory that the process has resident now."""
    return int(psutil.Process(process.pid).memory_info().rss)


class Run:
    """An operation that this process holds, and reports about."""

    def __init__(self, worker: AsyncWorkerClient, assignment: Assignment) -> None:
        self.name = assignment.operation.name
        self._epoch = assignment.hold.epoch
        self._worker = worker
        self._batches = 0

    def next_batch(self, value: float = 1.0) -> TelemetryBatch:
        """Returns what to send next: one metric point, which is one durable event."""
        self._batches += 1
        return TelemetryBatch(self._batches, points=(MetricPoint("equity", self._batches, value),))

    def next_request(self) -> worker_pb.AppendTelemetryRequest:
        """Returns the message that appends one event."""
        return telemetry_to_proto(self.name, self._epoch, self.next_batch())

    async def send(self, batch: TelemetryBatch) -> None:
        """Appends it; durable when it returns."""
        await self._worker.append(self.name, self._epoch, batch)

    async def report(self, value: float = 1.0) -> None:
        """Appends one event."""
        await self.send(self.next_batch(value))


async def begin_runs(address: str, worker: AsyncWorkerClient, count: int) -> Sequence[Run]:
    """Creates operations, and takes them."""
    runs = []
    async with AsyncOperationsClient(address) as client:
        for _ in range(count):
            await client.create(KIND, SPEC, max_attempts=100)
            assignment = await worker.acquire([KIND], wait_s=5)
            if assignment is None:
                raise RuntimeError(f"nothing to take at {address}")
            runs.append(Run(worker, assignment))
    return runs


def new_worker(address: str) -> AsyncWorkerClient:
    """Returns a worker of its own name."""
    return AsyncWorkerClient(address, f"bench-{uuid.uuid4()}")
