"""How the command line shows operations: as JSON, as a page of its own, as a line of a list."""

from typing import TYPE_CHECKING, Any

from backlane.cli.output import print_json, say

if TYPE_CHECKING:
    from backlane.operations.events import MetricPoint
    from backlane.operations.operation import AttemptFailure, Operation


def say_point(point: "MetricPoint", *, as_json: bool) -> None:
    """Prints one metric point: index, series, step, simulated time, value."""
    from backlane.cli.outcome import iso_time

    time = None if point.time_ns is None else iso_time(point.time_ns)
    if as_json:
        print_json(
            {
                "index": point.index,
                "series": point.series,
                "step": point.step,
                "time": time,
                "value": point.value,
            }
        )
    else:
        say(f"{point.index:>8}  {point.series}  {point.step:>10}  {time or '':24}  {point.value!r}")


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
        "max_attempts": operation.max_attempts,
        "failures": [_failure_document(each) for each in operation.failures],
        "priority": operation.priority,
        "client": operation.client,
        "checkpoint": _checkpoint_document(operation),
        "resumed_from": operation.resumed_from or None,
        "labels": dict(operation.labels),
        "progress": operation.progress and progress_document(operation.progress),
        "error": error_of(operation.error),
        "cancel_reason": operation.cancel_reason,
        "revision": operation.revision,
    }


def _failure_document(failure: "AttemptFailure") -> dict[str, Any]:
    from backlane.cli.outcome import iso_time

    return {
        "attempt": failure.attempt,
        "worker_id": failure.worker_id,
        "reason": failure.reason,
        "message": failure.message,
        "time": iso_time(failure.time_ns),
    }


def _checkpoint_document(operation: "Operation") -> dict[str, Any] | None:
    if not operation.checkpoints:
        return None
    newest = operation.checkpoints[0]
    return {"number": newest.number, "completed": newest.completed_units, "uri": newest.uri}


def show_operation(operation: "Operation", *, as_json: bool) -> None:
    """Prints an operation, a line for each thing that there is to say."""
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
    if operation.resumed_from:
        say(f"  resumed   from {operation.resumed_from}")
    if operation.checkpoints:
        newest = operation.checkpoints[0]
        say(f"  resumable from {newest.completed_units:,} (checkpoint {newest.number})")
    for failure in operation.failures:
        say(f"  attempt {failure.attempt} {failure.reason}: {failure.message}")
    if operation.cancel_reason:
        say(f"  cancel    {operation.cancel_reason}")
    if operation.error is not None:
        say(f"  error     {operation.error.reason}: {operation.error.message}")


def operation_row(operation: "Operation") -> tuple[str, ...]:
    """Returns the line of an operation in a list."""
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
