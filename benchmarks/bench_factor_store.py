"""What a hit of the factor store costs, against the run that it spares the factors.

`python -m benchmarks factor_store`. The run is a multifactor one over a panel in memory: factors,
scores, targets, the book. A hit is everything that a new store does for it: hashing the panel,
reading and checking the parts. Ratios are of processor time, which other load disturbs least.
"""

import statistics
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from backlane.backtest.portfolio_run import parse_portfolio_config, run_portfolio
from backlane.panel.panel import Panel
from backlane.signals.factor_key import core_factor_key
from backlane.signals.factors import FACTORS
from backlane.sources.engine_source import factor_code
from backlane.sources.factor_store import FactorStore
from benchmarks.timing import ROUNDS, Row

BARS = 2_500
SYMBOLS = (100, 500)
NAMES = ("momentum_12m_excl_1m", "returns_3m", "trend_strength_50", "rv_20", "reversal_3d")
_DAY_NS = 86_400_000_000_000
_FIRST_DAY = 16_071  # 2014-01-01


def make_panel(symbol_count: int, seed: int = 1) -> Panel:
    """Ten years of daily bars of a random walk."""
    rng = np.random.default_rng(seed)
    close = 100.0 * np.exp(np.cumsum(rng.normal(0.0, 0.01, (BARS, symbol_count)), axis=0))
    times = (_FIRST_DAY + np.arange(BARS) * 7 // 5).astype(np.int64) * _DAY_NS
    symbols = tuple(f"S{place:03}" for place in range(symbol_count))
    volume = rng.uniform(1e3, 1e6, close.shape)
    return Panel(symbols, times, times, close, close * 1.01, close * 0.99, close, volume)


def run() -> list[Row]:
    """Returns the run, its factors computed, and its factors from the store, for each size."""
    rows = []
    for symbol_count in SYMBOLS:
        with tempfile.TemporaryDirectory() as folder:
            rows += _rows(make_panel(symbol_count), Path(folder))
    return rows


def _rows(panel: Panel, folder: Path) -> list[Row]:
    factors = [{"name": name, "weight": 1 / len(NAMES)} for name in NAMES]
    config = parse_portfolio_config(
        {
            "strategy": {"name": "multifactor_long_short", "parameters": {"factors": factors}},
            "data": {"panel": "panel.csv"},
        }
    )
    code = factor_code()

    def ask(root: Path) -> FactorStore:
        store = FactorStore(root)
        for name in NAMES:
            key = core_factor_key(name, panel.symbols, code)
            store.get_or_compute(key, panel, lambda bars, n=name: {n: FACTORS[n](bars)})
        return store

    def hit() -> None:
        if ask(folder).counts.hits != len(NAMES):
            raise RuntimeError("a hit was none")

    ask(folder)
    work: Mapping[str, Callable[[], object]] = {
        f"multifactor run, {len(panel.symbols)} x {BARS:,}": lambda: run_portfolio(
            config, panel, {}
        ),
        f"its {len(NAMES)} factors computed": lambda: [FACTORS[name](panel) for name in NAMES],
        f"its {len(NAMES)} factors from the store": hit,
    }
    seconds = {name: _median_seconds(each) for name, each in work.items()}
    run_cpu = next(iter(seconds.values()))[1]
    return [
        Row(
            name,
            wall * 1e9,
            "" if cpu == run_cpu else "the run",
            cpu / run_cpu,
            unit="run",
            cpu_ns=cpu * 1e9,
            rounds=ROUNDS,
        )
        for name, (wall, cpu) in seconds.items()
    ]


def _median_seconds(work: Callable[[], object]) -> tuple[float, float]:
    """Returns the medians of wall and processor time of ROUNDS rounds, after one to warm up."""
    walls, cpus = [], []
    for round_index in range(ROUNDS + 1):
        wall, cpu = time.perf_counter(), time.process_time()
        work()
        if round_index:
            walls.append(time.perf_counter() - wall)
            cpus.append(time.process_time() - cpu)
    return statistics.median(walls), statistics.median(cpus)
