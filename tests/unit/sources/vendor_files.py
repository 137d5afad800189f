"""Small files as vendors write them, for the tests of reading."""

import gzip
from pathlib import Path

from backlane.market.finding import FindingCode, QualityReport
from backlane.market.timeframe import Timeframe
from backlane.sources.files import inspect_bars

HEADER = "timestamp,open,high,low,close,volume"
ROWS = (
    "2024-01-02T00:00:00Z,1.10,1.12,1.09,1.11,100",
    "2024-01-02T01:00:00Z,1.11,1.13,1.10,1.12,110",
    "2024-01-02T02:00:00Z,1.12,1.14,1.11,1.13,120",
    "2024-01-02T03:00:00Z,1.13,1.15,1.12,1.14,130",
)
FIRST_NS = 1704153600 * 10**9
HOUR_NS = 3600 * 10**9


def text_of(*rows: str, header: str = HEADER) -> str:
    return "\n".join([header, *rows]) + "\n"


def write(folder: Path, content: str | bytes, name: str = "bars.csv") -> Path:
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def gzipped(text: str) -> bytes:
    return gzip.compress(text.encode(), mtime=0)


def inspect(path: Path, timeframe: str = "1h", **options):
    return inspect_bars(path, "TEST", Timeframe.parse(timeframe), **options)


def codes(report: QualityReport) -> set[FindingCode]:
    return {found.code for found in report.findings}
