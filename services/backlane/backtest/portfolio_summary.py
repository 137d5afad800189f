"""What a finished portfolio run gave, in short: light, for clients and for the wire."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from backlane.backtest.portfolio_request import PortfolioRequest
from backlane.backtest.summary import ResultFile


@dataclass(frozen=True, slots=True)
class PortfolioSummary:
    """The summary of a run; money in the currency of its prices, times UTC nanoseconds.

    `metrics` are None where they are undefined; `counts` are those of result.json; `timings` are
    seconds by phase. The times are None for a panel without a bar.
    """

    request: PortfolioRequest
    metrics: Mapping[str, float | None]
    final_equity: float
    total_cost: float
    bar_count: int
    symbol_count: int
    first_time_ns: int | None
    last_time_ns: int | None
    counts: Mapping[str, int]
    files: tuple[ResultFile, ...] = ()
    timings: Mapping[str, float] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)
