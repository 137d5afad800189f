"""The registry on the wire, for clients and for workers: convert in, one call, convert out."""

# ruff: noqa: N802 - the protos name the methods.

from contextlib import aclosing
from typing import Any

from backlane.api.operations.v1 import operations_service_pb2 as pb
from backlane.api.operations.v1 import worker_service_pb2 as worker_pb
from backlane.api.operations.v1.operations_service_pb2_grpc import OperationsServiceServicer
from backlane.api.operations.v1.worker_service_pb2_grpc import WorkerServiceServicer
from backlane.errors import OperationNotFoundError
from backlane.operations.directives import answer_to, hold_of
from backlane.operations.store import OperationStore
from backlane.operations.tokens import ResumeToken, page_cursor, page_token
from backlane.rpc.callers import caller
from backlane.wire import operation_requests as requests
from backlane.wire import worker_requests
from backlane.wire.directives import directive_to_proto, hold_to_proto
from backlane.wire.operations import operation_to_proto, point_to_proto
from backlane.wire.watch_encoder import WatchEncoder
from operations_service.waiting import Waits
from operations_service.watch import Watches, reached
from operations_service.writing import write_in_time


class OperationsServicer(OperationsServiceServicer):
    """Serves backlane.api.operations.v1.OperationsService."""

    def __init__(
        self, store: OperationStore, watches: Watches, waits: Waits, write_timeout_s: float
    ) -> None:
        self._store = store
        self._watches = watches
        self._waits = waits
        self._write_timeout_s = write_timeout_s
        self._encoder = WatchEncoder()

    async def CreateOperation(
        self, request: pb.CreateOperationRequest, context: Any
    ) -> pb.CreateOperationResponse:
        """Accepts an operation; durable when it returns."""
        wish = requests.new_operation_from_proto(request, caller(context))
        operation = await self._store.create(wish)
        return pb.CreateOperationResponse(operation=operation_to_proto(operation))

    async def GetOperation(
        self, request: pb.GetOperationRequest, _context: Any
    ) -> pb.GetOperationResponse:
        """Returns one operation as it is."""
        operation = await self._store.get(requests.name_from_proto(request.name))
        return pb.GetOperationResponse(operation=operation_to_proto(operation))

    async def ListOperations(
        self, request: pb.ListOperationsRequest, _context: Any
    ) -> pb.ListOperationsResponse:
        """Lists operations, page by page."""
        asked = requests.list_from_proto(request)
        chosen, order = asked.selection, asked.order
        cursor = page_cursor(asked.page_token, chosen, order)
        page = await self._store.list_operations(chosen, asked.page_size, cursor, order)
        following = page.next_cursor
        return pb.ListOperationsResponse(
            operations=map(operation_to_proto, page.operations),
            next_page_token="" if following is None else page_token(following, chosen, order),
            resume_token=str(ResumeToken.at(self._store.registry_uid, page.revision, chosen)),
        )

    async def WaitOperation(
        self, request: pb.WaitOperationRequest, _context: Any
    ) -> pb.WaitOperationResponse:
        """Waits for the end of an operation."""
        name, wait_s = requests.wait_from_proto(request)
        operation = await self._waits.for_end(name, wait_s)
        return pb.WaitOperationResponse(operation=operation_to_proto(operation))

    async def CancelOperation(
        self, request: pb.CancelOperationRequest, _context: Any
    ) -> pb.CancelOperationResponse:
        """Asks for cancel, and does not wait for it."""
        operation = await self._store.request_cancel(*requests.cancel_from_proto(request))
        return pb.CancelOperationResponse(operation=operation_to_proto(operation))

    async def ResumeOperation(
        self, request: pb.ResumeOperationRequest, context: Any
    ) -> pb.ResumeOperationResponse:
        """Makes a new operation that goes on from a checkpoint."""
        wish = requests.resumption_from_proto(request, caller(context))
        operation = await self._store.resume(wish)
        return pb.ResumeOperationResponse(operation=operation_to_proto(operation))

    async def PruneOperations(
        self, request: pb.PruneOperationsRequest, _context: Any
    ) -> pb.PruneOperationsResponse:
        """Removes what ended long enough ago."""
        asked = requests.prune_from_proto(request)
        older_than_s = asked.older_than_s
        if older_than_s is None:
            older_than_s = self._store.retention.finished_s
        done = await self._store.compact(older_than_s, asked.selection, is_dry_run=asked.is_dry_run)
        return pb.PruneOperationsResponse(
            operation_count=done.operation_count, has_more=done.has_more
        )

    async def DeleteOperation(
        self, request: pb.DeleteOperationRequest, _context: Any
    ) -> pb.DeleteOperationResponse:
        """Deletes a terminal operation."""
        try:
            await self._store.delete(requests.name_from_proto(request.name))
        except OperationNotFoundError:
            if not request.allow_missing:
                raise
        return pb.DeleteOperationResponse()

    # A coroutine that writes, where the stub expects a generator: it alone can time a write out.
    async def WatchOperations(  # type: ignore[override]
        self, request: pb.WatchOperationsRequest, context: Any
    ) -> None:
        """Streams changes without gaps."""
        token = request.resume_token
        async with aclosing(self._watches.follow(requests.watch_from_proto(request))) as messages:
            async for message in messages:
                response = self._encoder.encode(message)
                reached("watch.before_send")
                await write_in_time(context, response, self._write_timeout_s, token)
                token = message.resume_token

    async def ListMetricPoints(
        self, request: pb.ListMetricPointsRequest, _context: Any
    ) -> pb.ListMetricPointsResponse:
        """Reads metric points by cursor."""
        asked = requests.metrics_from_proto(request)
        page = await self._waits.for_points(asked)
        return pb.ListMetricPointsResponse(
            points=[point_to_proto(point) for point in page.points],
            through_index=page.through_index,
            complete=page.is_complete,
        )


class WorkerServicer(WorkerServiceServicer):
    """Serves backlane.api.operations.v1.WorkerService."""

    def __init__(self, store: OperationStore, waits: Waits, write_timeout_s: float) -> None:
        self._store = store
        self._waits = waits
        self._write_timeout_s = write_timeout_s

    async def AcquireOperation(
        self, request: worker_pb.AcquireOperationRequest, _context: Any
    ) -> worker_pb.AcquireOperationResponse:
        """Waits for a queued operation of one of the kinds and takes it."""
        operation = await self._waits.claim(*worker_requests.claim_from_proto(request))
        if operation is None:
            return worker_pb.AcquireOperationResponse()
        return worker_pb.AcquireOperationResponse(
            lease=hold_to_proto(hold_of(operation, self._store.terms)),
            operation=operation_to_proto(operation),
        )

    async def RenewLeases(
        self, request: worker_pb.RenewLeasesRequest, _context: Any
    ) -> worker_pb.RenewLeasesResponse:
        """Keeps leases alive and says what each holder must do."""
        replies = await self._store.renew(*worker_requests.renewals_from_proto(request))
        directives = [answer_to(reply, self._store.terms) for reply in replies]
        return worker_pb.RenewLeasesResponse(directives=map(directive_to_proto, directives))

    # As with WatchOperations.
    async def WatchDirectives(  # type: ignore[override]
        self, request: worker_pb.WatchDirectivesRequest, context: Any
    ) -> None:
        """Streams directives as they arise."""
        worker_id = worker_requests.worker_from_proto(request)
        async with aclosing(self._waits.directives(worker_id)) as batches:
            async for batch in batches:
                response = worker_pb.WatchDirectivesResponse(
                    directives=map(directive_to_proto, batch)
                )
                await write_in_time(context, response, self._write_timeout_s)

    async def AppendTelemetry(
        self, request: worker_pb.AppendTelemetryRequest, _context: Any
    ) -> worker_pb.AppendTelemetryResponse:
        """Appends metric points, trades and notes, and reports progress."""
        asked = worker_requests.telemetry_from_proto(request)
        operation = await self._store.append(asked.operation, asked.epoch, asked.batch)
        return worker_pb.AppendTelemetryResponse(metric_index=operation.metric_index)

    async def CommitCheckpoint(
        self, request: worker_pb.CommitCheckpointRequest, _context: Any
    ) -> worker_pb.CommitCheckpointResponse:
        """Commits a checkpoint of a run."""
        asked = worker_requests.checkpoint_commit_from_proto(request)
        reply = await self._store.commit_checkpoint(asked.operation, asked.epoch, asked.checkpoint)
        return worker_requests.checkpoint_reply_to_proto(reply)

    async def ReleaseOperation(
        self, request: worker_pb.ReleaseOperationRequest, _context: Any
    ) -> worker_pb.ReleaseOperationResponse:
        """Gives an operation back to the queue."""
        asked = worker_requests.release_from_proto(request)
        operation = await self._store.release(asked.operation, asked.epoch, asked.reason)
        return worker_pb.ReleaseOperationResponse(operation=operation_to_proto(operation))

    async def CompleteOperation(
        self, request: worker_pb.CompleteOperationRequest, _context: Any
    ) -> worker_pb.CompleteOperationResponse:
        """Ends the operation as its worker says."""
        asked = worker_requests.completion_from_proto(request)
        operation = await self._store.complete(asked.operation, asked.epoch, asked.outcome)
        return worker_pb.CompleteOperationResponse(operation=operation_to_proto(operation))
