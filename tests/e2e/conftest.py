"""The three services, running: compiled and quick, or interpreted and slow enough to interrupt."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from backlane.client.backlane_client import Client
from tests.e2e.stack import Stack, fill_home, fill_models


@pytest.fixture(scope="session")
def market(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with home/ and models/, filled once and shared: bars and bundles never change."""
    folder = tmp_path_factory.mktemp("market")
    fill_home(folder / "home")
    fill_models(folder / "models")
    return folder


def services_of(market: Path, folder: Path, env: dict[str, str]) -> Stack:
    """Three services, not started yet, over a home of their own with the bars of `market`."""
    home = folder / "home"
    home.mkdir()
    (home / "data").symlink_to(market / "home" / "data")
    return Stack(home, market / "models", folder, env)


@pytest.fixture(scope="module")
def stack(market: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    yield from services_of(market, tmp_path_factory.mktemp("stack"), {}).running()


@pytest.fixture(scope="module")
def client(stack: Stack) -> Iterator[Client]:
    with stack.client() as client:
        yield client


@pytest.fixture(scope="module")
def slow_stack(market: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Workers interpret the loop, to the same bits, so that a run lasts seconds."""
    env = {
        "NUMBA_DISABLE_JIT": "1",
        "BACKLANE_OPERATIONS_LEASE_TTL_S": "10",
        "BACKLANE_BACKTESTS_STALL_TIMEOUT_S": "8",
        "BACKLANE_BACKTESTS_DRAIN_GRACE_S": "4",
        "BACKLANE_BACKTESTS_SPARE_WORKERS": "1",
    }
    yield from services_of(market, tmp_path_factory.mktemp("slow"), env).running()


@pytest.fixture(scope="module")
def small_stack(market: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Workers may have 512 MiB, which a short run fits into and a long one does not."""
    env = {"BACKLANE_BACKTESTS_RUN_MEMORY_BYTES_MAX": str(512 * 1024 * 1024)}
    yield from services_of(market, tmp_path_factory.mktemp("small"), env).running()
