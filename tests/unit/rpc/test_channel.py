"""Channel options and the retry policy."""

import pytest

from backlane.rpc.channel import channel_options, idempotent_methods, service_config
from tests.unit.rpc.sample_service import MODELS


def test_every_method_that_declares_it_is_retried():
    assert idempotent_methods(MODELS) == [
        "ListModels", "GetModel", "LoadModel", "UnloadModel", "Predict", "PredictStream",
    ]  # fmt: skip
    (config,) = service_config([MODELS])["methodConfig"]
    assert {"service": MODELS, "method": "GetModel"} in config["name"]
    assert config["retryPolicy"]["maxAttempts"] == 5
    assert config["retryPolicy"]["retryableStatusCodes"] == ["UNAVAILABLE"]


def test_methods_that_declare_nothing_are_not_retried():
    from grpc_health.v1.health import SERVICE_NAME

    assert idempotent_methods(SERVICE_NAME) == []
    assert service_config([SERVICE_NAME])["methodConfig"] == []


def test_a_watch_is_not_retried_by_grpc():
    from operations_service.app import OPERATIONS, WORKERS

    (config,) = service_config([OPERATIONS, WORKERS])["methodConfig"]
    retried = {name["method"] for name in config["name"]}
    assert {"GetOperation", "ListOperations"} <= retried
    assert not retried & {"WatchOperations", "WatchDirectives"}


def test_a_service_whose_stubs_are_missing_is_named():
    with pytest.raises(KeyError, match=r"no\.such\.Service"):
        idempotent_methods("no.such.Service")


@pytest.mark.parametrize(("address", "off"), [("127.0.0.1:1", True), ("models:7411", False)])
def test_no_proxy_is_asked_for_loopback(address: str, off: bool):
    options = dict(channel_options(address, "unary"))
    assert (options.get("grpc.enable_http_proxy") == 0) is off


def test_only_watches_do_without_bandwidth_probes():
    assert dict(channel_options("127.0.0.1:1", "watch"))["grpc.http2.bdp_probe"] == 0
    assert "grpc.http2.bdp_probe" not in dict(channel_options("127.0.0.1:1", "unary"))


def test_a_silent_peer_is_noticed_within_twenty_seconds():
    options = dict(channel_options("127.0.0.1:1", "unary"))
    assert options["grpc.keepalive_time_ms"] + options["grpc.http2.ping_timeout_ms"] == 20000
