"""One gRPC server process: bind, serve while able, drain when asked."""

import asyncio
import os
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import grpc
import structlog
from grpc_health.v1 import health_pb2_grpc
from grpc_health.v1.health import SERVICE_NAME as HEALTH_NAME
from grpc_reflection.v1alpha import reflection, reflection_pb2_grpc

from backlane import failpoints
from backlane.clock import Clock, SystemClock
from backlane.rpc.addresses import join_address
from backlane.rpc.admission import Admission, MethodLimit, RateLimit, Rates
from backlane.rpc.exit_codes import ExitCode, StartupError
from backlane.rpc.health import Health, Probe
from backlane.rpc.interceptors import ErrorBoundary
from backlane.rpc.settings import ServerSettings
from backlane.rpc.signals import StopSignals

_STOP_S_MIN = 0.1

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class ServedService:
    """A service by its full protobuf name, and the call that adds its servicer to a server."""

    full_name: str
    register: Callable[[grpc.aio.Server], None]


class Background(Protocol):
    """What runs beside the servicers: a store, a scanner, a pool of workers."""

    async def start(self) -> None:
        """Begins; raises a BacklaneError when it cannot. Comes before the first call."""
        ...

    async def stop(self) -> None:
        """Ends and frees everything. Comes after the last call."""
        ...


DrainHook = Callable[[], Awaitable[None]]


class RpcServer:
    """A server of some services, with health, reflection, error mapping, limits and drain.

    `probe` raises while the service is not able to work. `background` starts in order before the
    first call and stops in reverse after the last. `on_drain` hooks run one after the other when
    the server drains: here watches are told to move on, and workers to stop. `method_limits` gives
    single methods (`/package.Service/Method`) a limit of concurrent calls of their own, and
    `rate_limit` bounds how fast one client may call.
    """

    def __init__(
        self,
        settings: ServerSettings,
        *,
        name: str,
        services: Sequence[ServedService],
        probe: Probe,
        background: Sequence[Background] = (),
        on_drain: Sequence[DrainHook] = (),
        method_limits: Mapping[str, MethodLimit] | None = None,
        rate_limit: RateLimit | None = None,
        clock: Clock | None = None,
    ) -> None:
        self._settings = settings
        self._name = name
        self._services = tuple(services)
        self._background = tuple(background)
        self._on_drain = tuple(on_drain)
        self._method_limits = method_limits
        self._clock = clock or SystemClock()
        self._rates = None if rate_limit is None else Rates(rate_limit, self._clock)
        self._health = Health(
            (service.full_name for service in services), probe, timeout_s=settings.probe_timeout_s
        )
        self._started: list[Background] = []
        self._server: grpc.aio.Server | None = None
        self._admission: Admission | None = None
        self._probing: asyncio.Task[None] | None = None
        self._draining: asyncio.Task[None] | None = None
        self._port = 0

    @property
    def address(self) -> str:
        """Returns host:port once it is bound, which is before the background starts."""
        return join_address(self._settings.host, self._port)

    @property
    def is_serving(self) -> bool:
        """Says whether health answers SERVING."""
        return self._health.is_serving

    async def start(self) -> int:
        """Binds, starts the background, takes calls and probes once; returns the port.

        A server whose first probe fails runs, says NOT_SERVING, and is probed again. Raises
        StartupError when the address cannot be bound or written, and what the background raises.
        """
        server = self._build()
        self._port = self._bind(server)
        self._server = server
        try:
            for background in self._background:
                await background.start()
                self._started.append(background)
            await self._health.close()
            await server.start()
            await self._look()
        except BaseException:
            await server.stop(None)
            await self._stop_background(self._settings.drain_grace_s)
            raise
        self._probing = asyncio.create_task(self._keep_looking(), name=f"{self._name} probe")
        _log.info("started", service=self._name, address=self.address, serving=self.is_serving)
        return self._port

    async def drain(self) -> None:
        """Ends gracefully within about drain_grace_s; calling it again waits for the same end.

        The order: health says NOT_SERVING; new calls are refused with ServerDrainingError; the
        on_drain hooks run; running calls end or are cut off; the background stops. Calls are
        refused before the hooks, for a watch that came after them would be told by nobody.
        """
        if self._draining is None:
            self._draining = asyncio.create_task(self._drain(), name=f"{self._name} drain")
        await asyncio.shield(self._draining)

    async def serve_until_signal(self) -> ExitCode:
        """Starts unless started, and drains at SIGTERM or SIGINT; a second signal cuts it off.

        Afterwards the process ignores both signals: what is left for it to do is to exit.
        """
        signals = StopSignals(self._clock)
        life = asyncio.create_task(self._live(signals.first))
        force = asyncio.create_task(signals.second.wait())
        try:
            await asyncio.wait({life, force}, return_when=asyncio.FIRST_COMPLETED)
            if not life.done():
                await self._cut_off(life)
                return ExitCode.FORCED
            life.result()
            return ExitCode.OK
        finally:
            force.cancel()
            signals.ignore()

    async def _live(self, signalled: asyncio.Event) -> None:
        if self._server is None:
            await self.start()
        await signalled.wait()
        await self.drain()

    def _build(self) -> grpc.aio.Server:
        settings = self._settings
        self._admission = Admission(
            unary_max=settings.unary_concurrent_max,
            stream_max=settings.stream_concurrent_max,
            method_limits=self._method_limits,
            rates=self._rates,
        )
        server = grpc.aio.server(
            interceptors=[ErrorBoundary(self._admission, self._clock)],
            options=server_options(settings),
        )
        # A server as far as servicers are concerned, which its type need not be.
        target: Any = _ByName(server)
        for service in self._services:
            service.register(target)
        health_pb2_grpc.add_HealthServicer_to_server(self._health.servicer, target)
        if settings.reflection:
            names = [service.full_name for service in self._services]
            names += [HEALTH_NAME, reflection.SERVICE_NAME]
            reflection_pb2_grpc.add_ServerReflectionServicer_to_server(
                reflection.aio.ReflectionServicer(names), target
            )
        return server

    def _bind(self, server: grpc.aio.Server) -> int:
        address = self._settings.bind_address
        try:
            return server.add_insecure_port(address)
        except RuntimeError as error:
            raise StartupError(
                f"{self._name} cannot listen on {address}: the port is taken, or the address is "
                "not of this machine. Stop what listens there, or set another port.",
                ExitCode.CANNOT_BIND,
            ) from error

    async def _look(self) -> None:
        if await self._health.check() and self._settings.address_file is not None:
            _write_address(self._settings.address_file, self.address)

    async def _keep_looking(self) -> None:
        while True:
            await asyncio.sleep(self._settings.probe_interval_s)
            try:
                await self._look()
            except StartupError as error:
                _log.error("no address file", service=self._name, reason=error.message)

    async def _drain(self) -> None:
        if self._server is None or self._admission is None:
            return
        _log.info("draining", service=self._name, grace_s=self._settings.drain_grace_s)
        ends_s = self._clock.monotonic_s() + self._settings.drain_grace_s
        if self._probing is not None:
            self._probing.cancel()
        await self._health.drain()
        failpoints.reached("drain.after_not_serving")
        self._admission.refuse_new()
        for hook in self._on_drain:
            await self._run_bounded("drain hook", hook, self._left_s(ends_s))
        self._admission.end_infrastructure()
        await self._server.stop(self._left_s(ends_s))
        await self._stop_background(self._left_s(ends_s))
        if self._settings.address_file is not None:
            _remove_address(self._settings.address_file, self.address)
        _log.info("stopped", service=self._name)

    def _left_s(self, ends_s: float) -> float:
        return max(ends_s - self._clock.monotonic_s(), _STOP_S_MIN)

    async def _stop_background(self, within_s: float) -> None:
        while self._started:
            await self._run_bounded("background", self._started.pop().stop, within_s)

    async def _run_bounded(self, what: str, work: DrainHook, within_s: float) -> None:
        """Runs one step of the end; neither its failure nor its length may keep the rest."""
        try:
            async with asyncio.timeout(within_s):
                await work()
        except TimeoutError:
            _log.warning("not done in time", service=self._name, step=what, within_s=within_s)
        except Exception:  # noqa: BLE001 - the rest of the drain must still come
            _log.exception("failed", service=self._name, step=what)

    async def _cut_off(self, life: asyncio.Task[None]) -> None:
        _log.warning("second signal: stopping at once", service=self._name)
        for task in (life, self._draining):
            if task is not None:
                task.cancel()
        if self._server is not None:
            await self._server.stop(None)
        if self._settings.address_file is not None:
            _remove_address(self._settings.address_file, self.address)


class _ByName:
    """Adds servicers to a server whose methods are found by name, and not registered with it.

    For each registered method asyncio's server keeps a task that waits for its next call, and looks
    at all of them at every call of any: 22 methods cost a third of the calls a second.
    """

    def __init__(self, server: grpc.aio.Server) -> None:
        self._server = server

    def add_generic_rpc_handlers(self, handlers: Sequence[grpc.GenericRpcHandler]) -> None:
        """Adds the methods of a servicer."""
        self._server.add_generic_rpc_handlers(handlers)

    def add_registered_method_handlers(self, name: str, handlers: Mapping[str, object]) -> None:
        """Adds nothing: the generated code has added the same methods by name already."""


def server_options(settings: ServerSettings) -> list[tuple[str, int]]:
    """Returns the channel arguments; gRPC ignores a name that it does not know without a word."""
    return [
        # Else two servers share a port, and each gets some of the calls.
        ("grpc.so_reuseport", 0),
        ("grpc.max_receive_message_length", settings.receive_bytes_max),
        ("grpc.max_send_message_length", settings.send_bytes_max),
        # Clients ping every 15 s (channel.py); the default allows one ping in five minutes.
        ("grpc.http2.min_ping_interval_without_data_ms", 5000),
        ("grpc.keepalive_time_ms", 30000),
        # Not grpc.keepalive_timeout_ms, which has no effect here: a dead peer would stay a minute.
        ("grpc.http2.ping_timeout_ms", 10000),
    ]


def _write_address(path: Path, address: str) -> None:
    """Writes host:port in one step, so that a reader sees all of it or no file."""
    if _read_address(path) == address:
        return
    part = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part.write_text(f"{address}\n", encoding="utf-8")
        part.replace(path)
    except OSError as error:
        raise StartupError(
            f"The address cannot be written to {path}: {error.strerror}. Set another address_file.",
            ExitCode.SETTINGS,
        ) from error


def _remove_address(path: Path, address: str) -> None:
    """Removes the file, unless another server has written its own address there since."""
    if _read_address(path) == address:
        with suppress(FileNotFoundError):
            path.unlink()


def _read_address(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8").strip()
    except (FileNotFoundError, NotADirectoryError):
        return None
