"""The board says the same on both ends, in the order in which a run goes."""

import os
from collections.abc import Iterator

import numpy as np
import pytest

from backlane.cycle.loop import Slot
from backtest_service.board import PHASES, Board, Reading


@pytest.fixture
def ends() -> Iterator[tuple[Board, Board]]:
    ours = Board.create()
    theirs = Board.attach(os.dup(ours.fd))
    yield ours, theirs
    ours.close()
    theirs.close()


def test_a_new_board_says_that_nothing_has_begun(ends: tuple[Board, Board]):
    assert ends[0].read() == Reading("", 0, 0)


def test_phases_and_units_are_seen_on_the_other_end(ends: tuple[Board, Board]):
    ours, theirs = ends
    theirs.enter("inference", 500)
    theirs.advance(200)
    assert ours.read() == Reading("inference", 200, 500)
    theirs.enter("metrics", 1)
    assert ours.read() == Reading("metrics", 0, 1)


def test_the_loop_s_slot_is_told_as_units_and_time(ends: tuple[Board, Board]):
    ours, theirs = ends
    theirs.share_times(np.arange(1_000, 2_000, 10, dtype=np.int64))  # 100 bars
    theirs.enter("simulation", 90)  # the first 10 are warm-up
    theirs.slot[Slot.NEXT_INDEX] = 13
    theirs.slot[Slot.EQUITY] = 99.5
    theirs.slot[Slot.TRADE_COUNT] = 2
    # Bars 10, 11 and 12 are done; the open time of bar 12 is 1,000 + 12 x 10.
    assert ours.read() == Reading("simulation", 3, 90, 1_120, 99.5, 2)


def test_cancel_is_seen_by_the_loop(ends: tuple[Board, Board]):
    ours, theirs = ends
    ours.cancel()
    assert theirs.slot[Slot.CANCEL] == 1.0


def test_a_wiped_board_knows_nothing_of_the_run_before(ends: tuple[Board, Board]):
    ours, theirs = ends
    theirs.share_times(np.arange(5, dtype=np.int64))
    theirs.enter("simulation", 5)
    theirs.slot[:] = 3.0
    ours.wipe()
    assert theirs.read() == Reading("", 0, 0)
    assert theirs.slot[Slot.CANCEL] == 0.0


def test_every_phase_of_the_engine_has_its_number():
    assert PHASES[1:] == ("load", "features", "inference", "simulation", "metrics", "result")
