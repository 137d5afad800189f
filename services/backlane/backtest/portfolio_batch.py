"""A batch of portfolio runs: one configuration, and what is different in each run.

    name: trend-grid
    base: trend.yaml                  # or the configuration itself
    grid: {strategy.parameters.fast: [5, 10], strategy.parameters.slow: [20, 50]}
    # or, one by one:  runs: [{id: quick, set: {strategy.parameters.fast: 3}}]
    seed: 1
    workers: 2
    metric: sharpe_ratio              # the leaderboard is sorted by it

A grid is the Cartesian product of its values: four runs here. What is decided here is pure: the
identifiers, the seeds and the order follow from the file alone.
"""

import copy
import hashlib
import itertools
import json
import math
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
from pydantic import BeforeValidator, Field

from backlane.backtest.digest import digest_config
from backlane.backtest.portfolio_config import PortfolioConfig
from backlane.cycle.config_record import ConfigRecord, not_valid, parse_record
from backlane.errors import FieldViolation, InvalidRequestError
from backlane.metrics.gate_rules import DIRECTIONS
from backlane.metrics.regression_gate import BetterDirection

BATCH_RUNS_MAX = 10_000
"""Runs of one batch."""
BATCH_WORKERS_MAX = 64
"""Processes of one batch; more than the cores of a machine only share them."""
BATCH_MISTAKES_MAX = 50
"""Mistakes that one message names; a grid can make the same one ten thousand times."""
RUN_ID_CHARS_MAX = 80
_RUN_ID = r"[A-Za-z0-9][A-Za-z0-9._-]{0,79}"
_SEED_MAX = 2**63 - 1


def _field_path(value: object) -> object:
    parts = value.split(".") if isinstance(value, str) else []
    if not parts or not all(re.fullmatch(r"[A-Za-z0-9_-]{1,80}", part) for part in parts):
        raise ValueError(
            f"{str(value)[:80]!r} is no field of a configuration: write costs.impact_bps"
        )
    return value


def _run_id(value: object) -> object:
    if not isinstance(value, str) or re.fullmatch(_RUN_ID, value) is None:
        raise ValueError(
            f"{str(value)[:80]!r} is no id: letters, digits and . _ -, at most {RUN_ID_CHARS_MAX}"
        )
    return value


FieldPath = Annotated[str, BeforeValidator(_field_path)]


class BatchRunConfig(ConfigRecord):
    """One run of a list: its id, and the fields that it sets, by their dotted names."""

    id: Annotated[str, BeforeValidator(_run_id)]
    set: dict[FieldPath, Any] = Field(default_factory=dict)


class BatchConfig(ConfigRecord):
    """A batch as its file holds it; `base` is a configuration, or the name of its file.

    `seed_field` names the field that takes the seed of each run, where the configuration has one.
    """

    name: Annotated[str, BeforeValidator(_run_id)]
    base: str | dict[str, Any]
    runs: Annotated[tuple[BatchRunConfig, ...], Field(min_length=1)] | None = None
    grid: (
        Annotated[
            dict[FieldPath, Annotated[tuple[Any, ...], Field(min_length=1)]], Field(min_length=1)
        ]
        | None
    ) = None
    seed: Annotated[int, Field(ge=0, le=_SEED_MAX, strict=True)] = 0
    seed_field: FieldPath | None = None
    workers: Annotated[int, Field(ge=1, le=BATCH_WORKERS_MAX, strict=True)] = 1
    fail_fast: Annotated[bool, Field(strict=True)] = False
    metric: Annotated[str, Field(min_length=1, max_length=80)] = "sharpe_ratio"
    direction: BetterDirection | None = None


@dataclass(frozen=True, slots=True)
class BatchRun:
    """One run: its id, what it sets, its seed, and its whole configuration with the digest."""

    run_id: str
    changes: Mapping[str, Any]
    seed: int
    config: PortfolioConfig
    config_digest: str


def parse_batch(content: object, metrics: Sequence[str]) -> BatchConfig:
    """Builds a batch from plain data; `metrics` are those that a leaderboard can be sorted by.

    Raises InvalidRequestError with one violation for each mistake.
    """
    batch = parse_record(BatchConfig, content)
    violations = tuple(_batch_mistakes(batch, metrics))
    if violations:
        raise not_valid(violations)
    return batch


def _batch_mistakes(batch: BatchConfig, metrics: Sequence[str]) -> Iterator[FieldViolation]:
    if batch.runs is not None and batch.grid is not None:
        yield FieldViolation("grid", "stands beside runs: write one of the two")
    if batch.runs is None and batch.grid is None:
        yield FieldViolation("grid", "is missing: write a grid, or a list of runs")
    count = run_count(batch)
    if count > BATCH_RUNS_MAX:
        field = "runs" if batch.grid is None else "grid"
        yield FieldViolation(field, f"makes {count:,} runs, more than {BATCH_RUNS_MAX:,}")
    for run_id, times in Counter(run.id for run in batch.runs or ()).items():
        if times > 1:
            yield FieldViolation("runs", f"id {run_id} stands {times} times: make each one unique")
    for field, values in (batch.grid or {}).items():
        twice = [text for text, times in Counter(map(_text, values)).items() if times > 1]
        if twice:
            yield FieldViolation(f"grid.{field}", f"{', '.join(twice)[:80]} stands there twice")
    if batch.metric not in metrics:
        said = f"{batch.metric!r} is no metric; they are {', '.join(metrics)}"
        yield FieldViolation("metric", said)
    elif batch.direction is None and batch.metric not in DIRECTIONS:
        yield FieldViolation("direction", f"is missing: is a higher or a lower {batch.metric} good")
    if batch.direction is BetterDirection.NONE:
        yield FieldViolation("direction", "none sorts nothing: write higher or lower")


def run_count(batch: BatchConfig) -> int:
    """Returns how many runs a batch makes; nothing is built for it."""
    if batch.grid is not None:
        return math.prod(len(values) for values in batch.grid.values())
    return len(batch.runs or ())


def expand_batch(
    batch: BatchConfig,
    base: Mapping[str, Any],
    parse: Callable[[Mapping[str, Any]], PortfolioConfig],
) -> list[BatchRun]:
    """Returns every run, in the order of the file; the last field of a grid changes fastest.

    `parse` checks a configuration, raising InvalidRequestError. Raises the same with the mistakes
    of all runs: one that all of them have is named once, any other under `<run id>`.
    """
    runs: list[BatchRun] = []
    mistakes: list[tuple[str, FieldViolation]] = []
    named = _named_changes(batch)
    for run_id, changes in named:
        seed = run_seed(batch.seed, run_id)
        try:
            content = _changed(base, changes)
            if batch.seed_field is not None:
                content = _changed(content, {batch.seed_field: seed})
            config = parse(content)
        except InvalidRequestError as error:
            mistakes += [(run_id, violation) for violation in error.violations]
            continue
        digest = digest_config(config.model_dump(mode="json"))
        runs.append(BatchRun(run_id, changes, seed, config, digest))
    if mistakes:
        raise not_valid(_merged(mistakes, len(named)))
    return runs


def run_seed(batch_seed: int, run_id: str) -> int:
    """Returns the seed of a run, 32 bits: it depends on the batch's and the id, on nothing else.

    So a run has the same seed whatever runs stand beside it, and on every machine.
    """
    words = np.frombuffer(hashlib.sha256(run_id.encode()).digest(), dtype="<u4")
    sequence = np.random.SeedSequence([batch_seed, *(int(word) for word in words)])
    return int(sequence.generate_state(1)[0])


def _named_changes(batch: BatchConfig) -> list[tuple[str, dict[str, Any]]]:
    if batch.grid is None:
        return [(run.id, dict(run.set)) for run in batch.runs or ()]
    fields = tuple(batch.grid)
    short = _short_names(fields)
    cells = [
        dict(zip(fields, values, strict=True))
        for values in itertools.product(*(batch.grid[field] for field in fields))
    ]
    ids = [_grid_id({short[field]: value for field, value in cell.items()}) for cell in cells]
    # Folders of different runs must differ on file systems that ignore case, too.
    times = Counter(each.lower() for each in ids)
    return [
        (each if times[each.lower()] == 1 else f"{each[:70]}-{_digest(cell)[:8]}", cell)
        for each, cell in zip(ids, cells, strict=True)
    ]


def _short_names(fields: Sequence[str]) -> dict[str, str]:
    """Returns the last part of each field, or all of it where that names two fields."""
    last = Counter(field.rpartition(".")[2] for field in fields)
    return {
        field: name if last[name := field.rpartition(".")[2]] == 1 else field for field in fields
    }


def _grid_id(values: Mapping[str, Any]) -> str:
    text = "_".join(f"{name}-{_text(value)}" for name, value in values.items())
    clean = re.sub(r"[^A-Za-z0-9._-]+", "-", text).strip("-._")
    return clean[:RUN_ID_CHARS_MAX] if clean else "run"


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, sort_keys=True, default=str)


def _digest(cell: Mapping[str, Any]) -> str:
    text = json.dumps(dict(cell), sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def _changed(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Returns a copy of a configuration with fields set; raises for a field inside of a value."""
    content = copy.deepcopy(dict(base))
    mistakes = []
    for field, value in changes.items():
        *path, name = field.split(".")
        section: Any = content
        try:
            for part in path:
                section = _inner(section, part)
            if isinstance(section, list):
                section[_place(section, name)] = copy.deepcopy(value)
            elif isinstance(section, dict):
                section[name] = copy.deepcopy(value)
            else:
                raise KeyError(name)  # noqa: TRY301 - one answer for every way to miss
        except (KeyError, IndexError, ValueError):
            mistakes.append(FieldViolation(field, "is inside of something that has no fields"))
    if mistakes:
        raise not_valid(tuple(mistakes))
    return content


def _inner(section: Any, part: str) -> Any:
    if isinstance(section, list):
        return section[_place(section, part)]
    if not isinstance(section, dict):
        raise KeyError(part)
    return section.setdefault(part, {})


def _place(section: list[Any], part: str) -> int:
    place = int(part)
    if not 0 <= place < len(section):
        raise IndexError(part)
    return place


def _merged(
    mistakes: Sequence[tuple[str, FieldViolation]], run_total: int
) -> tuple[FieldViolation, ...]:
    times = Counter((each.field, each.description) for _, each in mistakes)
    shared = [
        FieldViolation(f"base.{field}", description)
        for (field, description), count in times.items()
        if count == run_total > 1
    ]
    of_runs = [
        FieldViolation(f"{run_id}: {each.field}", each.description)
        for run_id, each in mistakes
        if not times[each.field, each.description] == run_total > 1
    ]
    found = [*shared, *of_runs]
    if len(found) > BATCH_MISTAKES_MAX:
        rest = len(found) - BATCH_MISTAKES_MAX
        found = [*found[:BATCH_MISTAKES_MAX], FieldViolation("grid", f"and {rest:,} more mistakes")]
    return tuple(found)


def direction_of(batch: BatchConfig) -> BetterDirection:
    """Returns which way the metric of the leaderboard improves."""
    return batch.direction or DIRECTIONS[batch.metric]


def leaderboard_order(
    batch: BatchConfig, values: Mapping[str, float | None], failed: frozenset[str]
) -> list[str]:
    """Returns the run ids, best first: then those without a value, then those that failed.

    `values` holds the metric of each run; equal ones stand in the order of their ids.
    """
    sign = -1.0 if direction_of(batch) is BetterDirection.HIGHER else 1.0

    def place(run_id: str) -> tuple[int, float, str]:
        value = values.get(run_id)
        if run_id in failed or value is None:
            return (2 if run_id in failed else 1, 0.0, run_id)
        return (0, sign * value, run_id)

    return sorted({*values, *failed}, key=place)
