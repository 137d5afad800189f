"""The summary of a portfolio run, from what its result directory says."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from backlane.backtest.portfolio_request import PortfolioRequest
from backlane.backtest.portfolio_result import PortfolioRun
from backlane.backtest.portfolio_summary import PortfolioSummary
from backlane.backtest.summary import ResultFile


def summarize_portfolio(
    directory: Path,
    run: PortfolioRun,
    request: PortfolioRequest,
    files: tuple[ResultFile, ...],
    timings: Mapping[str, float],
    versions: Mapping[str, str],
) -> PortfolioSummary:
    """Returns the summary of a run whose result was written to `directory`."""
    document: dict[str, Any] = json.loads((directory / "result.json").read_text(encoding="utf-8"))
    time_ns = run.panel.time_ns
    return PortfolioSummary(
        request=request,
        metrics=document["metrics"],
        final_equity=document["final_equity"],
        total_cost=document["total_cost"],
        bar_count=len(time_ns),
        symbol_count=len(run.panel.symbols),
        first_time_ns=int(time_ns[0]) if len(time_ns) else None,
        last_time_ns=int(time_ns[-1]) if len(time_ns) else None,
        counts={name: each for name, each in document["counts"].items() if isinstance(each, int)},
        files=files,
        timings=dict(timings),
        versions=dict(versions),
    )
