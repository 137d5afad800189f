"""The error table: complete, and the same class on both sides."""

import inspect

import grpc
import pytest
from google.rpc import error_details_pb2
from grpc import StatusCode
from hypothesis import given
from hypothesis import strategies as st

from backlane import errors
from backlane.errors import BacklaneError, FieldViolation
from backlane.rpc.error_catalog import (
    CATALOG,
    code_of,
    error_from_parts,
    from_rpc_error,
    to_status,
)
from backlane.rpc.status_details import DETAILS_BYTES_MAX, LEFT_OUT_KEY, Unpacked, cut_text

EVERY_ERROR = [
    cls
    for _, cls in inspect.getmembers(errors, inspect.isclass)
    if issubclass(cls, BacklaneError) and cls is not BacklaneError
]
VIOLATION = FieldViolation(field="spec.initial_cash", description="-1 is not above 0")


class FailedCall(grpc.RpcError):
    """A failed call, as gRPC hands it to a client."""

    def __init__(self, code: StatusCode, details: str, trailers=()) -> None:
        self._code, self._details, self._trailers = code, details, trailers

    def code(self):
        return self._code

    def details(self):
        return self._details

    def trailing_metadata(self):
        return self._trailers


def received(error: BacklaneError) -> BacklaneError:
    status = to_status(error)
    code = next(code for code in StatusCode if code.value[0] == status.code)
    trailers = (("grpc-status-details-bin", status.SerializeToString()),)
    return from_rpc_error(FailedCall(code, status.message, trailers))


def details_of(error: BacklaneError, kind):
    return [message for detail in to_status(error).details if detail.Unpack(message := kind())]


def test_every_error_has_an_entry_and_every_entry_an_error():
    assert set(CATALOG) == set(EVERY_ERROR)


def test_no_two_errors_share_a_reason():
    assert len({cls.reason for cls in EVERY_ERROR}) == len(EVERY_ERROR)


def test_every_entry_says_what_to_do():
    assert all(entry.help.endswith(".") and len(entry.help) > 10 for entry in CATALOG.values())


@pytest.mark.parametrize("cls", EVERY_ERROR, ids=lambda cls: cls.reason)
def test_an_error_comes_back_as_itself(cls: type[BacklaneError]):
    sent = cls("12 · 7 ≠ 85", metadata={"rows": "12"}, violations=(VIOLATION,), retry_delay_s=1.25)
    back = received(sent)
    assert type(back) is cls
    assert vars(back) == vars(sent)


def test_an_error_raised_by_its_root_class_is_internal():
    assert type(received(BacklaneError("odd"))) is errors.InternalError


@pytest.mark.parametrize(
    ("cls", "number"),
    [
        (errors.InvalidRequestError, 3),
        (errors.CallTimeoutError, 4),
        (errors.OperationNotFoundError, 5),
        (errors.RequestIdReusedError, 6),
        (errors.LimitExceededError, 8),
        (errors.OperationNotTerminalError, 9),
        (errors.LeaseLostError, 10),
        (errors.ResumeTokenCompactedError, 11),
        (errors.InternalError, 13),
        (errors.ServerDrainingError, 14),
        (errors.BundleCorruptError, 15),
        (errors.CancelledRunError, 1),
    ],
)
def test_codes_have_the_numbers_of_grpc(cls: type[BacklaneError], number: int):
    assert code_of(cls) == number


def test_an_operations_error_becomes_its_class():
    error = error_from_parts("WORKER_LOST", "worker 7 died", {"worker": "7"})
    assert type(error) is errors.WorkerLostError
    assert (error.message, error.metadata) == ("worker 7 died", {"worker": "7"})


def test_the_reason_of_a_newer_service_is_kept():
    error = error_from_parts("FROM_THE_FUTURE", "new")
    assert type(error) is errors.InternalError
    assert error.metadata == {"reason": "FROM_THE_FUTURE"}


def test_error_info_is_always_there_with_domain_and_metadata():
    (info,) = details_of(errors.LeaseLostError("late", metadata={"epoch": "3"}),
                         error_details_pb2.ErrorInfo)  # fmt: skip
    assert (info.reason, info.domain, dict(info.metadata)) == (
        "LEASE_LOST", "backlane", {"epoch": "3"},
    )  # fmt: skip


def test_not_found_names_the_resource():
    error = errors.ModelNotFoundError("no", metadata={"root": "/m", "model": "models/eurusd"})
    (info,) = details_of(error, error_details_pb2.ResourceInfo)
    assert (info.resource_type, info.resource_name) == ("model", "models/eurusd")


def test_a_failed_precondition_names_its_type():
    (failure,) = details_of(
        errors.OperationNotTerminalError("still running", metadata={"name": "operations/1"}),
        error_details_pb2.PreconditionFailure,
    )
    (violation,) = failure.violations
    assert (violation.type, violation.subject) == ("OPERATION_NOT_TERMINAL", "operations/1")


def test_at_most_twenty_violations_leave_and_the_rest_are_counted():
    violations = tuple(FieldViolation(f"rows[{i}]", "odd") for i in range(25))
    back = received(errors.InvalidRequestError("25 rows are odd", violations=violations))
    assert back.violations == violations[:20]
    assert back.metadata == {LEFT_OUT_KEY: "5"}


def test_long_texts_end_in_an_ellipsis_and_all_keys_stay():
    metadata = {"expected": "a" * 5000, "found": "b" * 5000}
    back = received(errors.FeatureMismatchError("two lists", metadata=metadata))
    assert back.message == "two lists"
    assert set(back.metadata) == {"expected", "found"}
    assert all(value.endswith("…") for value in back.metadata.values())


texts = st.text(max_size=3000)


@given(
    message=texts,
    metadata=st.dictionaries(texts, texts, max_size=100),
    violations=st.lists(st.builds(FieldViolation, field=texts, description=texts), max_size=30),
    cls=st.sampled_from(EVERY_ERROR),
)
def test_no_status_is_over_the_limit(message, metadata, violations, cls):
    error = cls(message, metadata=metadata, violations=tuple(violations), retry_delay_s=1.0)
    status = to_status(error)
    assert status.ByteSize() <= DETAILS_BYTES_MAX
    assert Unpacked(status).reason == cls.reason
    assert type(received(error)) is cls


@given(text=st.text(max_size=50), bytes_max=st.integers(3, 60))
def test_a_cut_text_is_valid_and_short_enough(text: str, bytes_max: int):
    cut = cut_text(text, bytes_max)
    assert len(cut.encode()) <= bytes_max
    assert cut == text or cut.endswith("…")
    assert text.startswith(cut.removesuffix("…"))


@pytest.mark.parametrize(
    ("code", "details", "cls"),
    [
        (StatusCode.UNAVAILABLE, "connection refused", errors.ServiceUnavailableError),
        (StatusCode.CANCELLED, "Channel closed!", errors.ServiceUnavailableError),
        (StatusCode.DEADLINE_EXCEEDED, "Deadline Exceeded", errors.CallTimeoutError),
        (
            StatusCode.RESOURCE_EXHAUSTED,
            "SERVER: Received message larger than max (9 vs. 8)",
            errors.PayloadTooLargeError,
        ),
        (StatusCode.UNIMPLEMENTED, "Method not found!", errors.InternalError),
        (StatusCode.UNKNOWN, "", errors.InternalError),
    ],
)
def test_a_call_that_failed_without_details_keeps_its_code(code, details, cls):
    error = from_rpc_error(FailedCall(code, details), peer="model_service at 127.0.0.1:1")
    assert type(error) is cls
    assert "model_service at 127.0.0.1:1" in error.message
    assert error.metadata == {"code": code.name, "details": details}


def test_damaged_details_are_as_good_as_none():
    trailers = (("grpc-status-details-bin", b"\xff\xff\xff"),)
    error = from_rpc_error(FailedCall(StatusCode.UNAVAILABLE, "gone", trailers))
    assert type(error) is errors.ServiceUnavailableError


def test_details_of_another_domain_do_not_choose_the_class():
    status = to_status(errors.LeaseLostError("theirs"))
    info = error_details_pb2.ErrorInfo(reason="LEASE_LOST", domain="example.com")
    status.details[0].Pack(info)
    trailers = (("grpc-status-details-bin", status.SerializeToString()),)
    error = from_rpc_error(FailedCall(StatusCode.ABORTED, "theirs", trailers))
    assert type(error) is errors.InternalError
