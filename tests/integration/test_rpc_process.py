"""A server as a process of its own: signals and exit codes."""

import signal
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from backlane.api.models.v1 import models_service_pb2, models_service_pb2_grpc
from backlane.client.connection import Connection
from backlane.errors import ServiceUnavailableError
from backlane.rpc.exit_codes import ExitCode
from backlane.testing.servers import ServiceProcess, wait_until

ROOT = Path(__file__).resolve().parents[2]


def sample_process(folder: Path, **env: str) -> ServiceProcess:
    return ServiceProcess(
        "tests.unit.rpc.sample_service",
        env_prefix="SAMPLE_",
        folder=folder,
        env={"PYTHONPATH": f"{ROOT}:{ROOT / 'services'}", "SAMPLE_LOG_FORMAT": "json", **env},
    )


def get_model(connection: Connection, name: str) -> str:
    stub = connection.stub(models_service_pb2_grpc.ModelsServiceStub)
    request = models_service_pb2.GetModelRequest(name=name)
    return str(connection.call(stub.GetModel, request).model.name)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_process_drains_and_ends_with_zero(tmp_path: Path, number: signal.Signals):
    with sample_process(tmp_path) as process:
        with Connection("models", process.address) as connection:
            assert get_model(connection, "there") == "there"
        process.signal(number)
        assert process.wait() == ExitCode.OK
    assert '"event": "stopped"' in process.read_log()


@pytest.mark.slow
def test_late_copies_of_a_signal_do_not_change_a_clean_end(tmp_path: Path):
    with sample_process(tmp_path) as process:

        def has_ended_by_signals() -> bool:
            if process.is_running:
                process.signal(signal.SIGTERM)
                process.signal(signal.SIGINT)
            return not process.is_running

        wait_until(has_ended_by_signals)
        assert process.wait() == ExitCode.OK
    assert "Traceback" not in process.read_log()


@pytest.mark.slow
def test_a_second_signal_ends_a_process_at_once(tmp_path: Path):
    client_is_done = threading.Event()

    def requests() -> Iterator[models_service_pb2.PredictStreamRequest]:
        opening = models_service_pb2.PredictStreamRequest
        yield opening(open=opening.Open(name="open"))
        client_is_done.wait()

    with (
        sample_process(tmp_path, SAMPLE_DRAIN_GRACE_S="600") as process,
        Connection("models", process.address) as connection,
    ):
        stub = connection.stub(models_service_pb2_grpc.ModelsServiceStub)
        responses = connection.exchange(stub.PredictStream, requests())
        assert next(responses).opened.name == "open"
        process.signal(signal.SIGTERM)
        wait_until(lambda: '"draining"' in process.read_log())

        def has_ended_by_signals() -> bool:
            if process.is_running:
                process.signal(signal.SIGTERM)
            return not process.is_running

        wait_until(has_ended_by_signals)
        assert process.wait() == ExitCode.FORCED
        with pytest.raises(ServiceUnavailableError):
            next(responses)
        client_is_done.set()


@pytest.mark.slow
def test_a_process_that_cannot_bind_says_so_with_its_exit_code(tmp_path: Path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        process = sample_process(tmp_path, SAMPLE_PORT=str(taken.getsockname()[1]))
        with pytest.raises(RuntimeError, match="ended with 69"):
            process.start()
    assert "cannot listen on 127.0.0.1" in process.read_log()
    assert "Traceback" not in process.read_log()


@pytest.mark.slow
def test_a_killed_process_leaves_its_port_free(tmp_path: Path):
    with sample_process(tmp_path) as process:
        port = process.address.rpartition(":")[2]
        process.kill()
        assert not process.is_running
    with sample_process(tmp_path, SAMPLE_PORT=port) as again:
        assert again.address == f"127.0.0.1:{port}"


def test_a_failpoint_from_the_environment_fires_and_is_told(tmp_path: Path):
    hits = tmp_path / "hits"
    env = {
        "BACKLANE_OPERATIONS_DATA_DIR": str(tmp_path / "data"),
        "BACKLANE_OPERATIONS_PORT": "0",
        "BACKLANE_FAILPOINTS": "drain.after_not_serving=kill",
        "BACKLANE_FAILPOINT_HITS": str(hits),
    }
    process = ServiceProcess(
        "operations_service", env_prefix="BACKLANE_OPERATIONS_", folder=tmp_path, env=env
    )
    with process:
        assert "failpoints are armed" in process.read_log()
        assert process.terminate() == -signal.SIGKILL
    assert hits.read_text(encoding="utf-8") == "drain.after_not_serving\n"


def test_a_failpoint_that_does_not_exist_ends_the_start(tmp_path: Path):
    env = {"BACKLANE_OPERATIONS_DATA_DIR": str(tmp_path), "BACKLANE_FAILPOINTS": "nowhere=kill"}
    process = ServiceProcess(
        "operations_service", env_prefix="BACKLANE_OPERATIONS_", folder=tmp_path, env=env
    )
    with pytest.raises(RuntimeError, match="no failpoint or action like"):
        process.start()
