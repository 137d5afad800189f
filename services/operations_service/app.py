"""Puts operations_service together: the one place that knows all its parts."""

from google.longrunning import operations_pb2
from google.longrunning.operations_pb2_grpc import add_OperationsServicer_to_server

from backlane.api.backtest.v1 import backtest_pb2
from backlane.api.operations.v1 import operations_service_pb2, worker_service_pb2
from backlane.api.operations.v1.operations_service_pb2_grpc import (
    add_OperationsServiceServicer_to_server,
)
from backlane.api.operations.v1.worker_service_pb2_grpc import add_WorkerServiceServicer_to_server
from backlane.api.portfolios.v1 import portfolio_service_pb2
from backlane.clock import Clock, SystemClock
from backlane.errors import WatchLimitError
from backlane.rpc.admission import MethodLimit, RateLimit
from backlane.rpc.server import RpcServer, ServedService
from operations_service.expiry import ExpiryScanner
from operations_service.longrunning import LongrunningServicer
from operations_service.retention import Retention
from operations_service.routing import Router
from operations_service.servicer import OperationsServicer, WorkerServicer
from operations_service.settings import OperationsServiceSettings
from operations_service.stores import open_store
from operations_service.waiting import Waits
from operations_service.watch import Watches

OPERATIONS = operations_service_pb2.DESCRIPTOR.services_by_name["OperationsService"].full_name
KNOWN_PAYLOADS = (
    backtest_pb2.BacktestSpec,
    backtest_pb2.BacktestResult,
    portfolio_service_pb2.PortfolioSpec,
    portfolio_service_pb2.PortfolioResult,
)
"""What operations carry as Any: loaded here, so that reflection can resolve it for any client."""
LONGRUNNING = operations_pb2.DESCRIPTOR.services_by_name["Operations"].full_name
WORKERS = worker_service_pb2.DESCRIPTOR.services_by_name["WorkerService"].full_name


def build(settings: OperationsServiceSettings, clock: Clock | None = None) -> RpcServer:
    """Returns the server of operations_service, ready to start."""
    clock = clock or SystemClock()
    store = open_store(settings, clock)
    router = Router(store)
    watches = Watches(store, router, clock, settings.bookmark_interval_s)
    waits = Waits(store, router, clock, settings.directive_heartbeat_s)
    clients = OperationsServicer(store, watches, waits, settings.write_timeout_s)
    workers = WorkerServicer(store, waits, settings.write_timeout_s)
    longrunning = LongrunningServicer(store, waits)
    return RpcServer(
        settings,
        name="operations_service",
        services=[
            ServedService(
                OPERATIONS, lambda server: add_OperationsServiceServicer_to_server(clients, server)
            ),
            ServedService(
                WORKERS, lambda server: add_WorkerServiceServicer_to_server(workers, server)
            ),
            ServedService(
                LONGRUNNING, lambda server: add_OperationsServicer_to_server(longrunning, server)
            ),
        ],
        probe=store.probe,
        background=[
            store,
            router,
            ExpiryScanner(store, settings.expiry_interval_s),
            Retention(store, settings.retention_interval_s),
        ],
        on_drain=[watches.drain, waits.drain],
        method_limits={
            f"/{OPERATIONS}/WatchOperations": MethodLimit(
                settings.watches_max, settings.watches_per_client_max, WatchLimitError
            ),
            f"/{OPERATIONS}/WaitOperation": MethodLimit(settings.waiting_calls_max),
            f"/{LONGRUNNING}/WaitOperation": MethodLimit(settings.waiting_calls_max),
            f"/{OPERATIONS}/ListMetricPoints": MethodLimit(settings.waiting_calls_max),
            f"/{WORKERS}/AcquireOperation": MethodLimit(settings.waiting_calls_max),
        },
        rate_limit=RateLimit(
            (f"/{OPERATIONS}/", f"/{LONGRUNNING}/"),
            settings.client_calls_per_s,
            settings.client_calls_burst,
        ),
        clock=clock,
    )
