"""model_service over a real socket: what it serves, and how each failure arrives."""

import asyncio
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import numpy as np
import psutil
import pytest
import pytest_asyncio

from backlane import errors
from backlane.api.models.v1 import models_service_pb2 as pb
from backlane.api.models.v1 import models_service_pb2_grpc as pb_grpc
from backlane.client.connection import AioConnection
from backlane.client.models import SERVICE_NAME, AsyncModelsClient, ModelsClient
from backlane.inference import torch_predictor
from backlane.inference.model_info import ModelState
from backlane.rpc.healthcheck import check_health
from backlane.sources.bundle import load_predictor, read_bundle
from backlane.testing.contracts.predictor import random_rows, same_bits
from backlane.testing.servers import ServiceProcess, running, wait_until_async
from backlane.wire.tensor import tensor_to_proto
from model_service.app import build
from tests.bundle_maker import BundleMaker, saved
from tests.model_server import serving, settings_for


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


# --- models ------------------------------------------------------------------------------------


@pytest.mark.asyncio
async def test_models_are_listed_described_loaded_and_unloaded(
    client: AsyncModelsClient, root: Path
) -> None:
    listed = [(entry.name, entry.state) async for entry in client.list()]
    assert listed == [
        ("models/demo/versions/1", ModelState.UNLOADED),
        ("models/demo/versions/2", ModelState.UNLOADED),
        ("models/regime/versions/1h_v1", ModelState.UNLOADED),
    ]
    info = await client.get("models/demo/versions/1")
    assert info == read_bundle(root / "demo" / "1").info
    assert await client.load("models/demo/versions/1") == info
    assert await client.load("models/demo/versions/1") == info
    states = {entry.name: entry.state async for entry in client.list()}
    assert states["models/demo/versions/1"] is ModelState.READY
    assert states["models/demo/versions/2"] is ModelState.UNLOADED
    await client.unload("models/demo/versions/1")
    await client.unload("models/demo/versions/1")
    states = {entry.name: entry.state async for entry in client.list()}
    assert states["models/demo/versions/1"] is ModelState.UNLOADED


@pytest.mark.asyncio
async def test_a_new_version_appears_without_a_restart_and_is_the_newest(
    client: AsyncModelsClient, root: Path
) -> None:
    assert (await client.get("models/demo")).version == "2"
    BundleMaker(seed=3).write(root / "demo" / "10")
    assert (await client.get("models/demo")).version == "10"
    assert len([entry async for entry in client.list()]) == 4


@pytest.mark.asyncio
async def test_a_bundle_that_is_replaced_in_place_is_read_again(
    client: AsyncModelsClient, root: Path
) -> None:
    before = await client.load("models/demo/versions/1")
    first = await client.predict("models/demo/versions/1", rows(4))
    BundleMaker(seed=9).write(root / "demo" / "1")
    assert not same_bits(await client.predict("models/demo/versions/1", rows(4)), first)
    with pytest.raises(errors.ModelDigestMismatchError) as caught:
        await client.load("models/demo/versions/1", before.digest)
    assert caught.value.metadata["expected"] == before.digest
    assert caught.value.metadata["found"] != before.digest


@pytest.mark.asyncio
async def test_pages_tile_the_list(address: str) -> None:
    async with AioConnection("models", address, [SERVICE_NAME]) as connection:
        stub = connection.stub(pb_grpc.ModelsServiceStub)
        names, token = [], ""
        for _ in range(3):
            request = pb.ListModelsRequest(page_size=1, page_token=token)
            response = await connection.call(stub.ListModels, request)
            names += [model.name for model in response.models]
            token = response.next_page_token
        assert token == ""
        assert len(names) == len(set(names)) == 3
        for page_token in ("rubbish", "models/demo", "models/../x/versions/1"):
            with pytest.raises(errors.InvalidPageTokenError):
                await connection.call(stub.ListModels, pb.ListModelsRequest(page_token=page_token))
        with pytest.raises(errors.InvalidRequestError):
            await connection.call(stub.ListModels, pb.ListModelsRequest(page_size=-1))


@pytest.mark.asyncio
async def test_a_broken_bundle_is_listed_with_its_reason_and_harms_no_other(
    client: AsyncModelsClient, root: Path
) -> None:
    BundleMaker().write(root / "broken" / "1")
    (root / "broken" / "1" / "config.json").write_text("{")
    BundleMaker().write(root / "cut" / "1", model_pt=saved(BundleMaker().weights())[:300])
    with pytest.raises(errors.BundleCorruptError):
        await client.load("models/cut")
    found = {entry.name: entry async for entry in client.list()}
    for name, says in (("broken", "config.json is no JSON"), ("cut", "model.pt")):
        entry = found[f"models/{name}/versions/1"]
        assert entry.state is ModelState.FAILED
        assert says in entry.reason
    assert (await client.load("models/demo")).version == "2"
    BundleMaker().write(root / "cut" / "1")
    assert (await client.load("models/cut")).model == "cut"


@pytest.mark.asyncio
async def test_memory_has_a_limit_and_the_least_recently_used_goes_first(root: Path) -> None:
    # 512 * 512 weights of 4 bytes are 1 MiB and a little: two fit into 3 MiB, three do not.
    for version in ("1", "2", "3"):
        maker = BundleMaker(hidden_layers=(512, 512), seed=int(version))
        maker.write(root / "large" / version)
    BundleMaker(hidden_layers=(1024, 1024)).write(root / "huge" / "1")
    settings = settings_for(root, cache_bytes_max=3 * 2**20)
    async with running(build(settings)) as address, AsyncModelsClient(address) as client:

        async def ready() -> list[str]:
            return [
                entry.name.removeprefix("models/large/versions/")
                async for entry in client.list()
                if entry.state is ModelState.READY
            ]

        await client.load("models/large/versions/1")
        await client.load("models/large/versions/2")
        await client.predict("models/large/versions/1", rows(1))
        await client.load("models/large/versions/3")
        assert await ready() == ["1", "3"]
        with pytest.raises(errors.LimitExceededError, match="CACHE_BYTES_MAX") as caught:
            await client.load("models/huge")
        assert caught.value.metadata["limit_name"] == "cache_bytes_max"


@pytest.mark.asyncio
async def test_many_callers_load_a_bundle_once(
    client: AsyncModelsClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    from model_service import repository

    reads = []
    original = repository.read_bundle
    monkeypatch.setattr(
        repository, "read_bundle", lambda *a, **k: (reads.append(a), original(*a, **k))[1]
    )
    outputs = await asyncio.gather(*(client.predict("models/demo", rows(5)) for _ in range(12)))
    assert len(reads) == 1
    assert all(same_bits(output, outputs[0]) for output in outputs)


DEMO = pb.PredictStreamRequest.Open(name="models/demo/versions/1")


@pytest_asyncio.fixture
async def connection(address: str) -> AsyncIterator[AioConnection]:
    async with AioConnection("models", address, [SERVICE_NAME]) as connection:
        yield connection


# --- work and health --------------------------------------------------------------------------


@pytest.mark.asyncio
async def test_unloading_waits_for_an_open_stream(
    connection: AioConnection, client: AsyncModelsClient
) -> None:
    stub = connection.stub(pb_grpc.ModelsServiceStub)
    go_on = asyncio.Event()

    async def requests() -> AsyncIterator[pb.PredictStreamRequest]:
        yield pb.PredictStreamRequest(open=DEMO)
        await go_on.wait()
        yield pb.PredictStreamRequest(features=tensor_to_proto(rows(3)))

    responses = connection.exchange(stub.PredictStream, requests())
    assert (await anext(responses)).WhichOneof("payload") == "opened"
    unloading = asyncio.create_task(client.unload(DEMO.name))

    async def is_unloaded() -> bool:
        found = {entry.name: entry.state async for entry in client.list()}
        return found[DEMO.name] is ModelState.UNLOADED

    await wait_until_async(is_unloaded)
    assert not unloading.done()
    go_on.set()
    assert (await anext(responses)).outputs.shape == [3, 3]
    with pytest.raises(StopAsyncIteration):
        await anext(responses)
    await unloading


@pytest.mark.asyncio
async def test_health_answers_while_a_prediction_runs(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    running_now, may_end = threading.Event(), threading.Event()
    original = torch_predictor.PredictorSession.predict

    def slow(self, features, on_progress=None):
        if len(features) == 77:
            running_now.set()
            assert may_end.wait(20)
        return original(self, features, on_progress)

    monkeypatch.setattr(torch_predictor.PredictorSession, "predict", slow)
    async with running(build(settings_for(root))) as address, AsyncModelsClient(address) as client:
        predicting = asyncio.create_task(client.predict("models/demo", rows(77)))
        await wait_until_async(running_now.is_set)
        for service in ("", SERVICE_NAME):
            assert await asyncio.to_thread(check_health, address, service) == "SERVING"
        assert (await client.get("models/demo")).version == "2"
        assert not predicting.done()
        may_end.set()
        assert len(await predicting) == 77


@pytest.mark.asyncio
async def test_a_caller_that_goes_away_stops_the_work(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    running_now, cancelled, stopped = threading.Event(), threading.Event(), threading.Event()
    original = torch_predictor.PredictorSession.predict

    def watched(self, features, on_progress=None):
        if len(features) != 77:
            return original(self, features, on_progress)
        running_now.set()
        assert cancelled.wait(20)
        deadline = threading.Event()
        try:
            while not deadline.wait(0.005):  # one step of the work after the other
                on_progress(1)
        except errors.CancelledRunError:
            stopped.set()
            raise

    async def one_chunk() -> AsyncIterator[pb.PredictStreamRequest]:
        yield pb.PredictStreamRequest(open=DEMO)
        yield pb.PredictStreamRequest(features=tensor_to_proto(rows(77)))

    monkeypatch.setattr(torch_predictor.PredictorSession, "predict", watched)
    async with running(build(settings_for(root))) as address, AsyncModelsClient(address) as client:
        async with AioConnection("models", address) as leaving:
            stub = leaving.stub(pb_grpc.ModelsServiceStub)
            responses = leaving.exchange(stub.PredictStream, one_chunk())
            await anext(responses)
            waiting = asyncio.create_task(anext(responses))
            await wait_until_async(running_now.is_set)
            waiting.cancel()
            await asyncio.gather(waiting, return_exceptions=True)
        cancelled.set()
        await wait_until_async(stopped.is_set)
        # The only thread is free again.
        assert len(await client.predict("models/demo", rows(5))) == 5


@pytest.mark.asyncio
async def test_without_a_models_folder_it_is_not_serving(tmp_path: Path) -> None:
    settings = settings_for(tmp_path / "none", probe_interval_s=0.02)
    async with running(build(settings)) as address:
        assert await asyncio.to_thread(check_health, address) == "NOT_SERVING"
        (tmp_path / "none").mkdir()

        async def is_serving() -> bool:
            return await asyncio.to_thread(check_health, address) == "SERVING"

        await wait_until_async(is_serving)


@pytest.mark.slow  # a fresh process loads torch
def test_the_process_serves_and_drains(root: Path, tmp_path: Path) -> None:
    process = ServiceProcess(
        "model_service",
        env_prefix="BACKLANE_MODELS_",
        folder=tmp_path,
        env={
            "BACKLANE_MODELS_MODELS_DIR": str(root),
            "BACKLANE_MODELS_PORT": "0",
            "BACKLANE_MODELS_THREADS": "2",
            "BACKLANE_MODELS_CPU_AFFINITY": str(min(psutil.Process().cpu_affinity())),
        },
    )
    with process, ModelsClient(process.address) as client:
        local = load_predictor(read_bundle(root / "demo" / "2"))
        features = random_rows(local, 20_000)
        assert same_bits(client.predictor("models/demo").predict(features), local.predict(features))
        assert process.terminate() == 0


def test_the_synchronous_client_lists_and_predicts(root: Path) -> None:
    with serving(root) as address, ModelsClient(address) as client:
        assert next(entry.name for entry in client.list()) == "models/demo/versions/1"
        info = client.get("models/demo")
        assert client.load(info.name, info.digest) == info
        assert client.predict(info.name, rows(3), expected_digest=info.digest).shape == (3, 3)
        with pytest.raises(errors.NanRefusedError):
            client.predict(info.name, rows(3) * np.nan, refuse_nan=True)
        client.unload(info.name)


def test_a_predictor_notices_that_its_bundle_was_replaced(root: Path) -> None:
    with serving(root) as address, ModelsClient(address) as client:
        predictor = client.predictor("models/demo")
        assert len(predictor.predict(rows(3))) == 3
        BundleMaker(seed=8).write(root / "demo" / "2")
        before = threading.active_count()
        with pytest.raises(errors.ModelDigestMismatchError):
            predictor.predict(rows(100_000))
        # No thread that feeds the stream is left behind.
        from backlane.testing.servers import wait_until

        wait_until(lambda: threading.active_count() <= before)
