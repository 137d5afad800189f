"""Finds the reference's recorded vectors by what their files say, and runs what they describe.

Nothing here or in the tests knows the names of today's scenarios, bundles or data files: another
set of the same shape, put in the place of this one or named by BACKLANE_KTRDR, runs unchanged.
"""

import json
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from backlane.backtest.engine import run_backtest
from backlane.backtest.request import BacktestRequest, parse_request
from backlane.backtest.result import BacktestRun
from backlane.inference.predictor import Predictor
from backlane.market.bars import BarSeries
from backlane.market.timeframe import Timeframe
from backlane.sources.bundle import load_predictor, read_bundle
from backlane.sources.files import read_bars
from tests.shared import KTRDR

CODES = {"BUY": 1, "HOLD": 0, "SELL": -1}
SIDES = {"LONG": 1, "FLAT": 0, "SHORT": -1}


def read_json(path: Path) -> Any:
    """Reads a recorded file. Without one there are no cases, and the tests are skipped anyway."""
    return json.loads(path.read_text()) if path.is_file() else []


def cases(*parts: str, key: str = "case") -> Iterator[Any]:
    """Gives the records of a file as test cases, named by their own `key`."""
    for number, case in enumerate(read_json(KTRDR.joinpath(*parts))):
        yield pytest.param(case, id=str(case.get(key, number)))


def folders(kind: str, wanted: str) -> list[Path]:
    """Returns the folders of a kind that hold a file `wanted`, in order."""
    return sorted(path.parent for path in (KTRDR / kind).rglob(wanted))


def bundle_folder(name: str) -> Path:
    """Returns the directory of the version of a bundle."""
    (folder,) = folders(f"bundles/{name}", "metadata_v3.json")
    return folder


@cache
def bars_of(symbol: str, label: str) -> BarSeries:
    """Returns all recorded bars of a symbol and timeframe, read as a user's file would be."""
    found = sorted((KTRDR / "data").glob(f"{symbol}_{label}.csv*"))
    path = found[0] if found else KTRDR / "data" / f"{symbol}_{label}.parquet"
    return read_bars(path, symbol, Timeframe.parse(label)).series


@cache
def predictor_of(bundle: str) -> Predictor:
    """Returns a bundle, ready to predict."""
    return load_predictor(read_bundle(bundle_folder(bundle)))


def bars_for(predictor: Predictor, symbol: str) -> dict[str, BarSeries]:
    """Returns the bars that a model asks for."""
    return {label: bars_of(symbol, label) for label in predictor.info.strategy.timeframes}


def profile_of(config: Mapping[str, Any]) -> str:
    """Returns the profile that gives what this version of the reference gives."""
    return "ktrdr-m3" if config["semantics"].startswith("m3") else "ktrdr-head"


def decisions_of(config: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the decisions of a scenario: what was in effect, where that was recorded.

    A run that was aborted has no record of it: it took what was configured, but for `m3_asis`,
    which takes its own defaults as the profile does.
    """
    written = config.get("decisions", {})
    in_effect = config.get("decisions_in_effect")
    if in_effect is None:
        if config["semantics"] == "m3_asis":
            return {}
        in_effect = {
            **{key: written.get(key) for key in REQUEST_DECISIONS},
            "min_separation_hours": written.get("filters", {}).get("min_signal_separation"),
        }
    return {
        **{key: in_effect.get(key) for key in REQUEST_DECISIONS},
        "filters": {"min_signal_separation": in_effect.get("min_separation_hours")},
        "cost_model": written.get("cost_model", {}),
    }


REQUEST_DECISIONS = ("confidence_threshold", "position_awareness", "allow_short_from_flat")


def request_of(config: Mapping[str, Any], **changes: Any) -> BacktestRequest:
    """Returns the request of a scenario."""
    fields = {
        "model": {"path": config["bundle"]},
        "symbol": config["symbol"],
        "start": config["start_date"],
        "end": config["end_date"],
        "initial_cash": config["initial_capital"],
        "commission_rate": config["commission"],
        "slippage_rate": config["slippage"],
        "profile": profile_of(config),
        "decisions": decisions_of(config),
    }
    return parse_request(fields | changes)


def run_scenario(config: Mapping[str, Any], **changes: Any) -> BacktestRun:
    """Runs a scenario; `changes` are fields of the request."""
    predictor = predictor_of(config["bundle"])
    bars = bars_for(predictor, config["symbol"])
    return run_backtest(request_of(config, **changes), predictor, bars, dataset_digests={})


def stamps(values: Any) -> np.ndarray:
    """Returns times as UTC nanoseconds."""
    return pd.DatetimeIndex(pd.to_datetime(values, utc=True)).as_unit("ns").asi8


OUTPUT_TOLERANCE = 1e-6
"""SPEC §18, relative to the largest sum in the network: float32 rounds each sum by 6e-8 of its
size, and in which order a processor adds is its own affair. (The recorded outputs themselves are up
to 2e-6 from the same networks in float64.)"""


@cache
def largest_sum(bundle: str) -> float:
    """Returns the largest value that any layer gives over the recorded features, at least 1."""
    predictor = predictor_of(bundle)
    sizes = [1.0]
    hooks = [
        layer.register_forward_hook(lambda _, __, out: sizes.append(float(out.abs().max())))
        for layer in predictor._network.modules()
        if isinstance(layer, torch.nn.Linear)
    ]
    for name, place in read_json(KTRDR / "features" / "index.json").items():
        if name.split("__")[0] == bundle:
            table = pd.read_parquet(KTRDR / place["file"])[place["columns_in_order"]]
            predictor.predict(np.nan_to_num(table.to_numpy(np.float32)))
    for hook in hooks:
        hook.remove()
    return max(sizes)


def output_tolerance(bundle: str) -> float:
    """Returns how far an output of this model may be from the recorded one."""
    return OUTPUT_TOLERANCE * largest_sum(bundle)
