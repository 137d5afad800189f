"""A result as frames: from the directory and from memory they are the same."""

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from backlane.backtest.result import BacktestRun
from backlane.errors import InvalidRequestError, ResultNotFoundError
from backlane.report.figures import TRADE_MARKS_MAX, marked_trades
from backlane.report.frames import ResultFrames, load_result

FRAMES = ("equity", "trades", "decisions", "features", "bars", "metrics", "funnel")


@pytest.fixture
def copy(written: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(written, tmp_path / "result"))


@pytest.mark.parametrize("name", FRAMES)
def test_a_directory_and_a_run_in_memory_give_the_same_frame(run, written, name: str):
    from_run, loaded = (
        getattr(ResultFrames.from_run(run), name),
        getattr(load_result(written), name),
    )
    pd.testing.assert_frame_equal(from_run, loaded, check_exact=True)


def test_the_frames_are_what_the_run_holds(run: BacktestRun):
    result = ResultFrames.from_run(run)
    marked = ~np.isnan(run.equity)
    assert (result.equity["equity"].to_numpy() == run.equity[marked]).all()
    assert (result.equity.index.asi8 == run.bars.open_time_ns[marked]).all()
    assert (result.trades["net_pnl"].to_numpy() == run.trades["net_pnl"]).all()
    assert (result.bars["close"].to_numpy() == run.bars.close).all()
    assert (result.features.to_numpy() == run.features.values).all()
    assert result.metrics.loc["sharpe_ratio", "value"] == run.metric("sharpe_ratio")
    assert list(result.metrics.index) == [metric.id for metric in run.metrics]
    for stage in run.funnel:
        row = result.funnel.loc[stage.name]
        assert (row["entered"], row["passed"]) == (stage.entered_count, stage.passed_count)
        assert {name: row[name] for name in stage.drops} == dict(stage.drops)


def test_the_deepest_drawdown_is_the_metric(run: BacktestRun):
    result = ResultFrames.from_run(run)
    assert -result.drawdown.min() == pytest.approx(run.metric("max_drawdown_pct"), rel=1e-12)


def test_the_years_multiply_to_the_total_return(run: BacktestRun):
    years = ResultFrames.from_run(run).monthly_returns["year"]
    assert np.prod(1 + years) - 1 == pytest.approx(run.metric("total_return_pct"), rel=1e-9)


def test_three_lines_give_a_figure(written: Path):
    result = load_result(written)
    figure = result.figure()
    names = [trace.name for trace in figure.data]
    assert {"equity", "drawdown", "won", "lost", "long", "exit"} <= set(names)
    assert len(figure.data[names.index("equity")].x) == len(result.equity)
    assert result.monthly_figure().data[0].z.shape == (len(result.monthly_returns), 12)


def test_a_result_without_bars_is_drawn_without_them(copy: Path):
    (copy / "bars.parquet").unlink()
    result = load_result(copy)
    assert result.bars is None
    assert "equity" in [trace.name for trace in result.figure().data]


def test_columns_and_keys_that_a_later_version_adds_are_kept(copy: Path):
    document = json.loads((copy / "result.json").read_text())
    document |= {"stamp": "audited", "metrics": {**document["metrics"], "omega": 1.5}}
    (copy / "result.json").write_text(json.dumps(document))
    lines = (copy / "trades.csv").read_text().splitlines()
    added = [f"{line},{'tag' if number == 0 else 'x'}" for number, line in enumerate(lines)]
    (copy / "trades.csv").write_text("\n".join(added) + "\n")
    result = load_result(copy)
    assert result.document.model_extra == {"stamp": "audited"}
    assert result.metrics.loc["omega", "value"] == 1.5
    assert set(result.trades["tag"]) == {"x"}


def test_a_folder_that_is_no_result_is_refused_by_name(tmp_path: Path):
    with pytest.raises(ResultNotFoundError, match=r"There is no .*result\.json"):
        load_result(tmp_path)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("{", "cannot be read"),
        ("[]", "holds no object"),
        ("{}", "is no result of a backtest"),
        ('{"format": "backlane.result.v9"}', "backlane.result.v1"),
        ("[" * 100_000, "cannot be read"),
    ],
)
def test_a_damaged_document_is_refused_with_the_reason(copy: Path, content: str, said: str):
    (copy / "result.json").write_text(content)
    with pytest.raises(InvalidRequestError, match=said) as caught:
        load_result(copy)
    assert caught.value.violations


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("equity.csv", b"time,equity,cash\n2023-01-01T00:00:00Z,1,1\n"),
        ("equity.csv", b"time,equity,cash,position\n2023-01-01T00:00:00Z,much,1,0\n"),
        ("equity.csv", b""),
        ("equity.csv", b"time,equity,cash,position\n\xff\xfe,1,1,1\n"),
        ("bars.parquet", b"PAR1 no parquet"),
    ],
)
def test_a_damaged_table_is_refused_by_name(copy: Path, name: str, content: bytes):
    (copy / name).write_bytes(content)
    with pytest.raises(InvalidRequestError, match=name):
        getattr(load_result(copy), name.partition(".")[0])


def test_of_too_many_trades_those_that_matter_most_are_marked(run: BacktestRun):
    trades = ResultFrames.from_run(run).trades.iloc[[0] * (TRADE_MARKS_MAX + 5)].copy()
    trades["net_pnl"] = np.arange(len(trades), dtype=float) - 3.0
    marked = marked_trades(trades)["net_pnl"].to_numpy()
    # The five smallest, |net| = 0, 1, 1, 2, 2, are left out.
    assert set(np.arange(len(trades)) - 3.0) - set(marked) == {0.0, 1.0, -1.0, 2.0, -2.0}
    assert (np.diff(marked) > 0).all()
