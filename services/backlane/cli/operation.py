"""`backlane operation …`: look at runs, follow them, wait for them, stop them."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from backlane.cli.exit_codes import ExitCode
from backlane.cli.options import Home, Json, OperationName, OperationsAddress, operation_name
from backlane.cli.output import print_json, print_table, say, say_aside
from backlane.cli.places import addresses_of
from backlane.errors import FieldViolation, InvalidRequestError

if TYPE_CHECKING:
    from pathlib import Path

    from backlane.client.operations import OperationsClient
    from backlane.operations.operation import Operation
    from backlane.operations.selection import Selection

app = typer.Typer(
    name="operation", help="Look at runs, follow and cancel them.", no_args_is_help=True
)

LIST_LIMIT = 20
LIST_LIMIT_MAX = 100_000


@app.command("list")
def list_operations(
    state: Annotated[
        list[str] | None,
        typer.Option(help="Only these: queued, running, succeeded, failed, cancelled …"),
    ] = None,
    label: Annotated[
        list[str] | None, typer.Option(help="Only with this label: KEY=VALUE.")
    ] = None,
    limit: Annotated[
        int, typer.Option(min=1, max=LIST_LIMIT_MAX, help="At most so many.")
    ] = LIST_LIMIT,
    as_json: Json = False,
    home: Home = None,
    operations_address: OperationsAddress = None,
) -> None:
    """List operations, newest first."""
    selection = _selection(state or [], label or [])
    with _client(home, operations_address) as client:
        operations = list(client.list_operations(selection, limit=limit))
    if as_json:
        print_json({"operations": [operation_document(each) for each in operations]})
        return
    if not operations:
        say("There are no such operations.")
        return
    print_table(
        ("operation", "kind", "state", "created", "took", "progress"),
        [_row(each) for each in operations],
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
    _show(operation, as_json=as_json)


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
    say(f"{full_name} succeeded. Its result: backlane backtest result {full_name}")


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
    _show(operation, as_json=as_json)
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
    _show(operation, as_json=as_json)


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


def operation_document(operation: "Operation") -> dict[str, Any]:
    """Returns what `--json` says of an operation."""
    from backlane.cli.outcome import iso_time
    from backlane.cli.watching import error_of, progress_document

    times = {
        "create_time": operation.create_time_ns,
        "start_time": operation.start_time_ns,
        "end_time": operation.end_time_ns,
    }
    return {
        "name": operation.name,
        "kind": operation.kind,
        "state": operation.state.lower(),
        **{key: None if time is None else iso_time(time) for key, time in times.items()},
        "attempt": operation.attempt,
        "labels": dict(operation.labels),
        "progress": operation.progress and progress_document(operation.progress),
        "error": error_of(operation.error),
        "cancel_reason": operation.cancel_reason,
        "revision": operation.revision,
    }


def _show(operation: "Operation", *, as_json: bool) -> None:
    document = operation_document(operation)
    if as_json:
        print_json(document)
        return
    say(operation.name)
    say(f"  kind      {operation.kind}")
    say(f"  state     {document['state']}")
    for label, key in (
        ("created", "create_time"),
        ("started", "start_time"),
        ("ended", "end_time"),
    ):
        if document[key]:
            say(f"  {label:9} {document[key]}")
    if _progress(operation):
        say(f"  progress  {_progress(operation)}")
    if operation.cancel_reason:
        say(f"  cancel    {operation.cancel_reason}")
    if operation.error is not None:
        say(f"  error     {operation.error.reason}: {operation.error.message}")


def _row(operation: "Operation") -> tuple[str, ...]:
    from backlane.cli.outcome import iso_time

    took = ""
    if operation.start_time_ns is not None and operation.end_time_ns is not None:
        took = f"{(operation.end_time_ns - operation.start_time_ns) / 1e9:.1f} s"
    created = iso_time(operation.create_time_ns // 10**9 * 10**9)
    state = operation.state.lower()
    progress = _progress(operation) if operation.error is None else operation.error.reason
    return operation.name, operation.kind, state, created, took, progress


def _progress(operation: "Operation") -> str:
    if operation.progress is None or operation.state.is_terminal:
        return ""
    progress = operation.progress
    done = f" {progress.completed_units:,}/{progress.total_units:,}" if progress.total_units else ""
    return f"{progress.phase}{done}"


def _selection(states: list[str], labels: list[str]) -> "Selection":
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
    return Selection(states=frozenset(known[state.lower()] for state in states), labels=pairs)


def _client(home: "Path | None", address: str | None) -> "OperationsClient":
    from backlane.client.operations import OperationsClient

    return OperationsClient(addresses_of(home, operations=address).operations)
