"""Portfolios as a user runs them: commands, three services, and workers of their own that die."""

import json
import os
import random
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from backlane.client.backlane_client import Client
from backlane.client.operations import watch_request
from backlane.operations.events import CheckpointCommitted
from backlane.operations.operation import State
from backlane.operations.watching import StartAt
from tests.e2e.cli_services import CommandLine
from tests.e2e.stack import Stack
from tests.e2e.test_workers import SLOWLY, worker_of
from tests.portfolios import RISK, config_of, files_of, run_in_process, write_config, write_panel

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]

UNCOMPILED = {"NUMBA_DISABLE_JIT": "1"}
"""Of the processes, not of this one: to compile would take longer than everything else."""


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """The three services, of which none runs anything; without a single model."""
    folder = tmp_path_factory.mktemp("portfolios")
    for name in ("home", "models"):
        (folder / name).mkdir()
    env = {"BACKLANE_BACKTESTS_WORKERS": "0", "BACKLANE_OPERATIONS_LEASE_TTL_S": "3", **UNCOMPILED}
    yield from Stack(folder / "home", folder / "models", folder, env).running()


@pytest.fixture(scope="module")
def client(stack: Stack) -> Iterator[Client]:
    with stack.client() as client:
        yield client


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    write_panel(folder)
    write_config(folder, risk=RISK)
    return folder


@pytest.fixture(scope="module")
def expected(data: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The files of a run that nothing happened to, in this process."""
    out = tmp_path_factory.mktemp("expected") / "out"
    return run_in_process(config_of(risk=RISK), data, out)


def until_checkpoints(client: Client, name: str, count: int) -> None:
    seen = 0
    for message in client.operations.watch(watch_request(name, start=StartAt.OLDEST)):
        seen += sum(isinstance(event.body, CheckpointCommitted) for event in message.events)
        if seen >= count:
            return
    raise AssertionError(f"{name} ended with {seen} checkpoints")


@pytest.mark.long
def test_a_worker_killed_with_all_of_its_processes_is_followed_by_another(
    stack: Stack, client: Client, data: Path, expected: dict[str, bytes], tmp_path: Path
):
    """kill -9 of the whole group, at a random bar; the lease lapses, and the files are the same."""
    slowly = {**SLOWLY, **UNCOMPILED, "BACKLANE_WORKER_CHECKPOINT_INTERVAL_BARS": "8"}
    name = client.portfolios.run(client.portfolios.upload(config_of(risk=RISK), data)).name
    with worker_of(stack, tmp_path / "first", slowly) as first:
        until_checkpoints(client, name, random.Random(os.urandom(8)).randint(1, 6))
        os.killpg(first.process.pid, signal.SIGKILL)
        with worker_of(stack, tmp_path / "second", UNCOMPILED):
            operation = client.operations.wait(name, timeout_s=90)
    assert operation.state is State.SUCCEEDED, operation.error
    assert operation.attempt == 2
    client.portfolios.download_result(name, tmp_path / "out")
    assert files_of(tmp_path / "out") == expected


def test_commands_start_follow_and_read_a_run(
    stack: Stack, data: Path, expected: dict[str, bytes], tmp_path: Path
):
    cli, config = CommandLine(stack.home, stack), data / "portfolio.yaml"
    with worker_of(stack, tmp_path / "log", UNCOMPILED):
        done = cli.run("portfolio", "run", "--config", config, "--out", tmp_path / "out", "--json")
        assert done.returncode == 0, done.stderr
        document = json.loads(done.stdout)
        assert "simulation" in done.stderr
        assert files_of(tmp_path / "out") == expected
        name = cli.json("portfolio", "run", config, "--detach")["operation"]
        said = cli.ok("operation", "watch", name)
        assert f"backlane portfolio result {name}" in said
        shown = cli.json("portfolio", "result", name)
    assert shown == {**document, "operation": name, "out": None}
    found = cli.json("cycle", "run", config, "--as-of", "2020-06-01")
    here = cli.json("cycle", "run", config, "--as-of", "2020-06-01", "--local")
    assert found["orders"]
    for document in (found, here):
        document.pop("stages")
    assert found == here
