"""Measures what "operations that cannot be lost" promises; `make bench ARGS=operations`.

python -m benchmarks operations                    all, into benchmarks/results/operations.{json,md}
python -m benchmarks operations delivery writes    some of them, for a look: nothing is written
python -m benchmarks operations --quick            all with less of everything: nothing is written
"""

import argparse
import sys
from collections.abc import Callable, Sequence
from typing import Protocol

from benchmarks.operations import delivery, listing, loop, restart, runs, watchers, writes
from benchmarks.operations.figures import Figure, machine, markdown, write


class Benchmark(Protocol):
    """One of them: with `is_quick` it does less, for a look."""

    def __call__(self, *, is_quick: bool) -> list[Figure]: ...


BENCHMARKS: dict[str, Benchmark] = {
    "delivery": delivery.delivery,
    "under_kills": delivery.under_kills,
    "silent_server": delivery.silent_server,
    "watchers": watchers.thousand,
    "stream_leak": watchers.leak,
    "writes": writes.run,
    "list": listing.run,
    "restart": restart.run,
    "progress": loop.run,
    "cancel": runs.cancel,
    "dead_child": runs.dead_child,
}


def main(arguments: Sequence[str], show: Callable[[str], None] = print) -> int:
    """Runs what is asked for, one after the other; nothing else may run on the machine."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks operations")
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(BENCHMARKS))
    parser.add_argument("--quick", action="store_true", help="less of everything, and no long list")
    asked = parser.parse_args(arguments)
    if unknown := sorted(set(asked.names) - BENCHMARKS.keys()):
        parser.error(f"no benchmark {', '.join(unknown)}: choose from {', '.join(BENCHMARKS)}")
    began_on = machine()
    show(began_on)
    figures: list[Figure] = []
    for name in asked.names or BENCHMARKS:
        found = BENCHMARKS[name](is_quick=asked.quick)
        figures += found
        for one in found:
            show(f"{name}: {one.name}: {one.value:.4g} {one.unit} {one.verdict}".rstrip())
    show("\n" + markdown(figures))
    if not asked.names and not asked.quick:
        show(f"written to {write(figures, began_on)}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
