"""A portfolio run in slices: the bits of a run at one go, from every checkpoint on, too."""

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

import numpy as np
import pytest

from backlane.backtest.checkpoint_file import Binding
from backlane.backtest.observer import SilentObserver
from backlane.backtest.portfolio_checkpoint import PortfolioCheckpoint, decode, encode
from backlane.backtest.portfolio_cycle import RunPlan
from backlane.backtest.portfolio_drive import PortfolioDrive, TradeTally, run_in_slices
from backlane.backtest.portfolio_result import PortfolioRun
from backlane.backtest.portfolio_run import parse_portfolio_config, plan_run, run_portfolio
from backlane.cycle.loop import Slot, new_slot
from backlane.errors import CancelledRunError, CheckpointCorruptError, CheckpointForeignError
from backlane.panel.panel import Panel
from backlane.portfolio.book_records import BOOK_FILL_DTYPE

BINDING = Binding("ab", "", {"panel.csv": "sha256:0"}, {"engine": "1"})
COMPILED: Mapping[str, Any] = {
    "strategy": {"name": "trend_baseline", "parameters": {"fast": 2, "slow": 5}},
    "data": {"panel": "panel.csv"},
    "costs": {"commission_bps": 1, "half_spread_bps": 2.5},
}
BY_CYCLES: Mapping[str, Any] = {
    **COMPILED,
    "risk": {"stops": {"daily_loss_max": 0.01}, "orders": {"weight_per_symbol_max": 0.3}},
}
BARS, DAY_NS = 60, 86_400_000_000_000


def panel_of(symbols: tuple[str, ...] = ("A", "B", "C"), bars: int = BARS) -> Panel:
    steps = np.random.default_rng(5).normal(0.0, 0.02, (bars, len(symbols)))
    close = 100.0 * np.exp(np.cumsum(steps, axis=0))
    opened = np.vstack([close[:1], close[:-1]])
    close[20:24, 1] = np.nan  # a gap
    opened[20:24, 1] = np.nan
    time_ns = (np.arange(bars, dtype=np.int64) + 19_000) * DAY_NS
    high, low = np.maximum(opened, close), np.minimum(opened, close)
    volume = np.full_like(close, 1e6)
    return Panel(symbols, time_ns, time_ns, opened, high, low, close, volume)


def plan_of(content: Mapping[str, Any]) -> RunPlan:
    return plan_run(parse_portfolio_config(content), ())


def at_one_go(content: Mapping[str, Any], panel: Panel) -> PortfolioRun:
    return run_portfolio(parse_portfolio_config(content), panel, {})


def assert_same(run: PortfolioRun, expected: PortfolioRun) -> None:
    """Every array to the bit, NaN included; everything else equal."""
    for each in fields(PortfolioRun):
        found, wanted = getattr(run, each.name), getattr(expected, each.name)
        if isinstance(wanted, np.ndarray):
            assert found.tobytes() == wanted.tobytes(), each.name
        elif each.name not in {"panel", "targets"}:
            assert found == wanted, each.name


class Kept:
    """Takes a checkpoint after every slice, as bytes."""

    def __init__(self) -> None:
        self.contents: list[bytes] = []
        self.final = 0

    def is_due(self, simulated_bars: int) -> bool:
        return True

    def take(self, checkpoint: PortfolioCheckpoint, *, is_final: bool = False) -> None:
        self.contents.append(b"".join(encode(checkpoint, BINDING)))
        self.final += is_final


class Points(SilentObserver):
    def __init__(self) -> None:
        self.seen: list[tuple[int, int, float]] = []

    def simulated(self, bar_index: int, time_ns: int, equity: float, trades: object) -> None:
        self.seen.append((bar_index, time_ns, equity))


def in_slices(content: Mapping[str, Any], panel: Panel, **more: Any) -> PortfolioRun:
    told = {"observer": SilentObserver(), "slot": new_slot(), "checkpoints": Kept(), **more}
    return run_in_slices(plan_of(content), panel, {}, **told)


each_way = pytest.mark.parametrize("content", [COMPILED, BY_CYCLES], ids=["compiled", "cycles"])


def test_the_two_ways_are_the_two_ways() -> None:
    assert plan_of(COMPILED).is_compiled
    assert not plan_of(BY_CYCLES).is_compiled


@each_way
def test_slices_give_the_bits_of_one_go(content: Mapping[str, Any]) -> None:
    panel, points, slot = panel_of(), Points(), new_slot()
    run = in_slices(content, panel, observer=points, slot=slot)
    assert len(run.fills) > 10
    assert_same(run, at_one_go(content, panel))
    assert points.seen == [(bar, int(panel.time_ns[bar]), run.equity[bar]) for bar in range(BARS)]
    assert slot[Slot.NEXT_INDEX] == BARS
    assert slot[Slot.TRADE_COUNT] == np.sum(run.trades["is_open"] == 0)


@each_way
def test_every_checkpoint_leads_to_the_same_bits(content: Mapping[str, Any]) -> None:
    panel, kept, points = panel_of(), Kept(), Points()
    expected = in_slices(content, panel, checkpoints=kept, observer=points)
    assert len(kept.contents) == BARS - 1
    for stored in kept.contents[::13]:
        again = Points()
        resume = decode(stored, BINDING)
        assert resume.reach == f"with {resume.next_bar} of {BARS} bars simulated"
        assert_same(in_slices(content, panel, resume=resume, observer=again), expected)
        assert again.seen == points.seen


@each_way
def test_a_cancelled_run_leaves_the_bar_before(content: Mapping[str, Any]) -> None:
    panel, slot, kept = panel_of(), new_slot(), Kept()

    class Cancels(Points):
        def simulated(self, bar_index: int, *rest: Any) -> None:
            super().simulated(bar_index, *rest)
            if bar_index == 30:
                slot[Slot.CANCEL] = 1.0

    with pytest.raises(CancelledRunError):
        in_slices(content, panel, slot=slot, checkpoints=kept, observer=Cancels())
    resume = decode(kept.contents[-1], BINDING)
    assert (kept.final, resume.next_bar) == (1, 31)
    assert_same(in_slices(content, panel, resume=resume), at_one_go(content, panel))


def test_a_panel_without_bars_runs() -> None:
    panel = panel_of().until(0)
    run = in_slices(COMPILED, panel)
    assert (len(run.equity), run.final_equity) == (0, 100_000.0)


def test_a_checkpoint_of_something_else_is_refused() -> None:
    panel, kept = panel_of(), Kept()
    in_slices(COMPILED, panel, checkpoints=kept)
    content = kept.contents[3]
    with pytest.raises(CheckpointForeignError, match="number of bars is 60, and 59"):
        in_slices(COMPILED, panel_of(bars=59), resume=decode(content, BINDING))
    other = Binding("ab", "", {"panel.csv": "sha256:1"}, {"engine": "1"})
    with pytest.raises(CheckpointForeignError, match=r"dataset_digests\.panel\.csv"):
        decode(content, other)


@pytest.mark.parametrize("place", [9, 100, -30])
def test_a_damaged_checkpoint_is_refused(place: int) -> None:
    kept = Kept()
    in_slices(BY_CYCLES, panel_of(), checkpoints=kept)
    content = bytearray(kept.contents[3])
    content[place] ^= 0xFF
    with pytest.raises(CheckpointCorruptError):
        decode(bytes(content), BINDING)


def test_trades_are_counted_when_they_end() -> None:
    fills = np.zeros(6, BOOK_FILL_DTYPE)
    #  A: in, more, out; B: in, turned around (ends one); A: in again
    fills["symbol"] = [0, 0, 0, 1, 1, 0]
    fills["quantity"] = [5.0, 5.0, -10.0, 3.0, -7.0, 2.0]
    tally = TradeTally(2)
    assert [tally.count(fills[:stop]) for stop in (1, 2, 3, 4, 5, 6)] == [0, 0, 1, 1, 2, 2]


def test_slices_are_short_where_python_drives() -> None:
    ends = PortfolioDrive(plan_of(BY_CYCLES), panel_of(), {}).slice_ends()
    assert ends == list(range(1, BARS + 1))
