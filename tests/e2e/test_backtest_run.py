"""A backtest through three processes, from the request to the files."""

import csv
import uuid
from pathlib import Path

import pytest

from backlane.backtest.engine import run_backtest
from backlane.backtest.observer import PHASES
from backlane.client.backlane_client import Client
from backlane.client.operations import watch_request
from backlane.errors import RequestIdReusedError
from backlane.market.timeframe import Timeframe
from backlane.operations.limits import TRADES_PER_OPERATION_MAX
from backlane.operations.operation import State
from backlane.sources.bundle import load_predictor, read_bundle
from backlane.sources.catalog import Catalog
from backlane.sources.engine_source import engine_digest
from backlane.sources.results import RESULT_FILES, file_digest, iso_time
from backlane.sources.synthetic import SYNTHETIC_SYMBOL
from backlane.wire.backtest import result_from_payload
from backtest_service.run_directory import attempt_directory
from tests.e2e.stack import MODEL, Stack, long_request, short_request
from tests.e2e.watched import Watched, watch_from_begin

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def name(client: Client) -> str:
    """A finished run."""
    operation = client.backtests.run(short_request(), labels={"purpose": "test"})
    assert client.operations.wait(operation.name, timeout_s=60).state is State.SUCCEEDED
    return operation.name


def test_a_watch_tells_everything_in_order(client: Client):
    name = client.backtests.run(short_request()).name
    watched = Watched().take_all(watch_from_begin(client, name))
    assert watched.is_whole()
    assert watched.states == [State.QUEUED, State.RUNNING, State.SUCCEEDED]
    assert watched.trades == list(client.backtests.trades(name))
    assert len(watched.trades) == 241
    assert {point.series for point in watched.points} == {"equity"}


def test_the_service_gives_the_same_bits_as_the_engine_in_process(
    client: Client, name: str, market: Path
):
    timeframe = Timeframe.parse("1h")
    bars = Catalog(market / "home").load(SYNTHETIC_SYMBOL, timeframe)
    predictor = load_predictor(read_bundle(market / "models" / MODEL / "1"))
    here = run_backtest(short_request(), predictor, {"1h": bars}, dataset_digests={})
    there = client.backtests.get_result(name)
    assert there.result_digest == here.provenance.result_digest
    assert there.provenance.order_digest == here.provenance.order_digest
    assert there.provenance.config_digest == here.provenance.config_digest
    assert {m.id: m.value for m in there.metrics} == {m.id: m.value for m in here.metrics}


def test_the_result_says_what_ran(client: Client, name: str):
    result = client.backtests.get_result(name)
    assert result.request.model.resource_name == f"models/{MODEL}/versions/1"
    assert result.request.timeframe == "1h"
    assert result.request.model_digest == result.provenance.model_digest
    assert result.request.dataset_digests == result.provenance.dataset_digests
    assert {"backlane", "numpy", "numba", "torch"} <= set(result.provenance.versions)
    assert result.provenance.versions["engine"] == engine_digest()
    assert tuple(result.timings) == PHASES
    assert min(result.timings.values()) > 0
    operation = client.operations.get(name)
    assert operation.labels == {"purpose": "test"}
    assert operation.result is not None
    assert result_from_payload(operation.result) == result


def test_the_downloaded_files_are_those_of_the_service(
    client: Client, name: str, stack: Stack, tmp_path: Path
):
    summary = client.backtests.download_result(name, tmp_path / "out")
    assert {path.name for path in (tmp_path / "out").iterdir()} == set(RESULT_FILES)
    kept = attempt_directory(stack.home / "results", client.operations.get(name))
    for file in summary.files:
        downloaded = tmp_path / "out" / file.name
        assert downloaded.read_bytes() == (kept / file.name).read_bytes()
        assert file_digest(downloaded) == file.digest
    client.backtests.download_result(name, tmp_path / "out")  # the same place again is fine
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_the_streamed_rows_are_those_of_the_files(client: Client, name: str, tmp_path: Path):
    client.backtests.download_result(name, tmp_path / "out")
    with (tmp_path / "out" / "trades.csv").open() as file:
        rows = list(csv.DictReader(file))
    trades = list(client.backtests.trades(name))
    assert [iso_time(trade.exit_time_ns) for trade in trades] == [r["exit_time"] for r in rows]
    assert [trade.net_pnl for trade in trades] == [float(row["net_pnl"]) for row in rows]
    assert [trade.side.name for trade in trades] == [row["side"] for row in rows]
    assert [trade.number for trade in trades] == list(range(1, len(rows) + 1))
    with (tmp_path / "out" / "equity.csv").open() as file:
        rows = list(csv.DictReader(file))
    points = list(client.backtests.equity(name))
    assert [iso_time(point.time_ns) for point in points] == [row["time"] for row in rows]
    assert [point.equity for point in points] == [float(row["equity"]) for row in rows]


def test_a_stream_goes_on_after_any_row(client: Client, name: str):
    trades = list(client.backtests.trades(name))
    assert list(client.backtests.trades(name, row_offset=100)) == trades[100:]
    assert list(client.backtests.trades(name, row_offset=len(trades))) == []
    content = b"".join(client.backtests.read_file(name, "equity.csv"))
    assert b"".join(client.backtests.read_file(name, "equity.csv", byte_offset=9)) == content[9:]


def test_the_same_request_id_starts_one_run(client: Client):
    request_id = str(uuid.uuid4())
    first = client.backtests.run(short_request(), request_id=request_id)
    again = client.backtests.run(short_request(), request_id=request_id)
    assert again.name == first.name
    with pytest.raises(RequestIdReusedError):
        client.backtests.run(short_request(initial_cash=5), request_id=request_id)


@pytest.mark.asyncio
async def test_the_asyncio_client_does_the_same(stack: Stack, name: str, tmp_path: Path):
    async with stack.async_client() as client:
        operation = await client.backtests.run(short_request())
        ended = await client.operations.wait(operation.name, timeout_s=60)
        assert ended.state is State.SUCCEEDED
        result = await client.backtests.get_result(operation.name)
        before = await client.backtests.get_result(name)
        assert result.result_digest == before.result_digest
        trades = [trade async for trade in client.backtests.trades(operation.name)]
        assert len(trades) == result.metric("total_trades")
        points = client.backtests.equity(operation.name, row_offset=2_980)
        assert len([point async for point in points]) == 6
        validation = await client.backtests.validate(short_request())
        assert validation.bar_count == 3_000
        await client.backtests.download_result(operation.name, tmp_path / "out")
        assert (tmp_path / "out" / "result.json").is_file()


def test_a_million_bars_report_ten_times_a_second_and_no_trade_is_lost(client: Client):
    name = client.backtests.run(long_request()).name
    watched = Watched().take_all(watch_from_begin(client, name))
    assert watched.is_whole()
    assert watched.states[-1] is State.SUCCEEDED
    reports = sorted({one.version: one.report_time_ns for one in watched.progress}.items())
    assert len(reports) > 3
    first, last = reports[0], reports[-1]
    assert last[0] - first[0] <= (last[1] - first[1]) / 1e8 + 1
    # The log of an operation keeps so many; the result has all.
    trades = list(client.backtests.trades(name))
    assert len(trades) > TRADES_PER_OPERATION_MAX
    assert watched.trades == trades[:TRADES_PER_OPERATION_MAX]


def test_the_service_and_its_worker_load_no_torch(stack: Stack):
    for pid in (stack.backtests.pid, stack.worker_pid()):
        maps = Path(f"/proc/{pid}/maps").read_text()
        assert "libtorch" not in maps
        assert "numba" in maps or pid == stack.backtests.pid


def test_a_run_can_be_followed_from_now_on(client: Client):
    name = client.backtests.run(short_request()).name
    watched = Watched().take_all(client.operations.watch(watch_request(name)))
    assert client.operations.get(name).state is State.SUCCEEDED
    assert watched.revisions == sorted(set(watched.revisions))
