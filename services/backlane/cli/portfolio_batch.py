"""`backlane portfolio batch`: many runs of one configuration, and which of them was best."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from backlane.cli.exit_codes import ExitCode
from backlane.cli.options import Json
from backlane.cli.output import print_json, print_table, say, say_aside
from backlane.errors import FieldViolation, InternalError, InvalidRequestError

if TYPE_CHECKING:
    from backlane.backtest.portfolio_batch import BatchConfig, BatchRun
    from backlane.sources.portfolio_batches import Manifest, RunTask

RANKS_SHOWN_MAX = 10
"""Runs of the leaderboard that the terminal shows; all are in leaderboard.csv."""


@dataclass(slots=True)
class BatchProgress:
    """What became of the runs so far."""

    manifests: "list[Manifest]" = field(default_factory=list)
    skipped: int = 0
    is_interrupted: bool = False

    @property
    def failed(self) -> int:
        """How many runs failed."""
        return sum(manifest["status"] == "failed" for manifest in self.manifests)


def batch(
    config: Annotated[Path, typer.Argument(metavar="BATCH", help="The batch: YAML or JSON.")],
    out: Annotated[
        Path, typer.Option("--out", help="The folder of the batch: a new one, or with --resume.")
    ],
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with a batch: what ended well is not run again.")
    ] = False,
    workers: Annotated[
        int | None, typer.Option("--workers", min=1, help="Processes (default: the batch's word).")
    ] = None,
    as_json: Json = False,
) -> None:
    """Run a configuration many times with different fields, and sort what it gave.

    Ctrl-C leaves whole runs only; --resume goes on with the others. Ends with 1 when a run failed.
    """
    from backlane.sources.portfolio_batches import batch_folder, write_leaderboard

    plan, runs, folder = _read_batch(config, workers)
    tasks = _tasks(runs, folder, out)
    progress = BatchProgress()
    with batch_folder(out, plan, len(tasks), resume=resume):
        try:
            _work(plan, tasks, progress, resume=resume)
        finally:
            board = write_leaderboard(out, plan, progress.manifests)
    _show(plan, board, progress, len(tasks), out, as_json=as_json)
    if progress.is_interrupted:
        raise typer.Exit(ExitCode.INTERRUPTED)
    raise typer.Exit(ExitCode.FAILED if progress.failed else ExitCode.OK)


def _read_batch(path: Path, workers: int | None) -> "tuple[BatchConfig, list[BatchRun], Path]":
    """Returns the batch, its runs, and the folder that their files are relative to."""
    from backlane.backtest.portfolio_batch import BATCH_WORKERS_MAX, expand_batch, parse_batch
    from backlane.backtest.portfolio_request import whole_numbers
    from backlane.backtest.portfolio_run import parse_portfolio_config
    from backlane.cli.request_options import read_request_file
    from backlane.sources.strategy_packages import installed_strategies

    if not path.is_file():
        _refuse("batch", f"There is no file {str(path)!r}: give the batch.")
    content = read_request_file(path)
    if workers is not None:
        content["workers"] = min(workers, BATCH_WORKERS_MAX)
    plan = parse_batch(content, _metric_names())
    folder, base = path.absolute().parent, plan.base
    if isinstance(base, str):
        file = folder / base
        if not file.is_file():
            _refuse("base", f"There is no file {str(file)!r}.")
        folder, base = file.parent, read_request_file(file)
    strategies = installed_strategies()
    runs = expand_batch(
        plan, base, lambda each: parse_portfolio_config(whole_numbers(each), strategies)
    )
    return plan, runs, folder


def _metric_names() -> tuple[str, ...]:
    import numpy as np

    from backlane.backtest.portfolio_metrics import portfolio_metrics
    from backlane.sources.portfolio_batches import batch_metrics

    document = {
        "metrics": portfolio_metrics(np.ones(1), 1.0),
        "final_equity": 1.0,
        "total_cost": 0.0,
        "counts": {"trades": 0},
    }
    return tuple(batch_metrics(document))


def _tasks(runs: "Sequence[BatchRun]", folder: Path, out: Path) -> "list[RunTask]":
    """Returns the runs with the files they read; each file is looked at and hashed once."""
    from backlane.backtest.portfolio_request import file_roles
    from backlane.sources.portfolio_batches import RunTask
    from backlane.sources.results import file_digest

    digests: dict[Path, str] = {}
    missing: dict[str, Path] = {}
    tasks = []
    for run in runs:
        roles = file_roles(run.config.model_dump(mode="json"))
        paths = {role: folder / name for role, name in roles.items()}
        for role, path in paths.items():
            if path.is_file():
                digests.setdefault(path, "")
            else:
                missing.setdefault(f"data.{role}", path)
        tasks.append((run, paths))
    if missing:
        raise InvalidRequestError(
            "Files of the batch are not there.",
            violations=tuple(
                FieldViolation(name, f"there is no file {str(path)!r}")
                for name, path in missing.items()
            ),
        )
    digests = {path: file_digest(path) for path in digests}
    return [
        RunTask(out.absolute(), run.run_id, run.changes, run.seed, run.config, run.config_digest,
                paths, {role: digests[path] for role, path in paths.items()})
        for run, paths in tasks
    ]  # fmt: skip


def _work(
    plan: "BatchConfig", tasks: "Sequence[RunTask]", progress: BatchProgress, *, resume: bool
) -> None:
    from backlane.sources.portfolio_batches import finished_run

    left = []
    for task in tasks:
        done = finished_run(task) if resume else None
        if done is None:
            left.append(task)
        else:
            progress.manifests.append(done)
            progress.skipped += 1
    run_all = _in_processes if min(plan.workers, len(left)) > 1 else _in_turn
    try:
        for manifest in run_all(left, plan.workers):
            progress.manifests.append(manifest)
            say_aside(_line(plan, manifest, len(progress.manifests), len(tasks)))
            if plan.fail_fast and progress.failed:
                say_aside("A run failed, and the batch says fail_fast: no other run begins.")
                return
    except KeyboardInterrupt:
        progress.is_interrupted = True
        say_aside("Interrupted: whole runs are kept; go on with --resume.")


def _in_turn(tasks: "Sequence[RunTask]", _: int) -> "Iterator[Manifest]":
    from backlane.sources.portfolio_batches import execute_run

    for task in tasks:
        yield execute_run(task)


def _in_processes(tasks: "Sequence[RunTask]", workers: int) -> "Iterator[Manifest]":
    """Yields manifests as runs end; when the caller stops, runs under way end and no new begins."""
    import multiprocessing
    from concurrent.futures import ProcessPoolExecutor, as_completed
    from concurrent.futures.process import BrokenProcessPool

    from backlane.sources.portfolio_batches import execute_run

    pool = ProcessPoolExecutor(
        min(workers, len(tasks)),
        mp_context=multiprocessing.get_context("spawn"),
        initializer=_ignore_interrupt,
    )
    try:
        for future in as_completed([pool.submit(execute_run, task) for task in tasks]):
            yield future.result()
    except BrokenProcessPool:
        message = "A worker process died, as without memory. Whole runs are kept: use --resume."
        raise InternalError(message) from None
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _ignore_interrupt() -> None:
    """Ctrl-C reaches every process of a terminal; the one that reads the keyboard decides."""
    import signal

    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _line(plan: "BatchConfig", manifest: "Manifest", done: int, total: int) -> str:
    if manifest["status"] == "failed":
        return f"{done}/{total}  {manifest['run']}  failed: {manifest['message']}"
    return f"{done}/{total}  {manifest['run']}  {plan.metric} {_shown(manifest, plan.metric)}"


def _shown(run: Mapping[str, Any], metric: str) -> str:
    value = run["metrics"].get(metric)
    return "-" if value is None else f"{value:,.6g}"


def _show(
    plan: "BatchConfig",
    board: "Manifest",
    progress: BatchProgress,
    total: int,
    out: Path,
    *,
    as_json: bool,
) -> None:
    counts = {
        "runs": total,
        "succeeded": len(progress.manifests) - progress.failed,
        "failed": progress.failed,
        "skipped": progress.skipped,
        "not_run": total - len(progress.manifests),
    }
    if as_json:
        state = {"counts": counts, "interrupted": progress.is_interrupted, "out": str(out)}
        print_json({**state, **board})
        return
    metrics = list(dict.fromkeys((plan.metric, "total_return", "max_drawdown", "total_trades")))
    print_table(
        ("", "run", *metrics, ""),
        [
            (run["rank"], run["run"], *(_shown(run, name) for name in metrics), run["error"])
            for run in board["runs"][:RANKS_SHOWN_MAX]
        ],
        right=("", *metrics),
    )
    say(", ".join(f"{count:,} {name.replace('_', ' ')}" for name, count in counts.items()))
    say(f"leaderboard  {out / 'leaderboard.csv'}")


def _refuse(field_name: str, message: str) -> None:
    raise InvalidRequestError(message, violations=(FieldViolation(field_name, message),))


def register(app: typer.Typer) -> None:
    """Adds the command to the group `backlane portfolio`."""
    app.command("batch")(batch)
