"""The folder of a batch: whole runs, each with its result and its manifest, and the leaderboard.

    batch.json             what the batch is
    leaderboard.json .csv  every run that ended, best first
    runs/<run id>/manifest.json   what ran: configuration, inputs, engine, status, metrics
    runs/<run id>/result/         the result, as `backlane portfolio run` writes it; none of a
                                  run that failed
    .work/                 runs under way; what an interrupted batch left there is removed

A run is made in .work and moved in one step: what stands under runs is whole, whatever happened.
"""

import csv
import fcntl
import json
import os
import shutil
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from backlane.backtest.portfolio_batch import BatchConfig, direction_of, leaderboard_order
from backlane.backtest.portfolio_config import PortfolioConfig
from backlane.backtest.portfolio_run import run_portfolio
from backlane.errors import BacklaneError, DataRefusedError, LimitExceededError
from backlane.panel.events import Events
from backlane.panel.panel import Panel
from backlane.sources.engine_source import engine_digest
from backlane.sources.portfolio_data import read_portfolio_data
from backlane.sources.portfolio_results import write_portfolio_result
from backlane.sources.results import file_digest
from backlane.sources.strategy_packages import installed_strategies

BATCH_FORMAT = "backlane.batch.v1"
MANIFEST_FORMAT = "backlane.batch_run.v1"
LEADERBOARD_FORMAT = "backlane.leaderboard.v1"
MANIFEST_BYTES_MAX = 16 * 1024 * 1024
TRACEBACK_CHARS_MAX = 10_000
"""Characters of a traceback in a manifest; its end says most."""
SUCCEEDED, FAILED = "succeeded", "failed"
_RUNS, _WORK, _RESULT = "runs", ".work", "result"

Manifest = dict[str, Any]


@dataclass(frozen=True, slots=True)
class RunTask:
    """One run as a worker process gets it: `paths` and `inputs` are files and digests by role."""

    out: Path
    run_id: str
    changes: Mapping[str, Any]
    seed: int
    config: PortfolioConfig
    config_digest: str
    paths: Mapping[str, Path]
    inputs: Mapping[str, str]

    @property
    def folder(self) -> Path:
        """Where the run stands once it is whole."""
        return self.out / _RUNS / self.run_id


def execute_run(task: RunTask) -> Manifest:
    """Runs one configuration and leaves its folder; returns its manifest.

    What goes wrong in the run is its manifest's word, and no error of the batch. Interrupted, it
    leaves nothing, or what an earlier run left.
    """
    scratch = task.out / _WORK / task.run_id
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir(parents=True)
    try:
        try:
            outcome = _run(task, scratch / _RESULT)
        except BacklaneError as error:
            outcome = {"status": FAILED, "reason": error.reason, "message": error.message}
        except Exception as error:  # noqa: BLE001 - a strategy of a user's may raise anything
            said = f"{type(error).__name__}: {error}"
            trace = "".join(traceback.format_exception(error))[-TRACEBACK_CHARS_MAX:]
            outcome = {"status": FAILED, "reason": "INTERNAL_ERROR", "message": said}
            outcome["traceback"] = trace
        if outcome["status"] == FAILED:
            shutil.rmtree(scratch / _RESULT, ignore_errors=True)
        manifest = {**_described(task), **outcome}
        _write_json(scratch / "manifest.json", manifest)
        shutil.rmtree(task.folder, ignore_errors=True)
        task.folder.parent.mkdir(parents=True, exist_ok=True)
        scratch.rename(task.folder)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return manifest


def _run(task: RunTask, directory: Path) -> Manifest:
    panel, events = _read_data(tuple(sorted(task.paths.items())))
    run = run_portfolio(task.config, panel, events, installed_strategies())
    write_portfolio_result(run, task.config.model_dump(mode="json"), task.paths, directory)
    document = json.loads((directory / "result.json").read_text(encoding="utf-8"))
    changed = [role for role, digest in task.inputs.items() if document["inputs"][role] != digest]
    if changed:
        raise DataRefusedError(
            f"The file of {', '.join(changed)} changed while the batch ran: run it again.",
            metadata={"files": ", ".join(changed)},
        )
    return {
        "status": SUCCEEDED,
        "result_digest": file_digest(directory / "result.json"),
        "metrics": batch_metrics(document),
    }


@lru_cache(maxsize=1)
def _read_data(paths: tuple[tuple[str, Path], ...]) -> tuple[Panel, dict[str, Events]]:
    """Most runs of a batch read the same files: a process reads them once."""
    return read_portfolio_data(dict(paths))


def batch_metrics(document: Mapping[str, Any]) -> dict[str, float | None]:
    """Returns what a leaderboard shows of a result.json, by name."""
    return {
        **document["metrics"],
        **document.get("regression_keys", {}),
        "final_equity": document["final_equity"],
        "total_costs": document["total_cost"],
        "total_trades": document["counts"]["trades"],
    }


def _described(task: RunTask) -> Manifest:
    return {
        "format": MANIFEST_FORMAT,
        "run": task.run_id,
        "seed": task.seed,
        "changes": dict(task.changes),
        "config_digest": task.config_digest,
        "inputs": dict(task.inputs),
        "engine": engine_digest(),
    }


def finished_run(task: RunTask) -> Manifest | None:
    """Returns the manifest of an earlier run that was this very one and ended well, or None.

    Configuration, inputs, seed and engine must be the same, and the result the one written then.
    """
    path, result = task.folder / "manifest.json", task.folder / _RESULT / "result.json"
    try:
        if path.stat().st_size > MANIFEST_BYTES_MAX:
            return None
        manifest = json.loads(path.read_text(encoding="utf-8"))
        expected = {**_described(task), "status": SUCCEEDED, "result_digest": file_digest(result)}
        # As JSON holds it: a tuple of the file is a list there.
        expected = json.loads(json.dumps(expected))
        is_same = all(manifest[name] == value for name, value in expected.items())
        return manifest if is_same and isinstance(manifest["metrics"], dict) else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


@contextmanager
def batch_folder(out: Path, batch: BatchConfig, run_total: int, *, resume: bool) -> Iterator[None]:
    """Holds the folder of a batch; raises FileExistsError for any other folder.

    An earlier batch in the same place is gone on with by `resume`, and refused without it. Raises
    LimitExceededError while another process runs a batch there.
    """
    if out.exists():
        names = {path.name for path in out.iterdir()} if out.is_dir() else {out.name}
        if names and "batch.json" not in names:
            raise FileExistsError(f"{out} exists and is no batch: choose another --out.")
        if names and not resume:
            raise FileExistsError(f"{out} holds a batch: go on with --resume, or choose another.")
    out.mkdir(parents=True, exist_ok=True)
    with (out / ".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            message = f"Another process runs a batch in {out}: wait for it, or choose another."
            raise LimitExceededError(message, metadata={"folder": str(out)}) from None
        shutil.rmtree(out / _WORK, ignore_errors=True)
        document = {"format": BATCH_FORMAT, "run_count": run_total, **batch.model_dump(mode="json")}
        _write_json(out / "batch.json", document)
        try:
            yield
        finally:
            shutil.rmtree(out / _WORK, ignore_errors=True)


def write_leaderboard(out: Path, batch: BatchConfig, manifests: Sequence[Manifest]) -> Manifest:
    """Writes leaderboard.json and leaderboard.csv of the runs that ended; returns the document."""
    by_id = {manifest["run"]: manifest for manifest in manifests}
    failed = frozenset(name for name, each in by_id.items() if each["status"] == FAILED)
    values = {
        name: each["metrics"].get(batch.metric)
        for name, each in by_id.items()
        if name not in failed
    }
    order = leaderboard_order(batch, values, failed)
    rows = [_row(rank, by_id[name]) for rank, name in enumerate(order, start=1)]
    document = {
        "format": LEADERBOARD_FORMAT,
        "name": batch.name,
        "metric": batch.metric,
        "direction": direction_of(batch).value,
        "runs": rows,
    }
    _write_json(out / "leaderboard.json", document)
    _write_csv(out / "leaderboard.csv", rows)
    return document


def _row(rank: int, manifest: Manifest) -> Manifest:
    is_failed = manifest["status"] == FAILED
    return {
        "rank": rank,
        "run": manifest["run"],
        "status": manifest["status"],
        "seed": manifest["seed"],
        "changes": manifest["changes"],
        "metrics": {} if is_failed else manifest["metrics"],
        "error": f"{manifest['reason']}: {manifest['message']}" if is_failed else "",
    }


def _write_csv(path: Path, rows: Sequence[Manifest]) -> None:
    """One line for each run; a number is written so that it reads back to the same bits."""
    changed = list(dict.fromkeys(name for row in rows for name in row["changes"]))
    metrics = list(dict.fromkeys(name for row in rows for name in row["metrics"]))
    scratch = _scratch(path)
    with scratch.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["rank", "run", "status", "seed", *changed, *metrics, "error"])
        for row in rows:
            writer.writerow(
                [
                    *(row[name] for name in ("rank", "run", "status", "seed")),
                    *(_cell(row["changes"].get(name)) for name in changed),
                    *(_cell(row["metrics"].get(name)) for name in metrics),
                    row["error"],
                ]
            )
    scratch.replace(path)


def _cell(value: Any) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value)


def _write_json(path: Path, document: Mapping[str, Any]) -> None:
    scratch = _scratch(path)
    text = json.dumps(document, indent=2, allow_nan=False) + "\n"
    scratch.write_text(text, encoding="utf-8")
    scratch.replace(path)


def _scratch(path: Path) -> Path:
    return path.with_name(f".{path.name}.{os.getpid()}.tmp")
