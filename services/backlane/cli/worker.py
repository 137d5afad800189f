"""`backlane worker`: runs operations, here or on another machine with the same home."""

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from backlane.cli.options import Home
from backlane.cli.places import addresses_of, home_of

app = typer.Typer(name="worker")

MODULE = "backtest_service.standalone"
LOG_LEVELS = ("debug", "info", "warning", "error")


def _log_level(value: str) -> str:
    if value not in LOG_LEVELS:
        raise typer.BadParameter(f"{value!r} is none of {', '.join(LOG_LEVELS)}.")
    return value


@app.command("worker")
def worker(
    operations: Annotated[
        str | None,
        typer.Option(
            metavar="ADDR[,ADDR]",
            help="operations_service, or several of them on one store "
            "(default: what `backlane up` wrote).",
        ),
    ] = None,
    models: Annotated[
        str | None,
        typer.Option(metavar="ADDR", help="model_service (default: what `backlane up` wrote)."),
    ] = None,
    workers: Annotated[
        int | None, typer.Option(min=1, max=256, help="Runs at once (default: half of the CPUs).")
    ] = None,
    home: Home = None,
    log_level: Annotated[
        str,
        typer.Option(callback=_log_level, help="Least level shown: debug, info, warning, error."),
    ] = "warning",
) -> None:
    """Run operations in this terminal, beside or instead of those that the services run.

    It needs the home of the services, mounted here. Ctrl-C drains it: what does not end in time
    leaves a checkpoint and goes back to the queue. Its other settings are BACKLANE_WORKER_... in
    the environment.
    """
    place = home_of(home)
    addresses = addresses_of(place, operations=operations, models=models)
    environment = {**os.environ, **_settings(place, addresses.operations, addresses.models)}
    environment["BACKLANE_WORKER_LOG_LEVEL"] = log_level
    if workers is not None:
        environment["BACKLANE_WORKER_WORKERS"] = str(workers)
    # The worker takes the place of this process: signals and the exit code are its own.
    sys.stdout.flush()
    os.execve(sys.executable, [sys.executable, "-m", MODULE], environment)  # noqa: S606


def _settings(home: Path, operations: str, models: str) -> dict[str, str]:
    return {
        "BACKLANE_HOME": str(home),
        "BACKLANE_WORKER_HOME": str(home),
        "BACKLANE_WORKER_OPERATIONS_ADDRESS": operations,
        "BACKLANE_WORKER_MODELS_ADDRESS": models,
    }
