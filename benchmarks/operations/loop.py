"""What it costs the compiled loop to say where it is, bar by bar."""

import statistics
import time
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from backlane.cycle.loop import SLOT_COUNT, Outputs, Slot, run_until
from backlane.cycle.state import new_rules, new_state
from backlane.jit import kernel
from backtest_service.board import Board
from benchmarks.bench_cycle import BARS, make_inputs
from benchmarks.operations.figures import Figure
from benchmarks.timing import ROUNDS

_NEXT_INDEX, _EQUITY = int(Slot.NEXT_INDEX), int(Slot.EQUITY)
_TRADE_COUNT, _CANCEL = int(Slot.TRADE_COUNT), int(Slot.CANCEL)


@kernel
def _without(equities: NDArray[np.float64]) -> None:
    for index in range(len(equities)):
        equities[index] = index * 0.5


@kernel
def _with(equities: NDArray[np.float64], slot: NDArray[np.float64]) -> None:
    # The array beside the slot keeps the compiler from holding the slot back in registers, as the
    # arrays of the real loop do: it cannot know that they do not overlap.
    for index in range(len(equities)):
        if slot[_CANCEL] != 0.0:
            break
        equities[index] = index * 0.5
        slot[_NEXT_INDEX] = index
        slot[_EQUITY] = equities[index]
        slot[_TRADE_COUNT] = index


def run(*, is_quick: bool) -> list[Figure]:
    """The writes alone into the board of a worker; and the whole loop, which bounds them."""
    del is_quick
    board = Board.create()
    try:
        equities = np.zeros(BARS)
        bare = _ns_per_bar(lambda: _without(equities))
        told = _ns_per_bar(lambda: _with(equities, board.slot))
        inputs, rules = make_inputs(), new_rules()
        outputs = Outputs.empty(BARS, record_count=1 << 17)
        whole = {
            where: _ns_per_bar(
                lambda slot=slot: run_until(  # type: ignore[misc]
                    new_state(0, 1e5), rules, inputs, outputs, slot, BARS
                )
            )
            for where, slot in (("board", board.slot), ("private", np.zeros(SLOT_COUNT)))
        }
    finally:
        board.close()
    note = f"{BARS:,} bars, median of {ROUNDS}"
    return [
        Figure("progress write in the loop", max(0.0, told - bare), "ns", 1_000, note=note),
        Figure("the whole loop, one bar, into the shared board", whole["board"], "ns", 1_000),
        Figure("the same into private memory", whole["private"], "ns"),
    ]


def _ns_per_bar(work: Callable[[], object]) -> float:
    taken = []
    for _ in range(ROUNDS + 1):
        begun_s = time.perf_counter()
        work()
        taken.append(time.perf_counter() - begun_s)
    return statistics.median(taken[1:]) * 1e9 / BARS
