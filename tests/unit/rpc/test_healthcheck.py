"""The health check that containers run, against a real server."""

from collections.abc import Iterator
from concurrent import futures

import grpc
import pytest
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from backlane.rpc.healthcheck import check_health, main

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


@pytest.fixture
def server() -> Iterator[tuple[str, health.HealthServicer]]:
    servicer = health.HealthServicer()
    with futures.ThreadPoolExecutor(max_workers=2) as pool:
        server = grpc.server(pool)
        health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
        address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
        server.start()
        yield address, servicer
        server.stop(None).wait()


def test_a_serving_server_ends_with_zero(server, capsys):
    address, servicer = server
    servicer.set("", SERVING)
    assert main([address]) == 0
    assert capsys.readouterr().err == ""


def test_a_server_that_is_not_serving_ends_with_one_and_says_so(server, capsys):
    address, servicer = server
    servicer.set("", NOT_SERVING)
    assert main([address]) == 1
    assert capsys.readouterr().err == f"{address}: NOT_SERVING\n"


def test_one_service_is_asked_by_its_name(server):
    address, servicer = server
    servicer.set("", NOT_SERVING)
    servicer.set("backlane.api.models.v1.ModelService", SERVING)
    assert check_health(address, "backlane.api.models.v1.ModelService") == "SERVING"
    assert check_health(address, "no.such.Service") == "NOT_FOUND"


def test_a_server_that_is_not_there_ends_with_one(server, capsys, monkeypatch):
    # Port 9 (discard) is never served here; loopback refuses at once.
    assert main(["127.0.0.1:9"]) == 1
    assert "UNAVAILABLE" in capsys.readouterr().err


def test_a_proxy_in_the_environment_is_not_asked(server, monkeypatch):
    address, servicer = server
    servicer.set("", SERVING)
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    assert check_health(address) == "SERVING"


def test_wrong_arguments_end_with_two_and_the_usage(capsys):
    assert main([]) == 2
    assert "usage:" in capsys.readouterr().err
