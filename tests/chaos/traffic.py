"""Writers that do nothing but write: many small, acknowledged writes beside the real runs.

Each takes operations of a kind of its own, appends points and notes, and ends them. What was
acknowledged goes into a ledger, which is compared with the log in the end.
"""

import asyncio
import threading
import uuid

from backlane.client.operations import AsyncOperationsClient
from backlane.client.workers import AsyncWorkerClient
from backlane.errors import LeaseLostError
from backlane.operations.commands import Succeeded, TelemetryBatch
from backlane.operations.directives import Assignment
from backlane.operations.events import MetricPoint
from backlane.operations.operation import Payload
from backlane.operations.store import Renewal
from tests.chaos.calls import insist_async
from tests.proofs.checker import Ledger

KIND = "chaos.traffic"
SPEC = Payload("type.googleapis.com/test.Spec", b"\x0a\x01x")
RESULT = Payload("type.googleapis.com/test.Result", b"\x08\x01")
BATCHES = 60
RENEW_EVERY = 10
"""Batches between two renewals: the lease is short, and the machine may be busy."""

NOTED_MAX = 8
"""Batches of each attempt that bring a note: of more than 1,000 an operation keeps none."""

WRITE_INTERVAL_S = 0.01
"""Between two writes of one writer: the runs and the watchers need the machine, too."""

ATTEMPTS_MAX = 100


class Traffic(threading.Thread):
    """So many writers on one event loop, until `stop`; then each finishes its operation."""

    def __init__(self, addresses: str, writers: int, ledger: Ledger) -> None:
        super().__init__(name="traffic", daemon=True)
        self.ledger = ledger
        self.is_over = threading.Event()
        self._addresses = addresses
        self._writers = writers

    def stop(self) -> None:
        """Lets the writers end what they have begun; join it after that."""
        self.is_over.set()

    def run(self) -> None:
        """Writes until it is over."""
        try:
            asyncio.run(self._run())
        except Exception as error:  # noqa: BLE001 - it is what the storm is about
            self.ledger.problems.add(f"a writer ended with {type(error).__name__}: {error}")

    async def _run(self) -> None:
        async with asyncio.TaskGroup() as group:
            for _ in range(self._writers):
                group.create_task(self._write())

    async def _write(self) -> None:
        worker_id = f"writer-{uuid.uuid4()}"
        async with (
            AsyncOperationsClient(self._addresses, client_name="writers") as client,
            AsyncWorkerClient(self._addresses, worker_id) as worker,
        ):
            open_names: set[str] = set()
            while not self.is_over.is_set() or open_names:
                if not open_names:
                    open_names.add(await self._create(client))
                request_id = str(uuid.uuid4())
                taken = await insist_async(
                    lambda key=request_id: worker.acquire(  # type: ignore[misc]
                        [KIND], wait_s=1.0, request_id=key
                    )
                )
                if taken is not None:
                    await self._fill(worker, taken)
                for name in tuple(open_names):
                    if (await insist_async(lambda n=name: client.get(n))).state.is_terminal:  # type: ignore[misc]
                        open_names.discard(name)

    async def _create(self, client: AsyncOperationsClient) -> str:
        request_id = str(uuid.uuid4())
        made = await insist_async(
            lambda: client.create(KIND, SPEC, request_id=request_id, max_attempts=ATTEMPTS_MAX)
        )
        self.ledger.created(request_id, made.name)
        return made.name

    async def _fill(self, worker: AsyncWorkerClient, taken: Assignment) -> None:
        """Writes all batches from the first on: those known from another attempt change nothing."""
        name, epoch = taken.operation.name, taken.hold.epoch
        try:
            for number in range(1, BATCHES + 1):
                notes = (f"{epoch}: {number}",) if number <= NOTED_MAX else ()
                if number % RENEW_EVERY == 0:
                    await insist_async(lambda: worker.renew([Renewal(name, epoch)]))
                point = MetricPoint("written", number, number / 7)
                batch = TelemetryBatch(number, points=(point,), notes=notes)
                await insist_async(lambda b=batch: worker.append(name, epoch, b))  # type: ignore[misc]
                self.ledger.appended(name, batch)
                await asyncio.sleep(WRITE_INTERVAL_S)
            done = await insist_async(lambda: worker.complete(name, epoch, Succeeded(RESULT)))
            self.ledger.completed(name, done.state)
        except LeaseLostError:
            return  # somebody else has it, or nobody yet
