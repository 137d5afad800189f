"""What the cycle costs over the batch: the same run four ways, and how its memory grows.

    .venv/bin/python -m benchmarks portfolio_cycle
    .venv/bin/python -m benchmarks.bench_portfolio_cycle 100    # that many instruments, for a look

The batch is the strategy asked once and the compiled book, with nothing of the cycle around it. A
run is what `backlane portfolio run` does with the same configuration; a worker does it in slices.
With a cycle at each bar, Python stands between the bars, as it must where there are limits.
"""

import subprocess
import sys
from pathlib import Path

import numpy as np

from backlane.backtest.portfolio_cycle import RunPlan, compute, drive_cycles, run_plan
from backlane.backtest.portfolio_drive import PortfolioDrive
from backlane.backtest.portfolio_run import parse_portfolio_config, plan_run
from backlane.backtest.portfolio_simulator import simulate_portfolio
from backlane.cycle.strategy import StrategyInput, Targets, TargetStrategy
from backlane.panel.panel import Panel
from benchmarks.timing import Row, paired_medians

BARS = 2_500
SIZES = (100, 500)
MEMORY_SIZES = (100, 200, 400)
DAY_NS = 86_400_000_000_000
REFERENCE_S = 22.5
"""trend_baseline on 100 x 2,500 in the reference's legacy path (its PERFORMANCE.md)."""


def panel_of(symbols: int, bars: int = BARS) -> Panel:
    """Returns seeded daily bars, with a gap in one of fifty."""
    random = np.random.default_rng(5)
    shape = (bars, symbols)
    close = 50.0 * np.exp(np.cumsum(random.normal(0, 0.02, shape), axis=0))
    opened = close * np.exp(random.normal(0, 0.005, shape))
    volume = random.uniform(1e4, 1e6, shape)
    high, low = np.maximum(opened, close) * 1.01, np.minimum(opened, close) * 0.99
    is_gap = random.random(shape) < 0.02
    for grid in (close, opened, volume, high, low):
        grid[is_gap] = np.nan
    time_ns = np.arange(bars, dtype=np.int64) * DAY_NS
    names = tuple(f"S{place:03d}" for place in range(symbols))
    return Panel(names, time_ns, time_ns, opened, high, low, close, volume)


def trend_plan() -> RunPlan:
    """Returns the plan of the issue's configuration."""
    content = {
        "strategy": {"name": "trend_baseline", "parameters": {"fast": 20, "slow": 50}},
        "data": {"panel": "panel.csv"},
        "costs": {"commission_bps": 1.0, "half_spread_bps": 2.5, "impact_bps": 5.0},
    }
    return plan_run(parse_portfolio_config(content), ())


def batch(plan: RunPlan, panel: Panel) -> None:
    """Asks the strategy, and runs its targets through the compiled book."""
    planned, config = plan.strategies[0], plan.config
    if not isinstance(planned.strategy, TargetStrategy):
        raise TypeError("the batch has targets")
    targets: Targets = planned.strategy.decide(StrategyInput(panel, {}, {}), planned.parameters)
    simulate_portfolio(
        panel,
        targets,
        initial_cash=config.initial_cash,
        rules=config.rules,
        bars=config.bars(panel),
    )


def sliced(plan: RunPlan, panel: Panel) -> None:
    """Runs as a worker does, without a checkpoint."""
    drive = PortfolioDrive(plan, panel, {})
    for stop in drive.slice_ends():
        drive.advance(stop, lambda: False)
    drive.finish()


def run(sizes: tuple[int, ...] = SIZES) -> list[Row]:
    """Returns the four ways at each size, and the peak memory of a run at three."""
    plan, rows = trend_plan(), []
    for symbols in sizes:
        panel = panel_of(symbols)
        ways = {
            "batch": lambda panel=panel: batch(plan, panel),
            "run": lambda panel=panel: run_plan(plan, panel, {}),
            "slices of a worker": lambda panel=panel: sliced(plan, panel),
            "a cycle at each bar": lambda panel=panel: drive_cycles(
                plan, panel, {}, compute(plan, panel, {}).stages
            ),
        }
        found = paired_medians(ways, 1)
        size = f"{symbols} x {BARS:,}"
        rows += [
            Row(f"{name}, {size}", ns, "batch", ns / found["batch"], unit="run")
            for name, ns in found.items()
        ]
        if symbols == SIZES[0]:
            ns = found["run"]
            against = ns / (REFERENCE_S * 1e9)
            rows.append(Row(f"trend_baseline, {size}", ns, "22.5 s (theirs)", against, unit="run"))
    rows += [memory_row(symbols) for symbols in MEMORY_SIZES]
    return rows


def memory_row(symbols: int) -> Row:
    """Returns the peak memory of a run in a process of its own, beyond that of a tiny one."""
    peaks = [_peak_bytes(count) for count in (2, symbols)]
    return Row(
        f"memory of a run, {symbols} x {BARS:,}, beyond the imports",
        0.0,
        unit="run",
        peak_bytes=peaks[1] - peaks[0],
    )


def own_peak_bytes() -> int:
    """Returns the peak memory of this process; getrusage would count its parent's before exec."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    line = next(each for each in status.splitlines() if each.startswith("VmHWM:"))
    return int(line.split()[1]) * 1024


def _peak_bytes(symbols: int) -> int:
    module = "benchmarks.bench_portfolio_cycle"
    done = subprocess.run(
        [sys.executable, "-m", module, "--peak", str(symbols)],
        check=True,
        capture_output=True,
        text=True,
    )
    return int(done.stdout)


def _main(arguments: list[str]) -> int:
    if arguments[:1] == ["--peak"]:
        run_plan(trend_plan(), panel_of(int(arguments[1])), {})
        print(own_peak_bytes())
        return 0
    for row in run(tuple(int(each) for each in arguments) or SIZES):
        against = f"{row.ratio:.3f} x {row.peer}" if row.peer else ""
        memory = f"{row.peak_bytes / 2**20:.0f} MiB" if row.peak_bytes else ""
        print(f"{row.name:50} {row.ns / 1e6:10.2f} ms {memory:>10} {against}")
    return 0


if __name__ == "__main__":
    sys.exit(_main(sys.argv[1:]))
