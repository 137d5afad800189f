"""Follows one operation: shows how far it is, and says how it ended."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from backlane.cli.display import Display
from backlane.cli.exit_codes import ExitCode
from backlane.cli.outcome import iso_time
from backlane.cli.output import print_json
from backlane.cli.status import RunStatus
from backlane.client.operations import OperationsClient, watch_request
from backlane.client.watching import Reconnected
from backlane.errors import BacklaneError
from backlane.operations.events import (
    MetricPoint,
    MetricsAppended,
    Note,
    OperationEvent,
    StateChanged,
    TradesAppended,
)
from backlane.operations.operation import Operation, OperationError, Progress, State
from backlane.operations.watching import StartAt, WatchMessage

PORTFOLIO_KIND = "portfolio.run"
"""The kind of operations that run portfolios, as backtest_service opens them."""


@dataclass(frozen=True, slots=True)
class Ended:
    """How an operation ended; `error` is why it did not succeed, `kind` what it was, if known."""

    operation: str
    state: State
    error: OperationError | None = None
    kind: str = ""

    @property
    def how_to_read(self) -> str:
        """The command that shows the result."""
        group = "portfolio" if self.kind == PORTFOLIO_KIND else "backtest"
        return f"backlane {group} result {self.operation}"

    @property
    def exit_code(self) -> ExitCode:
        """The exit code of a command that followed it."""
        if self.state is State.SUCCEEDED:
            return ExitCode.OK
        return ExitCode.CANCELLED if self.state is State.CANCELLED else ExitCode.FAILED


class Detached(KeyboardInterrupt):
    """Ctrl-C during a watch; the operation goes on."""


def follow(client: OperationsClient, name: str, display: Display) -> Ended:
    """Follows the operation to its end, over restarts of the server; raises Detached on Ctrl-C."""
    state, error, kind = State.QUEUED, None, ""
    try:
        for message in _messages(client, name, StartAt.SNAPSHOT, display.note):
            for operation in message.operations:
                state, error, kind = operation.state, operation.error, operation.kind
                _show_state(operation, display)
            for event in message.events:
                if isinstance(event.body, StateChanged):
                    state, error = event.body.to_state, event.body.error
                    if not state.is_terminal:
                        display.show(RunStatus(state.lower()))
                elif isinstance(event.body, Note):
                    display.note(event.body.text)
            progress = message.progress.get(name)
            if progress is not None:
                display.show(status_of(progress))
    except KeyboardInterrupt:
        raise Detached from None
    return Ended(name, state, error, kind)


def follow_as_json(client: OperationsClient, name: str, note: Callable[[str], None]) -> Ended:
    """Follows the operation from its beginning, one JSON document a line; see docs/cli.md."""
    ended = Ended(name, State.QUEUED)
    try:
        for message in _messages(client, name, StartAt.OLDEST, note):
            progress = message.progress.get(name)
            if progress is not None:
                print_json({"event": "progress", **progress_document(progress)})
            for event in message.events:
                ended = _print_event(event, ended)
    except KeyboardInterrupt:
        raise Detached from None
    print_json({"event": "ended", "operation": name, **_end_document(ended)})
    return ended


def how_to_reattach(name: str) -> str:
    """Returns what a user who detached needs to know."""
    return f"Detached; the run goes on. Take it up again: backlane operation watch {name}"


def status_of(progress: Progress) -> RunStatus:
    """Returns a service's progress as a display needs it."""
    has_account = progress.simulated_time_ns is not None
    return RunStatus(
        phase=progress.phase,
        completed=progress.completed_units,
        total=progress.total_units,
        time_ns=progress.simulated_time_ns,
        equity=progress.equity if has_account else None,
        trade_count=progress.trade_count,
    )


def progress_document(progress: Progress) -> dict[str, Any]:
    """Returns what `--json` says of a progress."""
    time_ns = progress.simulated_time_ns
    return {
        "phase": progress.phase,
        "completed": progress.completed_units,
        "total": progress.total_units,
        "unit": progress.unit,
        "time": None if time_ns is None else iso_time(time_ns),
        "equity": None if time_ns is None else progress.equity,
        "trade_count": progress.trade_count,
    }


def error_of(error: OperationError | None) -> dict[str, Any] | None:
    """Returns what `--json` says of an operation's error."""
    if error is None:
        return None
    return {"reason": error.reason, "message": error.message, "metadata": dict(error.metadata)}


def _messages(
    client: OperationsClient, name: str, start: StartAt, note: Callable[[str], None]
) -> Iterator[WatchMessage]:
    def came_back(again: Reconnected) -> None:
        note(
            f"The connection to operations_service was lost for {again.duration_s:.1f} s "
            "and is back; nothing was missed."
        )

    def was_lost(_error: BacklaneError, patience_s: float) -> None:
        note(
            "The connection to operations_service is lost; the run goes on. Trying again for "
            f"{patience_s:.0f} s; Ctrl-C leaves it."
        )

    return client.watch(watch_request(name, start=start), on_reconnect=came_back, on_lost=was_lost)


def _show_state(operation: Operation, display: Display) -> None:
    if operation.state.is_terminal:
        return
    if operation.progress is not None:
        display.show(status_of(operation.progress))
    else:
        display.show(RunStatus(operation.state.lower()))


def _print_event(event: OperationEvent, ended: Ended) -> Ended:
    about = {"time": iso_time(event.time_ns), "sequence": event.sequence}
    match event.body:
        case StateChanged() as change:
            print_json({"event": "state", **about, "state": change.to_state.lower()})
            return Ended(event.operation, change.to_state, change.error)
        case Note(text):
            print_json({"event": "note", **about, "text": text})
        case TradesAppended(trades):
            print_json({"event": "trades", **about, "count": len(trades)})
        case MetricsAppended(points):
            print_json({"event": "metrics", **about, "points": [_point(each) for each in points]})
    return ended


def _point(point: MetricPoint) -> dict[str, Any]:
    time = None if point.time_ns is None else iso_time(point.time_ns)
    return {"series": point.series, "step": point.step, "time": time, "value": point.value}


def _end_document(ended: Ended) -> dict[str, Any]:
    return {
        "state": ended.state.lower(),
        "error": error_of(ended.error),
        "exit_code": int(ended.exit_code),
    }
