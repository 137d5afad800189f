"""A client of the sample service, over the connection that every client uses."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from grpc_health.v1 import health_pb2, health_pb2_grpc

from backlane.api.models.v1 import models_service_pb2, models_service_pb2_grpc
from backlane.client.connection import AioConnection
from backlane.rpc.server import RpcServer
from backlane.testing.servers import running
from tests.unit.rpc.sample_service import MODELS, sample_server

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


class Client:
    """The stubs, and the calls that the tests make."""

    def __init__(self, connection: AioConnection) -> None:
        self.connection = connection
        self.models = connection.stub(models_service_pb2_grpc.ModelsServiceStub)
        self.health = connection.stub(health_pb2_grpc.HealthStub)

    async def get(self, name: str, **more: Any) -> Any:
        request = models_service_pb2.GetModelRequest(name=name)
        return await self.connection.call(self.models.GetModel, request, **more)

    def predict(self, *names: str) -> AsyncIterator[Any]:
        async def requests() -> AsyncIterator[Any]:
            for name in names:
                yield models_service_pb2.PredictStreamRequest(
                    open=models_service_pb2.PredictStreamRequest.Open(name=name)
                )

        return self.connection.exchange(self.models.PredictStream, requests())

    async def status(self, service: str = MODELS) -> int:
        request = health_pb2.HealthCheckRequest(service=service)
        return (await self.health.Check(request, timeout=5)).status


@asynccontextmanager
async def connected(
    server: RpcServer | None = None, *, retried: bool = False
) -> AsyncIterator[Client]:
    """Runs the server and yields a client; with `retried`, idempotent calls are tried again."""
    async with (
        running(server or sample_server()) as address,
        AioConnection("models", address, [MODELS] if retried else ()) as connection,
    ):
        yield Client(connection)
