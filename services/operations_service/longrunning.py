"""google.longrunning.Operations beside our own API: the same operations for any of its clients."""

# ruff: noqa: N802 - the protos name the methods.

from typing import Any

from google.longrunning import operations_pb2 as lro_pb
from google.longrunning.operations_pb2_grpc import OperationsServicer as LroServicerBase
from google.protobuf.empty_pb2 import Empty

from backlane.operations.selection import ListOrder
from backlane.operations.store import OperationStore
from backlane.operations.tokens import page_cursor, page_token
from backlane.wire.longrunning import lro_list_from_proto, lro_to_proto, lro_wait_from_proto
from backlane.wire.operation_requests import name_from_proto
from operations_service.waiting import Waits

CANCEL_REASON = "cancelled by google.longrunning"
"""Its CancelOperation carries no reason."""


# The generated base class carries no types.
class LongrunningServicer(LroServicerBase):  # type: ignore[misc]
    """Serves google.longrunning.Operations."""

    def __init__(self, store: OperationStore, waits: Waits) -> None:
        self._store = store
        self._waits = waits

    async def GetOperation(
        self, request: lro_pb.GetOperationRequest, _context: Any
    ) -> lro_pb.Operation:
        """Returns one operation as it is."""
        return lro_to_proto(await self._store.get(name_from_proto(request.name)))

    async def ListOperations(
        self, request: lro_pb.ListOperationsRequest, _context: Any
    ) -> lro_pb.ListOperationsResponse:
        """Lists operations, newest first."""
        asked = lro_list_from_proto(request)
        chosen, order = asked.selection, ListOrder.NEWEST_FIRST
        cursor = page_cursor(asked.page_token, chosen, order)
        page = await self._store.list_operations(chosen, asked.page_size, cursor, order)
        following = page.next_cursor
        return lro_pb.ListOperationsResponse(
            operations=map(lro_to_proto, page.operations),
            next_page_token="" if following is None else page_token(following, chosen, order),
        )

    async def WaitOperation(
        self, request: lro_pb.WaitOperationRequest, _context: Any
    ) -> lro_pb.Operation:
        """Waits for the end of an operation."""
        return lro_to_proto(await self._waits.for_end(*lro_wait_from_proto(request)))

    async def CancelOperation(self, request: lro_pb.CancelOperationRequest, _context: Any) -> Empty:
        """Asks for cancel, and does not wait for it."""
        await self._store.request_cancel(name_from_proto(request.name), CANCEL_REASON)
        return Empty()

    async def DeleteOperation(self, request: lro_pb.DeleteOperationRequest, _context: Any) -> Empty:
        """Deletes a terminal operation."""
        await self._store.delete(name_from_proto(request.name))
        return Empty()
