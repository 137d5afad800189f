"""What the operator of operations_service can set."""

from pathlib import Path
from typing import Self

from pydantic import Field, model_validator
from pydantic_settings import SettingsConfigDict

from backlane.client.connection import home_folder
from backlane.operations.admission import AdmissionLimits
from backlane.operations.lease import LeaseTerms
from backlane.operations.retention import RetentionPolicy
from backlane.operations.watching import BOOKMARK_INTERVAL_S_DEFAULT
from backlane.rpc.settings import ServerSettings

DEFAULT_PORT = 7410
DAY_S = 86_400.0


class OperationsServiceSettings(ServerSettings):
    """Settings of operations_service, from the environment as BACKLANE_OPERATIONS_..."""

    model_config = SettingsConfigDict(
        env_prefix="BACKLANE_OPERATIONS_", frozen=True, use_attribute_docstrings=True
    )

    port: int = Field(default=DEFAULT_PORT, ge=0, le=65535)
    """Port to listen on; 0 takes any free one, and address_file then says which."""

    store_url: str = ""
    """Where the registry is kept: sqlite:///path or postgresql://...; empty: a file in data_dir."""

    data_dir: Path | None = None
    """Folder of the registry's file, one server each; else operations/ in BACKLANE_HOME."""

    lease_ttl_s: float = Field(default=15.0, ge=0.1, le=3600)
    """Seconds after which a worker that does not renew its lease counts as lost."""

    cancel_grace_s: float = Field(default=10.0, ge=0, le=3600)
    """Seconds that a worker is given to stop once cancel was asked."""

    bookmark_interval_s: float = Field(default=BOOKMARK_INTERVAL_S_DEFAULT, ge=0.1, le=60)
    """Longest silence of a watch that asks for none, in seconds."""

    directive_heartbeat_s: float = Field(default=5.0, ge=0.1, le=60)
    """Longest silence of a worker's stream of directives, in seconds."""

    write_timeout_s: float = Field(default=30.0, ge=0.1, le=3600)
    """Seconds for which a reader may take nothing before its stream ends with SLOW_CONSUMER."""

    waiting_calls_max: int = Field(default=1000, ge=1)
    """Calls that wait for work or for an end at once, of each kind: one per idle worker."""

    watches_max: int = Field(default=2000, ge=1)
    """Watches that are open at once; one more is refused with WATCH_LIMIT."""

    watches_per_client_max: int = Field(default=50, ge=1)
    """Watches of one client; one more is refused with WATCH_LIMIT."""

    client_calls_per_s: float = Field(default=1000.0, gt=0)
    """Calls of one client in the long run, in each second; beyond it RATE_LIMIT."""

    client_calls_burst: int = Field(default=2000, ge=1)
    """Calls that one client may make at once after a pause, beyond the rate."""

    live_per_client_max: int = Field(default=10_000, ge=1)
    """Operations of one client that have not ended; one more is refused with QUEUE_FULL."""

    queued_max: int = Field(default=100_000, ge=1)
    """Operations of all clients that wait for a worker; one more is refused with QUEUE_FULL."""

    retention_days: float = Field(default=7.0, ge=0)
    """Days after its end for which an operation is kept, with its events and points."""

    retention_max: int = Field(default=1_000_000, ge=0)
    """Ended operations that are kept at most; those that ended first go early."""

    retention_interval_s: float = Field(default=600.0, ge=0.1)
    """Seconds between two looks for operations whose time is over."""

    @model_validator(mode="after")
    def _fill_in_store_url(self) -> Self:
        if not self.store_url:
            file = (self.data_dir or home_folder() / "operations") / "operations.sqlite"
            object.__setattr__(self, "store_url", f"sqlite:///{file.absolute()}")
        return self

    @property
    def admission_limits(self) -> AdmissionLimits:
        """How much may be on its way."""
        return AdmissionLimits(self.live_per_client_max, self.queued_max)

    @property
    def retention_policy(self) -> RetentionPolicy:
        """How long what has ended is kept."""
        return RetentionPolicy(self.retention_days * DAY_S, finished_max=self.retention_max)

    @property
    def lease_terms(self) -> LeaseTerms:
        """A lease may fail to be renewed twice before it lapses."""
        return LeaseTerms(self.lease_ttl_s, self.lease_ttl_s / 3, self.cancel_grace_s)

    @property
    def expiry_interval_s(self) -> float:
        """How often the registry looks for lapsed leases."""
        return self.lease_ttl_s / 6
