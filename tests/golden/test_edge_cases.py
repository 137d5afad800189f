"""Odd requests, bundles and data: what the reference does with each, and what we do.

Each case is named by what it is about, and rebuilt from that. `SAME` cases give the reference's
value, or are refused as there; `REFUSED_HERE` ones pass there by mistake (SPEC §1, §3.1, §6).
"""

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from backlane.backtest.engine import run_backtest
from backlane.backtest.request import parse_request
from backlane.backtest.result import BacktestRun
from backlane.errors import (
    BacklaneError,
    BundleCorruptError,
    BundleInvalidError,
    DataRangeEmptyError,
    DataRefusedError,
    DatasetNotFoundError,
    InvalidRequestError,
    ModelNotFoundError,
    NotEnoughBarsError,
)
from backlane.market.bars import BarSeries
from backlane.market.timeframe import Timeframe
from backlane.sources.bundle import load_predictor, read_bundle
from backlane.sources.catalog import Catalog
from backlane.sources.files import read_bars
from tests.golden.vectors import KTRDR, bars_of, bundle_folder, cases, folders, read_json
from tests.shared import needs_shared

READS = ("runtime/errors_and_edges.json",)

pytestmark = needs_shared

FIRST_ROW = 1000
DATA_ROWS = 400
DATA_DECISIONS = {"confidence_threshold": 0.4}
"""Which bars the cases about data are made of, and how they were decided: the recording does not
say, but its counts of trades and its volumes fit these."""


@dataclass
class Bench:
    """A model with one timeframe, one with two, and a place to break copies of them."""

    folder: Path
    tmp: Path

    @property
    def metadata(self) -> dict[str, Any]:
        """What the bundle says of itself."""
        found: dict[str, Any] = read_json(self.folder / "metadata_v3.json")
        return found

    @property
    def symbol(self) -> str:
        """The symbol that it was trained on."""
        return str(self.metadata["training_symbols"][0])

    def copy(self) -> Path:
        """Returns a copy to break."""
        target = self.tmp / self.folder.parent.name / "v"
        shutil.copytree(self.folder, target)
        for path in target.iterdir():
            path.chmod(0o600)
        return target

    def change(self, name: str, **fields: Any) -> Path:
        """Returns a copy in whose JSON file `name` the fields are set; None takes one away."""
        target = self.copy()
        content = read_json(target / name)
        content.update(fields)
        kept = {key: value for key, value in content.items() if value is not None}
        (target / name).write_text(json.dumps(kept))
        return target

    def config(self, section: str, **fields: Any) -> Path:
        """Returns a copy in whose config.json one section is changed."""
        content = read_json(self.folder / "config.json")
        return self.change("config.json", **{section: {**content[section], **fields}})

    def bars(self) -> dict[str, BarSeries]:
        """Returns all bars that the model asks for."""
        return {
            label: bars_of(self.symbol, label) for label in self.metadata["training_timeframes"]
        }

    def run(self, folder: Path | None = None, bars: Any = None, **fields: Any) -> BacktestRun:
        """Runs a bundle under the rules of the reference."""
        request = {"model": {"path": "x"}, "symbol": self.symbol, "profile": "ktrdr-head"}
        predictor = load_predictor(read_bundle(folder or self.folder))
        return run_backtest(
            parse_request(request | fields), predictor, bars or self.bars(), dataset_digests={}
        )

    def run_first(self, count: int) -> int:
        """Returns how many points the curve of a run over the first bars has."""
        (label,) = self.metadata["training_timeframes"]
        run = self.run(bars={label: bars_of(self.symbol, label).rows(0, count)})
        return int((~np.isnan(run.equity)).sum())


@pytest.fixture
def single(tmp_path: Path) -> Bench:
    return Bench(bundle_with(1), tmp_path)


@pytest.fixture
def multiple(tmp_path: Path) -> Bench:
    return Bench(bundle_with(2), tmp_path)


def bundle_with(timeframe_count: int) -> Path:
    """Returns the bundle with so many intraday timeframes that the edge cases are recorded of.

    That is the one of the recorded resume, or the first with a base of an hour and memberships that
    the reference's ten inputs are of.
    """
    recorded = read_json(KTRDR / "runtime" / "checkpoint_resume.json")["config"]["bundle"]
    if timeframe_count == 1:
        return bundle_folder(recorded)
    return next(
        path
        for path in folders("bundles", "metadata_v3.json")
        if len(read_json(path / "metadata_v3.json")["training_timeframes"]) == timeframe_count
    )


# --- data -------------------------------------------------------------------------------------


def a_file(bench: Bench, change: Callable[[pd.DataFrame], pd.DataFrame]) -> Path:
    """Writes the first bars with a change as the reference's cache would hold them."""
    (label,) = bench.metadata["training_timeframes"]
    series = bars_of(bench.symbol, label).rows(FIRST_ROW, FIRST_ROW + DATA_ROWS)
    names = ("open", "high", "low", "close", "volume")
    frame = pd.DataFrame({name: getattr(series, name) for name in names})
    frame.index = pd.to_datetime(series.open_time_ns, utc=True).rename("timestamp")
    path = bench.tmp / f"{bench.symbol}_{label}.csv"
    change(frame).to_csv(path)
    return path


def with_value(column: str, row: int, value: float) -> Callable[[pd.DataFrame], pd.DataFrame]:
    def change(frame: pd.DataFrame) -> pd.DataFrame:
        frame = frame.astype(float)
        frame.iloc[row, frame.columns.get_loc(column)] = value
        return frame

    return change


def swapped(frame: pd.DataFrame) -> pd.DataFrame:
    order = np.arange(len(frame))
    order[[100, 200]] = order[[200, 100]]
    return frame.iloc[order]


DATA_SERVED: dict[str, Callable[[pd.DataFrame], pd.DataFrame]] = {
    "clean": lambda frame: frame,
    "naive timestamps": lambda frame: frame.tz_localize(None),
    "upper-case columns": lambda frame: frame.rename(columns=str.upper),
}
DATA_REFUSED: dict[str, Callable[[pd.DataFrame], pd.DataFrame]] = {
    "volume -1 becomes 0": with_value("volume", 100, -1.0),
    "NaN close": with_value("close", 100, np.nan),
    "duplicate timestamp": lambda frame: pd.concat([frame, frame.iloc[[100]]]).sort_index(),
    "unsorted": swapped,
    "no close column": lambda frame: frame.drop(columns="close"),
    "high below low": with_value("high", 100, 0.5),
    "zero price rows": with_value("open", 100, 0.0),
    "integer index: invents daily dates from 2023-01-01": lambda frame: frame.reset_index(
        drop=True
    ),
}


def check_data(bench: Bench, case: dict[str, Any], tmp_name: str) -> None:
    (label,) = bench.metadata["training_timeframes"]
    timeframe = Timeframe.parse(label)
    if tmp_name == "no volume column":  # said, not assumed: then volume is 0, as there
        path = a_file(bench, lambda frame: frame.drop(columns="volume"))
        with pytest.raises(DataRefusedError, match="volume"):
            read_bars(path, bench.symbol, timeframe)
        series = read_bars(path, bench.symbol, timeframe, columns={"volume": "none"}).series
        check_served(bench, case, series)
    elif tmp_name in DATA_SERVED:
        path = a_file(bench, DATA_SERVED[tmp_name])
        check_served(bench, case, read_bars(path, bench.symbol, timeframe).series)
    else:
        path = a_file(bench, DATA_REFUSED[tmp_name])
        with pytest.raises(DataRefusedError):
            read_bars(path, bench.symbol, timeframe)


def check_served(bench: Bench, case: dict[str, Any], series: BarSeries) -> None:
    expected = case["value"]
    assert len(series) == expected["rows"]
    assert series.volume.min() == expected["volume_min"]
    run = bench.run(bars={str(series.timeframe): series}, decisions=DATA_DECISIONS)
    assert int((~np.isnan(run.equity)).sum()) == expected["equity_rows"]
    assert len(run.trades) == expected["trades"]


# --- bundles and requests -------------------------------------------------------------------


def nothing_there(bench: Bench) -> BacktestRun:
    return bench.run(bench.tmp / "none")


def without(name: str) -> Callable[[Bench], object]:
    def act(bench: Bench) -> object:
        target = bench.copy()
        (target / name).unlink()
        return bench.run(target)

    return act


def corrupt(bench: Bench) -> object:
    target = bench.copy()
    (target / "model.pt").write_bytes(b"garbage")
    return bench.run(target)


def unknown_symbol(bench: Bench) -> object:
    (label, *_) = bench.metadata["training_timeframes"]
    return Catalog(bench.tmp / "home").get("ZZZ", Timeframe.parse(label))


def below_seven_days(bench: Bench) -> object:
    base = bars_of(bench.symbol, bench.metadata["training_timeframes"][0])
    start = pd.Timestamp(int(base.open_time_ns[0]), tz="UTC")
    end = start + pd.Timedelta(days=5)
    return bench.run(start=start.isoformat(), end=end.isoformat())


def one_file_missing(bench: Bench) -> object:
    bars = bench.bars()
    bars.pop(bench.metadata["training_timeframes"][1])
    return bench.run(bars=bars)


def with_names(change: Callable[[list[str]], list[str]]) -> Callable[[Bench], object]:
    def act(bench: Bench) -> object:
        names = change(bench.metadata["resolved_features"])
        return bench.run(bench.change("metadata_v3.json", resolved_features=names))

    return act


def another_timeframe(bench: Bench) -> object:
    return bench.run(timeframe="4h")


def cut(count: int) -> Callable[[Bench], object]:
    return lambda bench: bench.run_first(count)


def ask(**fields: Any) -> Callable[[Bench], object]:
    return lambda bench: bench.run(**fields)


SAME: dict[str, tuple[Callable[[Bench], object], type[BacklaneError] | None]] = {
    "50 bars": (cut(50), NotEnoughBarsError),
    "51 bars": (cut(51), None),
    "52 bars": (cut(52), None),
    "10 bars (below the indicator minimum)": (cut(10), NotEnoughBarsError),
    "empty range": (ask(start="2050-01-01", end="2050-12-31"), DataRangeEmptyError),
    "end before start": (ask(start="2023-12-31", end="2023-01-01"), InvalidRequestError),
    "unknown symbol": (unknown_symbol, DatasetNotFoundError),
    "no model_path": (lambda _: parse_request({"symbol": "X"}), InvalidRequestError),
    "missing directory": (nothing_there, ModelNotFoundError),
    "metadata missing": (without("metadata_v3.json"), BundleInvalidError),
    "model.pt missing": (without("model.pt"), BundleInvalidError),
    "model.pt corrupt": (corrupt, BundleCorruptError),
    "config.json missing: default architecture [64,32]": (
        without("config.json"), BundleInvalidError,
    ),
    "feature_count wrong": (
        lambda bench: bench.run(bench.change("features.json", feature_count=3)),
        BundleInvalidError,
    ),
    "resolved feature unknown": (
        with_names(lambda names: [*names[:-1], "1h_nope_x"]), BundleInvalidError,
    ),
    "output_format unknown in decisions": (
        lambda bench: bench.run(bench.config("decisions", output_format="x")),
        BundleInvalidError,
    ),
    "unsupported model type": (
        lambda bench: bench.run(bench.config("model", type="transformer")), BundleInvalidError,
    ),
    "lstm without sequence_length": (
        lambda bench: bench.run(
            bench.config("model", type="lstm", architecture={"hidden_size": 4})
        ),
        BundleInvalidError,
    ),
    "model section without architecture: silently uses MLP [64,32]": (
        lambda bench: bench.run(bench.change("config.json", model={"type": "mlp"})),
        BundleInvalidError,
    ),
    "run timeframe differs from the model's: single-TF 4h request on a 1h model": (
        another_timeframe, InvalidRequestError,
    ),
    "multi-TF with one file missing": (one_file_missing, InvalidRequestError),
    "multi-TF range below 7 days": (below_seven_days, NotEnoughBarsError),
}  # fmt: skip
"""What to do, and what refuses it; None where the reference gives a number, which is ours, too."""


def check_features_json_missing(bench: Bench, case: dict[str, Any]) -> None:
    target = bench.copy()
    (target / "features.json").unlink()
    whole, without_it = bench.run(), bench.run(target)
    assert case["value"] is True
    assert without_it.equity.tobytes() == whole.equity.tobytes()


def check_shuffled(bench: Bench, case: dict[str, Any]) -> None:
    """Columns are chosen by name there, and the network is fed each at another one's place."""
    assert case["value"] is True
    names = bench.metadata["resolved_features"][::-1]
    with pytest.raises(BundleInvalidError, match="is not where the strategy"):
        bench.run(bench.change("metadata_v3.json", resolved_features=names))


def check_old_version(bench: Bench, case: dict[str, Any]) -> None:
    run = bench.run(bench.change("metadata_v3.json", strategy_version="2.0"))
    assert case["value"] == bench.metadata["strategy_name"]
    assert len(run.bars)


def check_regression_decisions(bench: Bench, case: dict[str, Any]) -> None:
    """Read as a return there; the head and the decisions must agree here."""
    assert case["value"] is True
    costs = {"round_trip_cost": 0.003, "min_edge_multiplier": 1.5}
    with pytest.raises(BundleInvalidError, match="output_format"):
        bench.run(bench.config("decisions", output_format="regression", cost_model=costs))


def check_negative_costs(bench: Bench, case: dict[str, Any]) -> None:
    assert case["value"] is True
    for name in ("commission_rate", "slippage_rate"):
        with pytest.raises(InvalidRequestError, match=f"{name}.*greater than or equal to 0"):
            bench.run(**{name: -0.001})


def check_timeframe_list(bench: Bench, case: dict[str, Any]) -> None:
    """A request cannot name timeframes here: the model does, and others would only be loaded."""
    assert isinstance(case["value"], int)
    with pytest.raises(InvalidRequestError, match="timeframes"):
        bench.run(timeframes=["1h", "5m"])


DIFFERENT: dict[str, Callable[[Bench, dict[str, Any]], None]] = {
    "features.json missing: falls back to resolved_features": check_features_json_missing,
    "resolved_features shuffled: still accepted (reordered to the list)": check_shuffled,
    "strategy_version 2.0 in metadata is not checked by the engine": check_old_version,
    "regression decisions on a 3-class model: reads class-0 logit as return": (
        check_regression_decisions
    ),
    "slippage and commission negative accepted": check_negative_costs,
    "multi-TF config.timeframes list overrides": check_timeframe_list,
}


@pytest.mark.parametrize("case", [*cases("runtime", "errors_and_edges.json")])
def test_an_edge_case_is_the_references_or_refused(
    case: dict[str, Any], single: Bench, multiple: Bench
) -> None:
    name = case["case"]
    bench = multiple if name.startswith("multi-TF") else single
    if name.startswith("data: "):
        check_data(bench, case, name.removeprefix("data: "))
    elif name in DIFFERENT:
        DIFFERENT[name](bench, case)
    else:
        act, error = SAME[name]
        assert case["ok"] is (error is None)
        if error is None:
            assert act(bench) == case["value"]
        else:
            with pytest.raises(error):
                act(bench)
