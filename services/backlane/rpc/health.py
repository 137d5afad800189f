"""Health by grpc.health.v1: SERVING only while the service is truly able to do its work."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable

import structlog
from grpc_health.v1 import health_pb2
from grpc_health.v1.health import aio as health_aio

_log = structlog.get_logger(__name__)

Probe = Callable[[], Awaitable[None]]
"""Looks whether the service can do its work; raises when it cannot."""


class Health:
    """The state of a server, under each of its service names and under "" for all of it."""

    def __init__(self, service_names: Iterable[str], probe: Probe, *, timeout_s: float) -> None:
        self.servicer = health_aio.HealthServicer()
        self.is_serving = False
        self._names = ("", *service_names)
        self._probe = probe
        self._timeout_s = timeout_s

    async def close(self) -> None:
        """Says NOT_SERVING: before the first probe, where the library would say SERVING."""
        await self._set(serving=False)

    async def check(self) -> bool:
        """Probes once, sets the state by it, and returns whether the server is SERVING."""
        failure = await self._failure()
        if (failure is None) != self.is_serving:
            _log.info("health", serving=failure is None, failure=failure)
        await self._set(serving=failure is None)
        return self.is_serving

    async def drain(self) -> None:
        """Says NOT_SERVING for good: a probe that still runs changes nothing."""
        self.is_serving = False
        await self.servicer.enter_graceful_shutdown()

    async def _failure(self) -> str | None:
        try:
            async with asyncio.timeout(self._timeout_s):
                await self._probe()
        except TimeoutError:
            return f"no answer within {self._timeout_s} s"
        except Exception as error:  # noqa: BLE001 - whatever the probe raises means "not able"
            return f"{type(error).__name__}: {error}"
        return None

    async def _set(self, *, serving: bool) -> None:
        self.is_serving = serving
        response = health_pb2.HealthCheckResponse
        for name in self._names:
            await self.servicer.set(name, response.SERVING if serving else response.NOT_SERVING)
