"""Runs over one instrument, in a worker process: from the request to the result directory."""

from backlane.backtest.checkpoint import BACKTEST_CHECKPOINTS, Binding, Checkpoint
from backlane.backtest.engine import run_backtest
from backlane.backtest.observer import RunObserver
from backlane.backtest.request import BacktestRequest
from backlane.backtest.result import BacktestRun
from backlane.backtest.summarize import summarize_run
from backlane.backtest.window import cut_window
from backlane.client.models import ModelsClient, RemotePredictor
from backlane.errors import CheckpointForeignError
from backlane.inference.model_info import ModelInfo
from backlane.market.bars import BarSeries
from backlane.market.timeframe import Timeframe
from backlane.operations.operation import Payload
from backlane.sources.catalog import Catalog
from backlane.sources.results import write_result
from backlane.wire.backtest import result_to_payload
from backtest_service.messages import StartRun
from backtest_service.run_directory import list_files
from backtest_service.versions import read_versions
from backtest_service.warm import WarmBars, WarmModels
from backtest_service.workbench import Workbench

WARM_SHARE = 8
"""Kept bars take at most one such part of the memory that a worker may have."""


class BacktestRuns:
    """Carries out backtests, one after the other; bars and models stay warm in between."""

    def __init__(self, bench: Workbench) -> None:
        setup = bench.setup
        self._bench = bench
        self._models = WarmModels(ModelsClient(setup.models_address))
        self._bars = WarmBars(Catalog(setup.home), setup.memory_bytes_max // WARM_SHARE)

    def execute(self, command: StartRun, request: BacktestRequest) -> Payload:
        """Runs a request, writes its result directory, and returns what the operation carries."""
        bench = self._bench
        observer = bench.observer()
        observer.entered("load", 0)
        predictor = self._models.get(request.model.resource_name, request.model_digest)
        bars = self._load_bars(request, predictor.info)
        binding = Binding(
            command.spec_sha256.hex(),
            predictor.info.digest,
            request.dataset_digests,
            read_versions(predictor.info.runtime),
        )
        resume = bench.newest_checkpoint(command, BACKTEST_CHECKPOINTS, binding)

        def simulate(resume: Checkpoint | None) -> BacktestRun:
            return self._simulate(command, request, predictor, bars, binding, resume, observer)

        try:
            run = simulate(resume)
        except CheckpointForeignError as error:
            bench.note(f"{error.message} Going on from the start.")
            run = simulate(None)
        observer.entered("result", len(run.bars))
        write_result(run.timed(observer.timings), command.directory)
        observer.advanced(len(run.bars))
        files = list_files(command.directory)
        observer.stop()
        return result_to_payload(summarize_run(run.timed(observer.timings), files))

    def _simulate(
        self,
        command: StartRun,
        request: BacktestRequest,
        predictor: RemotePredictor,
        bars: dict[str, BarSeries],
        binding: Binding,
        resume: Checkpoint | None,
        observer: RunObserver,
    ) -> BacktestRun:
        with self._bench.writer(command, BACKTEST_CHECKPOINTS, binding, resume) as writer:
            return run_backtest(
                request,
                predictor,
                bars,
                dataset_digests=request.dataset_digests,
                observer=observer,
                slot=self._bench.board.slot,
                versions=binding.versions,
                resume=resume,
                checkpoints=writer,
            )

    def _load_bars(self, request: BacktestRequest, info: ModelInfo) -> dict[str, BarSeries]:
        bars = {
            label: self._bars.get(
                request.symbol, Timeframe.parse(label), request.dataset_digests[label]
            )
            for label in info.strategy.timeframes
        }
        window = cut_window(request, info.strategy, bars, request.resolved_switches())
        self._bench.board.share_times(window.base.open_time_ns)
        return bars
