"""PortfolioService on the wire: converts in, makes one call, converts out."""

# ruff: noqa: N802 - the protos name the methods.

from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

from backlane.api.portfolios.v1 import portfolio_service_pb2 as pb
from backlane.api.portfolios.v1 import portfolio_service_pb2_grpc as pb_grpc
from backlane.backtest.portfolio_request import PortfolioRequest
from backlane.backtest.portfolio_summary import PortfolioSummary
from backlane.rpc.callers import caller
from backlane.wire.operations import operation_to_proto
from backlane.wire.paper_sessions import answer_to_proto, message_from_proto
from backlane.wire.portfolio_cycle import cycle_request_from_proto, outcome_to_proto
from backlane.wire.portfolio_runs import request_from_spec, result_to_proto
from backlane.wire.portfolio_uploads import digests_from_proto, part_from_proto
from backlane.wire.run_options import run_options_from_proto
from backtest_service.cycle_desk import CycleDesk
from backtest_service.finished_runs import FinishedRuns
from backtest_service.paper_desk import PaperDesk
from backtest_service.submission import Submission
from backtest_service.uploading import Uploading


class PortfolioServicer(pb_grpc.PortfolioServiceServicer):
    """Serves backlane.api.portfolios.v1.PortfolioService."""

    def __init__(
        self,
        uploading: Uploading,
        submission: Submission[PortfolioRequest],
        results: FinishedRuns[PortfolioSummary],
        desk: CycleDesk,
        paper: PaperDesk,
    ) -> None:
        self._uploading = uploading
        self._submission = submission
        self._results = results
        self._desk = desk
        self._paper = paper

    async def UploadFile(
        self, request_iterator: AsyncIterator[pb.UploadFileRequest], _context: Any
    ) -> pb.UploadFileResponse:
        """Keeps a file under its digest."""
        parts = (part_from_proto(message) async for message in request_iterator)
        kept = await self._uploading.receive(parts)
        return pb.UploadFileResponse(
            digest=kept.digest, size_bytes=kept.size_bytes, was_known=kept.was_known
        )

    async def FindMissingFiles(
        self, request: pb.FindMissingFilesRequest, _context: Any
    ) -> pb.FindMissingFilesResponse:
        """Says which files are not kept."""
        missing = await self._uploading.missing(digests_from_proto(request))
        return pb.FindMissingFilesResponse(missing_digests=missing)

    async def RunPortfolioBacktest(
        self, request: pb.RunPortfolioBacktestRequest, context: Any
    ) -> pb.RunPortfolioBacktestResponse:
        """Opens the operation of a run."""
        asked, options = request_from_spec(request.spec), run_options_from_proto(request.options)
        operation = await self._submission.submit(
            request.request_id, asked, request.labels, options, caller(context)
        )
        return pb.RunPortfolioBacktestResponse(operation=operation_to_proto(operation))

    async def ResumePortfolioBacktest(
        self, request: pb.ResumePortfolioBacktestRequest, context: Any
    ) -> pb.ResumePortfolioBacktestResponse:
        """Opens the operation that goes on where another one stopped."""
        operation = await self._submission.resume(
            request.request_id, request.operation, caller(context)
        )
        return pb.ResumePortfolioBacktestResponse(operation=operation_to_proto(operation))

    async def GetPortfolioResult(
        self, request: pb.GetPortfolioResultRequest, _context: Any
    ) -> pb.GetPortfolioResultResponse:
        """Returns the summary of a finished run."""
        summary = await self._results.summary(request.operation)
        return pb.GetPortfolioResultResponse(result=result_to_proto(summary))

    async def ReadResultFile(
        self, request: pb.ReadResultFileRequest, _context: Any
    ) -> AsyncIterator[pb.ReadResultFileResponse]:
        """Streams the bytes of one file of a finished run."""
        chunks = self._results.chunks(request.operation, request.file, request.byte_offset)
        async with aclosing(chunks):
            async for offset, content in chunks:
                yield pb.ReadResultFileResponse(byte_offset=offset, content=content)

    async def RunCycle(self, request: pb.RunCycleRequest, _context: Any) -> pb.RunCycleResponse:
        """Decides once, as of a time."""
        outcome = await self._desk.decide(cycle_request_from_proto(request))
        return pb.RunCycleResponse(outcome=outcome_to_proto(outcome))

    async def PaperSession(
        self, request_iterator: AsyncIterator[pb.PaperSessionRequest], context: Any
    ) -> AsyncIterator[pb.PaperSessionResponse]:
        """Trades on paper: bars in, reports out."""
        messages = (message_from_proto(message) async for message in request_iterator)
        async with aclosing(self._paper.converse(messages, caller(context))) as answers:
            async for answer in answers:
                yield answer_to_proto(answer)
