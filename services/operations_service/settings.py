"""What the operator of operations_service can set."""

from pathlib import Path

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from backlane.client.connection import home_folder
from backlane.operations.lease import LeaseTerms
from backlane.operations.watching import BOOKMARK_INTERVAL_S_DEFAULT
from backlane.rpc.settings import ServerSettings

DEFAULT_PORT = 7410


class OperationsServiceSettings(ServerSettings):
    """Settings of operations_service, from the environment as BACKLANE_OPERATIONS_..."""

    model_config = SettingsConfigDict(
        env_prefix="BACKLANE_OPERATIONS_", frozen=True, use_attribute_docstrings=True
    )

    port: int = Field(default=DEFAULT_PORT, ge=0, le=65535)
    """Port to listen on; 0 takes any free one, and address_file then says which."""

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

    @property
    def store_file(self) -> Path:
        """Where the registry is kept."""
        return (self.data_dir or home_folder() / "operations") / "operations.sqlite"

    @property
    def lease_terms(self) -> LeaseTerms:
        """A lease may fail to be renewed twice before it lapses."""
        return LeaseTerms(self.lease_ttl_s, self.lease_ttl_s / 3, self.cancel_grace_s)

    @property
    def expiry_interval_s(self) -> float:
        """How often the registry looks for lapsed leases."""
        return self.lease_ttl_s / 6
