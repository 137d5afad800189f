"""`backlane up`: the three services in one terminal."""

import asyncio
import os
from pathlib import Path
from typing import Annotated

import typer

from backlane.cli.options import Json
from backlane.cli.output import is_terminal, print_json, print_table, say, say_aside
from backlane.cli.places import home_of, models_dir_of
from backlane.cli.service_process import ServiceProcess

app = typer.Typer(name="up")

FIRST_PORT = 7410
STORES = ("sqlite:///", "postgresql://")
LOG_LEVELS = ("debug", "info", "warning", "error")
_COLORS = {"operations": "cyan", "models": "magenta", "backtests": "green"}


def _log_level(value: str) -> str:
    if value not in LOG_LEVELS:
        raise typer.BadParameter(f"{value!r} is none of {', '.join(LOG_LEVELS)}.")
    return value


def _store(value: str | None) -> str | None:
    if value is not None and not value.startswith(STORES):
        raise typer.BadParameter(f"{value!r} does not begin with {' or '.join(STORES)}.")
    return value


@app.command("up")
def up(
    home: Annotated[
        Path | None, typer.Option(help="Bars, results and operations (default: BACKLANE_HOME).")
    ] = None,
    models_dir: Annotated[
        Path | None,
        typer.Option(help="Folder of the bundles (default: ./models or HOME/models)."),
    ] = None,
    port: Annotated[
        int,
        typer.Option(
            "--port",
            "--port-base",
            min=0,
            max=65533,
            help="The first of three ports in a row; 0 takes free ones.",
        ),
    ] = FIRST_PORT,
    store: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            callback=_store,
            help="Where operations are kept: postgresql://… or sqlite:///… "
            "(default: a file in the home).",
        ),
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option(
            min=0,
            max=256,
            help="Runs at once (default: half of the CPUs); 0 leaves them to `backlane worker`.",
        ),
    ] = None,
    log_level: Annotated[
        str,
        typer.Option(callback=_log_level, help="Least level shown: debug, info, warning, error."),
    ] = "warning",
    as_json: Json = False,
) -> None:
    """Start the three services in this terminal, on 127.0.0.1 alone.

    A service that dies is started again where it was. Ctrl-C drains them: runs under way leave a
    checkpoint and wait for the next start. A second Ctrl-C ends them at once.
    """
    from backlane.cli.service_group import GroupSettings, ServiceGroup, only_one

    place = home_of(home)
    models = models_dir_of(models_dir, place)
    settings = GroupSettings(place, models, port, log_level, store, workers)
    os.environ["BACKLANE_HOME"] = str(place)  # for the services, which inherit it

    def ready(services: dict[str, ServiceProcess], addresses: dict[str, str]) -> None:
        if as_json:
            pids = {name: service.pid for name, service in services.items()}
            print_json({"home": str(place), "addresses": addresses, "pids": pids})
        else:
            _print_ready(place, models, services, addresses)

    async def serve() -> int:
        return await ServiceGroup(settings, _print_log_line).run(ready)

    with only_one(place):
        say_aside("Starting operations, models and backtests …")
        raise typer.Exit(asyncio.run(serve()))


def _print_ready(
    home: Path,
    models_dir: Path,
    services: dict[str, ServiceProcess],
    addresses: dict[str, str],
) -> None:
    rows = [(name, address, services[name].pid) for name, address in addresses.items()]
    print_table(("service", "address", "process"), rows, right=("process",))
    say(f"home    {home}")
    say(f"models  {models_dir}")
    say("Every `backlane` command on this home finds them. Ctrl-C drains them.")


def _print_log_line(name: str, line: str) -> None:
    prefix = f"{name:>10} | "
    if is_terminal():
        prefix = typer.style(prefix, fg=_COLORS.get(name))
    say_aside(f"{prefix}{line}")
