"""What the operator of backtest_service, or of a worker, can set."""

import os
from pathlib import Path
from typing import Literal

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from backlane.backtest.checkpoint_policy import CheckpointPolicy
from backlane.rpc.settings import MIB, ServerSettings
from backlane.sources.home import home_dir
from backtest_service.run_directory import RESULTS_FOLDER

DEFAULT_PORT = 7412
WORKERS_DEFAULT = max(1, (os.cpu_count() or 1) // 2)


class RunnerSettings(BaseSettings):
    """Settings of whatever runs operations: backtest_service, or a worker beside it."""

    model_config = SettingsConfigDict(frozen=True, use_attribute_docstrings=True)

    operations_address: str = "127.0.0.1:7410"
    """Where operations_service listens, host:port or unix:path; replicas with commas in between."""

    models_address: str = "127.0.0.1:7411"
    """Where model_service listens, host:port or unix:path."""

    home: Path | None = None
    """Folder of the catalog, the results and the checkpoints; else BACKLANE_HOME."""

    workers: int = Field(default=WORKERS_DEFAULT, ge=0, le=256)
    """Runs at once, each in a process of its own; half of the CPUs, the rest is for the models."""

    spare_workers: int = Field(default=1, ge=0, le=16)
    """Processes that wait beside those that run, so that one that dies is replaced at once."""

    run_memory_bytes_max: int = Field(default=4096 * MIB, ge=512 * MIB)
    """Memory that one worker process may have, in bytes; beyond it a run fails OUT_OF_MEMORY."""

    stall_timeout_s: float = Field(default=120.0, gt=0, le=86_400)
    """Seconds without any progress after which an attempt is ended as STALLED."""

    cancel_grace_s: float = Field(default=5.0, gt=0, le=600)
    """Seconds that a run gets to stop by itself once cancel is asked; then its worker is killed."""

    checkpoint_interval_s: float = Field(default=30.0, gt=0, le=86_400)
    """Seconds after which a run leaves a checkpoint, counted from its start."""

    checkpoint_interval_bars: int = Field(default=1_000_000, ge=1)
    """Simulated bars after which it leaves one, if that comes first."""

    worker_start_timeout_s: float = Field(default=60.0, gt=0, le=600)
    """Seconds that a worker process gets to import what it computes with."""

    results_max: int = Field(default=10_000, ge=1)
    """Results kept under home/results; beyond it the oldest are removed."""

    @property
    def home_dir(self) -> Path:
        """Returns the folder of the catalog, the results and the checkpoints."""
        return self.home or home_dir(os.environ)

    @property
    def results_dir(self) -> Path:
        """Returns the folder of the results, one folder in it for each operation."""
        return self.home_dir / RESULTS_FOLDER

    @property
    def checkpoint_policy(self) -> CheckpointPolicy:
        """Returns when runs leave checkpoints."""
        return CheckpointPolicy(self.checkpoint_interval_s, self.checkpoint_interval_bars)


class BacktestServiceSettings(RunnerSettings, ServerSettings):
    """Settings of backtest_service, from the environment as BACKLANE_BACKTESTS_..."""

    model_config = SettingsConfigDict(
        env_prefix="BACKLANE_BACKTESTS_", frozen=True, use_attribute_docstrings=True
    )

    port: int = Field(default=DEFAULT_PORT, ge=0, le=65535)
    """Port to listen on; 0 takes any free one, and address_file then says which."""

    upload_bytes_max: int = Field(default=1024 * MIB, ge=1)
    """Largest file that a client may upload, in bytes."""

    uploads_bytes_max: int = Field(default=64 * 1024 * MIB, ge=1)
    """Bytes of uploads kept under home/uploads; beyond it the least recently used are removed."""

    paper_sessions_max: int = Field(default=64, ge=1, le=10_000)
    """Paper sessions held at once; another one is refused."""

    paper_idle_s: float = Field(default=600.0, gt=0, le=30 * 86_400)
    """Seconds that a paper session is held without a stream; then it is put aside, on the disk."""

    probe_interval_s: float = Field(default=1.0, gt=0, le=3600)
    """Seconds between two looks at whether workers and the other services are there."""


class WorkerSettings(RunnerSettings):
    """Settings of a worker of its own, from the environment as BACKLANE_WORKER_..."""

    model_config = SettingsConfigDict(
        env_prefix="BACKLANE_WORKER_", frozen=True, use_attribute_docstrings=True
    )

    workers: int = Field(default=WORKERS_DEFAULT, ge=1, le=256)
    """Runs at once, each in a process of its own; half of the CPUs, the rest is for the models."""

    drain_grace_s: float = Field(default=10.0, ge=0, le=3600)
    """Seconds that runs get to end after SIGTERM; what is left then goes back to the queue."""

    log_level: Literal["debug", "info", "warning", "error"] = "info"
    """Lowest level that is logged."""

    log_format: Literal["console", "json"] = "console"
    """Lines for people, or one JSON object per line for a collector."""
