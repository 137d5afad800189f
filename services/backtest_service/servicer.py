"""BacktestService on the wire: converts in, makes one call, converts out."""

# ruff: noqa: N802 - the protos name the methods.

from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

from backlane.api.backtest.v1 import backtest_service_pb2 as pb
from backlane.api.backtest.v1 import backtest_service_pb2_grpc as pb_grpc
from backlane.backtest.request import BacktestRequest
from backlane.rpc.callers import caller
from backlane.wire.backtest import request_from_spec, result_to_proto, spec_from_request
from backlane.wire.operations import operation_to_proto
from backlane.wire.portfolio import equity_point_to_proto, trade_to_proto
from backlane.wire.run_options import run_options_from_proto
from backtest_service.results import Results
from backtest_service.submission import Submission
from backtest_service.validation import RequestValidator


class BacktestServicer(pb_grpc.BacktestServiceServicer):
    """Serves backlane.api.backtest.v1.BacktestService."""

    def __init__(
        self,
        validator: RequestValidator,
        submission: Submission[BacktestRequest],
        results: Results,
    ) -> None:
        self._validator = validator
        self._submission = submission
        self._results = results

    async def RunBacktest(
        self, request: pb.RunBacktestRequest, context: Any
    ) -> pb.RunBacktestResponse:
        """Opens the operation of a run."""
        asked, options = request_from_spec(request.spec), run_options_from_proto(request.options)
        operation = await self._submission.submit(
            request.request_id, asked, request.labels, options, caller(context)
        )
        return pb.RunBacktestResponse(operation=operation_to_proto(operation))

    async def ResumeBacktest(
        self, request: pb.ResumeBacktestRequest, context: Any
    ) -> pb.ResumeBacktestResponse:
        """Opens the operation that goes on where another one stopped."""
        operation = await self._submission.resume(
            request.request_id, request.operation, caller(context)
        )
        return pb.ResumeBacktestResponse(operation=operation_to_proto(operation))

    async def ValidateBacktest(
        self, request: pb.ValidateBacktestRequest, _context: Any
    ) -> pb.ValidateBacktestResponse:
        """Checks a request without running it."""
        validated = await self._validator.validate(request_from_spec(request.spec))
        spec = spec_from_request(validated.with_defaults())
        return pb.ValidateBacktestResponse(spec=spec, bar_count=validated.bar_count)

    async def GetBacktestResult(
        self, request: pb.GetBacktestResultRequest, _context: Any
    ) -> pb.GetBacktestResultResponse:
        """Returns the summary of a finished run."""
        summary = await self._results.summary(request.operation)
        return pb.GetBacktestResultResponse(result=result_to_proto(summary))

    async def StreamTrades(
        self, request: pb.StreamTradesRequest, _context: Any
    ) -> AsyncIterator[pb.StreamTradesResponse]:
        """Streams the trades of a finished run."""
        pages = self._results.trades(request.operation, request.row_offset, request.page_size)
        async with aclosing(pages):
            async for offset, trades in pages:
                messages = map(trade_to_proto, trades)
                yield pb.StreamTradesResponse(row_offset=offset, trades=messages)

    async def StreamEquity(
        self, request: pb.StreamEquityRequest, _context: Any
    ) -> AsyncIterator[pb.StreamEquityResponse]:
        """Streams the equity curve of a finished run."""
        pages = self._results.equity(request.operation, request.row_offset, request.page_size)
        async with aclosing(pages):
            async for offset, points in pages:
                messages = map(equity_point_to_proto, points)
                yield pb.StreamEquityResponse(row_offset=offset, points=messages)

    async def ReadResultFile(
        self, request: pb.ReadResultFileRequest, _context: Any
    ) -> AsyncIterator[pb.ReadResultFileResponse]:
        """Streams the bytes of one file of a finished run."""
        chunks = self._results.chunks(request.operation, request.file, request.byte_offset)
        async with aclosing(chunks):
            async for offset, content in chunks:
                yield pb.ReadResultFileResponse(byte_offset=offset, content=content)
