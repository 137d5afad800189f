"""`python -m tests.chaos`: storms on both stores, a table, and the figures as JSON.

Exit codes: 0 nothing was lost, doubled or stuck; 1 something was; 3 inconclusive, because too
little went on for a clean result to mean anything.
"""

import argparse
import json
import os
import random
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import sqlalchemy as sa

from tests.chaos.stand import postgres_schema
from tests.chaos.storm import Outcome, Plan, storm

POSTGRES = os.environ.get("TEST_POSTGRES_URL", "postgresql://postgres@127.0.0.1:5432/test")
FAULTS_MIN, RUNS_MIN, STORM_S_MAX = 200, 100, 660.0
BRIEF_FAULTS_MIN, BRIEF_RUNS_MIN, BRIEF_STORM_S_MAX = 24, 10, 120.0
SHOWN_PROBLEMS = 30
ENDED_EARLY = 124
"""Exit code, as that of timeout(1)."""


@contextmanager
def store_of(kind: str) -> Iterator[sa.URL | None]:
    """The store of that kind: None for a SQLite file."""
    if kind == "sqlite":
        yield None
        return
    with postgres_schema(POSTGRES) as url:
        yield url


def main() -> int:
    """Runs what is asked for and tells how it went."""
    options = _options()
    # Whoever ends it early leaves no process and no mount behind.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(ENDED_EARLY))
    for name in tuple(os.environ):
        if name.startswith("BACKLANE_"):
            del os.environ[name]
    is_brief = options.brief
    faults, runs, storm_s = (
        (BRIEF_FAULTS_MIN, BRIEF_RUNS_MIN, BRIEF_STORM_S_MAX)
        if is_brief
        else (FAULTS_MIN, RUNS_MIN, STORM_S_MAX)
    )
    seed = options.seed if options.seed is not None else random.SystemRandom().randrange(1 << 31)
    ends_s = time.monotonic() + options.hours * 3600
    outcomes: list[Outcome] = []
    while True:
        for kind in options.store or ["sqlite", "postgresql"]:
            _say(f"chaos: {kind}, SEED={seed}")
            try:
                with store_of(kind) as url:
                    outcomes.append(storm(Plan(seed, faults, runs, storm_s), url))
            except psycopg.OperationalError as error:
                _say(f"chaos: no PostgreSQL at {POSTGRES}, left out: {error}".strip())
                continue
            _tell(outcomes[-1])
        if time.monotonic() >= ends_s:
            break
        seed += 1
    if options.json:
        options.json.write_text(json.dumps([as_json(one) for one in outcomes], indent=1) + "\n")
    if any(outcome.problems for outcome in outcomes):
        return 1
    return 0 if outcomes and all(outcome.is_conclusive for outcome in outcomes) else 3


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos")
    parser.add_argument("--seed", type=int, help="of the faults; by chance without it")
    parser.add_argument("--hours", type=float, default=0.0, help="storm after storm for so long")
    parser.add_argument("--brief", action="store_true", help="what fits into CI")
    parser.add_argument("--store", action="append", choices=["sqlite", "postgresql"])
    parser.add_argument("--json", type=Path, help="write the figures there")
    return parser.parse_args()


def as_json(outcome: Outcome) -> dict[str, object]:
    """The figures of a storm."""
    return {
        "store": outcome.store,
        "seed": outcome.plan.seed,
        "conclusive": outcome.is_conclusive,
        "faults": dict(sorted(outcome.faults.items())),
        "fault_count": outcome.fault_count,
        "faults_without_a_target": dict(outcome.missed),
        "runs": outcome.runs,
        "runs_hit": outcome.runs_hit,
        "attempts_from_a_checkpoint": outcome.resumed,
        "storm_s": round(outcome.storm_s, 1),
        "settle_s": round(outcome.settle_s, 1),
        "acknowledged_writes": outcome.acknowledged,
        "acknowledged_writes_per_s": round(outcome.writes_per_s, 1),
        "acknowledged_writes_per_fault": round(outcome.writes_per_fault, 1),
        "deliveries": outcome.deliveries,
        "watch_reconnects": outcome.reconnects,
        "cold_reads": outcome.cold_reads,
        "latency_s": {name: round(value, 4) for name, value in outcome.latency_s.items()},
        "lost": len(outcome.lost),
        "doubled": len(outcome.doubled),
        "stuck": len(outcome.stuck),
        "differing": len(outcome.differing),
        "watch_problems": len(outcome.watch_problems),
        "problems": outcome.problems[:SHOWN_PROBLEMS],
    }


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def _tell(outcome: Outcome) -> None:
    for name, value in as_json(outcome).items():
        if name != "problems":
            _say(f"  {name:30} {value}")
    for problem in outcome.problems[:SHOWN_PROBLEMS]:
        _say(f"  PROBLEM {problem}")
    if outcome.problems:
        path = Path(tempfile.gettempdir()) / f"chaos-{outcome.store}-{outcome.plan.seed}.log"
        path.write_text("\n".join(outcome.problems) + "\n" + outcome.logs)
        _say(f"  logs: {path}")
    elif not outcome.is_conclusive:
        _say(f"  INCONCLUSIVE: {'; '.join(outcome.shortfalls)}")


if __name__ == "__main__":
    sys.exit(main())
