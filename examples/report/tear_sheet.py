"""From bars to a tear sheet, in one process: python examples/report/tear_sheet.py [page.html].

The same lines work in a notebook: there, the last line of a cell draws the figure.
"""

import sys
from datetime import UTC, datetime
from pathlib import Path

from backlane.backtest.engine import run_backtest
from backlane.backtest.request import parse_request
from backlane.backtest.result import BacktestRun
from backlane.market.digest import bars_digest
from backlane.market.timeframe import Timeframe
from backlane.report.frames import ResultFrames
from backlane.report.page import write_report
from backlane.sources.bundle import load_predictor, read_bundle
from backlane.sources.synthetic import SYNTHETIC_SYMBOL, synthetic_bars

BUNDLE = Path(__file__).resolve().parents[2] / "models" / "rsi_bb" / "1"


def run_sample() -> BacktestRun:
    """Two years of hourly bars out of a random walk: no model can earn money on it."""
    bars = synthetic_bars(7, datetime(2021, 1, 4, tzinfo=UTC), 12_000, Timeframe.parse("1h"))
    request = parse_request(
        {"model": {"path": str(BUNDLE)}, "symbol": SYNTHETIC_SYMBOL, "commission_rate": 0.0001}
    )
    return run_backtest(
        request,
        load_predictor(read_bundle(BUNDLE)),
        {"1h": bars},
        dataset_digests={"1h": bars_digest(bars)},
    )


def main(page: Path) -> None:
    result = ResultFrames.from_run(run_sample())

    print(result.metrics[["value", "unit"]].head(10))
    print(result.trades.groupby("side")["net_pnl"].agg(["count", "sum"]))
    result.figure()  # in a notebook: price and trades, equity, drawdown
    result.monthly_figure()

    write_report(result, page)
    print(f"open {page}")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path("report.html"))
