"""Finished runs of any kind: whether there is a result, and the bytes of its files."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Generator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Generic, Protocol, TypeVar

from backlane.errors import (
    OperationNotSucceededError,
    OperationNotTerminalError,
    ResultNotFoundError,
)
from backlane.operations.operation import Operation, Payload, State
from backlane.wire.violations import Violations
from backtest_service.run_directory import attempt_directory, directory_of

CHUNK_BYTES = 1024 * 1024
"""Bytes of a file in one message."""

ItemT = TypeVar("ItemT")
SummaryT = TypeVar("SummaryT")


class OperationSource(Protocol):
    """What knows operations: the client of operations_service."""

    async def get(self, name: str) -> Operation:
        """Returns an operation; raises OperationNotFoundError."""
        ...


class FinishedRuns(Generic[SummaryT]):
    """Reads results; what the registry says of the operation decides whether there is one.

    `summary_of` reads what a succeeded operation of this kind carries, and raises
    ResultNotFoundError for any other; `file_names` are the files of such a result.
    """

    def __init__(
        self,
        results_dir: Path,
        operations: OperationSource,
        summary_of: Callable[[Payload], SummaryT],
        file_names: Sequence[str],
    ) -> None:
        self._results_dir = results_dir
        self._operations = operations
        self._summary_of = summary_of
        self._file_names = file_names

    async def summary(self, operation: str) -> SummaryT:
        """Returns the summary of a finished run.

        Raises OperationNotFoundError; OperationNotTerminalError while it runs;
        OperationNotSucceededError when it failed or was cancelled; ResultNotFoundError when it is
        of another kind.
        """
        _, summary = await self._succeeded(operation)
        return summary

    async def chunks(
        self, operation: str, file: str, byte_offset: int
    ) -> AsyncGenerator[tuple[int, bytes]]:
        """Yields the bytes of a file from an offset on, each part with its own offset.

        Raises as `summary`, and ResultNotFoundError for a file that no result has.
        """
        found = Violations()
        found.check(byte_offset >= 0, "byte_offset", f"is {byte_offset}, below 0")
        found.raise_if_any()
        path = await self.file(operation, file)
        async for chunk in in_thread(_read_chunks(path, byte_offset)):
            yield chunk

    async def file(self, operation: str, file: str) -> Path:
        """Returns where a file of a finished run is; raises as `chunks`."""
        if file not in self._file_names:
            raise ResultNotFoundError(
                f"{file!r} is no file of a result: ask for one of {', '.join(self._file_names)}.",
                metadata={"result": operation, "file": file},
            )
        succeeded, _ = await self._succeeded(operation)
        path = attempt_directory(self._results_dir, succeeded) / file
        if not await asyncio.to_thread(path.is_file):
            raise ResultNotFoundError(
                f"{file} of {operation} is no longer kept here; its summary is. Run it again.",
                metadata={"result": operation, "file": file},
            )
        return path

    async def _succeeded(self, name: str) -> tuple[Operation, SummaryT]:
        directory_of(self._results_dir, name)  # refuses what is no name, by the field of our API
        operation = await self._operations.get(name)
        metadata = {"operation": name, "state": operation.state.value}
        if not operation.state.is_terminal:
            raise OperationNotTerminalError(
                f"{name} is {operation.state}: there is no result yet. Wait for its end.",
                metadata=metadata,
            )
        if operation.state is not State.SUCCEEDED or operation.result is None:
            error = operation.error
            why = f": {error.message}" if error else "."
            raise OperationNotSucceededError(
                f"{name} is {operation.state} and left no result{why}",
                metadata={**metadata, "reason": error.reason if error else ""},
            )
        return operation, self._summary_of(operation.result)


async def in_thread(items: Generator[ItemT]) -> AsyncGenerator[ItemT]:
    """Yields what a generator that reads files yields, each step of it in a thread."""
    with closing(items):
        while True:
            step = asyncio.create_task(asyncio.to_thread(next, items, None))
            try:
                item = await asyncio.shield(step)
            finally:
                # A generator cannot be closed while a thread is inside it.
                await asyncio.wait({step})
            if item is None:
                return
            yield item


def _read_chunks(path: Path, byte_offset: int) -> Generator[tuple[int, bytes]]:
    with path.open("rb") as file:
        file.seek(byte_offset)
        offset = byte_offset
        while content := file.read(CHUNK_BYTES):
            yield offset, content
            offset += len(content)
