"""Malformed requests, made from the protos: a clear refusal each, and nobody falls over.

Every RPC that the services list by reflection gets requests of three kinds: every field at random;
a plausible request with one field, however deep, that is empty, huge, negative, NaN, of an unknown
enum number or of a foreign shape; and bytes that are no message. A new RPC or field is covered
without a change here. Every answer is OK or one of the codes of bad input, with ErrorInfo; where
the request is at fault, with the fields at fault, by their paths in the request. INTERNAL, UNKNOWN
or a silent stream fails the test, and so does a service that is another process afterwards.
"""

import importlib
import pkgutil
import random
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import grpc
import pytest
from google.longrunning import operations_pb2
from google.protobuf.descriptor import Descriptor, FieldDescriptor, MethodDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from google.rpc import error_details_pb2, status_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import (
    ProtoReflectionDescriptorDatabase,
)

import backlane.api
from backlane.rpc.status_details import Unpacked
from backlane.sources.synthetic import SYNTHETIC_SYMBOL
from tests.e2e.conftest import services_of
from tests.e2e.stack import MODEL, Stack

RANDOM_REQUESTS = 20
VALUES_PER_FIELD = 2
DEPTH_MAX = 6
DEADLINE_S, WAITING_DEADLINE_S = 10.0, 0.3
NOT_OURS = ("grpc.health.", "grpc.reflection.")
REFUSALS = {
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.NOT_FOUND,
    grpc.StatusCode.OUT_OF_RANGE,
    grpc.StatusCode.FAILED_PRECONDITION,
    grpc.StatusCode.RESOURCE_EXHAUSTED,
    grpc.StatusCode.ABORTED,
    grpc.StatusCode.ALREADY_EXISTS,
}
TEXTS = (
    "", " ", "x", "\x00", "ü" * 300, "../../etc/passwd", "/", "models/", f"models/{MODEL}",
    f"models/{MODEL}/versions/1", f"models/{MODEL}/versions/99", "models/a/versions/../..",
    "operations/", "operations/none-such", "operations/../x", "sha256:0", "backtest.run",
    "00000000-0000-4000-8000-000000000000", "1h", "SYNTHETIC_EURUSD", "default", "A" * 5000,
)  # fmt: skip
INTEGERS = (0, 1, -1, 2, 7, 2**31 - 1, -(2**31))
WIDE_INTEGERS = (*INTEGERS, 2**63 - 1, -(2**63))
REALS = (0.0, 1.0, -1.0, 0.5, 1e-300, 1e300, float("inf"), float("-inf"), float("nan"))
BYTES = (b"", b"\x00", b"\xff" * 4, b"\x00\x00\x80\x3f" * 10, b"A" * 4096)
ENUMS = (0, 1, 2, 3, 99, -5)
PLAUSIBLE = {
    "request_id": "00000000-0000-4000-8000-00000000f022",
    "operation": "operations/00000000-0000-4000-8000-00000000f022",
    "model": f"models/{MODEL}/versions/1",
    "symbol": SYNTHETIC_SYMBOL,
    "kind": "fuzz.test",
    "worker_id": "fuzz",
}
"""What a field of this name holds in a request that is wrong in another field."""


# --- what there is to call -----------------------------------------------------------------------


def own_services() -> dict[str, list[MethodDescriptor]]:
    """The methods of every service in our protos, by the full name of the service."""
    modules = [
        importlib.import_module(found.name)
        for found in pkgutil.walk_packages(backlane.api.__path__, "backlane.api.")
        if found.name.endswith("_pb2")
    ]
    services = [
        service
        for module in (*modules, operations_pb2)
        for service in module.DESCRIPTOR.services_by_name.values()
    ]
    return {service.full_name: list(service.methods) for service in services}


METHODS = [method for methods in own_services().values() for method in methods]
each_method = pytest.mark.parametrize(
    "method", METHODS, ids=lambda method: f"{method.containing_service.name}.{method.name}"
)


@dataclass(frozen=True)
class Target:
    """A process that serves: where, and which process it was when it was started."""

    address: str
    pid: Callable[[], int]
    services: frozenset[str]


@pytest.fixture(scope="module")
def targets(market: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Target]]:
    env = {
        "BACKLANE_OPERATIONS_CLIENT_CALLS_PER_S": "1000000",
        "BACKLANE_OPERATIONS_CLIENT_CALLS_BURST": "1000000",
    }
    for stack in services_of(market, tmp_path_factory.mktemp("fuzz"), env).running():
        yield [
            target(stack.addresses.operations, stack, "operations"),
            target(stack.addresses.models, stack, "models"),
            target(stack.addresses.backtests, stack, "backtests"),
        ]


def target(address: str, stack: Stack, name: str) -> Target:
    with grpc.insecure_channel(address) as channel:
        listed = ProtoReflectionDescriptorDatabase(channel).get_services()
    ours = frozenset(each for each in listed if not each.startswith(NOT_OURS))
    return Target(address, partial(getattr, getattr(stack, name), "pid"), ours)


# --- requests ------------------------------------------------------------------------------------


def scalar(field: FieldDescriptor, rng: random.Random) -> object:
    kind = field.cpp_type
    if kind == FieldDescriptor.CPPTYPE_STRING:
        is_bytes = field.type == FieldDescriptor.TYPE_BYTES
        return rng.choice(BYTES if is_bytes else TEXTS)
    if kind == FieldDescriptor.CPPTYPE_BOOL:
        return rng.random() < 0.5
    if kind in (FieldDescriptor.CPPTYPE_DOUBLE, FieldDescriptor.CPPTYPE_FLOAT):
        return rng.choice(REALS)
    if kind == FieldDescriptor.CPPTYPE_ENUM:
        return rng.choice(ENUMS)
    if kind in (FieldDescriptor.CPPTYPE_UINT32, FieldDescriptor.CPPTYPE_UINT64):
        return rng.choice((0, 1, 7, 2**32 - 1))
    return rng.choice(WIDE_INTEGERS if kind == FieldDescriptor.CPPTYPE_INT64 else INTEGERS)


def is_map(field: FieldDescriptor) -> bool:
    entry = field.message_type
    return entry is not None and entry.GetOptions().map_entry


def fill(message: Message, rng: random.Random, depth: int = 0) -> None:
    """Sets most fields at random."""
    for field in message.DESCRIPTOR.fields:
        if rng.random() > 0.35 and depth <= 4:
            put(message, field, rng, depth)


def put(message: Message, field: FieldDescriptor, rng: random.Random, depth: int) -> None:
    """Sets one field at random, and what is below it."""
    if is_map(field):
        put_entries(getattr(message, field.name), field, rng, depth)
    elif field.is_repeated:
        values = getattr(message, field.name)
        for _ in range(rng.choice((1, 2, 40))):
            if field.message_type is not None:
                fill(values.add(), rng, depth + 2)
            else:
                values.append(scalar(field, rng))
    elif field.message_type is not None:
        inner = getattr(message, field.name)
        inner.SetInParent()
        fill(inner, rng, depth + 1)
    else:
        setattr(message, field.name, scalar(field, rng))


def put_entries(values, field: FieldDescriptor, rng: random.Random, depth: int) -> None:
    value_field = field.message_type.fields_by_name["value"]
    for _ in range(rng.choice((1, 3, 70))):
        key = rng.choice(TEXTS) + str(rng.randrange(100))
        if value_field.message_type is not None:
            fill(values[key], rng, depth + 2)
        else:
            values[key] = scalar(value_field, rng)


def field_paths(descriptor: Descriptor, depth: int = 0) -> Iterator[tuple[FieldDescriptor, ...]]:
    """Every field of a message and of the messages in it, down to DEPTH_MAX."""
    for field in descriptor.fields:
        yield (field,)
        if field.message_type is not None and not field.is_repeated and depth < DEPTH_MAX:
            for inner in field_paths(field.message_type, depth + 1):
                yield (field, *inner)


def plausible(descriptor: Descriptor) -> Message:
    """A request whose known fields are set to something that exists, or at least could."""
    message = GetMessageClass(descriptor)()
    for path in field_paths(descriptor):
        *sections, last = path
        value = PLAUSIBLE.get(last.name)
        if last.name == "name":
            owner = "model" if ".models." in descriptor.full_name else "operation"
            value = PLAUSIBLE[owner]
        if value is not None and last.type == FieldDescriptor.TYPE_STRING and not last.is_repeated:
            setattr(section(message, sections), last.name, value)
    return message


def section(message: Message, fields: list[FieldDescriptor]) -> Message:
    for field in fields:
        message = getattr(message, field.name)
        message.SetInParent()
    return message


def malformed(method: MethodDescriptor, rng: random.Random) -> Iterator[tuple[str, list[Message]]]:
    """The requests for one method, each with what is wrong; a stream gets three messages."""
    for number in range(RANDOM_REQUESTS):
        sent = [GetMessageClass(method.input_type)() for _ in range(3)]
        for message in sent:
            fill(message, rng)
        yield f"random {number}", sent
    for path in field_paths(method.input_type):
        for _ in range(VALUES_PER_FIELD):
            message = plausible(method.input_type)
            put(section(message, list(path[:-1])), path[-1], rng, 0)
            yield ".".join(field.name for field in path), [message]


# --- calls and answers ---------------------------------------------------------------------------


def may_wait(method: MethodDescriptor) -> bool:
    """A stream goes on, and who names a duration may be waiting for something."""
    durations = (
        field.message_type is not None and field.message_type.full_name.endswith(".Duration")
        for field in method.input_type.fields
    )
    return method.server_streaming or any(durations)


def ask(channel: grpc.Channel, method: MethodDescriptor, sent: list[bytes]) -> grpc.RpcError | None:
    """Returns how the call ended; None for OK, or for a stream that answers."""
    streams = (
        "stream" if method.client_streaming else "unary",
        "stream" if method.server_streaming else "unary",
    )
    path = f"/{method.containing_service.full_name}/{method.name}"
    call = getattr(channel, "_".join(streams))(path)
    request = iter(sent) if method.client_streaming else sent[0]
    deadline_s = WAITING_DEADLINE_S if may_wait(method) else DEADLINE_S
    try:
        if not method.server_streaming:
            call(request, timeout=deadline_s)
            return None
        stream = call(request, timeout=deadline_s)
        next(stream, None)
        stream.cancel()
    except grpc.RpcError as error:
        return error
    return None


def status_of(error: grpc.RpcError) -> status_pb2.Status:
    metadata = dict(error.trailing_metadata() or ())
    return status_pb2.Status.FromString(metadata.get("grpc-status-details-bin", b""))


def complaint(method: MethodDescriptor, error: grpc.RpcError) -> str:
    """What is wrong with a refusal itself; empty when it says all that it must."""
    code, status = error.code(), status_of(error)
    if code not in REFUSALS:
        return f"the code {code.name}"
    details = Unpacked(status)
    if details.reason is None or details.reason == "RATE_LIMIT":
        return f"the reason {details.reason}"
    if code is grpc.StatusCode.INVALID_ARGUMENT:
        if not details.violations:
            return f"{details.reason} names no field"
        unknown = [v.field for v in details.violations if not is_path(method.input_type, v.field)]
        return f"no such fields: {unknown}" if unknown else ""
    kinds = {
        grpc.StatusCode.NOT_FOUND: error_details_pb2.ResourceInfo,
        grpc.StatusCode.FAILED_PRECONDITION: error_details_pb2.PreconditionFailure,
    }
    kind = kinds.get(code)
    if kind is not None and not any(detail.Is(kind.DESCRIPTOR) for detail in status.details):
        return f"no {kind.DESCRIPTOR.name}"
    return "" if details.metadata or details.violations else "no metadata"


def is_path(descriptor: Descriptor, path: str) -> bool:
    """Says whether a path leads to a field: names, [index] after a list, a key after a map.

    What lies in a Struct has the path that it has in JSON.
    """
    if descriptor.full_name == "google.protobuf.Struct":
        return True
    name, _, rest = path.partition(".")
    plain = re.sub(r"\[.*", "", name)
    field = descriptor.fields_by_name.get(plain)
    if field is None:  # a oneof, of which one must be set
        return plain in descriptor.oneofs_by_name and not rest
    if is_map(field) or not rest:
        return True
    return field.message_type is not None and is_path(field.message_type, rest)


def is_serving(channel: grpc.Channel) -> bool:
    health = health_pb2_grpc.HealthStub(channel).Check(
        health_pb2.HealthCheckRequest(), timeout=DEADLINE_S
    )
    return bool(health.status == health_pb2.HealthCheckResponse.SERVING)


@pytest.mark.slow
@each_method
def test_malformed_requests_are_refused_clearly(
    targets: list[Target], method: MethodDescriptor
) -> None:
    rng = random.Random(method.full_name)
    served = next(each for each in targets if method.containing_service.full_name in each.services)
    before = served.pid()
    with grpc.insecure_channel(served.address) as channel:
        for what, sent in malformed(method, rng):
            error = ask(channel, method, [message.SerializeToString() for message in sent])
            if error is None:
                continue
            if error.code() is grpc.StatusCode.DEADLINE_EXCEEDED and may_wait(method):
                continue
            wrong = complaint(method, error)
            assert not wrong, f"{what}: {wrong}: {error.details()}\n{sent[0]}"[:2000]
        assert is_serving(channel)
    assert served.pid() == before


@pytest.mark.slow
@each_method
def test_bytes_that_are_no_message_are_refused(
    targets: list[Target], method: MethodDescriptor
) -> None:
    served = next(each for each in targets if method.containing_service.full_name in each.services)
    with grpc.insecure_channel(served.address) as channel:
        for content in (b"\xff" * 8, b"\x0a\xff\xff\xff\xff\x0f", b"\x0b" * 300):
            error = ask(channel, method, [content])
            # gRPC itself refuses these, before any of our code could name a field.
            assert error is not None
            assert error.code() is not grpc.StatusCode.DEADLINE_EXCEEDED
        assert is_serving(channel)


@pytest.mark.slow
def test_the_services_list_no_service_that_is_not_asked(targets: list[Target]) -> None:
    listed = frozenset().union(*(each.services for each in targets))
    assert listed == {method.containing_service.full_name for method in METHODS}


def test_there_are_more_than_five_hundred_of_them_and_some_for_every_field() -> None:
    rng = random.Random(0)
    count = 0
    for method in METHODS:
        asked = {what for what, _ in malformed(method, rng)}
        paths = {".".join(field.name for field in p) for p in field_paths(method.input_type)}
        assert paths <= asked
        count += RANDOM_REQUESTS + VALUES_PER_FIELD * len(paths)
    assert count > 500
