"""What the operator of model_service can set."""

import os
from pathlib import Path
from typing import Annotated, Self

from pydantic import Field, field_validator, model_validator
from pydantic_settings import NoDecode, SettingsConfigDict

from backlane.rpc.settings import MIB, ServerSettings

DEFAULT_PORT = 7411


class ModelServiceSettings(ServerSettings):
    """Settings of model_service, from the environment as BACKLANE_MODELS_..."""

    model_config = SettingsConfigDict(
        env_prefix="BACKLANE_MODELS_", frozen=True, use_attribute_docstrings=True
    )

    port: int = Field(default=DEFAULT_PORT, ge=0, le=65535)
    """Port to listen on; 0 takes any free one, and address_file then says which."""

    models_dir: Path = Path("models")
    """Folder of the bundles, {model}/{version}/; nothing outside it is ever read."""

    threads: int = Field(default=1, ge=1, le=256)
    """Predictions that run at once, each on one thread; the bits of outputs do not depend on it."""

    cpu_affinity: Annotated[tuple[int, ...], NoDecode] = ()
    """CPUs that predictions may run on, as 0,1; empty means all that the process may use."""

    cache_bytes_max: int = Field(default=1024 * MIB, ge=MIB)
    """Weights kept in memory, in bytes; beyond it the least recently used are dropped."""

    receive_bytes_max: int = Field(default=64 * MIB, ge=1024)
    """Largest request message, in bytes: one batch of Predict, 800,000 rows of 20 features."""

    send_bytes_max: int = Field(default=64 * MIB, ge=1024)
    """Largest response message, in bytes."""

    unary_concurrent_max: int = Field(default=64, ge=1)
    """Unary calls that run at once; one more is refused with LIMIT_EXCEEDED."""

    stream_concurrent_max: int = Field(default=64, ge=1)
    """Streams of predictions that are open at once; one more is refused with LIMIT_EXCEEDED."""

    stream_chunk_rows_max: int = Field(default=65_536, ge=1)
    """Rows in one message of a stream; a sequence model takes seconds for so many."""

    stream_chunk_bytes_max: int = Field(default=16 * MIB, ge=1024)
    """Bytes of features in one message of a stream: what a stream holds in memory."""

    stream_idle_timeout_s: float = Field(default=120.0, gt=0, le=86_400)
    """Seconds without a message after which a stream is ended: an open one keeps its model."""

    @field_validator("cpu_affinity", mode="before")
    @classmethod
    def _split_cpus(cls, value: object) -> object:
        if not isinstance(value, str):
            return value
        return tuple(part.strip() for part in value.split(",") if part.strip())

    @model_validator(mode="after")
    def _require_usable_cpus(self) -> Self:
        usable = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set()
        missing = sorted(set(self.cpu_affinity) - usable)
        if missing:
            raise ValueError(
                f"cpu_affinity names CPUs {missing}, which this process may not use; "
                f"it may use {sorted(usable)}"
            )
        return self
