"""The results of finished runs: summaries, and rows and bytes of their files, page by page."""

from collections.abc import AsyncGenerator, Generator
from dataclasses import fields
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv

from backlane.backtest.summary import ResultSummary
from backlane.execution.order import ExitReason
from backlane.portfolio.position import PositionSide
from backlane.portfolio.records import EquityPoint, TradeRecord
from backlane.sources.results import RESULT_FILES
from backlane.wire.backtest import result_from_payload
from backlane.wire.violations import Violations
from backtest_service.finished_runs import FinishedRuns, OperationSource, in_thread

PAGE_SIZE_DEFAULT = 1_000
PAGE_SIZE_MAX = 10_000
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


class Results(FinishedRuns[ResultSummary]):
    """The results of backtests: beside summary and files, their trades and equity row by row."""

    def __init__(self, results_dir: Path, operations: OperationSource) -> None:
        super().__init__(results_dir, operations, result_from_payload, RESULT_FILES)

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

    async def _pages(
        self, operation: str, file: str, row_offset: int, page_size: int
    ) -> AsyncGenerator[tuple[int, pa.Table]]:
        found = Violations()
        found.check(row_offset >= 0, "row_offset", f"is {row_offset}, below 0")
        found.check(page_size >= 0, "page_size", f"is {page_size}, below 0")
        found.raise_if_any()
        path = await self.file(operation, file)
        size = min(page_size or PAGE_SIZE_DEFAULT, PAGE_SIZE_MAX)
        async for page in in_thread(_read_pages(path, row_offset, size)):
            yield page


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
