"""models/{model}/versions/{version} on the wire: converts in, makes one call, converts out."""

# ruff: noqa: N802 - the protos name the methods.

from collections.abc import AsyncIterator
from typing import Any

from backlane.api.models.v1 import models_service_pb2 as pb
from backlane.api.models.v1 import models_service_pb2_grpc as pb_grpc
from backlane.inference.model_name import ModelName
from backlane.wire.models import (
    chunk_from_proto,
    entry_to_proto,
    opening_from_proto,
    target_from_proto,
)
from backlane.wire.tensor import tensor_from_proto, tensor_to_proto
from model_service.paging import page_of
from model_service.prediction import Predictions
from model_service.repository import ModelRepository


class ModelsServicer(pb_grpc.ModelsServiceServicer):
    """Serves backlane.api.models.v1.ModelsService."""

    def __init__(self, repository: ModelRepository, predictions: Predictions) -> None:
        self._repository = repository
        self._predictions = predictions

    async def ListModels(
        self, request: pb.ListModelsRequest, _context: Any
    ) -> pb.ListModelsResponse:
        """Lists bundles by name, then version."""
        names = await self._repository.names()
        page, next_page_token = page_of(names, request.page_size, request.page_token)
        entries = await self._repository.entries(page)
        models = [entry_to_proto(entry) for entry in entries]
        return pb.ListModelsResponse(models=models, next_page_token=next_page_token)

    async def GetModel(self, request: pb.GetModelRequest, _context: Any) -> pb.GetModelResponse:
        """Returns one bundle with all that a backtest needs."""
        entry = await self._repository.describe(ModelName.parse(request.name))
        return pb.GetModelResponse(model=entry_to_proto(entry))

    async def LoadModel(self, request: pb.LoadModelRequest, _context: Any) -> pb.LoadModelResponse:
        """Verifies, loads and warms up a bundle."""
        name = ModelName.parse(request.name)
        entry = await self._repository.load(name, request.expected_digest)
        return pb.LoadModelResponse(model=entry_to_proto(entry))

    async def UnloadModel(
        self, request: pb.UnloadModelRequest, _context: Any
    ) -> pb.UnloadModelResponse:
        """Lets predictions under way end, then frees the memory."""
        await self._repository.unload(ModelName.parse(request.name))
        return pb.UnloadModelResponse()

    async def Predict(self, request: pb.PredictRequest, _context: Any) -> pb.PredictResponse:
        """Predicts one batch of rows."""
        target = target_from_proto(request)
        features = tensor_from_proto(request.features)
        outputs, info = await self._predictions.predict(target, features)
        return pb.PredictResponse(outputs=tensor_to_proto(outputs), digest=info.digest)

    async def PredictStream(
        self, request_iterator: AsyncIterator[pb.PredictStreamRequest], _context: Any
    ) -> AsyncIterator[pb.PredictStreamResponse]:
        """Predicts a matrix of any length, one chunk at a time: a slow reader slows the writer."""
        messages = self._predictions.attend(request_iterator)
        target = opening_from_proto(await anext(messages, None))
        async with self._predictions.open(target) as stream:
            yield pb.PredictStreamResponse(opened=entry_to_proto(stream.entry))
            async for message in messages:
                features = tensor_from_proto(chunk_from_proto(message))
                outputs = await stream.predict(features)
                yield pb.PredictStreamResponse(outputs=tensor_to_proto(outputs))
