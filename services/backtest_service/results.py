"""The results of finished runs: summaries, and rows and bytes of their files, page by page."""

import asyncio
from collections.abc import AsyncGenerator, Generator
from contextlib import closing
from dataclasses import fields
from pathlib import Path
from typing import Any, Protocol, TypeVar

import pyarrow as pa
import pyarrow.csv

from backlane.backtest.summary import ResultSummary
from backlane.errors import (
    OperationNotSucceededError,
    OperationNotTerminalError,
    ResultNotFoundError,
)
from backlane.execution.order import ExitReason
from backlane.operations.operation import Operation, State
from backlane.portfolio.position import PositionSide
from backlane.portfolio.records import EquityPoint, TradeRecord
from backlane.sources.results import RESULT_FILES
from backlane.wire.backtest import result_from_payload
from backlane.wire.violations import Violations
from backtest_service.run_directory import attempt_directory, directory_of

PAGE_SIZE_DEFAULT = 1_000
PAGE_SIZE_MAX = 10_000
CHUNK_BYTES = 1024 * 1024
"""Bytes of a file in one message."""
_TIME = pa.timestamp("ns", "UTC")
_NUMBERS = (
    *("quantity", "entry_price", "exit_price", "gross_pnl", "net_pnl", "commission", "slippage"),
    *("mae", "mfe", "financing", "equity", "cash", "position"),
)
# Types are told, not guessed: a first block of whole numbers says nothing about the next.
_CONVERT = pyarrow.csv.ConvertOptions(
    column_types={
        **dict.fromkeys(("time", "entry_time", "exit_time"), _TIME),
        **dict.fromkeys(_NUMBERS, pa.float64()),
        **dict.fromkeys(("side", "exit_reason"), pa.string()),
    }
)
_READ = pyarrow.csv.ReadOptions(block_size=1024 * 1024, use_threads=False)

ItemT = TypeVar("ItemT")


class OperationSource(Protocol):
    """What knows operations: the client of operations_service."""

    async def get(self, name: str) -> Operation:
        """Returns an operation; raises OperationNotFoundError."""
        ...


class Results:
    """Reads results; what the registry says of the operation decides whether there is one."""

    def __init__(self, results_dir: Path, operations: OperationSource) -> None:
        self._results_dir = results_dir
        self._operations = operations

    async def summary(self, operation: str) -> ResultSummary:
        """Returns the summary of a finished run.

        Raises OperationNotFoundError; OperationNotTerminalError while it runs;
        OperationNotSucceededError when it failed or was cancelled; ResultNotFoundError when it is
        no backtest.
        """
        return result_from_payload((await self._succeeded(operation)).result)  # type: ignore[arg-type]

    async def trades(
        self, operation: str, row_offset: int, page_size: int
    ) -> AsyncGenerator[tuple[int, list[TradeRecord]]]:
        """Yields pages of trades with the number of rows before each; raises as `summary`."""
        pages = self._pages(operation, "trades.csv", row_offset, page_size)
        async for offset, table in pages:
            yield offset, _trades(table, offset)

    async def equity(
        self, operation: str, row_offset: int, page_size: int
    ) -> AsyncGenerator[tuple[int, list[EquityPoint]]]:
        """Yields pages of the equity curve in the same way."""
        async for offset, table in self._pages(operation, "equity.csv", row_offset, page_size):
            yield offset, _equity_points(table)

    async def chunks(
        self, operation: str, file: str, byte_offset: int
    ) -> AsyncGenerator[tuple[int, bytes]]:
        """Yields the bytes of a file from an offset on, each part with its own offset.

        Raises as `summary`, and ResultNotFoundError for a file that no result has.
        """
        found = Violations()
        found.check(byte_offset >= 0, "byte_offset", f"is {byte_offset}, below 0")
        found.raise_if_any()
        path = await self._file(operation, file)
        async for chunk in _in_thread(_read_chunks(path, byte_offset)):
            yield chunk

    async def _pages(
        self, operation: str, file: str, row_offset: int, page_size: int
    ) -> AsyncGenerator[tuple[int, pa.Table]]:
        found = Violations()
        found.check(row_offset >= 0, "row_offset", f"is {row_offset}, below 0")
        found.check(page_size >= 0, "page_size", f"is {page_size}, below 0")
        found.raise_if_any()
        path = await self._file(operation, file)
        size = min(page_size or PAGE_SIZE_DEFAULT, PAGE_SIZE_MAX)
        async for page in _in_thread(_read_pages(path, row_offset, size)):
            yield page

    async def _succeeded(self, name: str) -> Operation:
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
        result_from_payload(operation.result)
        return operation

    async def _file(self, operation: str, file: str) -> Path:
        if file not in RESULT_FILES:
            raise ResultNotFoundError(
                f"{file!r} is no file of a result: ask for one of {', '.join(RESULT_FILES)}.",
                metadata={"result": operation, "file": file},
            )
        path = attempt_directory(self._results_dir, await self._succeeded(operation)) / file
        if not await asyncio.to_thread(path.is_file):
            raise ResultNotFoundError(
                f"{file} of {operation} is no longer kept here; its summary is. Run it again.",
                metadata={"result": operation, "file": file},
            )
        return path


async def _in_thread(items: Generator[ItemT]) -> AsyncGenerator[ItemT]:
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


def _read_pages(path: Path, row_offset: int, size: int) -> Generator[tuple[int, pa.Table]]:
    """Yields pages of the rows after the first `row_offset`, holding one block at a time."""
    offset, seen = row_offset, 0
    with pyarrow.csv.open_csv(path, read_options=_READ, convert_options=_CONVERT) as reader:
        waiting = reader.schema.empty_table()
        for batch in reader:
            skipped = min(len(batch), max(0, row_offset - seen))
            seen += len(batch)
            waiting = pa.concat_tables([waiting, pa.Table.from_batches([batch.slice(skipped)])])
            while len(waiting) >= size:
                yield offset, waiting.slice(0, size)
                offset, waiting = offset + size, waiting.slice(size)
    if len(waiting):
        yield offset, waiting


def _column(table: pa.Table, name: str) -> list[Any]:
    """Returns a column as plain values; times as nanoseconds, which Python's own would round."""
    column = table[name]
    values: list[Any] = (column.cast(pa.int64()) if column.type == _TIME else column).to_pylist()
    return values


def _trades(table: pa.Table, offset: int) -> list[TradeRecord]:
    columns = {name: _column(table, name) for name in table.column_names}
    for name in ("entry_time", "exit_time"):
        columns[f"{name}_ns"] = columns[name]
    columns["number"] = list(range(offset + 1, offset + 1 + len(table)))
    columns["side"] = [PositionSide[name] for name in columns["side"]]
    columns["exit_reason"] = [ExitReason[name] for name in columns["exit_reason"]]
    rows = zip(*(columns[each.name] for each in fields(TradeRecord)), strict=True)
    return [TradeRecord(*row) for row in rows]


def _equity_points(table: pa.Table) -> list[EquityPoint]:
    columns = (_column(table, name) for name in ("time", "equity", "cash", "position"))
    return [EquityPoint(*row) for row in zip(*columns, strict=True)]
