"""Puts backtest_service together: the one place that knows all of its parts."""

import asyncio
import os
import uuid

from backlane.api.backtest.v1 import backtest_service_pb2 as pb
from backlane.api.backtest.v1.backtest_service_pb2_grpc import (
    add_BacktestServiceServicer_to_server,
)
from backlane.client.models import AsyncModelsClient
from backlane.client.operations import AsyncOperationsClient
from backlane.client.workers import AsyncWorkerClient
from backlane.clock import Clock, SystemClock
from backlane.rpc.server import RpcServer, ServedService
from backlane.sources.catalog import Catalog
from backtest_service.messages import WorkerSetup
from backtest_service.peers import Peers
from backtest_service.results import Results
from backtest_service.servicer import BacktestServicer
from backtest_service.settings import BacktestServiceSettings
from backtest_service.submission import Submission
from backtest_service.supervision import RunLimits
from backtest_service.supervisor import Supervisor, SupervisorTerms
from backtest_service.validation import RequestValidator
from backtest_service.worker_pool import WorkerPool

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
    pool = _worker_pool(settings)
    supervisor = _supervisor(settings, pool, clock)
    peers = Peers(
        {
            "operations_service": settings.operations_address,
            "model_service": settings.models_address,
        }
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


def _worker_pool(settings: BacktestServiceSettings) -> WorkerPool:
    setup = WorkerSetup(
        home=settings.home_dir,
        models_address=settings.models_address,
        memory_bytes_max=settings.run_memory_bytes_max,
        log_level=settings.log_level,
        log_format=settings.log_format,
    )
    return WorkerPool(setup, size=settings.workers, start_timeout_s=settings.worker_start_timeout_s)


def _supervisor(settings: BacktestServiceSettings, pool: WorkerPool, clock: Clock) -> Supervisor:
    worker_id = f"backtest_service-{os.getpid()}-{uuid.uuid4().hex[:12]}"
    terms = SupervisorTerms(
        results_dir=settings.results_dir,
        results_max=settings.results_max,
        limits=RunLimits(settings.stall_timeout_s, settings.cancel_grace_s),
        drain_grace_s=settings.drain_grace_s,
    )
    client = AsyncWorkerClient(settings.operations_address, worker_id)
    return Supervisor(client, pool, terms, clock)
