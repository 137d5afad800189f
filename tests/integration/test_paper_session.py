"""PaperSession over real streams that are cut, and services that go down and come back."""

import asyncio
import json
import re
import socket
import uuid
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from backlane import errors
from backlane.api.portfolios.v1.portfolio_service_pb2_grpc import PortfolioServiceStub
from backlane.backtest.portfolio_result import PortfolioRun
from backlane.backtest.portfolio_run import parse_portfolio_config, run_portfolio
from backlane.backtest.session_bars import rows_of, setup_of
from backlane.backtest.session_messages import (
    NextBars,
    ResumeSession,
    SessionMessage,
    StartSession,
)
from backlane.backtest.session_records import BarReport, BarRow
from backlane.cli.main import run
from backlane.client.connection import AioConnection
from backlane.client.paper_sessions import AsyncPaperSession, PaperSession
from backlane.client.portfolios import SERVICE_NAME
from backlane.client.watching import Reconnected
from backlane.operations.operation import State
from backlane.panel.panel import Panel
from backlane.sources.portfolio_data import read_portfolio_data
from backlane.testing.servers import ServiceProcess, running, wait_until_async
from backlane.wire.paper_sessions import message_to_proto
from backtest_service.paper_desk import UNACKNOWLEDGED_MAX
from operations_service.app import build as build_operations
from operations_service.settings import OperationsServiceSettings
from tests.chaos.proxy import Proxy
from tests.integration.test_portfolio_service import Market, market
from tests.portfolios import RISK, config_of, files_of, run_in_process, write_config
from tests.property.cycle_worlds import PARAMETERS, world_of

__all__ = ["market"]
pytestmark = [
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.slow,
    pytest.mark.timeout(180),
]
CONTENT = config_of(risk=RISK, mode="backtest")


@pytest.fixture
def panel(market: Market) -> Panel:
    return read_portfolio_data({"panel": market.folder / "panel.csv"})[0]


def free_port() -> int:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return int(listening.getsockname()[1])


def bars_of(panel: Panel) -> list[BarRow]:
    return list(rows_of(panel, {}))


def assert_backtest(panel: Panel, reports: list[BarReport]) -> None:
    """The reports are, each once, those of a backtest over the same bars, to the bit."""
    run = run_portfolio(parse_portfolio_config(CONTENT), panel, {})
    assert_run(run, reports)
    assert len(run.fills) > 20


def assert_run(run: PortfolioRun, reports: list[BarReport]) -> None:
    assert [each.number for each in reports] == list(range(1, len(run.panel) + 1))
    assert np.array([each.equity for each in reports]).tobytes() == run.equity.tobytes()
    assert np.array([each.cash for each in reports]).tobytes() == run.cash.tobytes()
    orders = [each for report in reports for each in report.orders]
    assert [each.quantity for each in orders] == run.orders["quantity"].tolist()
    assert [each.number for each in orders] == list(range(1, len(run.orders) + 1))
    fills = [each for report in reports for each in report.fills]
    for name in ("quantity", "price", "cost", "cash_after"):
        found = np.array([getattr(each, name) for each in fills])
        assert found.tobytes() == np.ascontiguousarray(run.fills[name]).tobytes(), name


async def test_a_session_gives_the_files_of_a_backtest(
    market: Market, panel: Panel, tmp_path: Path
) -> None:
    expected = run_in_process(CONTENT, market.folder, tmp_path / "local")
    async with market.service(workers=0) as client:
        setup = setup_of(CONTENT, panel, {})
        async with AsyncPaperSession.start(setup, client.addresses.backtests) as session:
            reports = [report async for report in session.follow(bars_of(panel))]
            summary = await session.finish()
        assert_backtest(panel, reports)
        assert summary.final_equity == reports[-1].equity
        operation = await client.operations.get(session.operation)
        assert operation.state is State.SUCCEEDED
        await client.portfolios.download_result(session.operation, tmp_path / "paper")
    found = files_of(tmp_path / "paper")
    for name in set(expected) - {"result.json"}:
        assert found[name] == expected[name], name


async def test_streams_that_are_cut_lose_and_double_nothing(market: Market, panel: Panel) -> None:
    async with market.service(workers=0) as client:
        with Proxy(client.addresses.backtests) as proxy:
            returns: list[Reconnected] = []
            setup = setup_of(CONTENT, panel, {})
            session = AsyncPaperSession.start(setup, proxy.address, on_reconnect=returns.append)
            reports = []
            async with session:
                async for report in session.follow(bars_of(panel)):
                    reports.append(report)
                    if report.number % 37 == 0:
                        await asyncio.to_thread(proxy.cut)
                summary = await session.finish()
    assert_backtest(panel, reports)
    assert len(returns) >= 3
    assert summary.bar_count == len(panel)


@pytest.mark.parametrize("name", sorted(PARAMETERS))
async def test_so_it_is_for_every_strategy(market: Market, name: str) -> None:
    world = world_of(name, 3, 60, 0.1)
    content, panel = dict(world.content), world.panel
    run = run_portfolio(parse_portfolio_config(content), panel, world.events)
    async with market.service(workers=0) as client:
        with Proxy(client.addresses.backtests) as proxy:
            setup = setup_of(content, panel, world.events)
            async with AsyncPaperSession.start(setup, proxy.address) as session:
                reports = []
                async for report in session.follow(rows_of(panel, world.events)):
                    reports.append(report)
                    if report.number in {7, 31}:
                        await asyncio.to_thread(proxy.cut)
                await session.finish()
    assert_run(run, reports)
    assert len(run.fills) > 0


async def test_a_service_that_drains_puts_a_session_aside(market: Market, panel: Panel) -> None:
    setup, bars = setup_of(CONTENT, panel, {}), bars_of(panel)
    async with (
        market.service(workers=0) as client,
        AsyncPaperSession.start(setup, client.addresses.backtests) as session,
    ):
        reports = [report async for report in session.follow(bars[:150])]
    name = session.operation
    async with market.service(workers=0) as client:
        assert (await client.operations.get(name)).state is State.QUEUED
        resumed = AsyncPaperSession.resume(name, client.addresses.backtests, received=150)
        async with resumed as session:
            assert session.next_number == 151
            reports += [report async for report in session.follow(bars[150:])]
            await session.finish()
    assert_backtest(panel, reports)


async def test_a_session_is_put_aside_when_no_stream_comes(market: Market, panel: Panel) -> None:
    setup, bars = setup_of(CONTENT, panel, {}), bars_of(panel)
    async with market.service(workers=0, paper_idle_s=0.05) as client:
        address = client.addresses.backtests
        async with AsyncPaperSession.start(setup, address) as session:
            reports = [report async for report in session.follow(bars[:50])]
        name = session.operation

        async def is_aside() -> bool:
            return (await client.operations.get(name)).state is State.QUEUED

        await wait_until_async(is_aside)
        async with AsyncPaperSession.resume(name, address, received=50) as session:
            reports += [report async for report in session.follow(bars)]
            await session.finish()
    assert_backtest(panel, reports)


async def test_reports_that_were_lost_come_again(market: Market, panel: Panel) -> None:
    """Also after the end: the session is kept, and what it gave."""
    async with market.service(workers=0) as client:
        address = client.addresses.backtests
        async with AsyncPaperSession.start(setup_of(CONTENT, panel, {}), address) as session:
            reports = [report async for report in session.follow(bars_of(panel))]
            summary = await session.finish()
        async with AsyncPaperSession.resume(session.operation, address, received=190) as late:
            again = [report async for report in late.follow(bars_of(panel))]
            assert await late.finish() == summary
    assert again == reports[190:]


async def test_the_same_request_id_is_the_same_session(market: Market, panel: Panel) -> None:
    setup, request_id = setup_of(CONTENT, panel, {}), str(uuid.uuid4())
    async with market.service(workers=0) as client:
        address = client.addresses.backtests
        async with AsyncPaperSession.start(setup, address, request_id=request_id) as session:
            first = await session.feed(bars_of(panel)[0])
        async with AsyncPaperSession.start(setup, address, request_id=request_id) as again:
            assert again.operation == session.operation
            assert again.next_number == 2
            assert [report async for report in again.follow(bars_of(panel)[:1])] == [first]


async def test_cancel_ends_a_session(market: Market, panel: Panel) -> None:
    async with market.service(workers=0) as client:
        address = client.addresses.backtests
        async with AsyncPaperSession.start(setup_of(CONTENT, panel, {}), address) as session:
            await session.feed(bars_of(panel)[0])
            await client.operations.cancel(session.operation)
            with pytest.raises(errors.CancelledRunError):
                await session.finish()
        ended = await client.operations.wait(session.operation, timeout_s=10)
        assert ended.state is State.CANCELLED
        with pytest.raises(errors.CancelledRunError):
            async with AsyncPaperSession.resume(session.operation, address):
                pass


async def test_a_bar_that_cannot_follow_changes_nothing(market: Market, panel: Panel) -> None:
    bars = bars_of(panel)
    async with market.service(workers=0) as client:
        address = client.addresses.backtests
        async with AsyncPaperSession.start(setup_of(CONTENT, panel, {}), address) as session:
            await session.feed(bars[0])
            wrong = replace(bars[1], close=(-1.0, *bars[1].close[1:]))
            with pytest.raises(errors.InvalidRequestError) as refused:
                await session.feed(wrong)
            assert [each.field for each in refused.value.violations] == ["bars.bars[2].close"]
        async with AsyncPaperSession.resume(session.operation, address, received=1) as session:
            reports = [report async for report in session.follow(bars[1:5])]
            assert [each.number for each in reports] == [2, 3, 4, 5]
            changed = replace(bars[0], volume=(5.0, *bars[0].volume[1:]))
            with pytest.raises(errors.InvalidRequestError, match="is kept already"):
                await raw_answers(
                    address, ResumeSession(session.operation, 5), NextBars((changed,))
                )


async def test_limits_have_names(market: Market, panel: Panel) -> None:
    bars, setup = bars_of(panel), setup_of(CONTENT, panel, {})
    async with market.service(workers=0, paper_sessions_max=1) as client:
        address = client.addresses.backtests
        async with AsyncPaperSession.start(setup, address) as session:
            too_far = replace(bars[0], number=UNACKNOWLEDGED_MAX + 1)
            resume = ResumeSession(session.operation, 0)
            with pytest.raises(errors.LimitExceededError) as refused:
                await raw_answers(address, resume, NextBars((too_far,)))
            assert refused.value.metadata["limit"] == "UNACKNOWLEDGED_MAX"
            with pytest.raises(errors.LimitExceededError) as refused:
                await raw_answers(address, StartSession(str(uuid.uuid4()), setup))
            assert refused.value.metadata["limit"] == "paper_sessions_max"


async def test_a_setup_that_cannot_be_followed_is_refused(market: Market, panel: Panel) -> None:
    content = config_of(
        strategy={"name": "trend_baseline", "parameters": {"fast": 9, "slow": 3}},
        execution={"session": "nyse"},
    )
    fields = []
    async with market.service(workers=0) as client:
        address = client.addresses.backtests
        for setup in (
            setup_of(content, panel, {}),
            replace(setup_of(CONTENT, panel, {}), symbols=("OAK", "ASH", "OAK")),
            setup_of(
                config_of(
                    strategy={
                        "name": "trend_baseline",
                        "parameters": {"volume_filter": "full_sample"},
                    }
                ),
                panel,
                {},
            ),
        ):
            with pytest.raises(errors.InvalidRequestError) as refused:
                await raw_answers(address, StartSession(str(uuid.uuid4()), setup))
            fields.append([each.field for each in refused.value.violations])
    assert fields[0]
    assert all(each.startswith("start.config.strategy") for each in fields[0])
    assert fields[1] == ["start.symbols"]
    assert fields[2] == ["start.config.trend_baseline.parameters.volume_filter"]


async def raw_answers(address: str, *messages: SessionMessage) -> list[Any]:
    """What the service answers to these messages, without any client of ours."""
    async with AioConnection("backtests", address, [SERVICE_NAME]) as connection:
        stub: Any = connection.stub(PortfolioServiceStub)

        async def said() -> AsyncIterator[Any]:
            for message in messages:
                yield message_to_proto(message)

        return [answer async for answer in connection.exchange(stub.PaperSession, said())]


@pytest.mark.long
async def test_a_service_that_is_killed_loses_and_doubles_nothing(
    market: Market, panel: Panel, tmp_path: Path
) -> None:
    """kill -9 at three places; the client reconnects by itself, the bits are the backtest's."""
    registry = OperationsServiceSettings(port=0, data_dir=tmp_path / "registry", lease_ttl_s=1.0)
    async with running(build_operations(registry)) as operations:
        env = {
            "BACKLANE_BACKTESTS_HOME": str(tmp_path),
            "BACKLANE_BACKTESTS_OPERATIONS_ADDRESS": operations,
            "BACKLANE_BACKTESTS_MODELS_ADDRESS": market.models,
            "BACKLANE_BACKTESTS_WORKERS": "0",
            "BACKLANE_BACKTESTS_PORT": str(free_port()),
        }
        service = ServiceProcess(
            "backtest_service",
            env_prefix="BACKLANE_BACKTESTS_",
            folder=tmp_path,
            env=env,
            ready_deadline_s=60.0,
        )
        await asyncio.to_thread(service.start)
        try:
            reports = await asyncio.to_thread(followed_over_kills, service, panel)
        finally:
            service.kill()
    assert_backtest(panel, reports)


def followed_over_kills(service: ServiceProcess, panel: Panel) -> list[BarReport]:
    reports = []
    with PaperSession.start(setup_of(CONTENT, panel, {}), service.address) as session:
        for report in session.follow(bars_of(panel)):
            reports.append(report)
            if report.number in {20, 90, 199}:
                service.kill()
                service.start()
        assert session.finish().bar_count == len(panel)
    return reports


async def test_the_command_line_leaves_a_session_and_takes_it_up(
    market: Market, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """Half of the file, left; then all of it: what was told and written is the backtest's."""
    expected = run_in_process(CONTENT, market.folder, tmp_path / "local")
    config = write_config(tmp_path, risk=RISK)
    lines = (market.folder / "panel.csv").read_text().splitlines()
    half = tmp_path / "half.csv"
    early = [line for line in lines if line < "2020-04-01" or line.startswith("timestamp")]
    half.write_text("\n".join(early) + "\n")
    async with market.service(workers=0) as client:
        command = ["paper", str(config), "--json"]
        where = ["--backtests-address", client.addresses.backtests]

        async def told(*more: str) -> tuple[list[dict[str, Any]], str]:
            assert await asyncio.to_thread(run, [*command, *more, *where]) == 0
            captured = capsys.readouterr()
            said = [line for line in captured.out.splitlines() if line.startswith("{")]
            return [json.loads(line) for line in said], captured.err

        first, aside = await told("--panel", str(half), "--leave")
        name = aside.split()[1]
        whole = ("--panel", str(market.folder / "panel.csv"), "--out", str(tmp_path / "paper"))
        received = str(first[-1]["number"])
        rest, _ = await told(*whole, "--resume", name, "--received", received)
    numbers = [each["number"] for each in (*first, *rest[:-1])]
    assert numbers == list(range(1, numbers[-1] + 1))
    found = files_of(tmp_path / "paper")
    for file in set(expected) - {"result.json"}:
        assert found[file] == expected[file], file


async def test_the_program_of_the_page_runs(
    market: Market, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    page = (Path(__file__).parents[2] / "docs" / "paper.md").read_text()
    (program,) = re.findall(r"^```python\n(.*?)^```$", page, re.DOTALL | re.MULTILINE)
    async with market.service(workers=0) as client:
        monkeypatch.setenv("BACKLANE_BACKTESTS_ADDRESS", client.addresses.backtests)
        await asyncio.to_thread(exec, compile(program, "docs/paper.md", "exec"), {})
    assert "operations/" in capsys.readouterr().out


async def test_modes_of_the_services(market: Market, tmp_path: Path) -> None:
    """Stress gives the files of a local run; what waits for somebody is refused by its field."""
    stress = {"seed": 5, "shock": {"probability": 0.05, "size": 0.1}, "spread_multiplier": 2}
    content = config_of(mode="stress", stress=stress)
    expected = run_in_process(content, market.folder, tmp_path / "local")
    async with market.service() as client:
        request = await client.portfolios.upload(content, market.folder)
        operation = await client.portfolios.run(request)
        await client.operations.wait(operation.name, timeout_s=90)
        await client.portfolios.download_result(operation.name, tmp_path / "remote")
        assert files_of(tmp_path / "remote") == expected
        for mode in ("replay", "paper", "end_of_day"):
            request = await client.portfolios.upload(config_of(mode=mode), market.folder)
            with pytest.raises(errors.InvalidRequestError) as refused:
                await client.portfolios.run(request)
            assert [each.field for each in refused.value.violations] == ["spec.config.mode"]
