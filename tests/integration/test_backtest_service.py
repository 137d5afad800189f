"""backtest_service beside the other two, in one process: what it accepts, refuses and gives."""

import shutil
import uuid
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from backlane import errors
from backlane.api.backtest.v1 import backtest_service_pb2 as pb
from backlane.api.backtest.v1.backtest_service_pb2_grpc import BacktestServiceStub
from backlane.backtest.switches import SWITCH_NAMES
from backlane.client.backlane_client import AsyncClient
from backlane.client.backtests import SERVICE_NAME
from backlane.client.connection import Addresses, AioConnection
from backlane.client.workers import AsyncWorkerClient
from backlane.operations.commands import Succeeded
from backlane.operations.operation import Payload, State
from backlane.rpc.server import RpcServer
from backlane.sources.catalog import Catalog
from backlane.testing.servers import running, wait_until_async
from backlane.wire.backtest import spec_from_request, spec_to_payload
from backtest_service.app import build
from backtest_service.run_directory import attempt_directory
from backtest_service.settings import BacktestServiceSettings
from model_service.app import build as build_models
from model_service.settings import ModelServiceSettings
from operations_service.app import build as build_operations
from operations_service.settings import OperationsServiceSettings
from tests.e2e.stack import MODEL, fill_models, short_bars, short_request

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.slow]
ABSENT = "operations/absent-0001"


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("home")
    fill_models(folder / "models")
    Catalog(folder).import_bars(short_bars(), "synthetic")
    return folder


def backtest_server(home: Path, operations: str, models: str, **more: Any) -> RpcServer:
    settings = BacktestServiceSettings(
        port=0, home=home, operations_address=operations, models_address=models, workers=1, **more
    )
    return build(settings)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def addresses(home: Path) -> AsyncIterator[Addresses]:
    async with AsyncExitStack() as stack:
        operations = await stack.enter_async_context(
            running(build_operations(OperationsServiceSettings(port=0, data_dir=home / "registry")))
        )
        models = await stack.enter_async_context(
            running(build_models(ModelServiceSettings(port=0, models_dir=home / "models")))
        )
        server = backtest_server(home, operations, models, probe_interval_s=0.1)
        backtests = await stack.enter_async_context(running(server))
        await wait_until_async(lambda: server.is_serving, 60)
        yield Addresses(operations, models, backtests)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def client(addresses: Addresses) -> AsyncIterator[AsyncClient]:
    async with AsyncClient(addresses) as client:
        yield client


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def name(client: AsyncClient) -> str:
    """A finished run."""
    operation = await client.backtests.run(short_request())
    ended = await client.operations.wait(operation.name, timeout_s=60)
    assert ended.state is State.SUCCEEDED, ended.error
    return operation.name


def names_in(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()]


async def read(stream: AsyncIterator[Any]) -> list[Any]:
    return [item async for item in stream]


# --- what is refused before an operation is opened ---------------------------------------------


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"model": {"name": "absent"}}, errors.ModelNotFoundError),
        ({"model": {"name": MODEL, "version": "99"}}, errors.ModelNotFoundError),
        ({"model": {"name": "regime", "version": "1"}}, errors.ModelNotTradableError),
        ({"model_digest": "sha256:00"}, errors.ModelDigestMismatchError),
        ({"symbol": "ABSENT"}, errors.DatasetNotFoundError),
        ({"timeframe": "5m"}, errors.InvalidRequestError),
        ({"dataset_digests": {"1h": "sha256:00"}}, errors.DatasetChangedError),
        ({"start": "2031-01-01"}, errors.DataRangeEmptyError),
    ],
)
async def test_what_cannot_run_is_refused_at_once(
    client: AsyncClient, changes: dict[str, Any], error: type[errors.BacklaneError]
):
    before = await client.operations.list_page()
    for call in (client.backtests.run, client.backtests.validate):
        with pytest.raises(error):
            await call(short_request(**changes))
    after = await client.operations.list_page()
    assert [each.name for each in after.operations] == [each.name for each in before.operations]


@pytest.mark.parametrize("request_id", ["", "17", "not-a-uuid"])
async def test_a_request_id_is_a_uuid(addresses: Addresses, request_id: str):
    async with AioConnection("backtests", addresses.backtests, [SERVICE_NAME]) as connection:
        stub: Any = connection.stub(BacktestServiceStub)
        spec = spec_from_request(short_request())
        message = pb.RunBacktestRequest(request_id=request_id, spec=spec)
        with pytest.raises(errors.InvalidRequestError) as caught:
            await connection.call(stub.RunBacktest, message)
    assert [violation.field for violation in caught.value.violations] == ["request_id"]


async def test_violations_arrive_by_their_paths_in_the_proto(addresses: Addresses):
    async with AioConnection("backtests", addresses.backtests, [SERVICE_NAME]) as connection:
        stub: Any = connection.stub(BacktestServiceStub)
        spec = spec_from_request(short_request())
        spec.initial_cash, spec.decisions.confidence_threshold = -1, 7
        message = pb.RunBacktestRequest(request_id=str(uuid.uuid4()), spec=spec)
        with pytest.raises(errors.InvalidRequestError) as caught:
            await connection.call(stub.RunBacktest, message)
    assert {violation.field for violation in caught.value.violations} == {
        "spec.initial_cash",
        "spec.decisions.confidence_threshold",
    }


async def test_a_validation_fills_in_every_default(client: AsyncClient):
    validation = await client.backtests.validate(short_request(model={"name": "newest"}))
    filled = validation.request
    assert validation.bar_count == 3_000
    assert filled.model.version == "2"
    assert filled.model_digest.startswith("sha256:")
    assert set(filled.switches) == set(SWITCH_NAMES)
    assert filled.decisions.position_awareness is True


async def test_what_was_filled_in_runs_to_the_same_bits(client: AsyncClient, name: str):
    validation = await client.backtests.validate(short_request())
    operation = await client.backtests.run(validation.request)
    assert (await client.operations.wait(operation.name, timeout_s=60)).state is State.SUCCEEDED
    filled = await client.backtests.get_result(operation.name)
    asked = await client.backtests.get_result(name)
    assert filled.result_digest == asked.result_digest
    assert filled.provenance.config_digest == asked.provenance.config_digest


# --- what went wrong between the two -----------------------------------------------------------


async def test_bars_that_changed_after_the_submission_fail_the_run(client: AsyncClient):
    validation = await client.backtests.validate(short_request())
    stale = validation.request.model_copy(update={"dataset_digests": {"1h": "sha256:00"}})
    operation = await client.operations.create("backtest.run", spec_to_payload(stale))
    ended = await client.operations.wait(operation.name, timeout_s=30)
    assert ended.error is not None
    assert ended.error.reason == "DATASET_DIGEST_MISMATCH"


async def test_an_operation_that_asks_for_something_else_fails(client: AsyncClient):
    payload = Payload("type.googleapis.com/google.protobuf.Empty", b"")
    operation = await client.operations.create("backtest.run", payload)
    ended = await client.operations.wait(operation.name, timeout_s=30)
    assert ended.error is not None
    assert ended.error.reason == "VALIDATION_FAILED"
    assert "google.protobuf.Empty" in ended.error.message


# --- results -----------------------------------------------------------------------------------


async def assert_no_result(
    client: AsyncClient, operation: str, error: type[errors.BacklaneError]
) -> None:
    with pytest.raises(error):
        await client.backtests.get_result(operation)
    for stream in (
        client.backtests.trades(operation),
        client.backtests.equity(operation),
        client.backtests.read_file(operation, "trades.csv"),
    ):
        with pytest.raises(error):
            await read(stream)


async def test_an_unknown_operation_has_no_result(client: AsyncClient):
    await assert_no_result(client, ABSENT, errors.OperationNotFoundError)


@pytest.mark.parametrize("bad", ["", "results/x", "operations/../../etc/passwd", "operations/A B"])
async def test_a_name_that_is_none_is_refused(client: AsyncClient, bad: str):
    await assert_no_result(client, bad, errors.InvalidRequestError)


async def test_an_operation_has_no_result_before_its_end_or_without_success(client: AsyncClient):
    payload = spec_to_payload(short_request())
    operation = await client.operations.create("nobody.runs_this", payload)
    await assert_no_result(client, operation.name, errors.OperationNotTerminalError)
    await client.operations.cancel(operation.name)
    await assert_no_result(client, operation.name, errors.OperationNotSucceededError)


async def test_the_result_of_something_else_is_none_of_ours(
    client: AsyncClient, addresses: Addresses
):
    payload = Payload("type.googleapis.com/google.protobuf.Empty", b"")
    operation = await client.operations.create("some.other_kind", payload)
    async with AsyncWorkerClient(addresses.operations, "test") as worker:
        assignment = await worker.acquire(["some.other_kind"])
        assert assignment is not None
        await worker.complete(operation.name, assignment.hold.epoch, Succeeded(payload))
    await assert_no_result(client, operation.name, errors.ResultNotFoundError)


async def test_only_files_of_results_are_read(client: AsyncClient, name: str):
    for file in ("", "secrets.txt", "../../data", "result.json/..", "/etc/passwd"):
        with pytest.raises(errors.ResultNotFoundError, match=r"trades\.csv"):
            await read(client.backtests.read_file(name, file))


async def test_offsets_below_zero_are_refused(client: AsyncClient, name: str):
    for stream in (
        client.backtests.trades(name, row_offset=-1),
        client.backtests.equity(name, row_offset=-1),
        client.backtests.read_file(name, "trades.csv", byte_offset=-1),
    ):
        with pytest.raises(errors.InvalidRequestError, match="below 0"):
            await read(stream)


@pytest.mark.parametrize(("asked", "largest"), [(0, 1_000), (7, 7), (1_000_000, 10_000)])
async def test_pages_have_a_size_and_tile_the_rows(
    addresses: Addresses, name: str, asked: int, largest: int
):
    async with AioConnection("backtests", addresses.backtests, [SERVICE_NAME]) as connection:
        stub: Any = connection.stub(BacktestServiceStub)
        message = pb.StreamEquityRequest(operation=name, page_size=asked)
        pages = await read(connection.stream(stub.StreamEquity, message))
    assert max(len(page.points) for page in pages) == min(largest, 2_986)
    offset = 0
    for page in pages:
        assert page.row_offset == offset
        offset += len(page.points)
    assert offset == 2_986


async def test_an_empty_list_of_trades_streams_nothing(client: AsyncClient):
    request = short_request(decisions={"confidence_threshold": 1})
    operation = await client.backtests.run(request)
    assert (await client.operations.wait(operation.name, timeout_s=60)).state is State.SUCCEEDED
    assert await read(client.backtests.trades(operation.name)) == []
    result = await client.backtests.get_result(operation.name)
    assert "BELOW_CONFIDENCE" in result.no_trades_because


async def test_the_summary_outlives_the_files(client: AsyncClient, home: Path):
    operation = await client.backtests.run(short_request())
    assert (await client.operations.wait(operation.name, timeout_s=60)).state is State.SUCCEEDED
    shutil.rmtree(home / "results" / operation.name.removeprefix("operations/"))
    assert (await client.backtests.get_result(operation.name)).metrics
    with pytest.raises(errors.ResultNotFoundError, match="no longer kept"):
        await read(client.backtests.trades(operation.name))


async def test_a_folder_that_is_no_result_is_never_replaced(
    client: AsyncClient, name: str, tmp_path: Path
):
    (tmp_path / "precious.txt").write_text("mine")
    with pytest.raises(FileExistsError):
        await client.backtests.download_result(name, tmp_path)
    assert names_in(tmp_path) == ["precious.txt"]


async def test_damage_on_the_way_is_found_and_nothing_is_left(
    client: AsyncClient, home: Path, tmp_path: Path
):
    operation = await client.backtests.run(short_request())
    assert (await client.operations.wait(operation.name, timeout_s=60)).state is State.SUCCEEDED
    ended = await client.operations.get(operation.name)
    kept = attempt_directory(home / "results", ended) / "trades.csv"
    kept.write_bytes(kept.read_bytes()[:-1] + b"!")
    with pytest.raises(errors.InternalError, match=r"trades\.csv"):
        await client.backtests.download_result(operation.name, tmp_path / "out")
    assert names_in(tmp_path) == []


# --- health ------------------------------------------------------------------------------------


async def test_it_is_not_serving_without_the_others(home: Path, addresses: Addresses):
    for operations, models in (
        (addresses.operations, "127.0.0.1:1"),
        ("127.0.0.1:1", addresses.models),
    ):
        server = backtest_server(home, operations, models, drain_grace_s=4)
        async with running(server):
            assert not server.is_serving
