"""Clients of PortfolioService: upload files, run strategies over them, and read what they gave.

Importing this loads neither numpy nor pandas. A stream that breaks off goes on where it broke.
"""

# grpc's callables are generic in types-grpcio alone.
from __future__ import annotations

import asyncio
import time
import uuid
from contextlib import aclosing
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from backlane.api.portfolios.v1 import portfolio_service_pb2 as pb
from backlane.api.portfolios.v1.portfolio_service_pb2_grpc import PortfolioServiceStub
from backlane.client.connection import READY_S, Addresses, AioConnection, Connection
from backlane.client.download import Download
from backlane.client.result_streams import Place, aio_resumed, resumed
from backlane.client.run_options import NO_OPTIONS, RunOptions, run_options_to_proto
from backlane.client.uploads import LocalFile, local_files, request_of
from backlane.client.watching import RECONNECT_DEADLINE_S, Recovery
from backlane.clock import SystemClock
from backlane.errors import BacklaneError
from backlane.wire.operations import operation_from_proto
from backlane.wire.portfolio_cycle import cycle_request_to_proto, outcome_from_proto
from backlane.wire.portfolio_runs import result_from_proto, spec_from_request

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Iterator, Mapping

    from backlane.backtest.cycle_outcome import CycleOutcome, CycleRequest
    from backlane.backtest.portfolio_request import PortfolioRequest
    from backlane.backtest.portfolio_summary import PortfolioSummary
    from backlane.clock import Clock
    from backlane.operations.operation import Operation

SERVICE_NAME = pb.DESCRIPTOR.services_by_name["PortfolioService"].full_name
SUBMIT_DEADLINE_S = 60.0
CYCLE_DEADLINE_S = 150.0
"""A cycle may wait for others, and for its process to start."""


class PortfoliosClient:
    """Calls PortfolioService from threads; every failure is a BacklaneError."""

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

    def upload(self, config: Mapping[str, Any], folder: Path | str = ".") -> PortfolioRequest:
        """Returns the request for a configuration, all of whose files the service keeps by now.

        Their names are relative to `folder`. Files that are known there are not sent again. Raises
        InvalidRequestError for a file that is not here.
        """
        files = local_files(config, Path(folder))
        digests = sorted({file.digest for file in files.values()})
        missing = self._submit("FindMissingFiles", pb.FindMissingFilesRequest(digests=digests))
        waiting = set(missing.missing_digests)
        for file in files.values():
            if file.digest in waiting:
                self._send(file)
                waiting.discard(file.digest)
        return request_of(config, files)

    def _send(self, file: LocalFile) -> None:
        recovery = Recovery(self._clock, RECONNECT_DEADLINE_S, None)
        while True:
            try:
                method: Any = self._connection.stub(PortfolioServiceStub).UploadFile
                messages: Any = file.messages()
                self._connection.call(method, messages, deadline_s=file.deadline_s)
            except BacklaneError as error:
                time.sleep(recovery.pause_s(error))
            else:
                return

    def run(
        self,
        request: PortfolioRequest,
        *,
        request_id: str | None = None,
        labels: Mapping[str, str] | None = None,
        options: RunOptions = NO_OPTIONS,
    ) -> Operation:
        """Starts a run and returns its operation at once.

        The same request_id again returns the same operation; without one, each call is a new run.
        """
        message = _run_request(request, request_id, labels, options)
        response = self._submit("RunPortfolioBacktest", message)
        return operation_from_proto(response.operation)

    def resume(self, operation: str, *, request_id: str | None = None) -> Operation:
        """Goes on from the newest checkpoint of a run that failed or was cancelled.

        Returns the new operation at once. The same request_id again returns the same operation.
        """
        response = self._submit("ResumePortfolioBacktest", _resume_request(operation, request_id))
        return operation_from_proto(response.operation)

    def get_result(self, operation: str) -> PortfolioSummary:
        """Returns the summary of the finished run of operations/{operation_id}."""
        message = pb.GetPortfolioResultRequest(operation=operation)
        return result_from_proto(self._call("GetPortfolioResult", message).result)

    def read_file(self, operation: str, file: str, *, byte_offset: int = 0) -> Iterator[bytes]:
        """Yields the bytes of one file of a finished run, in parts of at most 1 MiB."""
        place = Place(byte_offset)
        chunks = resumed(
            self._connection,
            PortfolioServiceStub,
            "ReadResultFile",
            _file_request(operation, file),
            place,
            self._clock,
        )
        for chunk in chunks:
            place.passed(len(chunk.content))
            yield chunk.content

    def download_result(self, operation: str, directory: Path | str) -> PortfolioSummary:
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

    def run_cycle(self, request: CycleRequest) -> CycleOutcome:
        """Returns what one cycle decides as of a time; nothing is kept of it."""
        response = self._call(
            "RunCycle", cycle_request_to_proto(request), deadline_s=CYCLE_DEADLINE_S
        )
        return outcome_from_proto(response.outcome)

    def _submit(self, method: str, request: Any) -> Any:
        return self._call(method, request, deadline_s=SUBMIT_DEADLINE_S, ready_s=READY_S)

    def _call(self, method: str, request: Any, **options: Any) -> Any:
        return self._connection.ask(PortfolioServiceStub, method, request, **options)

    def close(self) -> None:
        """Closes the connection; streams under way end."""
        self._connection.close()

    def __enter__(self) -> Self:
        """Returns itself."""
        return self

    def __exit__(self, *_error: object) -> None:
        """Closes the connection; streams under way end."""
        self.close()


class AsyncPortfoliosClient:
    """Calls PortfolioService from one event loop; otherwise as PortfoliosClient."""

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

    async def upload(self, config: Mapping[str, Any], folder: Path | str = ".") -> PortfolioRequest:
        """Returns the request for a configuration; see PortfoliosClient.upload."""
        files = await asyncio.to_thread(local_files, config, Path(folder))
        digests = sorted({file.digest for file in files.values()})
        message = pb.FindMissingFilesRequest(digests=digests)
        waiting = set((await self._submit("FindMissingFiles", message)).missing_digests)
        for file in files.values():
            if file.digest in waiting:
                await self._send(file)
                waiting.discard(file.digest)
        return request_of(config, files)

    async def _send(self, file: LocalFile) -> None:
        recovery = Recovery(self._clock, RECONNECT_DEADLINE_S, None)
        factory: Any = PortfolioServiceStub
        while True:
            try:
                method: Any = self._connection.stub(factory).UploadFile
                messages: Any = _aio_messages(file)
                await self._connection.call(method, messages, deadline_s=file.deadline_s)
            except BacklaneError as error:
                await asyncio.sleep(recovery.pause_s(error))
            else:
                return

    async def run(
        self,
        request: PortfolioRequest,
        *,
        request_id: str | None = None,
        labels: Mapping[str, str] | None = None,
        options: RunOptions = NO_OPTIONS,
    ) -> Operation:
        """Starts a run and returns its operation at once; see PortfoliosClient.run."""
        message = _run_request(request, request_id, labels, options)
        response = await self._submit("RunPortfolioBacktest", message)
        return operation_from_proto(response.operation)

    async def resume(self, operation: str, *, request_id: str | None = None) -> Operation:
        """Goes on from a checkpoint, as a new operation; see PortfoliosClient.resume."""
        message = _resume_request(operation, request_id)
        response = await self._submit("ResumePortfolioBacktest", message)
        return operation_from_proto(response.operation)

    async def get_result(self, operation: str) -> PortfolioSummary:
        """Returns the summary of the finished run of operations/{operation_id}."""
        message = pb.GetPortfolioResultRequest(operation=operation)
        return result_from_proto((await self._call("GetPortfolioResult", message)).result)

    async def read_file(
        self, operation: str, file: str, *, byte_offset: int = 0
    ) -> AsyncGenerator[bytes, None]:
        """Yields the bytes of one file of a finished run, in parts of at most 1 MiB."""
        place, factory = Place(byte_offset), PortfolioServiceStub
        chunks = aio_resumed(
            self._connection,
            factory,
            "ReadResultFile",
            _file_request(operation, file),
            place,
            self._clock,
        )
        async with aclosing(chunks):
            async for chunk in chunks:
                place.passed(len(chunk.content))
                yield chunk.content

    async def download_result(self, operation: str, directory: Path | str) -> PortfolioSummary:
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

    async def run_cycle(self, request: CycleRequest) -> CycleOutcome:
        """Returns what one cycle decides as of a time; nothing is kept of it."""
        message = cycle_request_to_proto(request)
        response = await self._call("RunCycle", message, deadline_s=CYCLE_DEADLINE_S)
        return outcome_from_proto(response.outcome)

    async def _submit(self, method: str, request: Any) -> Any:
        return await self._call(method, request, deadline_s=SUBMIT_DEADLINE_S, ready_s=READY_S)

    async def _call(self, method: str, request: Any, **options: Any) -> Any:
        factory: Any = PortfolioServiceStub
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


async def _aio_messages(file: LocalFile) -> AsyncGenerator[pb.UploadFileRequest, None]:
    """Yields what `messages` does, each read in a thread."""
    messages = file.messages()
    while (message := await asyncio.to_thread(next, messages, None)) is not None:
        yield message


def _run_request(
    request: PortfolioRequest,
    request_id: str | None,
    labels: Mapping[str, str] | None,
    options: RunOptions,
) -> pb.RunPortfolioBacktestRequest:
    return pb.RunPortfolioBacktestRequest(
        request_id=request_id or str(uuid.uuid4()),
        spec=spec_from_request(request),
        labels=labels or {},
        options=run_options_to_proto(options),
    )


def _resume_request(operation: str, request_id: str | None) -> pb.ResumePortfolioBacktestRequest:
    return pb.ResumePortfolioBacktestRequest(
        request_id=request_id or str(uuid.uuid4()), operation=operation
    )


def _file_request(operation: str, file: str) -> Callable[[int], pb.ReadResultFileRequest]:
    return lambda offset: pb.ReadResultFileRequest(
        operation=operation, file=file, byte_offset=offset
    )
