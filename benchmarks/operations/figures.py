"""What was measured, beside what it is to be."""

import json
import math
import os
import platform
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

RESULTS = Path(__file__).resolve().parents[1] / "results"


@dataclass(frozen=True, slots=True)
class Figure:
    """One line of the table. Without a target it is there for comparison.

    The value is to be at most the target; with `is_floor` at least. `note` says what was counted.
    """

    name: str
    value: float
    unit: str
    target: float | None = None
    is_floor: bool = False
    note: str = ""

    @property
    def verdict(self) -> str:
        """Returns "ok" or "missed"; the empty text where there is no target."""
        if self.target is None:
            return ""
        is_met = self.value >= self.target if self.is_floor else self.value <= self.target
        return "ok" if is_met else "missed"


def percentile(values: Sequence[float], percent: float) -> float:
    """Returns the smallest value that so many percent do not exceed (nearest rank)."""
    return sorted(values)[max(0, math.ceil(len(values) * percent / 100) - 1)]


def spread(
    name: str,
    seconds: Sequence[float],
    targets_ms: tuple[float | None, float | None] = (None, None),
    note: str = "",
) -> list[Figure]:
    """Returns the median and the p99 of what took so many seconds each, in milliseconds."""
    counted = f"{len(seconds):,} times" + (f"; {note}" if note else "")
    return [
        Figure(f"{name}, p{rank}", percentile(seconds, rank) * 1e3, "ms", target, note=counted)
        for rank, target in zip((50, 99), targets_ms, strict=True)
    ]


def markdown(figures: Sequence[Figure]) -> str:
    """Returns the table for the docs."""
    lines = ["| what | measured | target | | counted |", "|---|---:|---:|---|---|"]
    for figure in figures:
        target = ""
        if figure.target is not None:
            sign = "≥" if figure.is_floor else "≤"
            target = f"{sign} {_shown(figure.target)} {figure.unit}"
        measured = f"{_shown(figure.value)} {figure.unit}"
        cells = (figure.name, measured, target, figure.verdict, figure.note)
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def machine() -> str:
    """Returns what it was measured on, with the load of the last minute."""
    load = os.getloadavg()[0]
    return (
        f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}, "
        f"load {load:.1f}"
    )


def write(figures: Sequence[Figure], began_on: str) -> Path:
    """Writes the figures as JSON and as a table; returns where the table is."""
    RESULTS.mkdir(exist_ok=True)
    document = {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": began_on,
        "figures": [{**asdict(figure), "verdict": figure.verdict} for figure in figures],
    }
    (RESULTS / "operations.json").write_text(json.dumps(document, indent=2) + "\n")
    table = RESULTS / "operations.md"
    table.write_text(markdown(figures))
    return table


def _shown(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.4g}"
