"""From a request to its operation, and from an operation that ended badly to the next one."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Generic, TypeVar

from backlane.client.operations import AsyncOperationsClient
from backlane.errors import FieldViolation, InvalidRequestError
from backlane.operations.operation import Operation, Payload
from backlane.wire.operation_checks import check_labels, check_name, check_request_id
from backlane.wire.run_options import RunOptions
from backlane.wire.violations import Violations

RequestT = TypeVar("RequestT")


class Submission(Generic[RequestT]):
    """Opens one operation of a kind for each request that can be run.

    `settle` checks a request and returns what its operation carries; it raises for what cannot be
    run.
    """

    def __init__(
        self,
        kind: str,
        settle: Callable[[RequestT], Awaitable[Payload]],
        operations: AsyncOperationsClient,
    ) -> None:
        self._kind = kind
        self._settle = settle
        self._operations = operations

    async def submit(
        self,
        request_id: str,
        request: RequestT,
        labels: Mapping[str, str],
        options: RunOptions,
        client: str,
    ) -> Operation:
        """Validates and opens; the same request_id again returns the same operation.

        `client` is who asks. Raises what `settle` raises, RequestIdReusedError, and QueueFullError.
        """
        found = Violations()
        check_request_id(found, request_id)
        check_labels(found, "labels", labels)
        found.raise_if_any()
        spec = await self._settle(request)
        return await self._operations.create(
            self._kind,
            spec,
            request_id=request_id,
            client_name=client,
            labels=labels,
            max_attempts=options.max_attempts,
            priority=options.priority,
            queue_timeout_s=options.queue_timeout_s,
            attempt_timeout_s=options.attempt_timeout_s,
        )

    async def resume(self, request_id: str, name: str, client: str) -> Operation:
        """Opens an operation that goes on from the newest checkpoint of another one.

        The same request_id again returns the same operation. Raises OperationNotFoundError,
        OperationNotTerminalError, NothingToResumeError, and InvalidRequestError when it is of
        another kind.
        """
        found = Violations()
        check_request_id(found, request_id)
        check_name(found, "operation", name)
        found.raise_if_any()
        source = await self._operations.get(name)
        if source.kind != self._kind:
            raise InvalidRequestError(
                f"{name} is a {source.kind}, no {self._kind}: resume it by ResumeOperation.",
                metadata={"operation": name, "kind": source.kind},
                violations=(FieldViolation("operation", f"is a {source.kind}"),),
            )
        return await self._operations.resume(name, request_id=request_id, client_name=client)
