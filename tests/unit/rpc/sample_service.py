"""A small service of the tests' own: what it is asked for by name is what it does.

Runs as a process too: `python -m tests.unit.rpc.sample_service`.
"""

import asyncio
import sys
from collections.abc import AsyncIterator, Sequence
from typing import Any

import grpc
from pydantic_settings import SettingsConfigDict

from backlane.api.models.v1 import model_pb2, models_service_pb2, models_service_pb2_grpc
from backlane.errors import BacklaneError, ModelNotFoundError
from backlane.rpc.main import run
from backlane.rpc.server import RpcServer, ServedService
from backlane.rpc.settings import ServerSettings

MODELS = models_service_pb2.DESCRIPTOR.services_by_name["ModelsService"].full_name
SECRET = "password=hunter2 in /home/alice/.pgpass"


class SampleSettings(ServerSettings):
    """Settings of the sample service."""

    model_config = SettingsConfigDict(env_prefix="SAMPLE_")


class SampleServicer(models_service_pb2_grpc.ModelsServiceServicer):
    """Answers GetModel by the name asked for; leaves LoadModel out, as an old server would."""

    def __init__(self) -> None:
        self.errors: dict[str, BacklaneError] = {}
        self.deadlines_s: list[float | None] = []
        self.calls_begun_count = 0
        self.streams_open_count = 0
        self.release = asyncio.Event()

    async def GetModel(self, request: Any, context: Any) -> Any:
        self.calls_begun_count += 1
        self.deadlines_s.append(context.time_remaining())
        match request.name:
            case "crash":
                raise RuntimeError(SECRET)
            case "wait":
                await self.release.wait()
            case "aborted":
                await context.abort(grpc.StatusCode.FAILED_PRECONDITION, "own words")
            case "not a message":
                return SECRET
            case name if name in self.errors:
                raise self.errors[name]
        return models_service_pb2.GetModelResponse(model=model_pb2.Model(name=request.name))

    async def PredictStream(self, request_iterator: Any, context: Any) -> AsyncIterator[Any]:
        self.streams_open_count += 1
        try:
            async for request in request_iterator:
                match request.open.name:
                    case "crash":
                        raise RuntimeError(SECRET)
                    case "wait":
                        await self.release.wait()
                    case "missing":
                        raise ModelNotFoundError("no model", metadata={"model": "missing"})
                yield models_service_pb2.PredictStreamResponse(
                    opened=model_pb2.Model(name=request.open.name)
                )
        finally:
            self.streams_open_count -= 1


async def able() -> None:
    """A probe that always passes."""


def sample_server(
    servicer: SampleServicer | None = None,
    settings: ServerSettings | None = None,
    **more: Any,
) -> RpcServer:
    servicer = servicer or SampleServicer()
    return RpcServer(
        settings or SampleSettings(),
        name="sample_service",
        services=[
            ServedService(
                MODELS,
                lambda server: models_service_pb2_grpc.add_ModelsServiceServicer_to_server(
                    servicer, server
                ),
            )
        ],
        **{"probe": able, **more},
    )


def main(arguments: Sequence[str] | None = None) -> int:
    return run(SampleSettings, lambda settings: sample_server(settings=settings), arguments)


if __name__ == "__main__":
    sys.exit(main())
