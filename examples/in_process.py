"""The same engine in this process: no services, a bundle's folder, the bars of the catalog."""

import os
from pathlib import Path

from backlane.backtest.engine import run_backtest
from backlane.backtest.request import parse_request
from backlane.market.digest import bars_digest
from backlane.market.timeframe import Timeframe
from backlane.sources.bundle import load_predictor, read_bundle
from backlane.sources.catalog import Catalog
from backlane.sources.home import home_dir

bars = Catalog(home_dir(os.environ)).load("SYNTHETIC_EURUSD", Timeframe.parse("1h"))
request = parse_request({"model": {"path": "models/rsi_bb/1"}, "symbol": "SYNTHETIC_EURUSD"})
predictor = load_predictor(read_bundle(Path("models/rsi_bb/1")))
run = run_backtest(request, predictor, {"1h": bars}, dataset_digests={"1h": bars_digest(bars)})
print(run.provenance.result_digest)
print(len(run.trades), "trades; equity at the end", run.equity[-1])
