"""Whole runs in a process of their own: `python -m benchmarks.one_process HOME ROUNDS`.

A fresh process, so that its first run is a cold start and its peak memory is that of such runs.
Writes one JSON document; the first of `runs` is the cold one.
"""

import json
import resource
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from backlane.backtest.engine import run_backtest
from backlane.backtest.observer import PhaseTimer
from backlane.backtest.request import parse_request
from backlane.backtest.summarize import summarize_run
from backlane.clock import SystemClock
from backlane.market.timeframe import Timeframe
from backlane.sources.bundle import load_predictor, read_bundle
from backlane.sources.catalog import Catalog
from backlane.sources.results import write_result
from backlane.sources.synthetic import SYNTHETIC_SYMBOL
from benchmarks.three_services import MODELS

TIMEFRAME = Timeframe.parse("1h")
REQUEST = parse_request({"model": {"name": "rsi_bb", "version": 1}, "symbol": SYNTHETIC_SYMBOL})


@dataclass
class Measured:
    """One whole run. `wall_s` and `cpu_s` go from the request to the written result."""

    wall_s: float
    cpu_s: float
    phase_wall_s: dict[str, float]
    phase_cpu_s: dict[str, float]


class ProcessorClock:
    """Counts the processor time of this process, all threads, in place of seconds that pass."""

    def now_ns(self) -> int:
        """Returns the wall-clock time."""
        return time.time_ns()

    def monotonic_s(self) -> float:
        """Returns the seconds of processor time so far."""
        return time.process_time()


def main(home: Path, rounds: int) -> None:
    """Measures one cold run and `rounds` warm ones."""
    catalog, predictor = Catalog(home), load_predictor(read_bundle(MODELS / "rsi_bb" / "1"))

    def once() -> Measured:
        cpu = PhaseTimer(ProcessorClock())
        wall = PhaseTimer(SystemClock(), cpu)
        wall.entered("load", 0)
        series = catalog.load(SYNTHETIC_SYMBOL, TIMEFRAME)
        run = run_backtest(
            REQUEST, predictor, {TIMEFRAME.label: series}, dataset_digests={}, observer=wall
        )
        wall.entered("result", len(run.bars))
        write_result(run, home / "result")
        summarize_run(run)
        wall.stop()
        cpu.stop()
        return Measured(
            sum(wall.timings.values()),
            sum(cpu.timings.values()),
            dict(wall.timings),
            dict(cpu.timings),
        )

    runs = [asdict(once()) for _ in range(rounds + 1)]
    peak_bytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(json.dumps({"runs": runs, "peak_bytes": peak_bytes}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
