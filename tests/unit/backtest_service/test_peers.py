"""A service that runs backtests is ready when one replica of each service it needs is there."""

from pathlib import Path

import pytest

from backlane.errors import ServiceUnavailableError
from backtest_service.peers import Peers
from tests.operations_server import served

pytestmark = pytest.mark.asyncio


@pytest.mark.parametrize("order", ["first", "last"])
async def test_one_replica_that_serves_is_enough(tmp_path: Path, order: str):
    async with served(tmp_path) as address:
        replicas = f"{address},127.0.0.1:1" if order == "first" else f"127.0.0.1:1, {address}"
        peers = Peers({"operations_service": replicas})
        await peers.check()
        await peers.stop()


async def test_without_any_the_first_is_named():
    peers = Peers({"operations_service": "127.0.0.1:1,127.0.0.1:2"})
    with pytest.raises(ServiceUnavailableError, match=r"operations_service at 127\.0\.0\.1:1"):
        await peers.check()
    await peers.stop()
