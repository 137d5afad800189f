"""Puts together what runs operations: the same in backtest_service and in a worker of its own."""

import os
import socket
import uuid
from dataclasses import dataclass

from backlane.client.operations import AsyncOperationsClient
from backlane.client.workers import AsyncWorkerClient
from backlane.clock import Clock
from backlane.sources.checkpoints import CheckpointFiles
from backtest_service.housekeeping import Housekeeping
from backtest_service.messages import WorkerSetup
from backtest_service.peers import Peers
from backtest_service.settings import RunnerSettings
from backtest_service.supervision import RunLimits
from backtest_service.supervisor import Supervisor, SupervisorTerms
from backtest_service.worker_pool import WorkerPool


@dataclass(frozen=True, slots=True)
class Outlook:
    """How the process that runs them appears: its name, its drain and its log."""

    name: str
    drain_grace_s: float
    log_level: str
    log_format: str


def build_supervisor(
    settings: RunnerSettings, outlook: Outlook, peers: Peers, clock: Clock
) -> tuple[Supervisor, WorkerPool]:
    """Returns a supervisor, ready to start, and its worker processes; `peers` are its services."""
    home = settings.home_dir
    pool = WorkerPool(
        worker_setup(settings, outlook),
        size=settings.workers,
        spare=settings.spare_workers,
        start_timeout_s=settings.worker_start_timeout_s,
    )
    terms = SupervisorTerms(
        home=home,
        results_max=settings.results_max,
        limits=RunLimits(settings.stall_timeout_s, settings.cancel_grace_s),
        drain_grace_s=outlook.drain_grace_s,
    )
    operations = AsyncOperationsClient(settings.operations_address)
    supervisor = Supervisor(
        AsyncWorkerClient(settings.operations_address, worker_id_of(outlook.name)),
        pool,
        Housekeeping(operations, CheckpointFiles(home), clock),
        terms,
        clock,
        lambda: peers.check_one("model_service"),
    )
    return supervisor, pool


def worker_setup(settings: RunnerSettings, outlook: Outlook) -> WorkerSetup:
    """Returns what a worker process is told at its start."""
    return WorkerSetup(
        home=settings.home_dir,
        models_address=settings.models_address,
        memory_bytes_max=settings.run_memory_bytes_max,
        checkpoint_policy=settings.checkpoint_policy,
        log_level=outlook.log_level,
        log_format=outlook.log_format,
    )


def worker_id_of(name: str) -> str:
    """Returns an id that no other start of any worker has, and that says where this one is."""
    host = socket.gethostname().split(".")[0][:40]
    return f"{name}-{host}-{os.getpid()}-{uuid.uuid4().hex[:12]}"
