"""The audits find nothing in the recorded strategies, nor in our own, under the default profile."""

from pathlib import Path

import pytest

from backlane.audit.lookahead import audit_lookahead
from backlane.audit.stamp import Verdict
from backlane.audit.warmup import audit_warmup
from backlane.backtest.request import BacktestRequest, parse_request
from backlane.inference.predictor import Predictor
from backlane.market.bars import BarSeries
from backlane.sources.bundle import load_predictor, read_bundle
from tests.golden.vectors import KTRDR, bars_of, folders
from tests.shared import needs_shared

READS = ("bundles/*/*/metadata_v3.json",)

pytestmark = needs_shared

OUR_MODELS = Path(__file__).resolve().parents[2] / "models"
BUNDLES = [
    *folders("bundles", "metadata_v3.json"),
    *sorted(path.parent for path in OUR_MODELS.glob("*/*/metadata_v3.json")),
]


def subject(folder: Path) -> tuple[BacktestRequest, Predictor, dict[str, BarSeries]]:
    """Returns a request over all recorded bars for a bundle; another symbol's, if need be."""
    predictor = load_predictor(read_bundle(folder))
    strategy, head = predictor.info.strategy, predictor.info.head
    known = {path.stem.split("_")[0] for path in (KTRDR / "data").iterdir()}
    symbol = next((name for name in strategy.symbols if name in known), None)
    if symbol is None:
        labels = set(strategy.timeframes)
        symbol = next(n for n in sorted(known) if labels <= set(timeframes_of(n)))
    bars = {label: bars_of(symbol, label) for label in strategy.timeframes}
    switches = {} if head.is_tradable else {"classes_as_decisions": True}
    request = parse_request({"model": {"path": "x"}, "symbol": symbol, "switches": switches})
    return request, predictor, bars


def timeframes_of(symbol: str) -> list[str]:
    return [
        path.name.removesuffix(".gz").removesuffix(".csv").split("_")[1]
        for path in (KTRDR / "data").glob(f"{symbol}_*.csv*")
    ]


@pytest.mark.parametrize("folder", BUNDLES, ids=lambda folder: folder.parent.name)
def test_a_start_date_changes_no_feature(folder: Path) -> None:
    stamp = audit_warmup(*subject(folder), start_count=12, seed=7, dataset_digests={})
    assert stamp.findings == ()
    assert stamp.verdict is Verdict.CLEAN
    assert stamp.replay_count == 12


@pytest.mark.parametrize("folder", BUNDLES, ids=lambda folder: folder.parent.name)
def test_no_later_bar_changes_an_earlier_decision(folder: Path) -> None:
    stamp = audit_lookahead(*subject(folder), bar_count=4, seed=7, dataset_digests={})
    assert stamp.verdict is Verdict.CLEAN
