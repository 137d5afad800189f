"""PortfolioService beside the registry, in one process, with real worker processes beside it."""

import asyncio
import os
import random
import shutil
import signal
import uuid
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest
import pytest_asyncio

from backlane import errors
from backlane.api.portfolios.v1 import portfolio_service_pb2 as pb
from backlane.api.portfolios.v1.portfolio_service_pb2_grpc import PortfolioServiceStub
from backlane.backtest.cycle_outcome import CycleRequest
from backlane.backtest.model_strategy import ModelRegistry
from backlane.backtest.portfolio_request import PortfolioRequest
from backlane.client.backlane_client import AsyncClient
from backlane.client.connection import Addresses, AioConnection
from backlane.client.operations import watch_request
from backlane.client.portfolios import SERVICE_NAME
from backlane.client.uploads import LocalFile
from backlane.cycle.strategies import BUILT_IN
from backlane.operations.events import CheckpointCommitted, Note
from backlane.operations.operation import Operation, State
from backlane.operations.watching import StartAt
from backlane.sources.model_strategies import bundle_predictors
from backlane.testing.servers import running, wait_until_async
from backtest_service.app import build
from backtest_service.settings import BacktestServiceSettings
from model_service.app import build as build_models
from model_service.settings import ModelServiceSettings
from operations_service.app import build as build_operations
from operations_service.settings import OperationsServiceSettings
from tests.e2e.watched import Watched
from tests.portfolios import RISK, config_of, files_of, run_in_process, write_panel

pytestmark = [
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.slow,
    pytest.mark.timeout(180),
]
MODELS = Path(__file__).parents[2] / "models"
EXAMPLES = Path(__file__).parents[2] / "examples" / "portfolio"
SLOWLY = "worker.slice_simulated=sleep:0.02"
"""Fifty slices of the runs below take a second, whatever the machine."""
BARS = 200
UPLOAD_BYTES_MAX = 1_000_000
STRESS = {"mode": "stress", "stress": {"seed": 7, "missing": {"probability": 0.1}}}


class Market:
    """A registry, and services on one home."""

    def __init__(self, folder: Path, operations: str, models: str) -> None:
        self.folder, self.operations, self.models = folder, operations, models
        self.home = folder / "home"

    @asynccontextmanager
    async def service(self, failpoints: str = "", **more: Any) -> AsyncIterator[AsyncClient]:
        settings = BacktestServiceSettings(
            **{
                "port": 0,
                "home": self.home,
                "operations_address": self.operations,
                "models_address": self.models,
                "workers": 1,
                "probe_interval_s": 0.1,
                "drain_grace_s": 4.0,
                "checkpoint_interval_bars": 10,
                "upload_bytes_max": UPLOAD_BYTES_MAX,
            }
            | more
        )
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("BACKLANE_FAILPOINTS", failpoints)
            server = build(settings)
            async with running(server) as address:
                await wait_until_async(lambda: server.is_serving, 60)
                async with AsyncClient(Addresses(self.operations, self.models, address)) as client:
                    yield client


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def market(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Market]:
    folder = tmp_path_factory.mktemp("market")
    (folder / "home").mkdir()
    shutil.copytree(MODELS, folder / "models")
    write_panel(folder, BARS)
    async with AsyncExitStack() as stack:
        registry = OperationsServiceSettings(port=0, data_dir=folder / "registry")
        operations = await stack.enter_async_context(running(build_operations(registry)))
        models = await stack.enter_async_context(
            running(build_models(ModelServiceSettings(port=0, models_dir=folder / "models")))
        )
        yield Market(folder, operations, models)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def client(market: Market) -> AsyncIterator[AsyncClient]:
    async with market.service(SLOWLY) as client:
        yield client


async def started(market: Market, client: AsyncClient, **changes: Any) -> str:
    request = await client.portfolios.upload(config_of(**changes), market.folder)
    return (await client.portfolios.run(request)).name


async def ended(client: AsyncClient, name: str) -> Operation:
    operation = await client.operations.wait(name, timeout_s=90)
    assert operation.state.is_terminal
    return operation


async def log_of(client: AsyncClient, name: str) -> Watched:
    watched = Watched()
    async for message in client.operations.watch(watch_request(name, start=StartAt.OLDEST)):
        watched.take(message)
    return watched


async def notes_of(client: AsyncClient, name: str) -> str:
    texts = []
    async for message in client.operations.watch(watch_request(name, start=StartAt.OLDEST)):
        texts += [event.body.text for event in message.events if isinstance(event.body, Note)]
    return " ".join(texts)


async def until_checkpoints(client: AsyncClient, name: str, count: int) -> None:
    seen = 0
    async for message in client.operations.watch(watch_request(name, start=StartAt.OLDEST)):
        seen += sum(isinstance(event.body, CheckpointCommitted) for event in message.events)
        if seen >= count:
            return
    raise AssertionError(f"{name} ended with {seen} checkpoints")


def busy_worker() -> psutil.Process:
    return next(each for each in psutil.Process().children() if each.name() == "backlane-run")


async def assert_undisturbed(
    market: Market, client: AsyncClient, name: str, out: Path, **changes: Any
) -> Operation:
    """Its files have the bytes of a run in this process, and its log tells all of it once."""
    operation = await ended(client, name)
    assert operation.state is State.SUCCEEDED, operation.error
    expected = run_in_process(config_of(**changes), market.folder, out / "expected")
    await client.portfolios.download_result(name, out / "found")
    assert files_of(out / "found") == expected
    watched = await log_of(client, name)
    assert watched.is_whole()
    steps = [point.step for point in watched.points]
    assert steps == sorted(set(steps))
    assert steps[-1] == BARS - 1
    return operation


# --- runs --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "changes", [{}, {"risk": RISK}, STRESS], ids=["compiled", "cycles", "stress"]
)
async def test_a_run_gives_the_bytes_of_one_in_process(
    market: Market, client: AsyncClient, tmp_path: Path, changes: dict[str, Any]
):
    name = await started(market, client, **changes)
    operation = await assert_undisturbed(market, client, name, tmp_path, **changes)
    assert operation.progress is not None
    assert operation.progress.total_units == BARS
    summary = await client.portfolios.get_result(name)
    watched = await log_of(client, name)
    assert watched.points[-1].value == summary.final_equity
    assert summary.counts["trades"] > 5
    assert tuple(summary.timings) == ("load", "features", "simulation", "metrics", "result")
    assert {file.name for file in summary.files} == set(files_of(tmp_path / "found"))
    assert not (market.home / "checkpoints" / name.removeprefix("operations/")).exists()


MODEL_PARAMETERS = {"model": "rsi_bb/1", "decisions": {"confidence_threshold": 0.4}}


async def test_a_model_is_asked_through_model_service(
    market: Market, client: AsyncClient, tmp_path: Path
):
    content = {
        "strategy": {"name": "model", "parameters": MODEL_PARAMETERS},
        "data": {"panel": "panel_1h.csv"},
        "execution": {"lot_size": 1, "sized_at": "open"},
        "meta_model": {"model": "rsi_bb", "min_confidence": 0.3},
    }
    request = await client.portfolios.upload(content, EXAMPLES)
    name = (await client.portfolios.run(request)).name
    operation = await ended(client, name)
    assert operation.state is State.SUCCEEDED, operation.error
    here = ModelRegistry(BUILT_IN, bundle_predictors(MODELS, MODELS))
    expected = run_in_process(content, EXAMPLES, tmp_path / "expected", here)
    await client.portfolios.download_result(name, tmp_path / "found")
    assert files_of(tmp_path / "found") == expected
    assert len(expected["fills.csv"].splitlines()) > 5


async def test_a_bundle_of_a_folder_is_for_local_runs(market: Market, client: AsyncClient):
    parameters = {**MODEL_PARAMETERS, "model": {"path": "somewhere"}}
    strategy = {"name": "model", "parameters": parameters}
    with pytest.raises(errors.InvalidRequestError) as refused:
        await started(market, client, strategy=strategy)
    fields = [each.field for each in refused.value.violations]
    assert fields == ["spec.config.strategy.parameters.model.path"]


async def test_the_same_request_id_is_the_same_run(market: Market, client: AsyncClient):
    request = await client.portfolios.upload(config_of(), market.folder)
    request_id = str(uuid.uuid4())
    first = await client.portfolios.run(request, request_id=request_id, labels={"a": "b"})
    again = await client.portfolios.run(request, request_id=request_id, labels={"a": "b"})
    assert (first.name, first.kind) == (again.name, "portfolio.run")
    other = PortfolioRequest({**request.config, "initial_cash": 1.0}, request.files)
    with pytest.raises(errors.RequestIdReusedError):
        await client.portfolios.run(other, request_id=request_id)
    await client.operations.cancel(first.name)


async def test_what_cannot_run_is_refused_at_once_by_its_fields(
    market: Market, client: AsyncClient
):
    good = await client.portfolios.upload(config_of(), market.folder)
    unknown, extra = {"panel.csv": f"sha256:{'0' * 64}"}, {**good.files, "x.csv": "sha256:7"}
    for request, fields in (
        (PortfolioRequest({**good.config, "fil": 1}, good.files), ["spec.config.fil"]),
        (
            PortfolioRequest(config_of(strategy={"name": "trend"}), good.files),
            ["spec.config.strategy.name"],
        ),
        (PortfolioRequest(good.config, {}), ["spec.files[panel.csv]"]),
        (PortfolioRequest(good.config, extra), ["spec.files[x.csv]"]),
        (PortfolioRequest({}, {}), ["spec.config.strategy", "spec.config.data"]),
        (PortfolioRequest({**good.config, "mode": "replay"}, good.files), ["spec.config.mode"]),
    ):
        with pytest.raises(errors.InvalidRequestError) as caught:
            await client.portfolios.run(request)
        assert {each.field for each in caught.value.violations} == set(fields)
    with pytest.raises(errors.UploadNotFoundError, match=r"panel\.csv"):
        await client.portfolios.run(PortfolioRequest(good.config, unknown))


async def test_a_panel_that_is_refused_fails_the_run_by_the_name_of_its_file(
    market: Market, client: AsyncClient, tmp_path: Path
):
    lines = (market.folder / "panel.csv").read_text().splitlines()
    (tmp_path / "panel.csv").write_text("\n".join([*lines, lines[-1]]) + "\n")
    request = await client.portfolios.upload(config_of(), tmp_path)
    operation = await ended(client, (await client.portfolios.run(request)).name)
    assert operation.error is not None
    assert operation.error.reason == "DATA_REFUSED"
    assert "panel.csv" in operation.error.message
    assert str(market.home) not in operation.error.message


async def test_results_of_another_kind_are_refused(market: Market, client: AsyncClient):
    name = await started(market, client)
    assert (await ended(client, name)).state is State.SUCCEEDED
    with pytest.raises(errors.ResultNotFoundError):
        await client.backtests.get_result(name)
    with pytest.raises(errors.ResultNotFoundError):
        async for _ in client.portfolios.read_file(name, "bars.parquet"):
            pass
    with pytest.raises(errors.InvalidRequestError, match=r"is a portfolio\.run"):
        await client.backtests.resume(name)


# --- death, cancel, resume ---------------------------------------------------------------------


@pytest.mark.parametrize("changes", [{}, {"risk": RISK}], ids=["compiled", "cycles"])
async def test_a_worker_killed_at_a_random_bar_costs_an_attempt_and_nothing_else(
    market: Market, client: AsyncClient, tmp_path: Path, changes: dict[str, Any]
):
    name = await started(market, client, **changes)
    await until_checkpoints(client, name, random.Random(os.urandom(8)).randint(1, 8))
    os.kill(busy_worker().pid, signal.SIGKILL)
    operation = await assert_undisturbed(market, client, name, tmp_path, **changes)
    assert operation.attempt == 2
    assert [failure.reason for failure in operation.failures] == ["WORKER_LOST"]
    assert "Going on from checkpoint" in await notes_of(client, name)


async def test_a_cancelled_run_stops_within_a_second_and_goes_on_as_another(
    market: Market, client: AsyncClient, tmp_path: Path
):
    first = await started(market, client, risk=RISK)
    await until_checkpoints(client, first, 1)
    loop = asyncio.get_running_loop()
    asked_s = loop.time()
    await client.operations.cancel(first)
    cancelled = await ended(client, first)
    assert cancelled.state is State.CANCELLED
    assert loop.time() - asked_s < 5.0  # a second is the promise; the machine may be busy
    request_id = str(uuid.uuid4())
    second = await client.portfolios.resume(first, request_id=request_id)
    assert (await client.portfolios.resume(first, request_id=request_id)).name == second.name
    operation = await assert_undisturbed(market, client, second.name, tmp_path, risk=RISK)
    assert operation.resumed_from == first
    newest = cancelled.checkpoints[0].number
    assert f"Going on from checkpoint {newest}" in await notes_of(client, second.name)


async def test_a_drained_worker_gives_its_run_to_another(market: Market, tmp_path: Path):
    async with AsyncExitStack() as stack:
        registry = OperationsServiceSettings(port=0, data_dir=tmp_path / "registry")
        operations = await stack.enter_async_context(running(build_operations(registry)))
        apart = Market(market.folder, operations, market.models)
        never = 10**9
        slower = "worker.slice_simulated=sleep:0.2"
        async with apart.service(slower, checkpoint_interval_bars=never) as client:
            name = await started(apart, client)
            async for message in client.operations.watch(watch_request(name)):
                progress = message.progress.get(name)
                if progress is not None and progress.completed_units > 5:
                    break
        async with apart.service(checkpoint_interval_bars=never) as client:
            operation = await assert_undisturbed(apart, client, name, tmp_path)
    assert (operation.attempt, operation.failures) == (2, ())


# --- uploads -----------------------------------------------------------------------------------


async def upload(client: AsyncClient, messages: list[pb.UploadFileRequest]) -> Any:
    address = client.addresses.backtests
    async with AioConnection("backtests", address, [SERVICE_NAME]) as connection:
        stub: Any = connection.stub(PortfolioServiceStub)  # type: ignore[arg-type]

        async def sent() -> AsyncIterator[pb.UploadFileRequest]:
            for message in messages:
                yield message

        return await connection.call(stub.UploadFile, sent())  # type: ignore[arg-type]


async def test_a_file_is_kept_once_under_its_digest(
    market: Market, client: AsyncClient, tmp_path: Path
):
    path = tmp_path / "new.csv"
    path.write_bytes(os.urandom(700_000))
    file = LocalFile.at(path)
    first = await upload(client, list(file.messages()))
    again = await upload(client, list(file.messages()))
    assert (first.digest, first.size_bytes, first.was_known) == (file.digest, 700_000, False)
    assert (again.digest, again.was_known) == (file.digest, True)
    kept = market.home / "uploads" / file.digest.removeprefix("sha256:")
    assert kept.read_bytes() == path.read_bytes()
    assert not list(kept.parent.glob(".*"))


async def test_what_is_no_upload_is_refused_and_leaves_nothing(
    market: Market, client: AsyncClient, tmp_path: Path
):
    path = tmp_path / "file"
    path.write_bytes(os.urandom(1_000))
    opening, content = LocalFile.at(path).messages()
    other = pb.UploadFileRequest(content=b"x" * 1_000)
    large = pb.UploadOpening(digest=opening.opening.digest, size_bytes=UPLOAD_BYTES_MAX + 1)
    invalid, too_large = errors.InvalidRequestError, errors.PayloadTooLargeError
    before = sorted((market.home / "uploads").iterdir())
    for messages, error, field in (
        ([], invalid, "opening"),
        ([content], invalid, "opening"),
        ([pb.UploadFileRequest()], invalid, "part"),
        ([opening, opening], invalid, "opening"),
        ([opening], invalid, "opening.size_bytes"),
        ([opening, content, other], too_large, "opening.size_bytes"),
        ([opening, other], errors.UploadDigestMismatchError, "opening.digest"),
        ([pb.UploadFileRequest(opening=large)], too_large, "opening.size_bytes"),
        ([opening, pb.UploadFileRequest(content=b"")], invalid, "content"),
    ):
        with pytest.raises(error) as caught:
            await upload(client, messages)
        assert [each.field for each in caught.value.violations] == [field], messages
    assert sorted((market.home / "uploads").iterdir()) == before


# --- one cycle ---------------------------------------------------------------------------------


async def test_a_cycle_decides_on_what_was_known(market: Market, client: AsyncClient):
    portfolio = await client.portfolios.upload(config_of(risk=RISK), market.folder)
    as_of_ns = 1_590_969_600 * 10**9  # 2020-06-01, bar 152 of the panel
    request = CycleRequest(portfolio, as_of_ns, {"OAK": 10.0}, 20_000.0)
    outcome = await client.portfolios.run_cycle(request)
    assert outcome.bar_time_ns == as_of_ns
    assert outcome.cash == 20_000.0
    assert [stage.name for stage in outcome.stages][:3] == ["universe", "features", "signals"]
    assert {each.symbol for each in outcome.signals} == {"ASH", "ELM", "OAK"}
    assert outcome.orders
    assert all(each.is_approved for each in outcome.proposals) or outcome.proposals


async def test_a_cycle_is_refused_by_its_fields(market: Market, client: AsyncClient):
    portfolio = await client.portfolios.upload(config_of(), market.folder)
    with pytest.raises(errors.InvalidRequestError) as caught:
        await client.portfolios.run_cycle(CycleRequest(portfolio, 0, {"YEW": 1.0}))
    assert [each.field for each in caught.value.violations] == ["positions[YEW]"]
    early = await client.portfolios.run_cycle(CycleRequest(portfolio, 0))
    assert (early.no_trade, early.orders) == ("pipeline_error", ())
    assert "no_bars" in early.stages[0].error
