"""What every service lets its operator set."""

from pathlib import Path
from typing import Literal, Self

from pydantic import Field, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from backlane.rpc.addresses import is_loopback_host, join_address

MIB = 1024 * 1024


class ServerSettings(BaseSettings):
    """Settings of one server process, read from the environment.

    A service subclasses it with its own `env_prefix`, its own default port and what else it needs:
    `model_config = SettingsConfigDict(env_prefix="BACKLANE_MODELS_")`.
    """

    model_config = SettingsConfigDict(frozen=True, use_attribute_docstrings=True)

    host: str = "127.0.0.1"
    """Address to listen on; loopback, so that nothing leaves the machine unless it is asked to."""

    port: int = Field(default=0, ge=0, le=65535)
    """Port to listen on; 0 takes any free one, and address_file then says which."""

    address_file: Path | None = None
    """Where to write host:port once the server is SERVING; removed at the end."""

    allow_insecure_bind: bool = False
    """Listen beyond loopback without TLS; only for a network that is closed to all others."""

    reflection: bool = True
    """Answer reflection, so that grpcurl and buf curl work without the protos."""

    drain_grace_s: float = Field(default=10.0, ge=0, le=3600)
    """Seconds that running calls and workers get to end after SIGTERM, all together."""

    receive_bytes_max: int = Field(default=4 * MIB, ge=1024)
    """Largest request message, in bytes."""

    send_bytes_max: int = Field(default=8 * MIB, ge=1024)
    """Largest response message, in bytes."""

    unary_concurrent_max: int = Field(default=256, ge=1)
    """Unary calls that run at once; one more is refused with LIMIT_EXCEEDED."""

    stream_concurrent_max: int = Field(default=2000, ge=1)
    """Streams that are open at once; one more is refused with LIMIT_EXCEEDED."""

    probe_interval_s: float = Field(default=5.0, gt=0, le=3600)
    """Seconds between two looks at whether the service can still do its work."""

    probe_timeout_s: float = Field(default=1.0, gt=0, le=60)
    """Seconds after which such a look counts as failed; a slower store serves nobody."""

    log_level: Literal["debug", "info", "warning", "error"] = "info"
    """Lowest level that is logged; debug has one line per call."""

    log_format: Literal["console", "json"] = "console"
    """Lines for people, or one JSON object per line for a collector."""

    @model_validator(mode="after")
    def _refuse_open_bind(self) -> Self:
        if not self.allow_insecure_bind and not is_loopback_host(self.host):
            raise ValueError(
                f"host {self.host!r} is not loopback, and this server has no TLS: anyone who "
                "reaches it could use it. Listen on 127.0.0.1, or set allow_insecure_bind=true "
                "inside a closed network (as docker-compose.yml does)"
            )
        return self

    @property
    def bind_address(self) -> str:
        """Returns host:port to listen on, with an IPv6 host in brackets."""
        return join_address(self.host, self.port)
