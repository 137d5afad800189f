"""Predictions over a real socket: their bits, their limits, and how each failure arrives."""

import asyncio
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import numpy as np
import psutil
import pytest
import pytest_asyncio

from backlane import errors
from backlane.api.models.v1 import models_service_pb2 as pb
from backlane.api.models.v1 import models_service_pb2_grpc as pb_grpc
from backlane.client.connection import AioConnection
from backlane.client.models import SERVICE_NAME, AsyncModelsClient, ModelsClient
from backlane.inference.model_info import ModelHead
from backlane.sources.bundle import load_predictor, read_bundle
from backlane.testing.contracts.predictor import random_rows, same_bits
from backlane.testing.servers import ServiceProcess, running
from backlane.wire.tensor import tensor_from_proto, tensor_to_proto
from model_service.app import build
from tests.bundle_maker import BundleMaker, saved
from tests.model_server import settings_for


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "models"
    BundleMaker().write(root / "demo" / "1")
    BundleMaker(seed=2).write(root / "demo" / "2")
    BundleMaker(output_type="regime_classification").write(root / "regime" / "1h_v1")
    return root


@pytest_asyncio.fixture
async def address(root: Path) -> AsyncIterator[str]:
    async with running(build(settings_for(root, stream_chunk_rows_max=1000))) as address:
        yield address


@pytest_asyncio.fixture
async def client(address: str) -> AsyncIterator[AsyncModelsClient]:
    async with AsyncModelsClient(address) as client:
        yield client


def rows(count: int, columns: int = 3) -> np.ndarray:
    return np.random.default_rng(count).standard_normal((count, columns), dtype=np.float32)


# --- batches -------------------------------------------------------------------------------


@pytest.mark.asyncio
async def test_one_batch_gives_the_bits_of_the_predictor_in_process(
    client: AsyncModelsClient, root: Path
) -> None:
    local = load_predictor(read_bundle(root / "demo" / "2"))
    features = rows(300)
    features[7, 1] = np.nan
    outputs = await client.predict("models/demo", features)
    assert same_bits(outputs, local.predict(features))
    assert np.isnan(outputs[7]).all()


@pytest.mark.asyncio
async def test_regime_models_are_served(client: AsyncModelsClient) -> None:
    info = await client.get("models/regime")
    assert info.head is ModelHead.REGIME
    assert not info.head.is_tradable
    assert (await client.predict("models/regime", rows(5))).shape == (5, 4)


FAILURES = {
    "an unknown model": (
        {"name": "models/nope"},
        errors.ModelNotFoundError,
        "There is no models/nope here. Known: ",
        grpc.StatusCode.NOT_FOUND,
    ),
    "an unknown version": (
        {"name": "models/demo/versions/7"},
        errors.ModelNotFoundError,
        "Known: models/demo/versions/1, models/demo/versions/2",
        grpc.StatusCode.NOT_FOUND,
    ),
    "a path that climbs out": (
        {"name": "models/../../etc/versions/1"},
        errors.PathEscapesRootError,
        "would leave",
        grpc.StatusCode.INVALID_ARGUMENT,
    ),
    "an absolute path": (
        {"name": "/etc/passwd"},
        errors.PathEscapesRootError,
        "would leave",
        grpc.StatusCode.INVALID_ARGUMENT,
    ),
    "a link that leads out": (
        {"name": "models/link/versions/1"},
        errors.PathEscapesRootError,
        "link",
        grpc.StatusCode.INVALID_ARGUMENT,
    ),
    "a malformed name": (
        {"name": "demo"},
        errors.InvalidRequestError,
        "names no model",
        grpc.StatusCode.INVALID_ARGUMENT,
    ),
    "another digest": (
        {"expected_digest": "sha256:00"},
        errors.ModelDigestMismatchError,
        "sha256:00",
        grpc.StatusCode.FAILED_PRECONDITION,
    ),
    "too many columns": (
        {"features": tensor_to_proto(rows(2, 4))},
        errors.TensorMismatchError,
        r"\(rows, 3\)",
        grpc.StatusCode.INVALID_ARGUMENT,
    ),
    "bytes that do not fit the shape": (
        {"features": pb.Tensor(shape=[2, 3], float32_le=bytes(23))},
        errors.TensorMismatchError,
        "has 23 bytes",
        grpc.StatusCode.INVALID_ARGUMENT,
    ),
    "no tensor": (
        {"features": None},
        errors.TensorMismatchError,
        "rows, columns",
        grpc.StatusCode.INVALID_ARGUMENT,
    ),
    "a NaN that is refused": (
        {
            "features": tensor_to_proto(np.array([[1, 2, 3], [1, np.nan, 3]], np.float32)),
            "nan_policy": pb.NAN_POLICY_REFUSE,
        },
        errors.NanRefusedError,
        r"Row 1 has NaN in column 1 \(1h_rsi_f_t1\)",
        grpc.StatusCode.INVALID_ARGUMENT,
    ),
    "a pickled module": (
        {"name": "models/pickled"},
        errors.BundlePickledError,
        "refused",
        grpc.StatusCode.FAILED_PRECONDITION,
    ),
    "a corrupt file": (
        {"name": "models/corrupt"},
        errors.BundleCorruptError,
        r"model\.pt",
        grpc.StatusCode.DATA_LOSS,
    ),
    "weights of another shape": (
        {"name": "models/misfit"},
        errors.BundleInvalidError,
        "expected .* found",
        grpc.StatusCode.FAILED_PRECONDITION,
    ),
}


@pytest.fixture
def broken(root: Path, tmp_path: Path) -> None:
    import torch

    BundleMaker().write(root / "pickled" / "1", model_pt=saved(torch.nn.Linear(3, 3)))
    BundleMaker().write(root / "corrupt" / "1", model_pt=b"PK\x03\x04 nothing more")
    BundleMaker().write(root / "misfit" / "1", BundleMaker(hidden_layers=(6, 4)).weights())
    BundleMaker().write(tmp_path / "outside" / "1")
    (root / "link").symlink_to(tmp_path / "outside")
    shutil.rmtree(root / "regime" / "nothing", ignore_errors=True)


@pytest.mark.asyncio
@pytest.mark.parametrize("case", FAILURES)
@pytest.mark.parametrize("streamed", [False, True])
async def test_each_failure_is_its_own_error(
    broken: None, address: str, case: str, streamed: bool
) -> None:
    change, error, says, code = FAILURES[case]
    asked = {"name": "models/demo/versions/1", "features": tensor_to_proto(rows(2))} | change
    async with AioConnection("models", address, [SERVICE_NAME]) as connection:
        stub = connection.stub(pb_grpc.ModelsServiceStub)
        if streamed:
            rows_asked = pb.PredictStreamRequest(features=asked.pop("features") or pb.Tensor())
            asking = exchange(connection, opening(**asked), rows_asked)
        else:
            asking = connection.call(stub.Predict, pb.PredictRequest(**asked))
        with pytest.raises(error, match=says) as caught:
            await asking
    assert caught.value.__cause__.code() is code  # type: ignore[union-attr]
    if case == "too many columns":
        assert caught.value.metadata["expected_features"] == "3"
        assert caught.value.metadata["got_features"] == "4"


async def exchange(
    connection: AioConnection, *messages: pb.PredictStreamRequest
) -> list[pb.PredictStreamResponse]:
    """Sends each message once the one before is answered, and returns the answers.

    Where grpc.aio is still sending when the server refuses, it may report the failed send in place
    of the server's status; so a test of statuses must not send ahead.
    """
    stub = connection.stub(pb_grpc.ModelsServiceStub)
    answered = asyncio.Semaphore(1)

    async def requests() -> AsyncIterator[pb.PredictStreamRequest]:
        for message in messages:
            await answered.acquire()
            yield message
        await answered.acquire()

    responses = []
    async for response in connection.exchange(stub.PredictStream, requests()):
        answered.release()
        responses.append(response)
    return responses


def opening(name: str = "models/demo/versions/1", **fields: object) -> pb.PredictStreamRequest:
    return pb.PredictStreamRequest(open=pb.PredictStreamRequest.Open(name=name, **fields))


def chunk(features: np.ndarray) -> pb.PredictStreamRequest:
    return pb.PredictStreamRequest(features=tensor_to_proto(features))


# --- streams -----------------------------------------------------------------------------------


@pytest_asyncio.fixture
async def connection(address: str) -> AsyncIterator[AioConnection]:
    async with AioConnection("models", address, [SERVICE_NAME]) as connection:
        yield connection


@pytest.mark.asyncio
async def test_a_stream_answers_each_chunk_and_says_who_predicts(
    connection: AioConnection, root: Path
) -> None:
    local = load_predictor(read_bundle(root / "demo" / "1"))
    chunks = [rows(count) for count in (1, 1000, 0, 17)]
    responses = await exchange(connection, opening(), *(chunk(part) for part in chunks))
    assert responses[0].opened.digest == local.info.digest
    for part, response in zip(chunks, responses[1:], strict=True):
        assert same_bits(tensor_from_proto(response.outputs), local.predict(part))


@pytest.mark.asyncio
async def test_a_stream_without_or_with_two_openings_is_refused(
    connection: AioConnection,
) -> None:
    for messages, says in (
        ((chunk(rows(1)),), "first message must carry open"),
        ((pb.PredictStreamRequest(),), "first message must carry open"),
        ((opening(), opening()), "open may be sent once"),
        ((opening(), pb.PredictStreamRequest()), "must carry features"),
    ):
        with pytest.raises(errors.InvalidRequestError, match=says):
            await exchange(connection, *messages)


@pytest.mark.asyncio
async def test_a_chunk_over_the_limit_is_refused_by_name(connection: AioConnection) -> None:
    assert len(await exchange(connection, opening(), chunk(rows(1000)))) == 2
    with pytest.raises(errors.PayloadTooLargeError) as caught:
        await exchange(connection, opening(), chunk(rows(1001)))
    assert caught.value.metadata["limit_name"] == "stream_chunk_rows_max"


@pytest.mark.asyncio
async def test_a_refused_nan_is_named_by_its_row_in_the_whole_stream(
    connection: AioConnection,
) -> None:
    second = rows(10)
    second[4, 2] = np.nan
    refusing = opening(nan_policy=pb.NAN_POLICY_REFUSE)
    with pytest.raises(errors.NanRefusedError) as caught:
        await exchange(connection, refusing, chunk(rows(900)), chunk(second))
    assert caught.value.metadata["row_index"] == "904"


@pytest.mark.asyncio
async def test_a_stream_that_falls_silent_is_ended(root: Path) -> None:
    settings = settings_for(root, stream_idle_timeout_s=0.05)
    async with running(build(settings)) as address, AioConnection("models", address) as connection:
        stub = connection.stub(pb_grpc.ModelsServiceStub)
        forever = asyncio.Event()

        async def silent() -> AsyncIterator[pb.PredictStreamRequest]:
            yield opening()
            await forever.wait()

        responses = connection.exchange(stub.PredictStream, silent())
        assert (await anext(responses)).WhichOneof("payload") == "opened"
        with pytest.raises(errors.CallTimeoutError, match="No message came"):
            await anext(responses)


@pytest.mark.slow
def test_a_million_rows_stream_without_growing_memory(tmp_path: Path) -> None:
    maker = BundleMaker(feature_count=20, hidden_layers=(32, 16))
    maker.write(tmp_path / "models" / "wide" / "1")
    process = ServiceProcess(
        "model_service",
        env_prefix="BACKLANE_MODELS_",
        folder=tmp_path,
        env={"BACKLANE_MODELS_MODELS_DIR": str(tmp_path / "models"), "BACKLANE_MODELS_PORT": "0"},
    )
    with process, ModelsClient(process.address) as client:
        predictor = client.predictor("models/wide")
        features = random_rows(predictor, 1_000_000)
        predictor.predict(features[:100_000])
        server = psutil.Process(process.pid)
        before_bytes, peak_bytes = server.memory_info().rss, 0

        def look(_: int) -> None:
            nonlocal peak_bytes
            peak_bytes = max(peak_bytes, server.memory_info().rss)

        outputs = predictor.predict(features, look)
        assert outputs.shape == (1_000_000, 3)
        # 80 MB of features went through; gRPC and the allocator may keep a few chunks of 1.3 MB.
        assert peak_bytes - before_bytes < 30 * 2**20
