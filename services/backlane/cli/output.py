"""What a command writes: lines and tables for people, JSON for programs.

Results go to stdout. Everything said on the way goes to stderr, so that `--json` leaves stdout to
the one document (or, with `watch`, one document a line).
"""

import json
import sys
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from rich.console import Console

PLAIN_WIDTH = 120
"""Columns of a table that goes to a file or a pipe."""


def say(text: str = "") -> None:
    """Writes a line of the result."""
    typer.echo(text)


def say_aside(text: str) -> None:
    """Writes a line about how it goes."""
    typer.echo(text, err=True)


def print_json(document: object) -> None:
    """Writes a document on one line; NaN and infinity never leave, they are no JSON."""
    typer.echo(json.dumps(document, allow_nan=False, ensure_ascii=False))


def is_terminal() -> bool:
    """Whether somebody looks at both streams."""
    return sys.stdout.isatty() and sys.stderr.isatty()


def console(*, aside: bool = False) -> "Console":
    """Returns a rich console; one that does not reach a terminal writes plain text."""
    from rich.console import Console

    stream = sys.stderr if aside else sys.stdout
    return Console(
        file=stream,
        width=None if stream.isatty() else PLAIN_WIDTH,
        highlight=False,
        soft_wrap=False,
    )


def print_table(
    columns: Sequence[str],
    rows: Iterable[Sequence[Any]],
    *,
    title: str = "",
    right: Sequence[str] = (),
) -> None:
    """Writes a table; `right` names the columns of numbers. Cells are plain text, no markup."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    table = Table(title=title or None, title_justify="left", box=SIMPLE_HEAD, pad_edge=False)
    for name in columns:
        table.add_column(
            name, justify="right" if name in right else "left", overflow="fold", no_wrap=False
        )
    for row in rows:
        table.add_row(*(Text(str(cell)) for cell in row))
    screen = console()
    if screen.is_terminal:
        screen.print(table)
        return
    with screen.capture() as captured:
        screen.print(table)
    for line in captured.get().splitlines():
        say(line.rstrip())
