"""Puts backtest_service together: the one place that knows all of its parts."""

import asyncio

from backlane.api.backtest.v1 import backtest_service_pb2 as pb
from backlane.api.backtest.v1.backtest_service_pb2_grpc import (
    add_BacktestServiceServicer_to_server,
)
from backlane.client.models import AsyncModelsClient
from backlane.client.operations import AsyncOperationsClient
from backlane.clock import Clock, SystemClock
from backlane.rpc.server import RpcServer, ServedService
from backlane.sources.catalog import Catalog
from backtest_service.peers import Peers
from backtest_service.results import Results
from backtest_service.runner import Outlook, build_supervisor
from backtest_service.servicer import BacktestServicer
from backtest_service.settings import BacktestServiceSettings
from backtest_service.submission import Submission
from backtest_service.validation import RequestValidator

SERVICE_NAME = pb.DESCRIPTOR.services_by_name["BacktestService"].full_name


class _Clients:
    """The connections of the servicer, closed with the server."""

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
    validator = RequestValidator(clients.models, Catalog(settings.home_dir))
    servicer = BacktestServicer(
        validator,
        Submission(validator, clients.operations),
        Results(settings.results_dir, clients.operations),
    )
    peers = Peers(
        {
            "operations_service": settings.operations_address,
            "model_service": settings.models_address,
        }
    )
    supervisor, pool = build_supervisor(
        settings,
        Outlook(
            "backtest_service", settings.drain_grace_s, settings.log_level, settings.log_format
        ),
        peers,
        clock,
    )

    async def probe() -> None:
        pool.check()
        await peers.check()

    return RpcServer(
        settings,
        name="backtest_service",
        services=[
            ServedService(
                SERVICE_NAME,
                lambda server: add_BacktestServiceServicer_to_server(servicer, server),
            )
        ],
        probe=probe,
        background=[clients, peers, supervisor],
        on_drain=[supervisor.drain],
        clock=clock,
    )
