"""Runs over many instruments, in a worker process: from the request to the result directory."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import entry_points
from pathlib import Path

from backlane.backtest.checkpoint_file import Binding
from backlane.backtest.cycle_outcome import CycleOutcome, CycleRequest
from backlane.backtest.observer import PhaseTimer
from backlane.backtest.portfolio_checkpoint import PORTFOLIO_CHECKPOINTS, PortfolioCheckpoint
from backlane.backtest.portfolio_config import PortfolioConfig
from backlane.backtest.portfolio_cycle import RunPlan
from backlane.backtest.portfolio_decision import Holdings, decide_once
from backlane.backtest.portfolio_drive import run_in_slices
from backlane.backtest.portfolio_request import PortfolioRequest, file_roles
from backlane.backtest.portfolio_result import PortfolioRun
from backlane.backtest.portfolio_run import parse_portfolio_config, plan_run
from backlane.client.models import ModelsClient
from backlane.clock import SystemClock
from backlane.errors import (
    BacklaneError,
    CheckpointForeignError,
    DatasetCorruptError,
    InvalidRequestError,
)
from backlane.operations.operation import Payload
from backlane.panel.events import Events
from backlane.panel.panel import Panel
from backlane.sources.portfolio_results import PORTFOLIO_RESULT_FILES, write_portfolio_result
from backlane.sources.portfolio_summaries import summarize_portfolio
from backlane.sources.results import file_digest
from backlane.sources.strategy_packages import STRATEGY_GROUP
from backlane.sources.uploads import UploadedFiles
from backlane.wire.portfolio_runs import as_config_error, result_to_payload
from backtest_service.messages import StartRun
from backtest_service.portfolio_models import model_digests, served_strategies
from backtest_service.run_directory import list_files
from backtest_service.versions import read_versions
from backtest_service.warm import WarmModels
from backtest_service.workbench import Workbench


@dataclass(frozen=True, slots=True, eq=False)
class LoadedPortfolio:
    """A request with all that it names: the configuration, the files by role, the data."""

    plan: RunPlan
    paths: dict[str, Path]
    panel: Panel
    events: dict[str, Events]

    @property
    def config(self) -> PortfolioConfig:
        """Returns the configuration that was asked for."""
        return self.plan.config


class PortfolioRuns:
    """Carries out portfolio runs, and single cycles, one after the other."""

    def __init__(self, bench: Workbench) -> None:
        self._bench = bench
        self._uploads = UploadedFiles(bench.setup.home)
        self._models = WarmModels(ModelsClient(bench.setup.models_address))
        self._strategies = served_strategies(self._models)

    def execute(self, command: StartRun, request: PortfolioRequest) -> Payload:
        """Runs a request, writes its result directory, and returns what the operation carries."""
        bench = self._bench
        observer = bench.observer()
        observer.entered("load", 0)
        loaded = self._load(request)
        bench.board.share_times(loaded.panel.time_ns)
        versions = read_versions(_package_versions())
        digests = model_digests(loaded.plan, self._models)
        binding = Binding(command.spec_sha256.hex(), digests, request.files, versions)
        resume = bench.newest_checkpoint(command, PORTFOLIO_CHECKPOINTS, binding)
        try:
            run = self._simulate(command, loaded, binding, resume, observer)
        except CheckpointForeignError as error:
            bench.note(f"{error.message} Going on from the start.")
            run = self._simulate(command, loaded, binding, None, observer)
        observer.entered("result", len(run.panel))
        document = loaded.config.model_dump(mode="json")
        write_portfolio_result(run, document, loaded.paths, command.directory)
        observer.advanced(len(run.panel))
        files = list_files(command.directory, PORTFOLIO_RESULT_FILES)
        observer.stop()
        summary = summarize_portfolio(
            command.directory, run, request, files, observer.timings, binding.versions
        )
        return result_to_payload(summary)

    def decide(self, request: CycleRequest) -> CycleOutcome:
        """Returns what one cycle decides; its errors name fields by their paths in the request."""
        try:
            loaded = self._load(request.portfolio)
        except InvalidRequestError as error:
            raise as_config_error(error) from error
        cash = loaded.config.initial_cash if request.cash is None else request.cash
        return decide_once(
            loaded.plan,
            loaded.panel,
            loaded.events,
            request.as_of_ns,
            Holdings(request.positions, cash),
            SystemClock(),
        )

    def _simulate(
        self,
        command: StartRun,
        loaded: LoadedPortfolio,
        binding: Binding,
        resume: PortfolioCheckpoint | None,
        observer: PhaseTimer,
    ) -> PortfolioRun:
        with self._bench.writer(command, PORTFOLIO_CHECKPOINTS, binding, resume) as writer:
            return run_in_slices(
                loaded.plan,
                loaded.panel,
                loaded.events,
                observer=observer,
                slot=self._bench.board.slot,
                checkpoints=writer,
                resume=resume,
            )

    def _load(self, request: PortfolioRequest) -> LoadedPortfolio:
        # Brings pandas along, which a process that runs no portfolio does without.
        from backlane.sources.portfolio_data import read_portfolio_data

        config = parse_portfolio_config(request.config, self._strategies)
        names = file_roles(request.config)
        paths = {role: self._verified(name, request) for role, name in names.items()}
        with _named(paths, names):
            panel, events = read_portfolio_data(paths)
        panel = config.fed(panel)
        plan = plan_run(config, tuple(events), self._strategies)
        return LoadedPortfolio(plan, paths, panel, events)

    def _verified(self, name: str, request: PortfolioRequest) -> Path:
        digest = request.files[name]
        path = self._uploads.find(digest)
        found = file_digest(path)
        if found != digest:
            raise DatasetCorruptError(
                f"{name} is damaged where it is kept: its bytes are {found}, not {digest}. Remove "
                f"{path}, and upload it again.",
                metadata={"file": name, "digest": found, "expected_digest": digest},
            )
        return path


def _package_versions() -> dict[str, str]:
    """Returns the versions of the packages that strategies come from, by strategy."""
    points = entry_points(group=STRATEGY_GROUP)
    return {f"strategy.{each.name}": each.dist.version for each in points if each.dist is not None}


@contextmanager
def _named(paths: dict[str, Path], names: dict[str, str]) -> Iterator[None]:
    """Has errors about files name them as the configuration does, not by where they are kept."""
    try:
        yield
    except BacklaneError as error:
        message = error.message
        for role, path in paths.items():
            message = message.replace(str(path), names[role])
        raise type(error)(message, metadata=error.metadata, violations=error.violations) from error
