"""Puts backtest_service together: the one place that knows all of its parts."""

import asyncio

from backlane.api.backtest.v1 import backtest_service_pb2 as pb
from backlane.api.backtest.v1.backtest_service_pb2_grpc import (
    add_BacktestServiceServicer_to_server,
)
from backlane.api.portfolios.v1 import portfolio_service_pb2 as portfolio_pb
from backlane.api.portfolios.v1.portfolio_service_pb2_grpc import (
    add_PortfolioServiceServicer_to_server,
)
from backlane.client.models import AsyncModelsClient
from backlane.client.operations import AsyncOperationsClient
from backlane.client.workers import AsyncWorkerClient
from backlane.clock import Clock, SystemClock
from backlane.rpc.server import RpcServer, ServedService
from backlane.sources.catalog import Catalog
from backlane.sources.portfolio_results import PORTFOLIO_RESULT_FILES
from backlane.sources.uploads import UploadedFiles
from backlane.wire.portfolio_runs import result_from_payload
from backtest_service.cycle_desk import CycleDesk
from backtest_service.finished_runs import FinishedRuns
from backtest_service.paper_desk import PaperDesk, PaperTerms
from backtest_service.peers import Peers
from backtest_service.portfolio_servicer import PortfolioServicer
from backtest_service.portfolio_validation import PortfolioValidator
from backtest_service.results import Results
from backtest_service.run_kinds import BACKTEST_KIND, PORTFOLIO_KIND
from backtest_service.runner import Outlook, build_supervisor, worker_id_of, worker_setup
from backtest_service.servicer import BacktestServicer
from backtest_service.settings import BacktestServiceSettings
from backtest_service.submission import Submission
from backtest_service.uploading import Uploading, UploadLimits
from backtest_service.validation import RequestValidator

SERVICE_NAME = pb.DESCRIPTOR.services_by_name["BacktestService"].full_name
PORTFOLIO_SERVICE_NAME = portfolio_pb.DESCRIPTOR.services_by_name["PortfolioService"].full_name


class _Clients:
    """The connections of the servicers, closed with the server."""

    def __init__(self, settings: BacktestServiceSettings) -> None:
        self.models = AsyncModelsClient(settings.models_address)
        self.operations = AsyncOperationsClient(settings.operations_address)

    async def start(self) -> None:
        """Does nothing: the first call connects."""

    async def stop(self) -> None:
        """Closes the connections to all of them."""
        await asyncio.gather(self.models.close(), self.operations.close())


def build(settings: BacktestServiceSettings, clock: Clock | None = None) -> RpcServer:
    """Returns the server of backtest_service, ready to start."""
    clock = clock or SystemClock()
    clients = _Clients(settings)
    outlook = Outlook(
        "backtest_service", settings.drain_grace_s, settings.log_level, settings.log_format
    )
    uploads = UploadedFiles(settings.home_dir)
    desk = CycleDesk(
        PortfolioValidator(uploads),
        worker_setup(settings, outlook),
        start_timeout_s=settings.worker_start_timeout_s,
    )
    peers = Peers(
        {
            "operations_service": settings.operations_address,
            "model_service": settings.models_address,
        }
    )
    supervisor, pool = build_supervisor(settings, outlook, peers, clock)
    backtests = _backtests(settings, clients)
    paper = PaperDesk(
        PaperTerms(
            settings.home_dir,
            settings.results_dir,
            settings.paper_sessions_max,
            settings.paper_idle_s,
        ),
        clients.operations,
        AsyncWorkerClient(settings.operations_address, worker_id_of("paper")),
        clock,
    )
    portfolios = _portfolios(settings, clients, uploads, desk, paper, clock)

    async def probe() -> None:
        pool.check()
        await peers.check()

    return RpcServer(
        settings,
        name="backtest_service",
        services=[
            ServedService(
                SERVICE_NAME,
                lambda server: add_BacktestServiceServicer_to_server(backtests, server),
            ),
            ServedService(
                PORTFOLIO_SERVICE_NAME,
                lambda server: add_PortfolioServiceServicer_to_server(portfolios, server),
            ),
        ],
        probe=probe,
        background=[clients, peers, desk, paper, supervisor],
        on_drain=[paper.drain, supervisor.drain],
        clock=clock,
    )


def _backtests(settings: BacktestServiceSettings, clients: _Clients) -> BacktestServicer:
    validator = RequestValidator(clients.models, Catalog(settings.home_dir))
    return BacktestServicer(
        validator,
        Submission(BACKTEST_KIND, validator.settle, clients.operations),
        Results(settings.results_dir, clients.operations),
    )


def _portfolios(
    settings: BacktestServiceSettings,
    clients: _Clients,
    uploads: UploadedFiles,
    desk: CycleDesk,
    paper: PaperDesk,
    clock: Clock,
) -> PortfolioServicer:
    limits = UploadLimits(settings.upload_bytes_max, settings.uploads_bytes_max)
    return PortfolioServicer(
        Uploading(uploads, limits, clock),
        Submission(PORTFOLIO_KIND, PortfolioValidator(uploads).settle, clients.operations),
        FinishedRuns(
            settings.results_dir, clients.operations, result_from_payload, PORTFOLIO_RESULT_FILES
        ),
        desk,
        paper,
    )
