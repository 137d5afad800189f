"""What is tried again and when, what is kept and how long, who is let in."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backlane.errors import QueueFullError
from backlane.operations.admission import AdmissionLimits, Load, admit
from backlane.operations.commands import NewOperation, Resumption
from backlane.operations.operation import TERMINAL_STATES, Payload, State
from backlane.operations.retention import RetentionPolicy, with_expiry
from backlane.operations.retries import DELAY_S_MAX, retry_delay_s
from tests.unit.operations.test_transitions import cancelling, ended, held, queued


def test_the_pauses_are_those_of_the_documentation() -> None:
    """0.2 s, each four times the one before, a minute at most: 0.2 x 4^4 = 51.2, 0.2 x 4^5 > 60.

    The tolerance is that of a few multiplications in binary64.
    """
    pauses = [retry_delay_s(count) for count in range(1, 8)]
    assert pauses == pytest.approx([0.2, 0.8, 3.2, 12.8, 51.2, 60.0, 60.0], rel=1e-12)


@given(st.integers(1, 10**6))
def test_a_pause_never_shrinks_and_has_a_bound(count: int) -> None:
    assert 0 < retry_delay_s(count) <= retry_delay_s(count + 1) <= DELAY_S_MAX


def test_there_is_no_pause_before_the_first_failure() -> None:
    with pytest.raises(ValueError, match="0 failed attempts"):
        retry_delay_s(0)


@pytest.mark.parametrize("state", sorted(TERMINAL_STATES))
def test_what_has_ended_is_kept_for_so_long(state: State) -> None:
    """Ended at 3 s, kept for 100 s."""
    kept = with_expiry(ended(state), RetentionPolicy(finished_s=100.0))
    assert kept.expire_time_ns == 103_000_000_000


def test_what_has_not_ended_is_kept() -> None:
    for live in (queued(), held(), cancelling()):
        assert with_expiry(live, RetentionPolicy()) is live


def test_a_client_is_let_in_up_to_its_limit_and_told_when_to_come_back() -> None:
    limits = AdmissionLimits(live_per_client_max=2, queued_max=10, retry_delay_s=1.5)
    admit(Load(live_of_client=1, queued=9), "ci", limits)
    with pytest.raises(QueueFullError, match="Client ci has 2 operations") as raised:
        admit(Load(live_of_client=2, queued=2), "ci", limits)
    assert raised.value.metadata == {
        "limit_name": "live_operations_per_client",
        "limit": "2",
        "client": "ci",
    }
    assert raised.value.retry_delay_s == 1.5
    with pytest.raises(QueueFullError, match=r"\(unnamed\)"):
        admit(Load(live_of_client=2, queued=2), "", limits)


def test_all_clients_together_have_a_limit_too() -> None:
    limits = AdmissionLimits(live_per_client_max=5, queued_max=10)
    with pytest.raises(QueueFullError, match="10 operations wait") as raised:
        admit(Load(live_of_client=0, queued=10), "ci", limits)
    assert raised.value.metadata == {"limit_name": "queued_operations", "limit": "10"}


SPEC = Payload("type.googleapis.com/test.Spec", b"x")
REQUEST = NewOperation("r", "test.run", SPEC, {"a": "b", "c": "d"}, 2, 3, 4.0, 5.0, "ci")
OTHERS = {
    "kind": NewOperation("r", "test.rum", SPEC, REQUEST.labels, 2, 3, 4.0, 5.0),
    "spec": NewOperation("r", "test.run", Payload("y", b"x"), REQUEST.labels, 2, 3, 4.0, 5.0),
    "labels": NewOperation("r", "test.run", SPEC, {"a": "b", "c": ""}, 2, 3, 4.0, 5.0),
    "max_attempts": NewOperation("r", "test.run", SPEC, REQUEST.labels, 1, 3, 4.0, 5.0),
    "priority": NewOperation("r", "test.run", SPEC, REQUEST.labels, 2, -3, 4.0, 5.0),
    "queue_timeout": NewOperation("r", "test.run", SPEC, REQUEST.labels, 2, 3, None, 5.0),
    "attempt_timeout": NewOperation("r", "test.run", SPEC, REQUEST.labels, 2, 3, 4.0, 5.5),
}


@pytest.mark.parametrize("field", sorted(OTHERS))
def test_a_request_that_differs_says_in_what(field: str) -> None:
    """Beside the field nothing differs; who asks is no part of the request."""
    mine, other = REQUEST.digests(), OTHERS[field].digests()
    assert set(OTHERS) == set(mine)
    assert [one for one in mine if mine[one] != other[one]] == [field]


def test_labels_cannot_be_shifted_into_one_another() -> None:
    """{"a": "bc"} and {"ab": "c"} are two requests."""
    left = NewOperation("r", "k", SPEC, {"a": "bc"}).digests()["labels"]
    right = NewOperation("r", "k", SPEC, {"ab": "c"}).digests()["labels"]
    assert left != right


def test_a_resumption_is_known_by_what_it_goes_on_from() -> None:
    mine = Resumption("r", "operations/a", client="x").digests()
    assert mine == Resumption("r", "operations/a").digests()
    assert mine != Resumption("r", "operations/b").digests()
    assert not set(mine) & set(REQUEST.digests())
