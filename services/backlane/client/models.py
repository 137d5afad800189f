"""Clients of model_service: what models there are, and what they predict.

Importing this loads neither numpy nor torch: what predicts imports numpy when it is called.
"""

from __future__ import annotations

import threading
from contextlib import closing
from typing import TYPE_CHECKING, Self

from backlane.api.models.v1 import models_service_pb2 as pb
from backlane.api.models.v1 import models_service_pb2_grpc as pb_grpc
from backlane.client.connection import Addresses, AioConnection, Connection
from backlane.errors import InternalError
from backlane.wire.models import entry_from_proto, model_from_proto

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Generator, Iterator

    from backlane.inference.model_info import ModelEntry, ModelInfo
    from backlane.inference.predictor import Rows

SERVICE_NAME = pb.DESCRIPTOR.services_by_name["ModelsService"].full_name

LOAD_DEADLINE_S = 120.0
"""Reading, checking and warming up a large bundle."""
PREDICT_DEADLINE_S = 120.0
"""One batch, which may wait for others."""
PAGE_SIZE = 200

CHUNK_ROWS = 16_384
"""Rows in one message of a stream."""
SEQUENCE_CHUNK_ROWS = 2048
"""The same for a sequence model, each of whose rows takes a hundred times as long."""
CHUNK_BYTES_MAX = 4 * 2**20
"""Bytes of features in one message; fewer rows go into it when there are many columns."""
CHUNKS_UNDER_WAY_MAX = 4
"""Chunks sent and not answered: enough to keep the server busy, few enough to hold little."""


class ModelsClient:
    """Calls model_service from threads; every failure is a BacklaneError."""

    def __init__(self, address: str | None = None) -> None:
        address = Addresses.resolve(models=address).models
        self._connection = Connection("models", address, [SERVICE_NAME])

    def list(self) -> Iterator[ModelEntry]:
        """Yields every bundle by name, then version; those that failed with the reason."""
        stub, token = self._connection.stub(pb_grpc.ModelsServiceStub), ""
        while True:
            request = pb.ListModelsRequest(page_size=PAGE_SIZE, page_token=token)
            response = self._connection.call(stub.ListModels, request)
            yield from map(entry_from_proto, response.models)
            token = response.next_page_token
            if not token:
                return

    def get(self, name: str) -> ModelInfo:
        """Describes models/{model}/versions/{version}, or models/{model}: its newest version."""
        stub = self._connection.stub(pb_grpc.ModelsServiceStub)
        response = self._connection.call(
            stub.GetModel, pb.GetModelRequest(name=name), deadline_s=LOAD_DEADLINE_S
        )
        return model_from_proto(response.model)

    def load(self, name: str, expected_digest: str = "") -> ModelInfo:
        """Brings a bundle into memory; with a digest, no other than that."""
        stub = self._connection.stub(pb_grpc.ModelsServiceStub)
        request = pb.LoadModelRequest(name=name, expected_digest=expected_digest)
        response = self._connection.call(stub.LoadModel, request, deadline_s=LOAD_DEADLINE_S)
        return model_from_proto(response.model)

    def unload(self, name: str) -> None:
        """Takes a bundle out of memory once the predictions under way have ended."""
        stub = self._connection.stub(pb_grpc.ModelsServiceStub)
        request = pb.UnloadModelRequest(name=name)
        self._connection.call(stub.UnloadModel, request, deadline_s=LOAD_DEADLINE_S)

    def predict(
        self, name: str, features: Rows, *, expected_digest: str = "", refuse_nan: bool = False
    ) -> Rows:
        """Predicts one batch, float32 of shape (rows, features), in a single message each way.

        For a matrix of any length see `predictor`.
        """
        request = _predict_request(name, features, expected_digest, refuse_nan=refuse_nan)
        stub = self._connection.stub(pb_grpc.ModelsServiceStub)
        response = self._connection.call(stub.Predict, request, deadline_s=PREDICT_DEADLINE_S)
        return _outputs(response.outputs)

    def predictor(self, name: str, expected_digest: str = "") -> RemotePredictor:
        """Loads a bundle and returns a predictor for it, bound to the digest that it has now."""
        return RemotePredictor(self._connection, self.load(name, expected_digest))

    def close(self) -> None:
        """Closes the connection; the predictors made here end with it."""
        self._connection.close()

    def __enter__(self) -> Self:
        """Returns itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Closes the connection on leaving."""
        self.close()


class AsyncModelsClient:
    """Calls model_service from one event loop; otherwise as ModelsClient."""

    def __init__(self, address: str | None = None) -> None:
        address = Addresses.resolve(models=address).models
        self._connection = AioConnection("models", address, [SERVICE_NAME])

    async def list(self) -> AsyncIterator[ModelEntry]:
        """Yields every bundle by name, then version; those that failed with the reason."""
        stub, token = self._connection.stub(pb_grpc.ModelsServiceStub), ""
        while True:
            request = pb.ListModelsRequest(page_size=PAGE_SIZE, page_token=token)
            response = await self._connection.call(stub.ListModels, request)
            for model in response.models:
                yield entry_from_proto(model)
            token = response.next_page_token
            if not token:
                return

    async def get(self, name: str) -> ModelInfo:
        """Describes models/{model}/versions/{version}, or models/{model}: its newest version."""
        stub = self._connection.stub(pb_grpc.ModelsServiceStub)
        response = await self._connection.call(
            stub.GetModel, pb.GetModelRequest(name=name), deadline_s=LOAD_DEADLINE_S
        )
        return model_from_proto(response.model)

    async def load(self, name: str, expected_digest: str = "") -> ModelInfo:
        """Brings a bundle into memory; with a digest, no other than that."""
        stub = self._connection.stub(pb_grpc.ModelsServiceStub)
        request = pb.LoadModelRequest(name=name, expected_digest=expected_digest)
        response = await self._connection.call(stub.LoadModel, request, deadline_s=LOAD_DEADLINE_S)
        return model_from_proto(response.model)

    async def unload(self, name: str) -> None:
        """Takes a bundle out of memory once the predictions under way have ended."""
        stub = self._connection.stub(pb_grpc.ModelsServiceStub)
        request = pb.UnloadModelRequest(name=name)
        await self._connection.call(stub.UnloadModel, request, deadline_s=LOAD_DEADLINE_S)

    async def predict(
        self, name: str, features: Rows, *, expected_digest: str = "", refuse_nan: bool = False
    ) -> Rows:
        """Predicts one batch, float32 of shape (rows, features), in a single message each way."""
        request = _predict_request(name, features, expected_digest, refuse_nan=refuse_nan)
        stub = self._connection.stub(pb_grpc.ModelsServiceStub)
        response = await self._connection.call(stub.Predict, request, deadline_s=PREDICT_DEADLINE_S)
        return _outputs(response.outputs)

    async def close(self) -> None:
        """Closes the connection; calls under way end as cancelled."""
        await self._connection.close()

    async def __aenter__(self) -> Self:
        """Returns itself."""
        return self

    async def __aexit__(self, *_: object) -> None:
        """Closes the connection on leaving."""
        await self.close()


class RemotePredictor:
    """A `Predictor` behind model_service: the same bits as in process.

    Each prediction is one stream, cut into chunks of which a few are under way at a time. The
    server refuses it when the bundle is no longer the one that `info` describes.
    """

    def __init__(self, connection: Connection, info: ModelInfo) -> None:
        self._connection = connection
        self._info = info

    @property
    def info(self) -> ModelInfo:
        """The bundle that predicts."""
        return self._info

    def predict(self, features: Rows, on_progress: Callable[[int], None] | None = None) -> Rows:
        """Returns the outputs of every row; see `Predictor.predict`."""
        import numpy as np

        from backlane.inference.predictor import check_features

        check_features(self._info, features)
        outputs = np.empty((len(features), self._info.head.output_count), dtype=np.float32)
        if not len(features):
            return outputs
        done = 0
        with closing(self._answers(features)) as chunks:
            for chunk in chunks:
                outputs[done : done + len(chunk)] = chunk
                done += len(chunk)
                if on_progress is not None:
                    on_progress(done)
        if done != len(features):
            raise InternalError(f"model_service answered {done} of {len(features)} rows.")
        return outputs

    def _answers(self, features: Rows) -> Generator[Rows]:
        requests = _Requests(self._info, features)
        stub = self._connection.stub(pb_grpc.ModelsServiceStub, "watch")
        try:
            for response in self._connection.exchange(stub.PredictStream, requests):
                if response.WhichOneof("payload") == "outputs":
                    requests.answered()
                    yield _outputs(response.outputs)
        finally:
            # The call itself ends with the iterator over its responses, which nobody else holds.
            requests.end()


class _Requests:
    """What a stream sends: Open, then chunks, never more than a few ahead of the answers.

    gRPC reads it in a thread of its own.
    """

    def __init__(self, info: ModelInfo, features: Rows) -> None:
        self._info = info
        self._features = features
        self._ended = False
        self._free = threading.Semaphore(CHUNKS_UNDER_WAY_MAX)

    def __iter__(self) -> Iterator[pb.PredictStreamRequest]:
        from backlane.wire.tensor import tensor_to_proto

        opening = pb.PredictStreamRequest.Open(
            name=self._info.name, expected_digest=self._info.digest
        )
        yield pb.PredictStreamRequest(open=opening)
        step = _chunk_rows(self._info)
        for start in range(0, len(self._features), step):
            self._free.acquire()
            if self._ended:
                return
            chunk = self._features[start : start + step]
            yield pb.PredictStreamRequest(features=tensor_to_proto(chunk))

    def answered(self) -> None:
        """Lets one more chunk go."""
        self._free.release()

    def end(self) -> None:
        """Lets the thread that waits for an answer go home."""
        self._ended = True
        self._free.release()


def _chunk_rows(info: ModelInfo) -> int:
    row_bytes = 4 * len(info.features)
    rows = CHUNK_ROWS if info.architecture == "mlp" else SEQUENCE_CHUNK_ROWS
    return max(1, min(rows, CHUNK_BYTES_MAX // row_bytes))


def _predict_request(
    name: str, features: Rows, expected_digest: str, *, refuse_nan: bool
) -> pb.PredictRequest:
    from backlane.wire.tensor import tensor_to_proto

    return pb.PredictRequest(
        name=name,
        expected_digest=expected_digest,
        features=tensor_to_proto(features),
        nan_policy=pb.NAN_POLICY_REFUSE if refuse_nan else pb.NAN_POLICY_PROPAGATE,
    )


def _outputs(tensor: pb.Tensor) -> Rows:
    from backlane.wire.tensor import tensor_from_proto

    return tensor_from_proto(tensor, field="outputs")
