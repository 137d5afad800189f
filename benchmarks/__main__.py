"""Runs benchmarks, prints a table, and writes it as JSON: `make bench`.

make bench                            all of them, into benchmarks/results/latest.json
make bench ARGS="cycle cold_start"    some of them, for a look: nothing is written
make bench ARGS="--bars 10000:3"      whole runs of other sizes, BARS:ROUNDS; nothing is written
make bench ARGS="operations"          the figures of operations_service: see benchmarks.operations
"""

import argparse
import json
import os
import platform
import sys
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path

import numba
import numpy as np

from benchmarks import (
    bench_cold_start,
    bench_cycle,
    bench_factor_store,
    bench_portfolio_cycle,
    bench_run_phases,
    bench_trigger_rules,
)
from benchmarks.operations import __main__ as operations
from benchmarks.timing import Row

RESULTS = Path(__file__).parent / "results"
BENCHMARKS: dict[str, Callable[[], list[Row]]] = {
    "cold_start": bench_cold_start.run,
    "cycle": bench_cycle.run,
    "factor_store": bench_factor_store.run,
    "portfolio_cycle": bench_portfolio_cycle.run,
    "run_phases": bench_run_phases.run,
    "trigger_rules": bench_trigger_rules.run,
}


def main(arguments: Sequence[str]) -> int:
    """Runs what is asked for, one after the other; nothing else may run on the machine."""
    if arguments[:1] == ["operations"]:
        return operations.main(arguments[1:])
    parser = argparse.ArgumentParser(prog="python -m benchmarks")
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(BENCHMARKS))
    parser.add_argument("--bars", nargs="+", type=_size, metavar="BARS:ROUNDS")
    asked = parser.parse_args(arguments)
    if unknown := sorted(set(asked.names) - BENCHMARKS.keys()):
        parser.error(f"no benchmark {', '.join(unknown)}: choose from {', '.join(BENCHMARKS)}")
    if asked.bars:
        rows = bench_run_phases.run(dict(asked.bars))
    else:
        rows = [row for name in asked.names or BENCHMARKS for row in BENCHMARKS[name]()]
    show(rows)
    if not asked.names and not asked.bars:
        print(f"\nwritten to {write(rows)}")
    return 0


def show(rows: Sequence[Row]) -> None:
    """Prints the table."""
    print(f"{'path':44} {'time':>18} {'cpu':>10} {'memory':>10} {'against':>28}")
    for row in rows:
        against = f"{row.ratio:.2f} x {row.peer}" if row.peer else ""
        cpu = _shown(row.cpu_ns) if row.cpu_ns else ""
        memory = f"{row.peak_bytes / 2**20:,.0f} MiB" if row.peak_bytes else ""
        time = f"{_shown(row.ns)} / {row.unit:5}"
        print(f"{row.name:44} {time:>18} {cpu:>10} {memory:>10} {against:>28}".rstrip())


def write(rows: Sequence[Row]) -> Path:
    """Writes the rows, and what they were measured with; returns where."""
    RESULTS.mkdir(exist_ok=True)
    document = {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": f"{platform.machine()}, {platform.system()}, {os.cpu_count()} cores",
        "versions": {
            "python": platform.python_version(),
            "numpy": np.__version__,
            "numba": numba.__version__,
        },
        "rows": [row.__dict__ for row in rows],
    }
    target = RESULTS / "latest.json"
    target.write_text(json.dumps(document, indent=2) + "\n")
    return target


def _size(text: str) -> tuple[int, int]:
    bars, _, rounds = text.partition(":")
    return int(bars), int(rounds or "5")


def _shown(ns: float) -> str:
    for limit, divisor, unit in ((1e3, 1, "ns"), (1e6, 1e3, "us"), (1e9, 1e6, "ms")):
        if ns < limit:
            return f"{ns / divisor:.1f} {unit}"
    return f"{ns / 1e9:.2f} s"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
