"""Places for calls."""

from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from backlane.errors import LimitExceededError, ServerDrainingError
from backlane.rpc.admission import Admission

GET = "/backlane.api.models.v1.ModelsService/GetModel"
WAIT = "/backlane.api.operations.v1.OperationsService/WaitOperation"
HEALTH = "/grpc.health.v1.Health/Check"


@pytest.fixture
def admission() -> Admission:
    return Admission(unary_max=2, stream_max=1, method_max={WAIT: 1})


@pytest.fixture
def calls() -> Iterator[ExitStack]:
    """The calls that are running."""
    with ExitStack() as stack:
        yield stack


def refused(admission: Admission, method: str, *, streaming: bool = False) -> LimitExceededError:
    with (
        pytest.raises(LimitExceededError) as refusal,
        admission.admitted(method, streaming=streaming),
    ):
        pytest.fail("let in")
    return refusal.value


def test_the_call_beyond_the_limit_is_refused_and_a_freed_place_is_given_again(admission, calls):
    calls.enter_context(admission.admitted(GET, streaming=False))
    with admission.admitted(GET, streaming=False):
        refusal = refused(admission, GET)
        assert refusal.metadata == {"limit_name": "unary", "limit": "2"}
        assert refusal.retry_delay_s == 0.5
        assert "All 2 places for unary calls" in refusal.message
    calls.enter_context(admission.admitted(GET, streaming=False))


def test_streams_and_unary_calls_do_not_take_each_others_places(admission, calls):
    calls.enter_context(admission.admitted(GET, streaming=True))
    calls.enter_context(admission.admitted(GET, streaming=False))
    calls.enter_context(admission.admitted(GET, streaming=False))
    assert refused(admission, GET, streaming=True).metadata["limit_name"] == "stream"


def test_a_method_with_a_limit_of_its_own_takes_no_common_place(admission, calls):
    calls.enter_context(admission.admitted(WAIT, streaming=False))
    assert refused(admission, WAIT).metadata["limit_name"] == WAIT
    calls.enter_context(admission.admitted(GET, streaming=False))
    calls.enter_context(admission.admitted(GET, streaming=False))


def test_a_failed_call_gives_its_place_back(admission):
    for _ in range(5):
        with pytest.raises(ZeroDivisionError), admission.admitted(GET, streaming=False):
            raise ZeroDivisionError


def test_a_draining_server_takes_nobody_but_health(admission, calls):
    admission.refuse_new()
    with pytest.raises(ServerDrainingError) as refusal, admission.admitted(GET, streaming=False):
        pytest.fail("let in")
    assert refusal.value.retry_delay_s == 1.0
    calls.enter_context(admission.admitted(HEALTH, streaming=False))


def test_health_takes_no_place(admission, calls):
    for _ in range(5):
        calls.enter_context(admission.admitted(HEALTH, streaming=False))
    calls.enter_context(admission.admitted(GET, streaming=False))
