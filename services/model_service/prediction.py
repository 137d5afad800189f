"""One matrix in, its outputs out: in one batch, or chunk by chunk."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TypeVar

from backlane.errors import CallTimeoutError, FieldViolation, PayloadTooLargeError
from backlane.inference.model_info import ModelEntry, ModelInfo, ModelState
from backlane.inference.model_name import PredictTarget
from backlane.inference.nan_policy import refuse_nan
from backlane.inference.predictor import Rows, check_features
from backlane.inference.torch_predictor import PredictorSession, TorchPredictor
from model_service.compute import Compute
from model_service.repository import ModelRepository

# What a response takes besides its numbers: shape, digest, framing.
_ENVELOPE_BYTES = 1024
MessageT = TypeVar("MessageT")


@dataclass(frozen=True, slots=True)
class PredictionLimits:
    """How much one message may hold; each field is a setting of the same name."""

    send_bytes_max: int
    stream_chunk_rows_max: int
    stream_chunk_bytes_max: int
    stream_idle_timeout_s: float


class PredictionStream:
    """The chunks of one matrix, in order, one at a time."""

    def __init__(
        self,
        predictor: TorchPredictor,
        compute: Compute,
        limits: PredictionLimits,
        target: PredictTarget,
    ) -> None:
        self.info = predictor.info
        self.entry = ModelEntry(predictor.info.name, ModelState.READY, predictor.info)
        self._session: PredictorSession = predictor.session()
        self._compute = compute
        self._limits = limits
        self._target = target
        self._row_count = 0

    async def predict(self, features: Rows) -> Rows:
        """Returns the outputs of the next rows.

        Raises TensorMismatchError, PayloadTooLargeError and NanRefusedError, which names the row by
        its place in the whole matrix.
        """
        check_features(self.info, features)
        self._check_size(features)
        if self._target.refuse_nan:
            refuse_nan(features, self.info.features, first_row_index=self._row_count)
        self._row_count += len(features)
        return await self._compute.run(
            lambda on_progress: self._session.predict(features, on_progress)
        )

    def _check_size(self, features: Rows) -> None:
        limits = self._limits
        if len(features) > limits.stream_chunk_rows_max:
            raise _too_large(
                "rows", len(features), "stream_chunk_rows_max", limits.stream_chunk_rows_max
            )
        if features.nbytes > limits.stream_chunk_bytes_max:
            raise _too_large(
                "bytes", features.nbytes, "stream_chunk_bytes_max", limits.stream_chunk_bytes_max
            )


class Predictions:
    """Predicts with the bundles of a repository, on the threads of `compute`."""

    def __init__(
        self, repository: ModelRepository, compute: Compute, limits: PredictionLimits
    ) -> None:
        self._repository = repository
        self._compute = compute
        self._limits = limits

    async def predict(self, target: PredictTarget, features: Rows) -> tuple[Rows, ModelInfo]:
        """Returns the outputs of one batch, and the bundle that gave them.

        Raises what `ModelRepository.use` raises, TensorMismatchError, NanRefusedError, and
        PayloadTooLargeError when the outputs would not fit into one response.
        """
        async with self._repository.use(target.name, target.expected_digest) as predictor:
            check_features(predictor.info, features)
            outputs_bytes = 4 * len(features) * predictor.info.head.output_count
            room_bytes = self._limits.send_bytes_max - _ENVELOPE_BYTES
            if outputs_bytes > room_bytes:
                raise _too_large("bytes of outputs", outputs_bytes, "send_bytes_max", room_bytes)
            if target.refuse_nan:
                refuse_nan(features, predictor.info.features)
            outputs = await self._compute.run(
                lambda on_progress: predictor.predict(features, on_progress)
            )
            return outputs, predictor.info

    @asynccontextmanager
    async def open(self, target: PredictTarget) -> AsyncIterator[PredictionStream]:
        """Holds the bundle in memory while a matrix comes chunk by chunk."""
        async with self._repository.use(target.name, target.expected_digest) as predictor:
            yield PredictionStream(predictor, self._compute, self._limits, target)

    async def attend(self, messages: AsyncIterator[MessageT]) -> AsyncIterator[MessageT]:
        """Yields the messages of a stream.

        Raises CallTimeoutError when the next one is too long in coming: the stream holds a model.
        """
        idle_s = self._limits.stream_idle_timeout_s
        while True:
            try:
                async with asyncio.timeout(idle_s):
                    message = await anext(messages)
            except StopAsyncIteration:
                return
            except TimeoutError as error:
                raise CallTimeoutError(
                    f"No message came for {idle_s:g} s; the stream is ended, for it holds a model "
                    "in memory. Open another one when there is more to predict.",
                    metadata={"stream_idle_timeout_s": f"{idle_s:g}"},
                ) from error
            yield message


def _too_large(what: str, found: int, limit_name: str, limit: int) -> PayloadTooLargeError:
    message = f"There are {found:,} {what} in one message; at most {limit:,} may be ({limit_name})"
    return PayloadTooLargeError(
        f"{message}. Send smaller chunks by PredictStream.",
        metadata={"limit_name": limit_name, "limit": str(limit), "found": str(found)},
        violations=(FieldViolation("features", message),),
    )
