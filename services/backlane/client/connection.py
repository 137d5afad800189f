"""Where the services are, and how to call them: a deadline on each call, domain errors back.

An address may be a list, `host1:port,host2:port`: replicas of one service on one store. Calls go to
one of them, and to the next when it does not answer.
"""

# grpc's callables are generic in types-grpcio alone.
from __future__ import annotations

import asyncio
import json
import os
import threading
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass, fields
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self, TypeVar

import grpc

from backlane.client.replicas import ELSEWHERE, Replicas, Turn, default_client_name
from backlane.errors import CallTimeoutError, InvalidRequestError
from backlane.rpc import channel as channels
from backlane.rpc.callers import CLIENT_KEY, client_name
from backlane.rpc.channel import Purpose
from backlane.rpc.error_catalog import from_rpc_error

DEFAULT_DEADLINE_S = 10.0
"""Time that a unary call may take, where the caller says nothing else."""

READY_S = 3.0
"""Longest wait for a server that is not there yet, of calls that wait for one at all: those that
submit, and those that begin a watch."""

SUSPECT_S = 1.0
"""A call that is given up after so long without an answer costs its connection."""

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
    are tried again while the service is unavailable. `client` is the name that goes with every
    call, user@host without one.
    """

    def __init__(
        self,
        service: Service,
        address: str,
        service_names: Sequence[str] = (),
        *,
        client: str | None = None,
    ) -> None:
        self.service = service
        self.address = address
        self.replicas = Replicas(address)
        self.client = client_name(client or default_client_name())
        self.has_answered = False
        """Whether any call was answered so far: the service is there, and worth waiting for."""
        self._service_names = tuple(service_names)
        self._channels: dict[tuple[Purpose, str], grpc.Channel] = {}
        self._opening = threading.Lock()

    def stub(self, factory: Callable[[grpc.Channel], StubT], purpose: Purpose = "unary") -> StubT:
        """Returns a stub on the channel for unary calls, or on the one for long streams."""
        return factory(self._channel(purpose))

    def errors(self) -> AbstractContextManager[None]:
        """Returns a context in which a failed call raises the BacklaneError it stands for."""
        return domain_errors(self.service, self.replicas.current)

    def metadata(self, client: str | None = None) -> tuple[tuple[str, str], ...]:
        """Returns what goes with a call: who makes it, or for whom it is made."""
        return ((CLIENT_KEY, client_name(client or "") or self.client),)

    def call(
        self,
        method: grpc.UnaryUnaryMultiCallable[RequestT, ResponseT],
        request: RequestT,
        *,
        deadline_s: float = DEFAULT_DEADLINE_S,
        wait_for_ready: bool = False,
    ) -> ResponseT:
        """Makes one unary call to the current replica; raises a BacklaneError."""
        with self.errors():
            return method(
                request,
                timeout=deadline_s,
                wait_for_ready=wait_for_ready,
                metadata=self.metadata(),
            )

    def ask(
        self,
        factory: Callable[[grpc.Channel], Any],
        method: str,
        request: Any,
        *,
        deadline_s: float = DEFAULT_DEADLINE_S,
        ready_s: float = 0.0,
        client: str | None = None,
    ) -> Any:
        """Makes one unary call that may be repeated, to any replica that answers.

        Where none does, it waits `ready_s` for one, or READY_S where one has answered before;
        `deadline_s` bounds it all. `client` is for whom the call is made, when
        that is somebody else. Raises a BacklaneError.
        """
        # A service that was there is worth waiting for: it restarts, or another replica takes over.
        patience_s = READY_S if self.has_answered else ready_s
        turn = Turn(self.replicas, deadline_s, patience_s)
        metadata = self.metadata(client)
        while True:
            address = self.replicas.current
            try:
                with domain_errors(self.service, address):
                    call = getattr(factory(self._channel("unary")), method)
                    response: Any = call(request, timeout=turn.left_s, metadata=metadata)
            except (*ELSEWHERE, CallTimeoutError) as error:
                if isinstance(error, CallTimeoutError):
                    self.abandon("unary", address)  # the next call may not wait on the same wire
                wait_s = turn.failed(address, error)
            else:
                self.has_answered = True
                return response
            if wait_s:
                self.wait_for_ready("unary", wait_s)

    def wait_for_ready(self, purpose: Purpose, timeout_s: float) -> None:
        """Waits until the current replica is connected, or the time is over."""
        future = grpc.channel_ready_future(self._channel(purpose))
        try:
            future.result(timeout_s)
        except grpc.FutureTimeoutError:
            future.cancel()

    def _channel(self, purpose: Purpose) -> grpc.Channel:
        place = (purpose, self.replicas.current)
        with self._opening:
            if place not in self._channels:
                self._channels[place] = channels.channel(
                    place[1],
                    purpose=purpose,
                    services=self._service_names,
                    retry_attempts=self.replicas.retry_attempts,
                )
            return self._channels[place]

    def abandon(self, purpose: Purpose, address: str) -> None:
        """Lets go of a channel without closing it, which waits for all its calls to end."""
        with self._opening:
            self._channels.pop((purpose, address), None)

    def stream(
        self,
        method: grpc.UnaryStreamMultiCallable[RequestT, ResponseT],
        request: RequestT,
        *,
        deadline_s: float | None = None,
    ) -> Iterator[ResponseT]:
        """Yields what the service streams; ends the call when the reader stops reading."""
        return self._read(lambda: method(request, timeout=deadline_s, metadata=self.metadata()))

    def exchange(
        self,
        method: grpc.StreamStreamMultiCallable[RequestT, ResponseT],
        requests: Iterable[RequestT],
        *,
        deadline_s: float | None = None,
    ) -> Iterator[ResponseT]:
        """Streams both ways; ends the call when the reader stops reading."""
        return self._read(
            lambda: method(iter(requests), timeout=deadline_s, metadata=self.metadata())
        )

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

    def __init__(
        self,
        service: Service,
        address: str,
        service_names: Sequence[str] = (),
        *,
        client: str | None = None,
    ) -> None:
        self.service = service
        self.address = address
        self.replicas = Replicas(address)
        self.client = client_name(client or default_client_name())
        self.has_answered = False
        """Whether any call was answered so far: the service is there, and worth waiting for."""
        self._service_names = tuple(service_names)
        self._channels: dict[tuple[Purpose, str], grpc.aio.Channel] = {}

    def stub(
        self, factory: Callable[[grpc.aio.Channel], StubT], purpose: Purpose = "unary"
    ) -> StubT:
        """Returns a stub on the channel for unary calls, or on the one for long streams."""
        return factory(self._channel(purpose))

    def errors(self) -> AbstractContextManager[None]:
        """Returns a context in which a failed call raises the BacklaneError it stands for."""
        return domain_errors(self.service, self.replicas.current)

    def metadata(self, client: str | None = None) -> tuple[tuple[str, str], ...]:
        """Returns what goes with a call: who makes it, or for whom it is made."""
        return ((CLIENT_KEY, client_name(client or "") or self.client),)

    async def call(
        self,
        method: grpc.aio.UnaryUnaryMultiCallable[RequestT, ResponseT],
        request: RequestT,
        *,
        deadline_s: float = DEFAULT_DEADLINE_S,
        wait_for_ready: bool = False,
    ) -> ResponseT:
        """Makes one unary call to the current replica; raises a BacklaneError."""
        with self.errors():
            return await method(
                request,
                timeout=deadline_s,
                wait_for_ready=wait_for_ready,
                metadata=self.metadata(),
            )

    async def ask(
        self,
        factory: Callable[[grpc.aio.Channel], Any],
        method: str,
        request: Any,
        *,
        deadline_s: float = DEFAULT_DEADLINE_S,
        ready_s: float = 0.0,
        client: str | None = None,
    ) -> Any:
        """Makes one unary call that may be repeated, to any replica; see Connection.ask."""
        # A service that was there is worth waiting for: it restarts, or another replica takes over.
        patience_s = READY_S if self.has_answered else ready_s
        turn = Turn(self.replicas, deadline_s, patience_s)
        metadata = self.metadata(client)
        while True:
            address = self.replicas.current
            try:
                with domain_errors(self.service, address):
                    call = getattr(factory(self._channel("unary")), method)
                    response: Any = await call(request, timeout=turn.left_s, metadata=metadata)
            except asyncio.CancelledError:
                # Its own caller has given up: were this wire dead, it would stay in use.
                if turn.age_s >= SUSPECT_S:
                    self.abandon("unary", address)
                    self.replicas.leave(address)
                raise
            except (*ELSEWHERE, CallTimeoutError) as error:
                if isinstance(error, CallTimeoutError):
                    self.abandon("unary", address)  # the next call may not wait on the same wire
                wait_s = turn.failed(address, error)
            else:
                self.has_answered = True
                return response
            if wait_s:
                await self.wait_for_ready("unary", wait_s)

    async def wait_for_ready(self, purpose: Purpose, timeout_s: float) -> None:
        """Waits until the current replica is connected, or the time is over."""
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await self._channel(purpose).channel_ready()

    def _channel(self, purpose: Purpose) -> grpc.aio.Channel:
        place = (purpose, self.replicas.current)
        if place not in self._channels:
            self._channels[place] = channels.aio_channel(
                place[1],
                purpose=purpose,
                services=self._service_names,
                retry_attempts=self.replicas.retry_attempts,
            )
        return self._channels[place]

    def abandon(self, purpose: Purpose, address: str) -> None:
        """Lets go of a channel without closing it, which waits for all its calls to end."""
        self._channels.pop((purpose, address), None)

    def stream(
        self,
        method: grpc.aio.UnaryStreamMultiCallable[RequestT, ResponseT],
        request: RequestT,
        *,
        deadline_s: float | None = None,
    ) -> AsyncIterator[ResponseT]:
        """Yields what the service streams; ends the call when the iterator is closed."""
        return self._read(lambda: method(request, timeout=deadline_s, metadata=self.metadata()))

    def exchange(
        self,
        method: grpc.aio.StreamStreamMultiCallable[RequestT, ResponseT],
        requests: AsyncIterator[RequestT],
        *,
        deadline_s: float | None = None,
    ) -> AsyncIterator[ResponseT]:
        """Streams both ways; ends the call when the iterator is closed."""
        return self._read(lambda: method(requests, timeout=deadline_s, metadata=self.metadata()))

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
