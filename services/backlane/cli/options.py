"""Options that several commands have, spelled the same everywhere."""

from pathlib import Path
from typing import Annotated

import typer

_WHERE = "Where things are"

Json = Annotated[bool, typer.Option("--json", help="Print JSON on stdout.")]

Home = Annotated[
    Path | None,
    typer.Option(
        "--home", help="The home directory (default: BACKLANE_HOME).", rich_help_panel=_WHERE
    ),
]
ModelsDir = Annotated[
    Path | None,
    typer.Option(
        "--models-dir",
        help="Folder of the bundles (default: ./models or HOME/models).",
        rich_help_panel=_WHERE,
    ),
]
OperationsAddress = Annotated[
    str | None,
    typer.Option(
        "--operations-address",
        help="host:port (default: what `backlane up` wrote).",
        rich_help_panel=_WHERE,
    ),
]
ModelsAddress = Annotated[
    str | None,
    typer.Option(
        "--models-address",
        help="host:port (default: what `backlane up` wrote).",
        rich_help_panel=_WHERE,
    ),
]
BacktestsAddress = Annotated[
    str | None,
    typer.Option(
        "--backtests-address",
        help="host:port (default: what `backlane up` wrote).",
        rich_help_panel=_WHERE,
    ),
]
OperationName = Annotated[
    str, typer.Argument(metavar="OPERATION", help="operations/ID, or the ID alone.")
]


def operation_name(text: str) -> str:
    """Returns operations/ID for ID, and a name as it is."""
    return text if text.startswith("operations/") else f"operations/{text}"
