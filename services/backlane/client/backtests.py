"""Clients of backtest_service: start runs, and read what they gave.

Importing this loads neither numpy nor pandas. A stream that breaks off goes on at the row or byte
where it broke, so that a reader sees every row once.
"""

# grpc's callables are generic in types-grpcio alone.
from __future__ import annotations

import asyncio
import uuid
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from backlane.api.backtest.v1 import backtest_service_pb2 as pb
from backlane.api.backtest.v1.backtest_service_pb2_grpc import BacktestServiceStub
from backlane.client.connection import READY_S, Addresses, AioConnection, Connection
from backlane.client.download import Download
from backlane.client.result_streams import Place, aio_resumed, resumed
from backlane.client.run_options import NO_OPTIONS, RunOptions, run_options_to_proto
from backlane.clock import SystemClock
from backlane.wire.backtest import request_from_spec, result_from_proto, spec_from_request
from backlane.wire.operations import operation_from_proto
from backlane.wire.portfolio import equity_point_from_proto, trade_from_proto

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
        place = Place(row_offset)
        for page in self._resumed("StreamTrades", _trades_request(operation), place):
            for trade in page.trades:
                place.passed(1)
                yield trade_from_proto(trade)

    def equity(self, operation: str, *, row_offset: int = 0) -> Iterator[EquityPoint]:
        """Yields the equity curve of a finished run in the same way."""
        place = Place(row_offset)
        for page in self._resumed("StreamEquity", _equity_request(operation), place):
            for point in page.points:
                place.passed(1)
                yield equity_point_from_proto(point)

    def read_file(self, operation: str, file: str, *, byte_offset: int = 0) -> Iterator[bytes]:
        """Yields the bytes of one file of a finished run, in parts of at most 1 MiB."""
        place = Place(byte_offset)
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

    def _resumed(self, method: str, request: Callable[[int], Any], place: Place) -> Iterator[Any]:
        return resumed(self._connection, BacktestServiceStub, method, request, place, self._clock)

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
        place = Place(row_offset)
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
        place = Place(row_offset)
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
        place = Place(byte_offset)
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

    def _resumed(
        self, method: str, request: Callable[[int], Any], place: Place
    ) -> AsyncGenerator[Any, None]:
        factory: Any = BacktestServiceStub
        return aio_resumed(self._connection, factory, method, request, place, self._clock)

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
        options=run_options_to_proto(options),
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
