"""Writes docs/metrics.md from the definitions; `--check` compares only."""

import sys
from pathlib import Path

from backlane.metrics.definitions import METRICS
from backlane.metrics.sample import MIN_ANNUALIZED_DAYS

TARGET = Path(__file__).resolve().parents[1] / "docs" / "metrics.md"

HEAD = f"""# Metrics

Generated from `services/backlane/metrics/definitions.py` by `scripts/generate_metric_docs.py`:
change them there. r are the returns from bar to bar, n of them in a year; std is the population
standard deviation; E is the equity at the closes of the simulated bars; money is in the quote
currency; a drawdown is >= 0.

A year is what the bars say it is: n = simulated bars / (time from the first open to the last close
in years of 365.25 days). Hourly currency bars have about 6,200 in a year, not 252 and not 8,766.
Runs shorter than {MIN_ANNUALIZED_DAYS} days have no annualized return.

An undefined metric has no value, and a reason; never 0, NaN or 999999 (the profiles that equal
the reference fill in its numbers: docs/equivalence.md).

| id | name | unit | formula | over | annualized | source |
| --- | --- | --- | --- | --- | --- | --- |
"""


def render() -> str:
    """Returns the whole page."""
    rows = [
        f"| `{m.id}` | {m.title} | {m.unit} | {m.formula} | {m.basis} | "
        f"{'yes' if m.is_annualized else ''} | {m.source} |"
        for m in METRICS
    ]
    return HEAD + "\n".join(rows) + "\n"


def main() -> int:
    """Writes or checks the page; returns the exit code."""
    if "--check" not in sys.argv:
        TARGET.write_text(render())
        return 0
    if TARGET.exists() and TARGET.read_text() == render():
        return 0
    sys.stderr.write("docs/metrics.md is stale. Run: make docs\n")
    return 1


if __name__ == "__main__":
    sys.exit(main())
