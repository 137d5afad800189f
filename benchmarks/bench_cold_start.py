"""Cold starts: how long a user waits before anything happens."""

import statistics
import subprocess
import sys
import time
from pathlib import Path

from benchmarks.timing import ROUNDS, Row

BACKLANE = Path(sys.executable).with_name("backlane")
COMMANDS = {
    "backlane --help": [str(BACKLANE), "--help"],
    "import of the SDK": [sys.executable, "-c", "import backlane.client.backlane_client"],
    "python alone (limit)": [sys.executable, "-c", "pass"],
}


def run() -> list[Row]:
    """Returns the median wall time of each command, in a process of its own."""
    return [Row(name, seconds_ns(command), unit="start") for name, command in COMMANDS.items()]


def seconds_ns(command: list[str]) -> float:
    """Returns the median over the rounds, in nanoseconds."""
    taken = []
    for _ in range(ROUNDS + 1):
        start = time.perf_counter()
        subprocess.run(command, check=True, capture_output=True)
        taken.append(time.perf_counter() - start)
    return statistics.median(taken[1:]) * 1e9
