"""A whole run in process: features, inference by torch, loop, metrics; a million bars."""

from datetime import UTC, datetime
from pathlib import Path

from backlane.backtest.engine import run_backtest
from backlane.backtest.request import parse_request
from backlane.market.timeframe import Timeframe
from backlane.sources.bundle import load_predictor, read_bundle
from backlane.sources.synthetic import synthetic_bars
from benchmarks.timing import Row, paired_medians

BARS = 1_000_000
MODEL = Path(__file__).resolve().parents[1] / "models" / "rsi_bb" / "1"
START = datetime(2010, 1, 1, tzinfo=UTC)


def run() -> list[Row]:
    """Returns the whole run and its share of inference."""
    bundle = read_bundle(MODEL)
    predictor = load_predictor(bundle)
    label = bundle.info.strategy.timeframes[0]
    series = synthetic_bars(1, START, BARS, Timeframe.parse(label))
    request = parse_request({"model": {"path": str(MODEL)}, "symbol": series.symbol})
    features = run_backtest(request, predictor, {label: series}, dataset_digests={}).features

    def whole() -> None:
        run_backtest(request, predictor, {label: series}, dataset_digests={})

    def inference() -> None:
        predictor.predict(features.values)

    found = paired_medians({"whole": whole, "inference": inference}, BARS)
    return [
        Row(
            "whole run in process, 1M bars",
            found["whole"],
            "its inference",
            found["whole"] / found["inference"],
        ),
        Row("of it, inference (torch, 1 thread)", found["inference"]),
    ]
