"""Options of every command that starts an operation: how it is queued and tried."""

from typing import Annotated

import typer

from backlane.operations.limits import ATTEMPTS_MAX, PRIORITY_MAX

_QUEUE = "How it is queued and tried"

Detach = Annotated[bool, typer.Option("--detach", help="Start it, print its name, and leave it.")]
RequestId = Annotated[
    str | None, typer.Option(help="A UUID, the same on every retry: nothing is started twice.")
]
Priority = Annotated[
    int,
    typer.Option(
        min=-PRIORITY_MAX, max=PRIORITY_MAX, help="Higher goes first.", rich_help_panel=_QUEUE
    ),
]
MaxAttempts = Annotated[
    int | None,
    typer.Option(
        min=1,
        max=ATTEMPTS_MAX,
        help="Attempts that may end badly, as when a worker dies (default: the service's).",
        rich_help_panel=_QUEUE,
    ),
]
QueueTimeout = Annotated[
    float | None,
    typer.Option(
        "--queue-timeout",
        help="Seconds to wait for a worker, then it fails (default: no limit).",
        rich_help_panel=_QUEUE,
    ),
]
AttemptTimeout = Annotated[
    float | None,
    typer.Option(
        "--attempt-timeout",
        help="Seconds that an attempt may take (default: no limit).",
        rich_help_panel=_QUEUE,
    ),
]
