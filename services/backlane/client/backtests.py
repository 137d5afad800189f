"""Clients of backtest_service: start runs, and read what they gave.

Importing this loads neither numpy nor pandas. A stream that breaks off goes on at the row or byte
where it broke, so that a reader sees every row once.
"""

# grpc's callables are generic in types-grpcio alone.
from __future__ import annotations

import asyncio
import time
import uuid
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from backlane.api.backtest.v1 import backtest_service_pb2 as pb
from backlane.api.backtest.v1.backtest_service_pb2_grpc import BacktestServiceStub
from backlane.client.connection import READY_S, Addresses, AioConnection, Connection
from backlane.client.download import Download
from backlane.client.watching import RECONNECT_DEADLINE_S, Recovery
from backlane.clock import SystemClock
from backlane.errors import BacklaneError, InternalError
from backlane.wire.backtest import request_from_spec, result_from_proto, spec_from_request
from backlane.wire.operations import operation_from_proto
from backlane.wire.portfolio import equity_point_from_proto, trade_from_proto
from backlane.wire.times import optional_duration_to_proto

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Iterator, Mapping

    from backlane.backtest.request import BacktestRequest
    from backlane.backtest.summary import ResultSummary
    from backlane.clock import Clock
    from backlane.operations.operation import Operation
    from backlane.portfolio.records import EquityPoint, TradeRecord

SERVICE_NAME = pb.DESCRIPTOR.services_by_name["BacktestService"].full_name
SUBMIT_DEADLINE_S = 60.0
"""Opening a run reads its bars once, and may wait for the model's description."""
PAGE_SIZE = 5_000


@dataclass(frozen=True, slots=True)
class RunOptions:
    """How a run is queued and tried; nothing of it changes the result.

    Higher `priority` goes first, from -100 to 100. `max_attempts` bounds the attempts that end
    badly, as when a worker dies; None leaves it to the service. A run that no worker has taken
    after `queue_timeout_s` fails, and so does an attempt longer than `attempt_timeout_s`.
    """

    priority: int = 0
    max_attempts: int | None = None
    queue_timeout_s: float | None = None
    attempt_timeout_s: float | None = None


NO_OPTIONS = RunOptions()


@dataclass(frozen=True, slots=True)
class Validation:
    """A request that can be run, every default filled in.

    `bar_count` is how many bars of the base timeframe the run would read.
    """

    request: BacktestRequest
    bar_count: int


class BacktestsClient:
    """Calls backtest_service from threads; every failure is a BacklaneError."""

    def __init__(
        self,
        address: str | None = None,
        *,
        client_name: str | None = None,
        clock: Clock | None = None,
    ) -> None:
        address = Addresses.resolve(backtests=address).backtests
        self._connection = Connection("backtests", address, [SERVICE_NAME], client=client_name)
        self._clock = clock or SystemClock()

    def run(
        self,
        request: BacktestRequest,
        *,
        request_id: str | None = None,
        labels: Mapping[str, str] | None = None,
        options: RunOptions = NO_OPTIONS,
    ) -> Operation:
        """Starts a run and returns its operation at once.

        The same request_id again returns the same operation; without one, each call is a new run.
        """
        message = _run_request(request, request_id, labels, options)
        response = self._submit("RunBacktest", message)
        return operation_from_proto(response.operation)

    def resume(self, operation: str, *, request_id: str | None = None) -> Operation:
        """Goes on from the newest checkpoint of a run that failed or was cancelled.

        Returns the new operation at once. The same request_id again returns the same operation.
        """
        response = self._submit("ResumeBacktest", _resume_request(operation, request_id))
        return operation_from_proto(response.operation)

    def validate(self, request: BacktestRequest) -> Validation:
        """Checks a request without running it; raises what `run` would raise."""
        message = pb.ValidateBacktestRequest(spec=spec_from_request(request))
        response = self._call("ValidateBacktest", message, deadline_s=SUBMIT_DEADLINE_S)
        return Validation(request_from_spec(response.spec), response.bar_count)

    def get_result(self, operation: str) -> ResultSummary:
        """Returns the summary of the finished run of operations/{operation_id}."""
        message = pb.GetBacktestResultRequest(operation=operation)
        return result_from_proto(self._call("GetBacktestResult", message).result)

    def trades(self, operation: str, *, row_offset: int = 0) -> Iterator[TradeRecord]:
        """Yields the trades of a finished run, from the row after `row_offset` rows on."""
        place = _Place(row_offset)
        for page in self._resumed("StreamTrades", _trades_request(operation), place):
            for trade in page.trades:
                place.passed(1)
                yield trade_from_proto(trade)

    def equity(self, operation: str, *, row_offset: int = 0) -> Iterator[EquityPoint]:
        """Yields the equity curve of a finished run in the same way."""
        place = _Place(row_offset)
        for page in self._resumed("StreamEquity", _equity_request(operation), place):
            for point in page.points:
                place.passed(1)
                yield equity_point_from_proto(point)

    def read_file(self, operation: str, file: str, *, byte_offset: int = 0) -> Iterator[bytes]:
        """Yields the bytes of one file of a finished run, in parts of at most 1 MiB."""
        place = _Place(byte_offset)
        for chunk in self._resumed("ReadResultFile", _file_request(operation, file), place):
            place.passed(len(chunk.content))
            yield chunk.content

    def download_result(self, operation: str, directory: Path | str) -> ResultSummary:
        """Puts every file of a finished run into `directory`: all of them, or nothing.

        Raises FileExistsError for a directory that is there and no result.
        """
        summary = self.get_result(operation)
        with Download(Path(directory).absolute(), summary.files) as download:
            for file in summary.files:
                for content in self.read_file(operation, file.name):
                    download.append(file, content)
                download.check(file)
            download.keep()
        return summary

    def _resumed(self, method: str, request: Callable[[int], Any], place: _Place) -> Iterator[Any]:
        recovery = Recovery(self._clock, RECONNECT_DEADLINE_S, None)
        while True:
            try:
                stub = self._connection.stub(BacktestServiceStub, "watch")
                messages = self._connection.stream(getattr(stub, method), request(place.offset))
                for message in messages:
                    recovery.succeeded()
                    yield place.checked(message)
            except BacklaneError as error:
                time.sleep(recovery.pause_s(error))
            else:
                return

    def _submit(self, method: str, request: Any) -> Any:
        return self._call(method, request, deadline_s=SUBMIT_DEADLINE_S, ready_s=READY_S)

    def _call(self, method: str, request: Any, **options: Any) -> Any:
        return self._connection.ask(BacktestServiceStub, method, request, **options)

    def close(self) -> None:
        """Closes the connection; streams under way end."""
        self._connection.close()

    def __enter__(self) -> Self:
        """Returns itself."""
        return self

    def __exit__(self, *_error: object) -> None:
        """Closes the connection; streams under way end."""
        self.close()


class AsyncBacktestsClient:
    """Calls backtest_service from one event loop; otherwise as BacktestsClient."""

    def __init__(
        self,
        address: str | None = None,
        *,
        client_name: str | None = None,
        clock: Clock | None = None,
    ) -> None:
        address = Addresses.resolve(backtests=address).backtests
        self._connection = AioConnection("backtests", address, [SERVICE_NAME], client=client_name)
        self._clock = clock or SystemClock()

    async def run(
        self,
        request: BacktestRequest,
        *,
        request_id: str | None = None,
        labels: Mapping[str, str] | None = None,
        options: RunOptions = NO_OPTIONS,
    ) -> Operation:
        """Starts a run and returns its operation at once; see BacktestsClient.run."""
        message = _run_request(request, request_id, labels, options)
        response = await self._submit("RunBacktest", message)
        return operation_from_proto(response.operation)

    async def resume(self, operation: str, *, request_id: str | None = None) -> Operation:
        """Goes on from a checkpoint, as a new operation; see BacktestsClient.resume."""
        response = await self._submit("ResumeBacktest", _resume_request(operation, request_id))
        return operation_from_proto(response.operation)

    async def validate(self, request: BacktestRequest) -> Validation:
        """Checks a request without running it; raises what `run` would raise."""
        message = pb.ValidateBacktestRequest(spec=spec_from_request(request))
        response = await self._call("ValidateBacktest", message, deadline_s=SUBMIT_DEADLINE_S)
        return Validation(request_from_spec(response.spec), response.bar_count)

    async def get_result(self, operation: str) -> ResultSummary:
        """Returns the summary of the finished run of operations/{operation_id}."""
        message = pb.GetBacktestResultRequest(operation=operation)
        return result_from_proto((await self._call("GetBacktestResult", message)).result)

    async def trades(
        self, operation: str, *, row_offset: int = 0
    ) -> AsyncGenerator[TradeRecord, None]:
        """Yields the trades of a finished run, from the row after `row_offset` rows on."""
        place = _Place(row_offset)
        pages = self._resumed("StreamTrades", _trades_request(operation), place)
        async with aclosing(pages):
            async for page in pages:
                for trade in page.trades:
                    place.passed(1)
                    yield trade_from_proto(trade)

    async def equity(
        self, operation: str, *, row_offset: int = 0
    ) -> AsyncGenerator[EquityPoint, None]:
        """Yields the equity curve of a finished run in the same way."""
        place = _Place(row_offset)
        pages = self._resumed("StreamEquity", _equity_request(operation), place)
        async with aclosing(pages):
            async for page in pages:
                for point in page.points:
                    place.passed(1)
                    yield equity_point_from_proto(point)

    async def read_file(
        self, operation: str, file: str, *, byte_offset: int = 0
    ) -> AsyncGenerator[bytes, None]:
        """Yields the bytes of one file of a finished run, in parts of at most 1 MiB."""
        place = _Place(byte_offset)
        chunks = self._resumed("ReadResultFile", _file_request(operation, file), place)
        async with aclosing(chunks):
            async for chunk in chunks:
                place.passed(len(chunk.content))
                yield chunk.content

    async def download_result(self, operation: str, directory: Path | str) -> ResultSummary:
        """Puts every file of a finished run into `directory`: all of them, or nothing.

        Raises FileExistsError for a directory that is there and no result.
        """
        summary = await self.get_result(operation)
        with Download(Path(directory).absolute(), summary.files) as download:  # noqa: ASYNC240
            for file in summary.files:
                async for content in self.read_file(operation, file.name):
                    await asyncio.to_thread(download.append, file, content)
                await asyncio.to_thread(download.check, file)
            download.keep()
        return summary

    async def _resumed(
        self, method: str, request: Callable[[int], Any], place: _Place
    ) -> AsyncGenerator[Any, None]:
        recovery = Recovery(self._clock, RECONNECT_DEADLINE_S, None)
        while True:
            try:
                stub: Any = self._connection.stub(BacktestServiceStub, "watch")
                messages: Any = self._connection.stream(
                    getattr(stub, method), request(place.offset)
                )
                async with aclosing(messages):
                    async for message in messages:
                        recovery.succeeded()
                        yield place.checked(message)
            except BacklaneError as error:
                await asyncio.sleep(recovery.pause_s(error))
            else:
                return

    async def _submit(self, method: str, request: Any) -> Any:
        return await self._call(method, request, deadline_s=SUBMIT_DEADLINE_S, ready_s=READY_S)

    async def _call(self, method: str, request: Any, **options: Any) -> Any:
        factory: Any = BacktestServiceStub
        return await self._connection.ask(factory, method, request, **options)

    async def close(self) -> None:
        """Closes the connection; streams under way end."""
        await self._connection.close()

    async def __aenter__(self) -> Self:
        """Returns itself."""
        return self

    async def __aexit__(self, *_error: object) -> None:
        """Closes the connection; streams under way end."""
        await self.close()


class _Place:
    """How many rows or bytes of a stream have been read, over all its parts."""

    def __init__(self, offset: int) -> None:
        self.offset = offset

    def passed(self, count: int) -> None:
        """Notes that so many more are read."""
        self.offset += count

    def checked(self, message: Any) -> Any:
        """Returns a message that goes on where the last one ended."""
        begins = message.byte_offset if hasattr(message, "byte_offset") else message.row_offset
        if begins != self.offset:
            raise InternalError(
                f"The stream has a gap: {begins} comes after {self.offset}; that is a bug of "
                "backtest_service.",
                metadata={"offset": str(begins), "expected": str(self.offset)},
            )
        return message


def _run_request(
    request: BacktestRequest,
    request_id: str | None,
    labels: Mapping[str, str] | None,
    options: RunOptions,
) -> pb.RunBacktestRequest:
    return pb.RunBacktestRequest(
        request_id=request_id or str(uuid.uuid4()),
        spec=spec_from_request(request),
        labels=labels or {},
        options=pb.RunOptions(
            priority=options.priority,
            max_attempts=options.max_attempts or 0,
            queue_timeout=optional_duration_to_proto(options.queue_timeout_s),
            attempt_timeout=optional_duration_to_proto(options.attempt_timeout_s),
        ),
    )


def _resume_request(operation: str, request_id: str | None) -> pb.ResumeBacktestRequest:
    return pb.ResumeBacktestRequest(request_id=request_id or str(uuid.uuid4()), operation=operation)


def _trades_request(operation: str) -> Callable[[int], pb.StreamTradesRequest]:
    return lambda offset: pb.StreamTradesRequest(
        operation=operation, row_offset=offset, page_size=PAGE_SIZE
    )


def _equity_request(operation: str) -> Callable[[int], pb.StreamEquityRequest]:
    return lambda offset: pb.StreamEquityRequest(
        operation=operation, row_offset=offset, page_size=PAGE_SIZE
    )


def _file_request(operation: str, file: str) -> Callable[[int], pb.ReadResultFileRequest]:
    return lambda offset: pb.ReadResultFileRequest(
        operation=operation, file=file, byte_offset=offset
    )
