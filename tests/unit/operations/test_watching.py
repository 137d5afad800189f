"""The client's side of a watch: what continues, and when to try again."""

from dataclasses import replace

import pytest

from backlane.client.operations import watch_request
from backlane.client.watching import Continuity, Reconnected, Recovery
from backlane.clock import ManualClock
from backlane.errors import (
    InternalError,
    OperationNotFoundError,
    ServiceUnavailableError,
    SlowConsumerError,
    WatchLimitError,
)
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
    for _ in range(6):
        pauses.append(recovery.pause_s(DOWN))
        clock.advance(1.0)
    recovery.succeeded(4, "b:2")
    recovery.succeeded(5, "b:2")
    # Up to half of each pause is left out, by chance.
    for pause_s, longest_s in zip(pauses, [0.1, 0.2, 0.2, 0.2, 0.2, 0.2], strict=True):
        assert longest_s / 2 <= pause_s <= longest_s
    assert outages == [Reconnected(DOWN, 6, 6.0, 4, "b:2")]


def test_a_server_that_says_when_to_come_back_is_believed() -> None:
    recovery = Recovery(ManualClock(), 60.0, None)
    recovery.succeeded(1)
    assert recovery.pause_s(SlowConsumerError("slow", retry_delay_s=7.0)) == 7.0


def test_a_first_connection_is_tried_for_a_time_of_its_own_and_told_to_nobody() -> None:
    clock, told = ManualClock(), []
    recovery = Recovery(clock, 60.0, told.append, lambda *lost: told.append(lost), first_s=3.0)
    recovery.pause_s(DOWN)
    with pytest.raises(WatchLimitError):
        recovery.pause_s(WatchLimitError("50 of 50"))
    clock.advance(3.0)
    with pytest.raises(ServiceUnavailableError):
        recovery.pause_s(DOWN)
    recovery.succeeded(1)
    assert told == []


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
