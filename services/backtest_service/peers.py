"""Whether the two services that this one depends on are there."""

import asyncio

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from backlane.errors import ServiceUnavailableError
from backlane.rpc.channel import aio_channel
from backlane.rpc.error_catalog import from_rpc_error

CHECK_S = 0.8
"""Deadline of one check; less than the probe of the server has."""


class Peers:
    """Asks operations_service and model_service for their health."""

    def __init__(self, addresses: dict[str, str]) -> None:
        self._addresses = addresses
        self._channels = {name: aio_channel(address) for name, address in addresses.items()}

    async def check(self) -> None:
        """Raises ServiceUnavailableError, naming the first of them that is not SERVING."""
        await asyncio.gather(*(self.check_one(name) for name in self._channels))

    async def check_one(self, name: str) -> None:
        """Raises ServiceUnavailableError unless this one of them is SERVING."""
        peer = f"{name} at {self._addresses[name]}"
        stub = health_pb2_grpc.HealthStub(self._channels[name])
        try:
            answer = await stub.Check(health_pb2.HealthCheckRequest(), timeout=CHECK_S)
        except grpc.RpcError as error:
            raise from_rpc_error(error, peer=peer) from error
        if answer.status != health_pb2.HealthCheckResponse.SERVING:
            raise ServiceUnavailableError(f"{peer} is not SERVING.", metadata={"peer": peer})

    async def start(self) -> None:
        """Does nothing: the first check connects."""

    async def stop(self) -> None:
        """Closes the connections to all of them."""
        for channel in self._channels.values():
            await channel.close()
