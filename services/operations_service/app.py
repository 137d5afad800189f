"""Puts operations_service together: the one place that knows all its parts."""

from backlane.api.backtest.v1 import backtest_pb2
from backlane.api.operations.v1 import operations_service_pb2, worker_service_pb2
from backlane.api.operations.v1.operations_service_pb2_grpc import (
    add_OperationsServiceServicer_to_server,
)
from backlane.api.operations.v1.worker_service_pb2_grpc import add_WorkerServiceServicer_to_server
from backlane.clock import Clock, SystemClock
from backlane.rpc.server import RpcServer, ServedService
from operations_service.expiry import ExpiryScanner
from operations_service.servicer import OperationsServicer, WorkerServicer
from operations_service.settings import OperationsServiceSettings
from operations_service.store import SqliteOperationStore
from operations_service.waiting import Waits
from operations_service.watch import Watches

OPERATIONS = operations_service_pb2.DESCRIPTOR.services_by_name["OperationsService"].full_name
KNOWN_PAYLOADS = (backtest_pb2.BacktestSpec, backtest_pb2.BacktestResult)
"""What operations carry as Any: loaded here, so that reflection can resolve it for any client."""
WORKERS = worker_service_pb2.DESCRIPTOR.services_by_name["WorkerService"].full_name


def build(settings: OperationsServiceSettings, clock: Clock | None = None) -> RpcServer:
    """Returns the server of operations_service, ready to start."""
    clock = clock or SystemClock()
    store = SqliteOperationStore(settings.store_file, clock, settings.lease_terms)
    watches = Watches(store, clock, settings.bookmark_interval_s)
    waits = Waits(store, clock, settings.directive_heartbeat_s)
    clients = OperationsServicer(store, watches, waits, settings.write_timeout_s)
    workers = WorkerServicer(store, waits, settings.write_timeout_s)
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
        ],
        probe=store.probe,
        background=[store, ExpiryScanner(store, settings.expiry_interval_s)],
        on_drain=[watches.drain, waits.drain],
        extra_limits={
            f"/{OPERATIONS}/WaitOperation": settings.waiting_calls_max,
            f"/{WORKERS}/AcquireOperation": settings.waiting_calls_max,
        },
        clock=clock,
    )
