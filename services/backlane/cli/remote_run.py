"""The life of `backlane backtest run` through the services: start, follow, fetch, show."""

from collections.abc import Callable
from pathlib import Path

from backlane.backtest.request import BacktestRequest
from backlane.cli.display import new_display
from backlane.cli.exit_codes import ExitCode
from backlane.cli.failure import report_error
from backlane.cli.outcome import outcome_document, print_outcome
from backlane.cli.output import print_json, say, say_aside
from backlane.cli.watching import Detached, Ended, follow, how_to_reattach
from backlane.client.backtests import BacktestsClient
from backlane.client.connection import Addresses
from backlane.client.operations import OperationsClient
from backlane.client.run_options import RunOptions
from backlane.operations.operation import OperationError, State
from backlane.rpc.error_catalog import error_from_parts


def start_and_follow(
    addresses: Addresses,
    request: BacktestRequest,
    out: Path | None,
    *,
    request_id: str | None,
    queueing: RunOptions,
    detach: bool,
    as_json: bool,
) -> ExitCode:
    """Starts the run, follows it to the end unless it is to be left alone, and shows the result."""
    with BacktestsClient(addresses.backtests) as backtests:
        name = backtests.run(request, request_id=request_id, options=queueing).name
        return follow_started(
            addresses,
            name,
            lambda: show_result(backtests, name, out, as_json=as_json),
            detach=detach,
            as_json=as_json,
        )


def follow_started(
    addresses: Addresses,
    name: str,
    show: Callable[[], None],
    *,
    detach: bool,
    as_json: bool,
) -> ExitCode:
    """Follows a run that was started to its end, and has its result shown; or leaves it alone."""
    if detach:
        _say_started(name, as_json=as_json)
        return ExitCode.OK
    say_aside(name)
    with OperationsClient(addresses.operations) as operations:
        try:
            with new_display(as_json=as_json) as display:
                ended = follow(operations, name, display)
        except Detached:
            return say_detached(name, as_json=as_json)
    if ended.state is not State.SUCCEEDED:
        return say_unsuccessful(ended, as_json=as_json)
    show()
    return ExitCode.OK


def show_result(backtests: BacktestsClient, name: str, out: Path | None, *, as_json: bool) -> None:
    """Fetches the result of a finished run, its files too when `out` is given, and shows it."""
    summary = backtests.get_result(name)
    if out is not None:
        backtests.download_result(name, out)
    if as_json:
        print_json(outcome_document(summary, operation=name, out=out))
    else:
        print_outcome(summary, operation=name, out=out)


def say_detached(name: str, *, as_json: bool) -> ExitCode:
    """Says how to take the run up again."""
    if as_json:
        print_json({"operation": name, "detached": True})
    say_aside(how_to_reattach(name))
    return ExitCode.INTERRUPTED


def say_unsuccessful(ended: Ended, *, as_json: bool) -> ExitCode:
    """Says why a run did not succeed, as if the error had been raised here."""
    outcome = f"{ended.operation} {'was cancelled' if ended.state is State.CANCELLED else 'failed'}"
    reported = ended.error or OperationError("CANCEL_REQUESTED", "")
    message = f"{outcome}: {reported.message}" if reported.message else f"{outcome}."
    metadata = {"operation": ended.operation, **reported.metadata}
    error = error_from_parts(reported.reason, message, metadata)
    return report_error(error, as_json=as_json, code=ended.exit_code)


def _say_started(name: str, *, as_json: bool) -> None:
    """Writes the name to stdout, where a script takes it from, and what to do with it aside."""
    if as_json:
        print_json({"operation": name, "detached": True})
        return
    say(name)
    say_aside(f"Follow it: backlane operation watch {name}")
