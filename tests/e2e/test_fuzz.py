"""Malformed requests, made from the protos: a clear refusal each, and nobody falls over.

Over 500 seeded requests, each field empty, huge, negative, NaN, of an unknown enum number or of a
foreign shape. Every answer is OK or one of the codes of bad input, with ErrorInfo in its details;
INTERNAL, UNKNOWN or a silent stream fails the test, and so does a service that is not the same
process afterwards.
"""

import random
from collections.abc import Iterator

import grpc
import pytest
from google.protobuf import symbol_database
from google.protobuf.descriptor import FieldDescriptor, MethodDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from google.rpc import error_details_pb2, status_pb2

import backlane.api.backtest.v1.backtest_service_pb2
import backlane.api.models.v1.models_service_pb2
import backlane.api.operations.v1.operations_service_pb2
import backlane.api.operations.v1.worker_service_pb2  # noqa: F401
from tests.e2e.stack import MODEL, Stack

REQUESTS_PER_METHOD = 28
DEADLINE_S = 5.0
REFUSALS = {
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.NOT_FOUND,
    grpc.StatusCode.OUT_OF_RANGE,
    grpc.StatusCode.FAILED_PRECONDITION,
    grpc.StatusCode.RESOURCE_EXHAUSTED,
    grpc.StatusCode.ABORTED,
    grpc.StatusCode.ALREADY_EXISTS,
}
LONG_POLLS = {"AcquireOperation", "WaitOperation", "WatchDirectives", "WatchOperations"}
SERVICES = {
    "backlane.api.operations.v1.OperationsService": "operations",
    "backlane.api.operations.v1.WorkerService": "operations",
    "backlane.api.models.v1.ModelsService": "models",
    "backlane.api.backtest.v1.BacktestService": "backtests",
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


def methods() -> Iterator[MethodDescriptor]:
    pool = symbol_database.Default().pool
    for name in SERVICES:
        yield from pool.FindServiceByName(name).methods


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
        return rng.choice((0, 1, 2, 3, 99, -5))
    return rng.choice(WIDE_INTEGERS if kind == FieldDescriptor.CPPTYPE_INT64 else INTEGERS)


def fill(message: Message, rng: random.Random, depth: int = 0) -> None:
    for field in message.DESCRIPTOR.fields:
        if rng.random() < 0.35 or depth > 4:
            continue
        entry = field.message_type
        if field.is_repeated and entry is not None and entry.GetOptions().map_entry:
            fill_map(getattr(message, field.name), field, rng, depth)
        elif field.is_repeated:
            for _ in range(rng.choice((1, 2, 40))):
                values = getattr(message, field.name)
                if entry is not None:
                    fill(values.add(), rng, depth + 2)
                else:
                    values.append(scalar(field, rng))
        elif entry is not None:
            inner = getattr(message, field.name)
            inner.SetInParent()
            fill(inner, rng, depth + 1)
        else:
            setattr(message, field.name, scalar(field, rng))


def fill_map(values, field: FieldDescriptor, rng: random.Random, depth: int) -> None:
    value_field = field.message_type.fields_by_name["value"]
    for _ in range(rng.choice((1, 3, 70))):
        key = rng.choice(TEXTS) + str(rng.randrange(100))
        if value_field.message_type is not None:
            fill(values[key], rng, depth + 2)
        else:
            values[key] = scalar(value_field, rng)


def ask(
    channel: grpc.Channel, method: MethodDescriptor, sent: list[Message]
) -> grpc.RpcError | None:
    """Returns how the call ended; None for OK, or for a stream that answers."""
    streams = (
        "stream" if method.client_streaming else "unary",
        "stream" if method.server_streaming else "unary",
    )
    answer = GetMessageClass(method.output_type)
    call = getattr(channel, "_".join(streams))(
        f"/{method.containing_service.full_name}/{method.name}",
        request_serializer=lambda message: message.SerializeToString(),
        response_deserializer=answer.FromString,
    )
    request = iter(sent) if method.client_streaming else sent[0]
    try:
        if not method.server_streaming:
            call(request, timeout=DEADLINE_S)
            return None
        stream = call(request, timeout=DEADLINE_S)
        next(stream, None)
        stream.cancel()
    except grpc.RpcError as error:
        return error
    return None


def error_info(error: grpc.RpcError) -> error_details_pb2.ErrorInfo | None:
    metadata = dict(error.trailing_metadata() or ())
    status = status_pb2.Status.FromString(metadata.get("grpc-status-details-bin", b""))
    for detail in status.details:
        info = error_details_pb2.ErrorInfo()
        if detail.Unpack(info):
            return info
    return None


@pytest.mark.slow
@pytest.mark.parametrize(
    "method", list(methods()), ids=lambda method: method.full_name.split(".v1.")[1]
)
def test_malformed_requests_are_refused_clearly(stack: Stack, method: MethodDescriptor) -> None:
    rng = random.Random(method.full_name)
    area = SERVICES[method.containing_service.full_name]
    processes = {
        "operations": stack.operations,
        "models": stack.models,
        "backtests": stack.backtests,
    }
    before = processes[area].pid
    with grpc.insecure_channel(getattr(stack.addresses, area)) as channel:
        for number in range(REQUESTS_PER_METHOD):
            sent = [GetMessageClass(method.input_type)() for _ in range(3)]
            for message in sent:
                fill(message, rng)
            error = ask(channel, method, sent)
            if error is None:
                continue
            code = error.code()
            if code is grpc.StatusCode.DEADLINE_EXCEEDED and method.name in LONG_POLLS:
                continue
            shown = f"request {number}: {code.name}: {error.details()}\n{sent[0]}"[:1500]
            assert code in REFUSALS, shown
            assert error_info(error) is not None, shown
    assert processes[area].pid == before


def test_there_are_more_than_five_hundred_of_them() -> None:
    assert len(list(methods())) * REQUESTS_PER_METHOD > 500
