"""What the operator of backtest_service can set."""

import os
from pathlib import Path

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from backlane.rpc.settings import MIB, ServerSettings
from backlane.sources.home import home_dir

DEFAULT_PORT = 7412
WORKERS_DEFAULT = max(1, (os.cpu_count() or 1) // 2)


class BacktestServiceSettings(ServerSettings):
    """Settings of backtest_service, from the environment as BACKLANE_BACKTESTS_..."""

    model_config = SettingsConfigDict(
        env_prefix="BACKLANE_BACKTESTS_", frozen=True, use_attribute_docstrings=True
    )

    port: int = Field(default=DEFAULT_PORT, ge=0, le=65535)
    """Port to listen on; 0 takes any free one, and address_file then says which."""

    operations_address: str = "127.0.0.1:7410"
    """Where operations_service listens, host:port or unix:path."""

    models_address: str = "127.0.0.1:7411"
    """Where model_service listens, host:port or unix:path."""

    home: Path | None = None
    """Folder of the catalog and of the results; else BACKLANE_HOME."""

    workers: int = Field(default=WORKERS_DEFAULT, ge=1, le=256)
    """Runs at once, each in a process of its own; half of the CPUs, the rest is for the models."""

    run_memory_bytes_max: int = Field(default=4096 * MIB, ge=512 * MIB)
    """Memory that one worker process may have, in bytes; beyond it a run fails OUT_OF_MEMORY."""

    stall_timeout_s: float = Field(default=120.0, gt=0, le=86_400)
    """Seconds without any progress after which a run is ended as STALLED."""

    cancel_grace_s: float = Field(default=5.0, gt=0, le=600)
    """Seconds that a run gets to stop by itself once cancel is asked; then its worker is killed."""

    worker_start_timeout_s: float = Field(default=60.0, gt=0, le=600)
    """Seconds that a worker process gets to import what it computes with."""

    results_max: int = Field(default=10_000, ge=1)
    """Results kept under home/results; beyond it the oldest are removed."""

    probe_interval_s: float = Field(default=1.0, gt=0, le=3600)
    """Seconds between two looks at whether workers and the other services are there."""

    @property
    def home_dir(self) -> Path:
        """Returns the folder of the catalog and of the results."""
        return self.home or home_dir(os.environ)

    @property
    def results_dir(self) -> Path:
        """Returns the folder of the results, one folder in it for each operation."""
        return self.home_dir / "results"
