"""`backlane operation …`: look at runs, follow them, stop them, go on with them, clear them up."""

from typing import TYPE_CHECKING, Annotated

import typer

from backlane.cli.exit_codes import ExitCode
from backlane.cli.operation_display import (
    operation_document,
    operation_row,
    say_point,
    show_operation,
)
from backlane.cli.options import Home, Json, OperationName, OperationsAddress, operation_name
from backlane.cli.output import print_json, print_table, say, say_aside
from backlane.cli.places import addresses_of
from backlane.errors import FieldViolation, InvalidRequestError

if TYPE_CHECKING:
    from pathlib import Path

    from backlane.client.operations import OperationsClient
    from backlane.operations.selection import Selection

app = typer.Typer(
    name="operation",
    help="Look at runs, follow, cancel, resume and remove them.",
    no_args_is_help=True,
)

LIST_LIMIT = 20
LIST_LIMIT_MAX = 100_000
SECONDS_PER_DAY = 86_400.0
METRICS_WAIT_S = 20.0
"""How long one call waits for more points."""


@app.command("list")
def list_operations(
    state: Annotated[
        list[str] | None,
        typer.Option(help="Only these: queued, running, succeeded, failed, cancelled …"),
    ] = None,
    label: Annotated[
        list[str] | None, typer.Option(help="Only with this label: KEY=VALUE.")
    ] = None,
    kind: Annotated[
        list[str] | None, typer.Option(help="Only of this kind, such as backtest.run.")
    ] = None,
    limit: Annotated[
        int, typer.Option(min=1, max=LIST_LIMIT_MAX, help="At most so many.")
    ] = LIST_LIMIT,
    oldest_first: Annotated[
        bool, typer.Option("--oldest-first", help="The oldest first, not the newest.")
    ] = False,
    as_json: Json = False,
    home: Home = None,
    operations_address: OperationsAddress = None,
) -> None:
    """List operations, newest first."""
    from backlane.operations.selection import ListOrder

    selection = _selection(state or [], label or [], kind or [])
    order = ListOrder.OLDEST_FIRST if oldest_first else ListOrder.NEWEST_FIRST
    with _client(home, operations_address) as client:
        operations = list(client.list_operations(selection, limit=limit, order=order))
    if as_json:
        print_json({"operations": [operation_document(each) for each in operations]})
        return
    if not operations:
        say("There are no such operations.")
        return
    print_table(
        ("operation", "kind", "state", "created", "took", "progress"),
        [operation_row(each) for each in operations],
    )


@app.command("get")
def get(
    name: OperationName,
    as_json: Json = False,
    home: Home = None,
    operations_address: OperationsAddress = None,
) -> None:
    """Show one operation as it is now."""
    with _client(home, operations_address) as client:
        operation = client.get(operation_name(name))
    show_operation(operation, as_json=as_json)


@app.command("watch")
def watch(
    name: OperationName,
    as_json: Json = False,
    home: Home = None,
    operations_address: OperationsAddress = None,
) -> None:
    """Follow an operation to its end; Ctrl-C detaches, and the operation goes on.

    Ends as the operation does: with 0, with 1 when it failed, with 4 when it was cancelled.
    """
    from backlane.cli.display import new_display
    from backlane.cli.remote_run import say_unsuccessful
    from backlane.cli.watching import Detached, follow, follow_as_json, how_to_reattach

    full_name = operation_name(name)
    with _client(home, operations_address) as client:
        try:
            if as_json:
                raise typer.Exit(follow_as_json(client, full_name, say_aside).exit_code)
            with new_display(as_json=False) as display:
                ended = follow(client, full_name, display)
        except Detached:
            say_aside(how_to_reattach(full_name))
            raise typer.Exit(ExitCode.INTERRUPTED) from None
    if ended.exit_code is not ExitCode.OK:
        raise typer.Exit(say_unsuccessful(ended, as_json=False))
    say(f"{full_name} succeeded. Its result: {ended.how_to_read}")


@app.command("wait")
def wait(
    name: OperationName,
    timeout: Annotated[
        float | None, typer.Option(min=0, help="Seconds to wait at most (default: for ever).")
    ] = None,
    as_json: Json = False,
    home: Home = None,
    operations_address: OperationsAddress = None,
) -> None:
    """Wait for the end of an operation, without a word; ends as it does, or with 5 if too early."""
    from backlane.cli.watching import Ended

    with _client(home, operations_address) as client:
        operation = client.wait(operation_name(name), timeout_s=timeout)
    show_operation(operation, as_json=as_json)
    if not operation.state.is_terminal:
        raise typer.Exit(ExitCode.NOT_DONE)
    raise typer.Exit(Ended(operation.name, operation.state, operation.error).exit_code)


@app.command("cancel")
def cancel(
    name: OperationName,
    reason: Annotated[str, typer.Option(help="Why; it is recorded.")] = "",
    as_json: Json = False,
    home: Home = None,
    operations_address: OperationsAddress = None,
) -> None:
    """Ask an operation to stop; it ends as cancelled once its worker has stopped."""
    with _client(home, operations_address) as client:
        operation = client.cancel(operation_name(name), reason)
    show_operation(operation, as_json=as_json)


@app.command("delete")
def delete(
    name: OperationName,
    allow_missing: Annotated[
        bool, typer.Option("--allow-missing", help="No error where there is none.")
    ] = False,
    as_json: Json = False,
    home: Home = None,
    operations_address: OperationsAddress = None,
) -> None:
    """Delete an operation that has ended."""
    full_name = operation_name(name)
    with _client(home, operations_address) as client:
        client.delete(full_name, allow_missing=allow_missing)
    if as_json:
        print_json({"deleted": full_name})
    else:
        say(f"Deleted {full_name}.")


@app.command("resume")
def resume(
    name: OperationName,
    request_id: Annotated[
        str | None, typer.Option(help="UUID; the same one again resumes nothing twice.")
    ] = None,
    detach: Annotated[
        bool, typer.Option("--detach", help="Print the name of the new operation, and end.")
    ] = False,
    as_json: Json = False,
    home: Home = None,
    operations_address: OperationsAddress = None,
) -> None:
    """Go on from the last checkpoint of a failed or cancelled operation, as a new one."""
    with _client(home, operations_address) as client:
        resumed = client.resume(operation_name(name), request_id=request_id)
    if detach or as_json:
        if as_json:
            print_json(operation_document(resumed))
        else:
            say(resumed.name)
            say_aside(f"Follow it: backlane operation watch {resumed.name}")
        return
    say_aside(f"{resumed.name} goes on from a checkpoint of {resumed.resumed_from}.")
    watch(resumed.name, home=home, operations_address=operations_address)


@app.command("prune")
def prune(
    older_than: Annotated[
        float | None,
        typer.Option(min=0, help="Only those that ended so many days ago (default: retention)."),
    ] = None,
    state: Annotated[
        list[str] | None, typer.Option(help="Only these: succeeded, failed, cancelled.")
    ] = None,
    label: Annotated[
        list[str] | None, typer.Option(help="Only with this label: KEY=VALUE.")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Count them, and remove nothing.")
    ] = False,
    as_json: Json = False,
    home: Home = None,
    operations_address: OperationsAddress = None,
) -> None:
    """Remove operations that have ended, with their events and points. Results stay."""
    selection = _selection(state or [], label or [])
    older_than_s = None if older_than is None else older_than * SECONDS_PER_DAY
    count, has_more = 0, True
    with _client(home, operations_address) as client:
        while has_more:
            round_ = client.prune(selection, older_than_s=older_than_s, is_dry_run=dry_run)
            count += round_.operation_count
            has_more = round_.has_more and not dry_run
    if as_json:
        print_json({"operation_count": count, "dry_run": dry_run})
        return
    done, plural = "Would remove" if dry_run else "Removed", "" if count == 1 else "s"
    say(f"{done} {count:,} operation{plural}.")


@app.command("metrics")
def metrics(
    name: OperationName,
    cursor: Annotated[
        int, typer.Option(min=0, help="Only points after this index; the output ends with it.")
    ] = 0,
    series: Annotated[
        list[str] | None, typer.Option(help="Only this series, such as equity.")
    ] = None,
    follow: Annotated[
        bool, typer.Option("--follow", help="Wait for more, until the operation has ended.")
    ] = False,
    as_json: Json = False,
    home: Home = None,
    operations_address: OperationsAddress = None,
) -> None:
    """Print the metric points of an operation, from a cursor on; say the cursor to go on from."""
    full_name, wanted = operation_name(name), frozenset(series or [])
    with _client(home, operations_address) as client:
        while True:
            page = client.metric_page(
                full_name,
                after_index=cursor,
                series=wanted,
                wait_s=METRICS_WAIT_S if follow else 0.0,
            )
            for point in page.points:
                say_point(point, as_json=as_json)
            is_read_out = page.is_complete or page.through_index == cursor
            cursor = page.through_index
            if page.is_complete or (is_read_out and not follow):
                break
    if as_json:
        print_json({"cursor": cursor, "complete": page.is_complete})
    else:
        rest = "that is all of them" if page.is_complete else f"go on with --cursor {cursor}"
        say_aside(f"Through index {cursor}: {rest}.")


def _selection(states: list[str], labels: list[str], kinds: list[str] | None = None) -> "Selection":
    from backlane.operations.operation import State
    from backlane.operations.selection import Selection

    known = {state.lower(): state for state in State}
    unknown = [state for state in states if state.lower() not in known]
    if unknown:
        message = f"{unknown[0]!r} is no state: use {', '.join(known)}."
        raise InvalidRequestError(message, violations=(FieldViolation("--state", message),))
    pairs = {}
    for text in labels:
        key, equals, value = text.partition("=")
        if not (key and equals):
            message = f"{text!r} does not read KEY=VALUE."
            raise InvalidRequestError(message, violations=(FieldViolation("--label", message),))
        pairs[key] = value
    chosen = frozenset(known[state.lower()] for state in states)
    return Selection(states=chosen, kinds=frozenset(kinds or ()), labels=pairs)


def _client(home: "Path | None", address: str | None) -> "OperationsClient":
    from backlane.client.operations import OperationsClient

    return OperationsClient(addresses_of(home, operations=address).operations)
