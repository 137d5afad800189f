"""Runs every benchmark, prints a table, and writes it as JSON: `make bench`."""

import json
import platform
import sys
from datetime import UTC, datetime
from pathlib import Path

import numba
import numpy as np

from benchmarks import bench_cycle, bench_engine
from benchmarks.timing import Row

RESULTS = Path(__file__).parent / "results"


def main() -> int:
    """Runs all, one after the other: nothing else may run on the machine meanwhile."""
    rows: list[Row] = [*bench_cycle.run(), *bench_engine.run()]
    print(f"{'path':44} {'per bar':>12} {'bars/s':>14} {'against':>22}")
    for row in rows:
        rate = 1e9 / row.ns_per_bar
        against = f"{row.ratio:.2f} x {row.peer}" if row.peer else ""
        print(f"{row.name:44} {row.ns_per_bar:9.1f} ns {rate:14,.0f} {against:>22}")
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


if __name__ == "__main__":
    sys.exit(main())
