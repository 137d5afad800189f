"""The kinds of operations that workers run, and how each one's request is read."""

from collections.abc import Callable, Mapping
from types import MappingProxyType

from backlane.backtest.portfolio_request import PortfolioRequest
from backlane.backtest.request import BacktestRequest
from backlane.errors import InvalidRequestError
from backlane.operations.operation import Operation, Payload
from backlane.wire import backtest, portfolio_runs

BACKTEST_KIND = "backtest.run"
PORTFOLIO_KIND = "portfolio.run"

RunRequest = BacktestRequest | PortfolioRequest

_READERS: Mapping[str, Callable[[Payload], RunRequest]] = MappingProxyType(
    {
        BACKTEST_KIND: backtest.request_from_payload,
        PORTFOLIO_KIND: portfolio_runs.request_from_payload,
    }
)
RUN_KINDS = tuple(_READERS)


def request_of(operation: Operation) -> RunRequest:
    """Returns what an operation asks for.

    Raises InvalidRequestError where it asks for something else than its kind says.
    """
    reader = _READERS.get(operation.kind)
    if reader is None:
        raise InvalidRequestError(
            f"{operation.name} is a {operation.kind}, which this worker does not run.",
            metadata={"operation": operation.name, "kind": operation.kind},
        )
    return reader(operation.spec)
