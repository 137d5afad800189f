"""Where the services are, and how to call them: a deadline on each call, domain errors back."""

# grpc's callables are generic in types-grpcio alone.
from __future__ import annotations

import json
import os
import threading
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self, TypeVar

import grpc

from backlane.errors import InvalidRequestError
from backlane.rpc import channel as channels
from backlane.rpc.channel import Purpose
from backlane.rpc.error_catalog import from_rpc_error

DEFAULT_DEADLINE_S = 10.0
"""Time that a unary call may take, where the caller says nothing else."""

Service = Literal["operations", "models", "backtests"]

_PROCESS_NAMES: Mapping[Service, str] = {
    "operations": "operations_service",
    "models": "model_service",
    "backtests": "backtest_service",
}
_DEFAULT_ADDRESSES: Mapping[Service, str] = {
    "operations": "127.0.0.1:7410",
    "models": "127.0.0.1:7411",
    "backtests": "127.0.0.1:7412",
}

RequestT = TypeVar("RequestT")
ResponseT = TypeVar("ResponseT")
StubT = TypeVar("StubT")


def home_folder(environ: Mapping[str, str] = os.environ) -> Path:
    """Returns the folder of this user's data and of the running services' addresses."""
    return Path(environ.get("BACKLANE_HOME") or "~/.local/share/backlane").expanduser()


@dataclass(frozen=True, slots=True)
class Addresses:
    """Where the three services listen, each as host:port or unix:path."""

    operations: str = _DEFAULT_ADDRESSES["operations"]
    models: str = _DEFAULT_ADDRESSES["models"]
    backtests: str = _DEFAULT_ADDRESSES["backtests"]

    @classmethod
    def resolve(
        cls,
        *,
        operations: str | None = None,
        models: str | None = None,
        backtests: str | None = None,
        environ: Mapping[str, str] = os.environ,
    ) -> Self:
        """Returns the addresses, each from the first that names it.

        An argument; BACKLANE_OPERATIONS_ADDRESS, BACKLANE_MODELS_ADDRESS or
        BACKLANE_BACKTESTS_ADDRESS; `run/addresses.json` in BACKLANE_HOME, which `backlane up`
        writes; the default port on this machine. Raises InvalidRequestError when that file is not
        a JSON object of texts.
        """
        written = _read_addresses(home_folder(environ) / "run" / "addresses.json")
        given = {"operations": operations, "models": models, "backtests": backtests}
        found = {
            name: address or environ.get(f"BACKLANE_{name.upper()}_ADDRESS") or written.get(name)
            for name, address in given.items()
        }
        return cls(**{name: address for name, address in found.items() if address})

    def of(self, service: Service) -> str:
        """Returns the address of one service."""
        address: str = getattr(self, service)
        return address


def _read_addresses(path: Path) -> dict[str, str]:
    try:
        written = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except ValueError:
        written = None
    names = [field.name for field in fields(Addresses)]
    if not isinstance(written, dict) or not all(
        isinstance(written.get(name, ""), str) for name in names
    ):
        raise InvalidRequestError(
            f"{path} is not a JSON object of addresses; remove it, and run `backlane up` again.",
            metadata={"path": str(path)},
        )
    return {name: written[name] for name in names if name in written}


@contextmanager
def domain_errors(service: Service, address: str) -> Iterator[None]:
    """Turns each grpc.RpcError inside, sync or asyncio, into the BacklaneError it stands for."""
    try:
        yield
    except grpc.RpcError as error:
        raise from_rpc_error(error, peer=f"{_PROCESS_NAMES[service]} at {address}") from error


class Connection:
    """Calls to one service from threads; connects with the first call, and is closed once.

    `service_names` are the full protobuf names of the stubs used here; their idempotent methods
    are tried again while the service is unavailable.
    """

    def __init__(self, service: Service, address: str, service_names: Sequence[str] = ()) -> None:
        self.service = service
        self.address = address
        self._service_names = tuple(service_names)
        self._channels: dict[Purpose, grpc.Channel] = {}
        self._opening = threading.Lock()

    def stub(self, factory: Callable[[grpc.Channel], StubT], purpose: Purpose = "unary") -> StubT:
        """Returns a stub on the channel for unary calls, or on the one for long streams."""
        with self._opening:
            if purpose not in self._channels:
                self._channels[purpose] = channels.channel(
                    self.address, purpose=purpose, services=self._service_names
                )
        return factory(self._channels[purpose])

    def errors(self) -> AbstractContextManager[None]:
        """Returns a context in which a failed call raises the BacklaneError it stands for."""
        return domain_errors(self.service, self.address)

    def call(
        self,
        method: grpc.UnaryUnaryMultiCallable[RequestT, ResponseT],
        request: RequestT,
        *,
        deadline_s: float = DEFAULT_DEADLINE_S,
        wait_for_ready: bool = False,
    ) -> ResponseT:
        """Makes one unary call; raises a BacklaneError."""
        with self.errors():
            return method(request, timeout=deadline_s, wait_for_ready=wait_for_ready)

    def stream(
        self,
        method: grpc.UnaryStreamMultiCallable[RequestT, ResponseT],
        request: RequestT,
        *,
        deadline_s: float | None = None,
    ) -> Iterator[ResponseT]:
        """Yields what the service streams; ends the call when the reader stops reading."""
        return self._read(lambda: method(request, timeout=deadline_s))

    def exchange(
        self,
        method: grpc.StreamStreamMultiCallable[RequestT, ResponseT],
        requests: Iterable[RequestT],
        *,
        deadline_s: float | None = None,
    ) -> Iterator[ResponseT]:
        """Streams both ways; ends the call when the reader stops reading."""
        return self._read(lambda: method(iter(requests), timeout=deadline_s))

    def _read(self, begin: Callable[[], Any]) -> Iterator[Any]:
        with self.errors():
            call = begin()
            try:
                yield from call
            finally:
                call.cancel()

    def close(self) -> None:
        """Closes the channels; calls under way end as cancelled."""
        while self._channels:
            self._channels.popitem()[1].close()

    def __enter__(self) -> Self:
        """Returns itself."""
        return self

    def __exit__(
        self,
        _type: type[BaseException] | None,
        _error: BaseException | None,
        _traceback: TracebackType | None,
    ) -> None:
        """Closes the channels."""
        self.close()


class AioConnection:
    """Calls to one service from one event loop; otherwise as Connection."""

    def __init__(self, service: Service, address: str, service_names: Sequence[str] = ()) -> None:
        self.service = service
        self.address = address
        self._service_names = tuple(service_names)
        self._channels: dict[Purpose, grpc.aio.Channel] = {}

    def stub(
        self, factory: Callable[[grpc.aio.Channel], StubT], purpose: Purpose = "unary"
    ) -> StubT:
        """Returns a stub on the channel for unary calls, or on the one for long streams."""
        if purpose not in self._channels:
            self._channels[purpose] = channels.aio_channel(
                self.address, purpose=purpose, services=self._service_names
            )
        return factory(self._channels[purpose])

    def errors(self) -> AbstractContextManager[None]:
        """Returns a context in which a failed call raises the BacklaneError it stands for."""
        return domain_errors(self.service, self.address)

    async def call(
        self,
        method: grpc.aio.UnaryUnaryMultiCallable[RequestT, ResponseT],
        request: RequestT,
        *,
        deadline_s: float = DEFAULT_DEADLINE_S,
        wait_for_ready: bool = False,
    ) -> ResponseT:
        """Makes one unary call; raises a BacklaneError."""
        with self.errors():
            return await method(request, timeout=deadline_s, wait_for_ready=wait_for_ready)

    def stream(
        self,
        method: grpc.aio.UnaryStreamMultiCallable[RequestT, ResponseT],
        request: RequestT,
        *,
        deadline_s: float | None = None,
    ) -> AsyncIterator[ResponseT]:
        """Yields what the service streams; ends the call when the iterator is closed."""
        return self._read(lambda: method(request, timeout=deadline_s))

    def exchange(
        self,
        method: grpc.aio.StreamStreamMultiCallable[RequestT, ResponseT],
        requests: AsyncIterator[RequestT],
        *,
        deadline_s: float | None = None,
    ) -> AsyncIterator[ResponseT]:
        """Streams both ways; ends the call when the iterator is closed."""
        return self._read(lambda: method(requests, timeout=deadline_s))

    async def _read(self, begin: Callable[[], Any]) -> AsyncIterator[Any]:
        with self.errors():
            call = begin()
            try:
                async for response in call:
                    yield response
            finally:
                call.cancel()

    async def close(self) -> None:
        """Closes the channels; calls under way end as cancelled."""
        while self._channels:
            await self._channels.popitem()[1].close()

    async def __aenter__(self) -> Self:
        """Returns itself."""
        return self

    async def __aexit__(
        self,
        _type: type[BaseException] | None,
        _error: BaseException | None,
        _traceback: TracebackType | None,
    ) -> None:
        """Closes the channels."""
        await self.close()
