"""`--local`: the engine in this process, without services. The result is the same to the bit."""

from collections import deque
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from backlane.backtest.engine import run_backtest
from backlane.backtest.observer import PhaseTimer
from backlane.backtest.request import BacktestRequest
from backlane.backtest.result import BacktestRun
from backlane.cli.display import Display
from backlane.cli.status import RunStatus
from backlane.cli.version import read_versions
from backlane.clock import SystemClock
from backlane.cycle.loop import Slot, new_slot
from backlane.errors import (
    DatasetChangedError,
    FieldViolation,
    InvalidRequestError,
    ModelDigestMismatchError,
)
from backlane.inference.model_name import ModelName
from backlane.market.bars import BarSeries
from backlane.market.digest import bars_digest
from backlane.market.timeframe import Timeframe
from backlane.sources.bundle import Bundle, load_predictor, read_bundle
from backlane.sources.bundle_paths import resolve_bundle
from backlane.sources.catalog import Catalog
from backlane.sources.files import read_bars

if TYPE_CHECKING:
    from backlane.inference.model_info import ModelInfo

READING_INTERVAL_S = 0.1
READINGS_MAX = 64
"""Readings that wait to be shown; older ones give way."""


def run_local(
    request: BacktestRequest, *, models_dir: Path, home: Path, display: Display
) -> BacktestRun:
    """Runs the request here and shows how far it is.

    Ctrl-C stops the engine before its next bar and raises KeyboardInterrupt.
    """
    run = LocalRun(request, models_dir, home)
    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="engine") as pool:
        working = pool.submit(run.work)
        try:
            while not wait([working], timeout=READING_INTERVAL_S).done:
                _show(run, display)
        except KeyboardInterrupt:
            run.cancel()
            raise
        _show(run, display)
    return working.result()


class LocalRun:
    """One run in this process: does the work in one thread, is looked at from another.

    It is the engine's RunObserver, too.
    """

    def __init__(self, request: BacktestRequest, models_dir: Path, home: Path) -> None:
        self._request = request
        self._models_dir = models_dir
        self._catalog = Catalog(home)
        self._slot = new_slot()
        self._bar_count = 0
        self._readings: deque[RunStatus] = deque(maxlen=READINGS_MAX)
        self._latest = RunStatus("load")

    def work(self) -> BacktestRun:
        """Loads the bundle and the bars, and runs the engine; tells how long each phase took."""
        timer = PhaseTimer(SystemClock(), self)
        timer.entered("load", 0)
        bundle = self.load_bundle()
        bars = self.load_bars(bundle.info)
        run = run_backtest(
            self._request,
            load_predictor(bundle),
            bars,
            dataset_digests={label: bars_digest(series) for label, series in bars.items()},
            observer=timer,
            slot=self._slot,
            versions=read_versions(),
        )
        timer.stop()
        return run.timed(timer.timings)

    def cancel(self) -> None:
        """Stops the engine before its next bar, or its next chunk of predictions."""
        self._slot[Slot.CANCEL] = 1.0

    def take_readings(self) -> list[RunStatus]:
        """Returns what has happened since the last call, and where the loop is now."""
        taken = []
        while self._readings:
            taken.append(self._readings.popleft())
        latest = self._latest
        if latest.phase == "simulation":
            taken.append(self._at_slot(latest))
        return taken

    def entered(self, phase: str, total_units: int) -> None:
        """Notes that a phase begins."""
        if phase == "features":
            self._bar_count = total_units
        self._push(RunStatus(phase, 0, total_units))

    def advanced(self, completed_units: int) -> None:
        """Notes how many bars are predicted."""
        self._push(RunStatus(self._latest.phase, completed_units, self._latest.total))

    def simulated(
        self, bar_index: int, time_ns: int, equity: float, trades: NDArray[np.void]
    ) -> None:
        """Notes that a slice of the simulation is done."""
        total = self._latest.total
        completed = bar_index + 1 - (self._bar_count - total)
        count = self._latest.trade_count + len(trades)
        self._push(RunStatus("simulation", completed, total, time_ns, equity, count))

    def _push(self, status: RunStatus) -> None:
        self._latest = status
        self._readings.append(status)

    def _at_slot(self, latest: RunStatus) -> RunStatus:
        """The reading brought up to where the compiled loop says it is."""
        next_index = int(self._slot[Slot.NEXT_INDEX])
        completed = next_index - (self._bar_count - latest.total)
        if completed <= latest.completed:
            return latest
        equity, trades = float(self._slot[Slot.EQUITY]), int(self._slot[Slot.TRADE_COUNT])
        return RunStatus("simulation", completed, latest.total, latest.time_ns, equity, trades)

    def load_bundle(self) -> Bundle:
        """Returns the bundle that the request names; refuses any but the one it is for."""
        choice = self._request.model
        if choice.path is not None:
            bundle = read_bundle(Path(choice.path))
        else:
            name = ModelName.parse(choice.resource_name, field="model")
            bundle = read_bundle(resolve_bundle(self._models_dir, name), root=self._models_dir)
        _check_model_digest(self._request, bundle.info)
        return bundle

    def load_bars(self, model: "ModelInfo") -> dict[str, BarSeries]:
        """Returns the bars of each timeframe of the model; refuses any but those it is for."""
        request, timeframes = self._request, model.strategy.timeframes
        files = request.data.files
        if files:
            _check_files(files, timeframes, model.name)
        bars = {}
        for label in timeframes:
            timeframe = Timeframe.parse(label)
            expected = request.dataset_digests.get(label) or None
            if files:
                series = read_bars(Path(files[label]), request.symbol, timeframe).series
                _check_bars_digest(series, expected, files[label])
            else:
                series = self._catalog.load(request.symbol, timeframe, expected_digest=expected)
            bars[label] = series
        return bars


def _show(run: LocalRun, display: Display) -> None:
    for status in run.take_readings():
        display.show(status)


def _check_model_digest(request: BacktestRequest, model: "ModelInfo") -> None:
    if request.model_digest and request.model_digest != model.digest:
        raise ModelDigestMismatchError(
            f"{model.name} is {model.digest}, and the request is for {request.model_digest}.",
            metadata={"name": model.name, "digest": model.digest, "wanted": request.model_digest},
        )


def _check_bars_digest(series: BarSeries, expected: str | None, file: str) -> None:
    if expected and bars_digest(series) != expected:
        raise DatasetChangedError(
            f"The bars of {file} are {bars_digest(series)}, and the request is for {expected}.",
            metadata={"file": file, "digest": bars_digest(series), "expected_digest": expected},
        )


def _check_files(files: Mapping[str, str], timeframes: tuple[str, ...], model: str) -> None:
    """Refuses a run without a file that it needs; files that it does not need are left unread."""
    missing = [label for label in timeframes if label not in files]
    if not missing:
        return
    violations = [
        FieldViolation(f"data.files.{label}", f"{model} reads {label} bars") for label in missing
    ]
    raise InvalidRequestError(
        f"{model} reads {', '.join(timeframes)}; the files are {', '.join(files)}.",
        violations=tuple(violations),
    )
