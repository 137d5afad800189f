"""Places for calls."""

from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from backlane.clock import ManualClock
from backlane.errors import (
    LimitExceededError,
    RateLimitError,
    ServerDrainingError,
    WatchLimitError,
)
from backlane.rpc import admission as rpc_admission
from backlane.rpc.admission import Admission, MethodLimit, RateLimit, Rates

GET = "/backlane.api.models.v1.ModelsService/GetModel"
WAIT = "/backlane.api.operations.v1.OperationsService/WaitOperation"
HEALTH = "/grpc.health.v1.Health/Check"


@pytest.fixture
def admission() -> Admission:
    return Admission(unary_max=2, stream_max=1, method_limits={WAIT: MethodLimit(1)})


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


# --- of one client -----------------------------------------------------------------------------

WATCH = "/backlane.api.operations.v1.OperationsService/WatchOperations"
OF_OPERATIONS = ("/backlane.api.operations.v1.OperationsService/",)


def test_one_client_takes_no_more_than_its_places_and_leaves_the_rest_to_others(calls):
    limit = MethodLimit(total=3, per_client=2, error=WatchLimitError)
    admission = Admission(unary_max=1, stream_max=1, method_limits={WATCH: limit})
    mine = [admission.admitted(WATCH, streaming=True, client="me") for _ in range(2)]
    for place in mine:
        place.__enter__()
    with (
        pytest.raises(WatchLimitError) as refusal,
        admission.admitted(WATCH, streaming=True, client="me"),
    ):
        pytest.fail("let in")
    assert refusal.value.metadata["limit"] == "2"
    assert refusal.value.metadata["client"] == "me"
    assert refusal.value.retry_delay_s == 0.5
    calls.enter_context(admission.admitted(WATCH, streaming=True, client="you"))
    with (
        pytest.raises(WatchLimitError, match="All 3 places"),
        admission.admitted(WATCH, streaming=True, client="third"),
    ):
        pytest.fail("let in")
    mine[0].__exit__(None, None, None)
    with admission.admitted(WATCH, streaming=True, client="me"):
        pass
    mine[1].__exit__(None, None, None)
    assert set(admission._counts_of_clients) == {(WATCH, "you")}


def test_a_client_may_burst_and_then_calls_at_its_rate():
    clock = ManualClock()
    rates = Rates(RateLimit(OF_OPERATIONS, per_s=10.0, burst=3), clock)
    for _ in range(3):
        rates.take(WAIT, "me")
    with pytest.raises(RateLimitError) as refusal:
        rates.take(WAIT, "me")
    # Ten calls a second: the next one is welcome after a tenth of one.
    assert refusal.value.retry_delay_s == pytest.approx(0.1)
    rates.take(WAIT, "you")
    rates.take(GET, "me")  # of another service
    clock.advance(0.1)
    rates.take(WAIT, "me")
    with pytest.raises(RateLimitError):
        rates.take(WAIT, "me")
    clock.advance(3600.0)
    for _ in range(3):
        rates.take(WAIT, "me")
    with pytest.raises(RateLimitError):
        rates.take(WAIT, "me")


def test_only_so_many_clients_are_remembered(monkeypatch):
    monkeypatch.setattr(rpc_admission, "RATED_CLIENTS_MAX", 2)
    rates = Rates(RateLimit(OF_OPERATIONS, per_s=1.0, burst=1), ManualClock())
    for client in ("a", "b", "c"):
        rates.take(WAIT, client)
    rates.take(WAIT, "a")  # forgotten, hence full again
    with pytest.raises(RateLimitError):
        rates.take(WAIT, "c")
