"""Channels to Backlane's servers, with every option that a loopback or a network needs.

One channel carries unary calls, another one watches: on a single connection, open streams make
the next call wait without a word.
"""

import json
from collections.abc import Sequence
from typing import Literal

import grpc
from google.protobuf import descriptor_pool
from google.protobuf.descriptor_pb2 import MethodOptions

from backlane.rpc.addresses import is_local

Purpose = Literal["unary", "watch"]

RECEIVE_BYTES_MAX = 64 * 1024 * 1024
SEND_BYTES_MAX = 64 * 1024 * 1024
"""What a client lets pass. The server's own limits are the narrow ones, and name themselves."""

RETRY_ATTEMPTS_MAX = 5
"""gRPC cuts any larger number to this one."""

WATCHING = "Watch"
"""What the names of methods begin with that gRPC does not try again: who follows a watch begins it
anew from where it was, and gRPC's pauses would only add to that."""


def aio_channel(
    address: str,
    *,
    purpose: Purpose = "unary",
    services: Sequence[str] = (),
    retry_attempts: int = RETRY_ATTEMPTS_MAX,
) -> grpc.aio.Channel:
    """Returns a channel for asyncio; it connects with the first call.

    `services` are full protobuf names whose stubs are imported: their methods that declare an
    idempotency_level are tried `retry_attempts` times while the server is UNAVAILABLE, but for
    WATCHING.
    """
    options = channel_options(address, purpose, services, retry_attempts)
    return grpc.aio.insecure_channel(address, options)


def channel(
    address: str,
    *,
    purpose: Purpose = "unary",
    services: Sequence[str] = (),
    retry_attempts: int = RETRY_ATTEMPTS_MAX,
) -> grpc.Channel:
    """Returns a channel for threads; otherwise as aio_channel."""
    options = channel_options(address, purpose, services, retry_attempts)
    return grpc.insecure_channel(address, options)


def channel_options(
    address: str,
    purpose: Purpose,
    services: Sequence[str] = (),
    retry_attempts: int = RETRY_ATTEMPTS_MAX,
) -> list[tuple[str, int | str]]:
    """Returns the channel arguments; gRPC ignores a name that it does not know without a word."""
    options: list[tuple[str, int | str]] = [
        ("grpc.keepalive_time_ms", 15000),
        # Not grpc.keepalive_timeout_ms, which has no effect here: a dead peer would stay a minute.
        ("grpc.http2.ping_timeout_ms", 5000),
        ("grpc.initial_reconnect_backoff_ms", 100),
        ("grpc.min_reconnect_backoff_ms", 100),
        # A client is back within a fifth of a second of its server.
        ("grpc.max_reconnect_backoff_ms", 200),
        ("grpc.max_receive_message_length", RECEIVE_BYTES_MAX),
        ("grpc.max_send_message_length", SEND_BYTES_MAX),
        # Channels with the same arguments would share one connection: with open streams on it the
        # next call waits, and a channel made anew for a silent one would be as silent.
        ("grpc.use_local_subchannel_pool", 1),
        ("grpc.service_config", json.dumps(service_config(services, retry_attempts))),
    ]
    if is_local(address):
        # An http_proxy in the environment would be asked for 127.0.0.1, and refuse.
        options.append(("grpc.enable_http_proxy", 0))
    if purpose == "watch":
        # With bandwidth probing a reader that stands still lets 6 MB pile up, without it 0.1 MB.
        options.append(("grpc.http2.bdp_probe", 0))
    return options


def service_config(
    services: Sequence[str], retry_attempts: int = RETRY_ATTEMPTS_MAX
) -> dict[str, object]:
    """Returns the gRPC service config: which methods are tried again, and how often."""
    methods = [
        {"service": service, "method": method}
        for service in services
        for method in idempotent_methods(service)
        if not method.startswith(WATCHING)
    ]
    retry_policy = {
        "maxAttempts": retry_attempts,
        "initialBackoff": "0.1s",
        "maxBackoff": "2s",
        "backoffMultiplier": 2,
        "retryableStatusCodes": ["UNAVAILABLE"],
    }
    return {
        "methodConfig": [{"name": methods, "retryPolicy": retry_policy}] if methods else [],
        "retryThrottling": {"maxTokens": 10, "tokenRatio": 0.1},
    }


def idempotent_methods(service: str) -> list[str]:
    """Returns the methods of a service that declare that calling them twice does no harm.

    Raises KeyError for a name whose stubs are not imported.
    """
    found = descriptor_pool.Default().FindServiceByName(service)
    return [
        method.name
        for method in found.methods
        if method.GetOptions().idempotency_level != MethodOptions.IDEMPOTENCY_UNKNOWN
    ]
