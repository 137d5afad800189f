"""From a request to its operation."""

from collections.abc import Mapping

from backlane.backtest.request import BacktestRequest
from backlane.client.operations import AsyncOperationsClient
from backlane.operations.operation import Operation
from backlane.wire.backtest import spec_to_payload
from backlane.wire.operation_checks import check_labels, check_request_id
from backlane.wire.violations import Violations
from backtest_service.validation import RequestValidator

OPERATION_KIND = "backtest.run"
ATTEMPTS_MAX = 1
"""A run that is lost fails: taking it over needs checkpoints."""


class Submission:
    """Opens one operation for each request that can be run."""

    def __init__(self, validator: RequestValidator, operations: AsyncOperationsClient) -> None:
        self._validator = validator
        self._operations = operations

    async def submit(
        self, request_id: str, request: BacktestRequest, labels: Mapping[str, str]
    ) -> Operation:
        """Validates and opens; the same request_id again returns the same operation.

        Raises what RequestValidator.validate raises, and RequestIdReusedError.
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
            labels=labels,
            max_attempts=ATTEMPTS_MAX,
        )
