"""The client's side of a watch: what continues, and when to try again."""

from dataclasses import replace

import pytest

from backlane.client.operations import watch_request
from backlane.client.watching import Continuity, Reconnected, Recovery
from backlane.clock import ManualClock
from backlane.errors import InternalError, OperationNotFoundError, ServiceUnavailableError
from backlane.operations.events import Note, OperationEvent
from backlane.operations.operation import State
from backlane.operations.selection import Selection
from backlane.operations.watching import Phase, WatchMessage

DOWN = ServiceUnavailableError("down")


def live(start: int, end: int, *sequences: int) -> WatchMessage:
    events = tuple(
        OperationEvent("operations/test", sequence, 1, 0, Note("x"), start + 1)
        for sequence in sequences
    )
    return WatchMessage(Phase.LIVE, start, end, f"token-{end}", 0, events=events)


def test_messages_that_tile_move_the_token_on() -> None:
    continuity = Continuity(watch_request("operations/test"))
    assert continuity.next_request().resume_token == ""
    continuity.accept(live(0, 2, 1, 2))
    continuity.accept(live(2, 2))
    continuity.accept(live(2, 5, 3))
    assert (continuity.revision, continuity.next_request().resume_token) == (5, "token-5")


@pytest.mark.parametrize("message", [live(3, 5), live(1, 5), live(2, 5, 4), live(2, 5, 2)], ids=str)
def test_a_gap_or_a_repeat_is_an_error(message: WatchMessage) -> None:
    """The reader stands at revision 2 and sequence 2."""
    continuity = Continuity(watch_request("operations/test"))
    continuity.accept(live(0, 2, 1, 2))
    with pytest.raises(InternalError, match="gap"):
        continuity.accept(message)


def test_a_filter_by_state_may_pass_over_sequences() -> None:
    selection = Selection(states=frozenset({State.RUNNING}))
    continuity = Continuity(watch_request(selection=selection))
    continuity.accept(live(0, 2, 2))
    continuity.accept(live(2, 9, 7))
    assert continuity.revision == 9


def test_a_snapshot_that_breaks_off_is_begun_anew() -> None:
    continuity = Continuity(watch_request("operations/test"))
    continuity.accept(replace(live(0, 0), phase=Phase.SNAPSHOT, resume_token=""))
    assert continuity.next_request() == watch_request("operations/test")


def test_pauses_grow_up_to_a_limit_and_the_news_of_it_comes_once() -> None:
    clock, outages = ManualClock(), []
    recovery = Recovery(clock, 60.0, outages.append)
    recovery.succeeded(1)
    pauses = []
    for _ in range(7):
        pauses.append(recovery.pause_s(DOWN))
        clock.advance(pauses[-1])
    recovery.succeeded(4)
    recovery.succeeded(5)
    assert pauses == [0.1, 0.2, 0.4, 0.8, 1.6, 2.0, 2.0]
    assert outages == [Reconnected(DOWN, 7, pytest.approx(7.1), 4)]


def test_it_gives_up_at_the_deadline_and_at_once_without_hope() -> None:
    clock = ManualClock()
    recovery = Recovery(clock, 5.0, None)
    with pytest.raises(ServiceUnavailableError):
        recovery.pause_s(DOWN)  # never connected
    recovery.succeeded()
    with pytest.raises(OperationNotFoundError):
        recovery.pause_s(OperationNotFoundError("gone"))
    recovery.pause_s(DOWN)
    clock.advance(5.0)
    with pytest.raises(ServiceUnavailableError):
        recovery.pause_s(DOWN)
