"""Which replica is called, and for how long it is gone on."""

import pytest

from backlane.client.replicas import REPLICAS_MAX, Replicas, Turn
from backlane.errors import (
    InvalidRequestError,
    OperationNotFoundError,
    ServerDrainingError,
    ServiceUnavailableError,
)

DOWN = ServiceUnavailableError("down")


def test_addresses_come_with_commas_in_between():
    replicas = Replicas(" a:1, b:2 ,")
    assert replicas.addresses == ("a:1", "b:2")
    assert Replicas("unix:/run/x").addresses == ("unix:/run/x",)


@pytest.mark.parametrize("text", ["", " , ", ",".join(["a:1"] * (REPLICAS_MAX + 1))])
def test_no_address_and_too_many_are_refused(text: str):
    with pytest.raises(InvalidRequestError, match="names"):
        Replicas(text)


def test_one_is_left_for_the_next_and_only_once():
    replicas = Replicas("a:1,b:2,c:3")
    replicas.leave("a:1")
    replicas.leave("a:1")  # another thread had the same failure
    assert replicas.current == "b:2"
    replicas.leave("b:2")
    replicas.leave("c:3")
    assert replicas.current == "a:1"


def test_grpc_itself_insists_less_where_there_is_another_one():
    assert Replicas("a:1").retry_attempts == 5
    assert Replicas("a:1,b:2").retry_attempts == 2


def test_everyone_is_asked_once_and_then_the_error_stands():
    replicas = Replicas("a:1,b:2")
    turn = Turn(replicas, deadline_s=10.0, ready_s=0.0)
    assert turn.failed("a:1", DOWN) == 0.0
    with pytest.raises(ServiceUnavailableError):
        turn.failed("b:2", DOWN)


def test_who_waits_for_a_server_waits_after_each_round():
    turn = Turn(Replicas("a:1,b:2"), deadline_s=10.0, ready_s=5.0)
    assert turn.failed("a:1", ServerDrainingError("draining")) == 0.0
    assert 0.0 < turn.failed("b:2", DOWN) <= 0.5
    assert turn.failed("a:1", DOWN) == 0.0


def test_what_is_wrong_everywhere_is_said_at_once_and_so_is_a_deadline():
    replicas = Replicas("a:1,b:2")
    with pytest.raises(OperationNotFoundError):
        Turn(replicas, deadline_s=10.0, ready_s=5.0).failed("a:1", OperationNotFoundError("x"))
    with pytest.raises(ServiceUnavailableError):
        Turn(replicas, deadline_s=0.0, ready_s=5.0).failed("b:2", DOWN)
