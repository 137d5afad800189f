"""One whole run, phase by phase: in process, and through the three services.

The phases are timed by the product itself (the `timings` of a result). "Whole" goes from the
request to the written result; through the services it starts with the call of RunBacktest and ends
when the client hears of the end. The price of the services is the ratio of the two, `load` apart:
a worker keeps the bars of its last runs, which one process that runs once cannot.
"""

import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

from backlane.backtest.observer import PHASES
from backlane.client.backlane_client import Client
from backlane.sources.catalog import Catalog
from backlane.sources.synthetic import synthetic_bars
from benchmarks.one_process import REQUEST, TIMEFRAME, Measured
from benchmarks.three_services import ThreeServices
from benchmarks.timing import Row

START = datetime(2010, 1, 1, tzinfo=UTC)
ROUNDS = {10_000: 7, 100_000: 7, 1_000_000: 5}
"""Warm runs of each size; every figure is their median."""
PATIENCE_S = 300.0


def run(rounds: Mapping[int, int] = ROUNDS) -> list[Row]:
    """Returns the rows of every size."""
    with tempfile.TemporaryDirectory() as folder:
        return [row for bars, count in rounds.items() for row in compare(Path(folder), bars, count)]


def compare(folder: Path, bar_count: int, rounds: int) -> list[Row]:
    """Returns the rows of one size."""
    size = f"{bar_count // 1000}k bars" if bar_count < 1_000_000 else f"{bar_count / 1e6:g}M bars"
    home = folder / str(bar_count)
    Catalog(home).import_bars(synthetic_bars(1, START, bar_count, TIMEFRAME), "synthetic")
    here, here_peak, here_cold_s = in_process(home, rounds)
    there, there_peak, there_cold_s = through_services(home, rounds)
    price = loaded_s(there) / loaded_s(here)
    return [
        Row(f"{size}, in process, cold start", here_cold_s * 1e9, unit="run"),
        whole(f"{size}, in process, whole", here, here_peak),
        *phase_rows(f"{size}, in process", here),
        Row(f"{size}, services, first run", there_cold_s * 1e9, unit="run"),
        whole(f"{size}, services, whole", there, there_peak, "in process, no load", price),
        *phase_rows(f"{size}, services", there, here),
    ]


def in_process(home: Path, rounds: int) -> tuple[list[Measured], int, float]:
    """Returns the warm runs, the peak memory, and the cold start: process, imports, first run."""
    command = [sys.executable, "-m", "benchmarks.one_process", str(home)]

    def measure(count: int) -> tuple[list[Measured], int, float]:
        start = time.perf_counter()
        done = subprocess.run([*command, str(count)], check=True, capture_output=True, text=True)
        taken_s = time.perf_counter() - start
        document = json.loads(done.stdout)
        return [Measured(**each) for each in document["runs"]], document["peak_bytes"], taken_s

    measure(0)  # compiles what is not compiled yet: that is paid once after an installation
    cold_s = measure(0)[2]
    runs, peak_bytes, _ = measure(rounds)
    return runs[1:], peak_bytes, cold_s


def through_services(home: Path, rounds: int) -> tuple[list[Measured], int, float]:
    """Returns the warm runs, the peak memory of all processes, and the seconds of the first run."""
    with ThreeServices(home) as services, Client(services.addresses) as client:
        runs = [_once(services, client) for _ in range(rounds + 1)]
        return runs[1:], services.peak_bytes, runs[0].wall_s


def _once(services: ThreeServices, client: Client) -> Measured:
    cpu_s, start = services.cpu_s + time.process_time(), time.perf_counter()
    name = client.backtests.run(REQUEST).name
    while not (operation := client.operations.wait(name, timeout_s=30)).state.is_terminal:
        if time.perf_counter() - start > PATIENCE_S:
            raise TimeoutError(name)
    wall_s = time.perf_counter() - start
    cpu_s = services.cpu_s + time.process_time() - cpu_s
    if operation.error is not None:
        raise RuntimeError(f"{name}: {operation.error}")
    return Measured(wall_s, cpu_s, dict(client.backtests.get_result(name).timings), {})


def loaded_s(runs: Sequence[Measured]) -> float:
    """Returns the median of the whole run without its phase `load`."""
    return statistics.median(each.wall_s - each.phase_wall_s["load"] for each in runs)


def whole(
    name: str, runs: Sequence[Measured], peak_bytes: int, peer: str = "", ratio: float = 0.0
) -> Row:
    """Returns the row of a whole run."""
    wall_s = statistics.median(each.wall_s for each in runs)
    cpu_s = statistics.median(each.cpu_s for each in runs)
    return Row(name, wall_s * 1e9, peer, ratio, "run", cpu_s * 1e9, peak_bytes, len(runs))


def phase_rows(
    name: str, runs: Sequence[Measured], peer: Sequence[Measured] | None = None
) -> list[Row]:
    """Returns a row for each phase; beside the same phase of `peer` where there is one."""
    rows = []
    for phase in PHASES:
        wall_s = _median(runs, phase)
        ratio = wall_s / _median(peer, phase) if peer else 0.0
        cpu = [each.phase_cpu_s[phase] for each in runs if phase in each.phase_cpu_s]
        cpu_ns = statistics.median(cpu) * 1e9 if cpu else 0.0
        against = "in process" if peer else ""
        rows.append(
            Row(f"{name}: {phase}", wall_s * 1e9, against, ratio, "run", cpu_ns, 0, len(runs))
        )
    return rows


def _median(runs: Sequence[Measured], phase: str) -> float:
    return statistics.median(each.phase_wall_s[phase] for each in runs)
