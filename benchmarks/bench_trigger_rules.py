"""trigger_rules over 20,000 hours of 50 instruments: the whole run, and where its time goes.

.venv/bin/python -m benchmarks trigger_rules
.venv/bin/python -m benchmarks.bench_trigger_rules 2000    # fewer cycles, for a look
"""

import statistics
import sys
import time
from collections import defaultdict

import numpy as np

from backlane.backtest.portfolio_cycle import (
    check_failures,
    compute,
    drive_cycles,
    open_cycle,
    place_orders,
)
from backlane.backtest.portfolio_run import parse_portfolio_config, plan_run
from backlane.cycle.context import Surroundings
from backlane.cycle.cycle_counts import CycleCounts
from backlane.cycle.ledger import Ledger
from backlane.cycle.run_cycle import run_cycle
from backlane.cycle.strategies import BUILT_IN
from backlane.cycle.trigger_rules import TRIGGER_RULES
from backlane.panel.panel import Panel
from backlane.portfolio.portfolio_book import PortfolioBook
from benchmarks.timing import Row

CYCLES = 20_000
SYMBOLS = 50
ROUNDS = 3
HOUR_NS = 3_600_000_000_000
REGISTRY = {**BUILT_IN, "trigger_rules": TRIGGER_RULES}


class RealClock:
    """Times the stages of a cycle as finely as this machine can."""

    def now_ns(self) -> int:
        """Returns the wall-clock time."""
        return time.time_ns()

    def monotonic_s(self) -> float:
        """Returns seconds that only grow."""
        return time.perf_counter()


def panel_of(cycles: int) -> Panel:
    """Returns seeded hourly bars that trend, jump and calm down as those of coins do."""
    random = np.random.default_rng(7)
    shape = (cycles, SYMBOLS)
    calm = np.exp(np.convolve(random.normal(0, 0.15, cycles), np.ones(72), "same") / 3.0)[:, None]
    moves = random.normal(0, 0.003, (cycles, 1)) + random.standard_t(4, shape) * 0.003
    level = np.zeros(shape)
    for row in range(1, cycles):
        level[row] = level[row - 1] * 0.9995 + moves[row] * calm[row]
    close = 100.0 * np.exp(level)
    open_ = np.vstack([close[:1], close[:-1]])
    high = np.maximum(open_, close) * (1.0 + np.abs(random.normal(0, 0.002, shape)))
    low = np.minimum(open_, close) * (1.0 - np.abs(random.normal(0, 0.002, shape)))
    time_ns = (np.arange(cycles, dtype=np.int64) + 1) * HOUR_NS
    volume = random.lognormal(13.0, 0.6, shape)
    symbols = tuple(f"S{place:02d}-USD" for place in range(SYMBOLS))
    return Panel(symbols, time_ns, time_ns, open_, high, low, close, volume)


def plan_of(panel: Panel):  # type: ignore[no-untyped-def]
    """Returns the plan of the run: ten core instruments, forty that rotate."""
    instruments = {
        symbol: {"tier": 1 if place < 10 else 2, "spread_bps": 8.0, "depth": 3e5}
        for place, symbol in enumerate(panel.symbols)
    }
    leader = panel.symbols[0]
    content = {
        "strategy": {
            "name": "trigger_rules",
            "parameters": {"leader": leader, "instruments": instruments},
        },
        "data": {"panel": "panel.csv"},
        "initial_cash": 100_000,
        "costs": {"commission_bps": 1.0, "half_spread_bps": 2.5, "impact_bps": 5.0},
        "risk": {"leader": leader, "trades": {"trade_spacing_s": 90.0}},
    }
    return plan_run(parse_portfolio_config(content, REGISTRY), (), REGISTRY)


def staged(panel: Panel) -> dict[str, float]:
    """Returns seconds by stage of one run, timed inside; timing itself costs a little."""
    plan, clock = plan_of(panel), RealClock()
    spent: dict[str, float] = defaultdict(float)
    start = clock.monotonic_s()
    stages = compute(plan, panel, {}).stages
    spent["signals of all bars"] = clock.monotonic_s() - start
    book = PortfolioBook.new(len(panel.symbols), plan.config.initial_cash, plan.config.rules)
    bars, counts = plan.config.bars(panel), CycleCounts()
    ledger = Ledger(panel.symbols, plan.config.initial_cash, limits=plan.risk.trades)
    around = Surroundings(clock=clock)
    for bar in range(len(panel)):
        start = clock.monotonic_s()
        context = open_cycle(book, bars, ledger, panel, {}, around, bar)
        opened = clock.monotonic_s()
        result = run_cycle(context, stages)
        done = clock.monotonic_s()
        counts.add(result)
        check_failures(counts, result, 0)
        place_orders(book, bar, result)
        spent["book, ledger, context"] += opened - start + clock.monotonic_s() - done
        spent["cycle, between stages"] += done - opened - sum(result.timings_s.values())
        for stage, seconds in result.timings_s.items():
            spent[str(stage)] += seconds
    return spent


def run(cycles: int = CYCLES) -> list[Row]:
    """Returns the whole run, the median of its rounds, and each part of one run."""
    panel = panel_of(cycles)
    staged(panel.until(int(panel.known_ns[min(400, cycles) - 1])))  # compiles
    walls, cpus = [], []
    for _ in range(ROUNDS):
        wall, cpu = time.perf_counter(), time.process_time()
        plan = plan_of(panel)
        computed = compute(plan, panel, {})
        drive_cycles(plan, panel, {}, computed.stages)
        walls.append(time.perf_counter() - wall)
        cpus.append(time.process_time() - cpu)
    per_cycle = 1e9 / cycles
    name = f"trigger_rules, {cycles:,} x {SYMBOLS}"
    rows = [
        Row(
            name,
            statistics.median(walls) * per_cycle,
            unit="cycle",
            cpu_ns=statistics.median(cpus) * per_cycle,
            rounds=ROUNDS,
        )
    ]
    parts = staged(panel)
    rows += [Row(f"  {part}", seconds * per_cycle, unit="cycle") for part, seconds in parts.items()]
    return rows


if __name__ == "__main__":
    for row in run(int(sys.argv[1]) if len(sys.argv) > 1 else CYCLES):
        print(f"{row.name:40} {row.ns / 1000:10.1f} us a cycle   cpu {row.cpu_ns / 1000:8.1f} us")
