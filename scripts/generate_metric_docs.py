"""Writes docs/metrics.md from the definitions; `--check` compares only."""

import sys
from pathlib import Path

from backlane.metrics.agreement import COMPARED, NOT_COMPARED
from backlane.metrics.definitions import METRICS, MetricDefinition
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
the reference fill in its numbers: docs/equivalence.md). What differs from zero only by the rounding
of the equity counts as zero: returns that are all equal have no Sharpe ratio, although their
standard deviation comes out as 1e-18.

The last column says which functions of ffn and quantstats give the same number on random curves
(`tests/unit/metrics/test_oracles.py`), after which conversion, or why none does. It is
`services/backlane/metrics/agreement.py`. The quantstats functions of trades are given the net
profits of the trades in place of returns.

| id | name | unit | formula | over | annualized | source | agrees with |
| --- | --- | --- | --- | --- | --- | --- | --- |
"""


def agrees_with(metric_id: str) -> str:
    """Returns the cell of the last column."""
    if metric_id in NOT_COMPARED:
        return f"none: {NOT_COMPARED[metric_id]}"
    agreement = COMPARED[metric_id]
    functions = ", ".join(f"`{name}`" for name in agreement.functions)
    return functions + (f" ({agreement.conversion})" if agreement.conversion else "")


def row(m: MetricDefinition) -> str:
    """Returns the row of a metric."""
    cells = (
        f"`{m.id}`",
        m.title,
        m.unit,
        m.formula,
        m.basis,
        "yes" if m.is_annualized else "",
        m.source,
        agrees_with(m.id),
    )
    # A bar inside a cell would end it.
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def render() -> str:
    """Returns the whole page."""
    return HEAD + "\n".join(row(metric) for metric in METRICS) + "\n"


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
