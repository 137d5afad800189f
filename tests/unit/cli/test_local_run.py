"""A run in this process: loaded from a folder and files, shown on the way, stopped on request."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from backlane.backtest.request import parse_request
from backlane.backtest.summarize import summarize_run
from backlane.cli.local_run import LocalRun, run_local
from backlane.cli.status import RunStatus
from backlane.errors import (
    CancelledRunError,
    DatasetChangedError,
    InvalidRequestError,
    ModelDigestMismatchError,
    ModelNotFoundError,
)
from backlane.market.timeframe import Timeframe
from backlane.sources.catalog import Catalog
from backlane.sources.synthetic import SYNTHETIC_SYMBOL, synthetic_bars

MODELS = Path(__file__).resolve().parents[3] / "models"

pytestmark = pytest.mark.slow


class _Recorder:
    """A display that remembers."""

    def __init__(self) -> None:
        self.shown: list[RunStatus] = []

    def show(self, status: RunStatus) -> None:
        self.shown.append(status)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("home")
    bars = synthetic_bars(7, datetime(2022, 1, 3, tzinfo=UTC), 600, Timeframe.parse("1h"))
    Catalog(folder).import_bars(bars, "synthetic")
    return folder


def _request(**more: object):
    return parse_request({"model": {"name": "rsi_bb"}, "symbol": SYNTHETIC_SYMBOL, **more})


def test_every_phase_is_shown_and_the_loop_to_its_last_bar(home: Path):
    display = _Recorder()
    run = run_local(_request(), models_dir=MODELS, home=home, display=display)
    phases = list(dict.fromkeys(status.phase for status in display.shown))
    assert phases == ["load", "features", "inference", "simulation", "metrics"]
    last = [status for status in display.shown if status.phase == "simulation"][-1]
    assert last.completed == last.total == len(run.bars)
    assert last.trade_count == len(run.trades)
    assert last.time_ns == run.bars.open_time_ns[-1]
    assert list(run.timings) == phases
    assert min(run.timings.values()) > 0


def test_the_summary_names_the_version_and_timeframe_that_ran(home: Path):
    summary = summarize_run(
        run_local(_request(), models_dir=MODELS, home=home, display=_Recorder())
    )
    assert summary.request.model.resource_name == "models/rsi_bb/versions/1"
    assert summary.request.timeframe == "1h"
    assert summary.metric("total_trades") is not None


def test_a_cancelled_run_stops(home: Path):
    run = LocalRun(_request(), MODELS, home)
    run.cancel()
    with pytest.raises(CancelledRunError):
        run.work()


@pytest.mark.parametrize(
    ("more", "error"),
    [
        ({"model": {"name": "nope"}}, ModelNotFoundError),
        ({"model": {"path": "/nowhere"}}, ModelNotFoundError),
        ({"model_digest": "sha256:00"}, ModelDigestMismatchError),
        ({"dataset_digests": {"1h": "sha256:00"}}, DatasetChangedError),
    ],
)
def test_what_is_not_there_or_not_the_same_is_refused(home: Path, more, error):
    with pytest.raises(error):
        run_local(_request(**more), models_dir=MODELS, home=home, display=_Recorder())


def test_a_file_for_each_timeframe_of_the_model_must_be_there_and_others_are_not_read(home: Path):
    request = _request(data={"files": {"4h": "a.csv"}})
    with pytest.raises(InvalidRequestError) as caught:
        run_local(request, models_dir=MODELS, home=home, display=_Recorder())
    assert [v.field for v in caught.value.violations] == ["data.files.1h"]
