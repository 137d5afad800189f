"""From a request to its operation, and from an operation that ended badly to the next one."""

from collections.abc import Mapping

from backlane.backtest.request import BacktestRequest
from backlane.client.operations import AsyncOperationsClient
from backlane.errors import FieldViolation, InvalidRequestError
from backlane.operations.operation import Operation
from backlane.wire.backtest import spec_to_payload
from backlane.wire.operation_checks import check_labels, check_name, check_request_id
from backlane.wire.run_options import RunOptions
from backlane.wire.violations import Violations
from backtest_service.validation import RequestValidator

OPERATION_KIND = "backtest.run"


class Submission:
    """Opens one operation for each request that can be run."""

    def __init__(self, validator: RequestValidator, operations: AsyncOperationsClient) -> None:
        self._validator = validator
        self._operations = operations

    async def submit(
        self,
        request_id: str,
        request: BacktestRequest,
        labels: Mapping[str, str],
        options: RunOptions,
        client: str,
    ) -> Operation:
        """Validates and opens; the same request_id again returns the same operation.

        `client` is who asks. Raises what RequestValidator.validate raises, RequestIdReusedError,
        and QueueFullError.
        """
        found = Violations()
        check_request_id(found, request_id)
        check_labels(found, "labels", labels)
        found.raise_if_any()
        validated = await self._validator.validate(request)
        return await self._operations.create(
            OPERATION_KIND,
            spec_to_payload(validated.request),
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
        OperationNotTerminalError, NothingToResumeError, and InvalidRequestError when it is no
        backtest.
        """
        found = Violations()
        check_request_id(found, request_id)
        check_name(found, "operation", name)
        found.raise_if_any()
        source = await self._operations.get(name)
        if source.kind != OPERATION_KIND:
            raise InvalidRequestError(
                f"{name} is a {source.kind}, no {OPERATION_KIND}: resume it by ResumeOperation.",
                metadata={"operation": name, "kind": source.kind},
                violations=(FieldViolation("operation", f"is a {source.kind}"),),
            )
        return await self._operations.resume(name, request_id=request_id, client_name=client)
