"""The worker's side of operations_service: take work, keep the lease, report, end."""

# grpc's callables are generic in types-grpcio alone.
from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import Any, Self

from backlane.api.operations.v1 import worker_service_pb2 as pb
from backlane.api.operations.v1.worker_service_pb2_grpc import WorkerServiceStub
from backlane.client.connection import DEFAULT_DEADLINE_S, AioConnection
from backlane.client.operation_calls import WAIT_MARGIN_S
from backlane.client.watching import RECONNECT_DEADLINE_S, OnReconnect, Recovery, read_promptly
from backlane.clock import Clock, SystemClock
from backlane.errors import BacklaneError
from backlane.operations.checkpoints import CheckpointReply
from backlane.operations.commands import Claim, Outcome, TelemetryBatch
from backlane.operations.directives import Assignment, Directive
from backlane.operations.operation import Checkpoint, Operation
from backlane.operations.store import Renewal
from backlane.wire.directives import directive_from_proto, hold_from_proto
from backlane.wire.operations import operation_from_proto
from backlane.wire.worker_requests import (
    checkpoint_commit_to_proto,
    checkpoint_reply_from_proto,
    claim_to_proto,
    outcome_to_proto,
    renewals_to_proto,
    telemetry_to_proto,
)

SERVICE_NAME = pb.DESCRIPTOR.services_by_name["WorkerService"].full_name
SILENCE_S = 15.0
"""Longest silence of a stream of directives; the server says something every 5 s."""


class AsyncWorkerClient:
    """Calls of one worker. `worker_id` is new for each start of the worker process.

    `address` may list replicas, `host1:port,host2:port`: when one does not answer, the next one is
    asked.
    """

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
            "AcquireOperation",
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
        response = await self._call("RenewLeases", request, deadline_s=deadline_s)
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
            address = self._connection.replicas.current
            try:
                async with aclosing(self._directives_once()) as batches:
                    async for batch in batches:
                        recovery.succeeded(address=address)
                        for directive in batch:
                            yield directive
            except BacklaneError as error:
                pause_s = recovery.pause_s(error)
                self._connection.replicas.leave(address)
                await asyncio.sleep(pause_s)

    async def append(self, name: str, epoch: int, batch: TelemetryBatch) -> int:
        """Appends telemetry; returns the highest metric index."""
        request = telemetry_to_proto(name, epoch, batch)
        response = await self._call("AppendTelemetry", request)
        return int(response.metric_index)

    async def commit_checkpoint(
        self, name: str, epoch: int, checkpoint: Checkpoint
    ) -> CheckpointReply:
        """Commits a checkpoint: from then on a next attempt begins there."""
        request = checkpoint_commit_to_proto(name, epoch, checkpoint)
        return checkpoint_reply_from_proto(await self._call("CommitCheckpoint", request))

    async def release(self, name: str, epoch: int, reason: str) -> Operation:
        """Gives an operation back to the queue; returns it as it is then."""
        request = pb.ReleaseOperationRequest(operation=name, epoch=epoch, reason=reason)
        response = await self._call("ReleaseOperation", request)
        return operation_from_proto(response.operation)

    async def complete(self, name: str, epoch: int, outcome: Outcome) -> Operation:
        """Ends an operation; returns it as it is then."""
        request = outcome_to_proto(name, epoch, outcome)
        response = await self._call("CompleteOperation", request)
        return operation_from_proto(response.operation)

    async def _directives_once(self) -> AsyncGenerator[list[Directive], None]:
        stub: Any = self._connection.stub(WorkerServiceStub, "watch")
        peer = f"operations_service at {self._connection.replicas.current}"
        request = pb.WatchDirectivesRequest(worker_id=self.worker_id)
        with self._connection.errors():
            call = stub.WatchDirectives(request, metadata=self._connection.metadata())
            async with aclosing(read_promptly(call, SILENCE_S, peer)) as responses:
                async for response in responses:
                    yield [directive_from_proto(one) for one in response.directives]

    async def _call(self, method: str, request: Any, deadline_s: float = DEFAULT_DEADLINE_S) -> Any:
        factory: Any = WorkerServiceStub
        return await self._connection.ask(factory, method, request, deadline_s=deadline_s)

    async def close(self) -> None:
        """Closes the connection to the service."""
        await self._connection.close()

    async def __aenter__(self) -> Self:
        """Returns itself."""
        return self

    async def __aexit__(self, *_error: object) -> None:
        """Closes the connection to the service."""
        await self.close()
