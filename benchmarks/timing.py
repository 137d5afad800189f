"""Medians of several rounds, peers measured in the same rounds."""

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

ROUNDS = 5


@dataclass
class Row:
    """One line of the table: nanoseconds for one `unit`.

    `ratio` is our time over the peer's in the same run. Processor time, peak memory and the number
    of rounds behind the median are 0 where they are not measured.
    """

    name: str
    ns: float
    peer: str = ""
    ratio: float = 0.0
    unit: str = "bar"
    cpu_ns: float = 0.0
    peak_bytes: int = 0
    rounds: int = 0


def paired_medians(
    workloads: Mapping[str, Callable[[], object]], bar_count: int
) -> dict[str, float]:
    """Returns ns per bar of each workload: one round of all, ROUNDS times, after one to warm up."""
    seconds: dict[str, list[float]] = {name: [] for name in workloads}
    for round_index in range(ROUNDS + 1):
        for name, workload in workloads.items():
            start = time.perf_counter()
            workload()
            if round_index:
                seconds[name].append(time.perf_counter() - start)
    return {name: statistics.median(values) * 1e9 / bar_count for name, values in seconds.items()}
