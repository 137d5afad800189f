"""Whether the two services that this one depends on are there."""

import asyncio

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from backlane.client.replicas import Replicas
from backlane.errors import ServiceUnavailableError
from backlane.rpc.channel import aio_channel
from backlane.rpc.error_catalog import from_rpc_error

CHECK_S = 0.8
"""Deadline of one check; less than the probe of the server has."""


class Peers:
    """Asks operations_service and model_service for their health.

    An address may list replicas, with commas in between: one that is SERVING is enough.
    """

    def __init__(self, addresses: dict[str, str]) -> None:
        self._channels = {
            name: {one: aio_channel(one) for one in Replicas(address).addresses}
            for name, address in addresses.items()
        }

    async def check(self) -> None:
        """Raises ServiceUnavailableError, naming the first of them that is not SERVING."""
        await asyncio.gather(*(self.check_one(name) for name in self._channels))

    async def check_one(self, name: str) -> None:
        """Raises ServiceUnavailableError unless this one of them is SERVING."""
        answers = await asyncio.gather(
            *(
                _check(f"{name} at {address}", channel)
                for address, channel in self._channels[name].items()
            ),
            return_exceptions=True,
        )
        errors = [answer for answer in answers if answer is not None]
        if len(errors) == len(answers):
            raise errors[0]

    async def start(self) -> None:
        """Does nothing: the first check connects."""

    async def stop(self) -> None:
        """Closes the connections to all of them."""
        for channels in self._channels.values():
            for channel in channels.values():
                await channel.close()


async def _check(peer: str, channel: grpc.aio.Channel) -> None:
    stub = health_pb2_grpc.HealthStub(channel)
    try:
        answer = await stub.Check(health_pb2.HealthCheckRequest(), timeout=CHECK_S)
    except grpc.RpcError as error:
        raise from_rpc_error(error, peer=peer) from error
    if answer.status != health_pb2.HealthCheckResponse.SERVING:
        raise ServiceUnavailableError(f"{peer} is not SERVING.", metadata={"peer": peer})
