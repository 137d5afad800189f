"""Runs every benchmark, prints a table, and writes it as JSON: `make bench`."""

import json
import platform
import sys
from datetime import UTC, datetime
from pathlib import Path

import numba
import numpy as np

from benchmarks import bench_cold_start, bench_cycle, bench_engine, bench_services
from benchmarks.timing import Row

RESULTS = Path(__file__).parent / "results"


def main() -> int:
    """Runs all, one after the other: nothing else may run on the machine meanwhile."""
    rows: list[Row] = [
        *bench_cold_start.run(),
        *bench_cycle.run(),
        *bench_engine.run(),
        *bench_services.run(),
    ]
    print(f"{'path':48} {'time':>20} {'against':>36}")
    for row in rows:
        against = f"{row.ratio:.2f} x {row.peer}" if row.peer else ""
        print(f"{row.name:48} {_shown(row.ns):>12} / {row.unit:5} {against:>36}")
    RESULTS.mkdir(exist_ok=True)
    now = datetime.now(UTC)
    document = {
        "date": now.isoformat(timespec="seconds"),
        "machine": f"{platform.machine()}, {platform.processor() or platform.system()}",
        "versions": {
            "python": platform.python_version(),
            "numpy": np.__version__,
            "numba": numba.__version__,
        },
        "rows": [row.__dict__ for row in rows],
    }
    target = RESULTS / "latest.json"
    target.write_text(json.dumps(document, indent=2) + "\n")
    print(f"\nwritten to {target}")
    return 0


def _shown(ns: float) -> str:
    for limit, divisor, unit in ((1e3, 1, "ns"), (1e6, 1e3, "us"), (1e9, 1e6, "ms")):
        if ns < limit:
            return f"{ns / divisor:.1f} {unit}"
    return f"{ns / 1e9:.2f} s"


if __name__ == "__main__":
    sys.exit(main())
