"""The worker's side of operations_service: take work, keep the lease, report, end."""

# grpc's callables are generic in types-grpcio alone.
from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import TYPE_CHECKING, Any, Self

from backlane.api.operations.v1 import worker_service_pb2 as pb
from backlane.api.operations.v1.worker_service_pb2_grpc import WorkerServiceStub
from backlane.client.connection import DEFAULT_DEADLINE_S, AioConnection
from backlane.client.operations import WAIT_MARGIN_S
from backlane.client.watching import RECONNECT_DEADLINE_S, OnReconnect, Recovery, read_promptly
from backlane.clock import Clock, SystemClock
from backlane.errors import BacklaneError
from backlane.operations.commands import Claim, Outcome, TelemetryBatch
from backlane.operations.directives import Assignment, Directive
from backlane.operations.operation import Operation
from backlane.operations.store import Renewal
from backlane.wire.directives import directive_from_proto, hold_from_proto
from backlane.wire.operations import operation_from_proto
from backlane.wire.worker_requests import (
    claim_to_proto,
    outcome_to_proto,
    renewals_to_proto,
    telemetry_to_proto,
)

if TYPE_CHECKING:
    from backlane.api.operations.v1.worker_service_pb2_grpc import WorkerServiceAsyncStub

SERVICE_NAME = pb.DESCRIPTOR.services_by_name["WorkerService"].full_name
SILENCE_S = 20.0
"""Longest silence of a stream of directives; the server says something every 5 s."""


class AsyncWorkerClient:
    """Calls of one worker. `worker_id` is new for each start of the worker process."""

    def __init__(self, address: str, worker_id: str, *, clock: Clock | None = None) -> None:
        self.worker_id = worker_id
        self._connection = AioConnection("operations", address, [SERVICE_NAME])
        self._clock = clock or SystemClock()

    async def acquire(
        self, kinds: Sequence[str], *, wait_s: float = 30.0, request_id: str | None = None
    ) -> Assignment | None:
        """Takes an operation of one of the kinds; None when there was none for `wait_s`.

        After an error, repeat it with the same request_id: the answer may have been lost alone.
        """
        claim = Claim(request_id or str(uuid.uuid4()), self.worker_id, tuple(kinds))
        response = await self._call(
            self._stub.AcquireOperation,
            claim_to_proto(claim, wait_s),
            deadline_s=wait_s + WAIT_MARGIN_S,
        )
        if not response.HasField("operation"):
            return None
        return Assignment(hold_from_proto(response.lease), operation_from_proto(response.operation))

    async def renew(
        self, renewals: Sequence[Renewal], *, deadline_s: float = WAIT_MARGIN_S
    ) -> list[Directive]:
        """Keeps leases alive; returns what to do with each, in the same order."""
        request = renewals_to_proto(self.worker_id, renewals)
        response = await self._call(self._stub.RenewLeases, request, deadline_s=deadline_s)
        return [directive_from_proto(directive) for directive in response.directives]

    async def watch_directives(
        self,
        *,
        on_reconnect: OnReconnect | None = None,
        reconnect_deadline_s: float = RECONNECT_DEADLINE_S,
    ) -> AsyncGenerator[Directive, None]:
        """Yields directives as they arise, over restarts of the server.

        After a reconnect, CANCEL comes once more for whatever is still to be cancelled.
        """
        recovery = Recovery(self._clock, reconnect_deadline_s, on_reconnect)
        while True:
            try:
                async with aclosing(self._directives_once()) as batches:
                    async for batch in batches:
                        recovery.succeeded()
                        for directive in batch:
                            yield directive
            except BacklaneError as error:
                await asyncio.sleep(recovery.pause_s(error))

    async def append(self, name: str, epoch: int, batch: TelemetryBatch) -> int:
        """Appends telemetry; returns the highest metric index."""
        request = telemetry_to_proto(name, epoch, batch)
        response = await self._call(self._stub.AppendTelemetry, request)
        return int(response.metric_index)

    async def complete(self, name: str, epoch: int, outcome: Outcome) -> Operation:
        """Ends an operation; returns it as it is then."""
        request = outcome_to_proto(name, epoch, outcome)
        response = await self._call(self._stub.CompleteOperation, request)
        return operation_from_proto(response.operation)

    async def _directives_once(self) -> AsyncGenerator[list[Directive], None]:
        stub: Any = self._connection.stub(WorkerServiceStub, "watch")
        peer = f"operations_service at {self._connection.address}"
        with self._connection.errors():
            call = stub.WatchDirectives(pb.WatchDirectivesRequest(worker_id=self.worker_id))
            async with aclosing(read_promptly(call, SILENCE_S, peer)) as responses:
                async for response in responses:
                    yield [directive_from_proto(one) for one in response.directives]

    @property
    def _stub(self) -> WorkerServiceAsyncStub:
        stub: Any = self._connection.stub(WorkerServiceStub)
        return stub  # type: ignore[no-any-return]

    async def _call(self, method: Any, request: Any, deadline_s: float = DEFAULT_DEADLINE_S) -> Any:
        return await self._connection.call(method, request, deadline_s=deadline_s)

    async def close(self) -> None:
        """Closes the connection to the service."""
        await self._connection.close()

    async def __aenter__(self) -> Self:
        """Returns itself."""
        return self

    async def __aexit__(self, *_error: object) -> None:
        """Closes the connection to the service."""
        await self.close()
