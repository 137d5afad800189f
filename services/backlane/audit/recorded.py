"""A finished run as its result directory tells it: documents and tables, without files."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

Table = Mapping[str, NDArray[Any]]

BARS, FEATURES, DECISIONS = "bars", "features", "decisions"
TRADES, EQUITY = "trades", "equity"
TABLES = (BARS, FEATURES, DECISIONS, TRADES, EQUITY)

TIME_COLUMNS = ("time", "entry_time", "exit_time")
"""Columns that are int64 UTC nanoseconds; texts are arrays of str."""


@dataclass(frozen=True, slots=True, eq=False)
class RecordedResult:
    """`document` is result.json, `request` request.json; `tables` has those of TABLES there are."""

    document: Mapping[str, Any]
    request: Mapping[str, Any]
    tables: Mapping[str, Table]
