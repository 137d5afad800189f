"""`backlane`: the commands, and the one place where errors become messages and exit codes.

Nothing is imported here that `backlane --help` does not need.
"""

import sys
from typing import ClassVar, cast

import typer

from backlane.cli.exit_codes import ExitCode
from backlane.cli.lazy import LazyCommand, LazyGroup, add_lazy_commands
from backlane.errors import BacklaneError

_COMMANDS = {
    "up": LazyCommand("backlane.cli.up", "Start the three services here; Ctrl-C drains them."),
    "worker": LazyCommand("backlane.cli.worker", "Run operations, here or on another machine."),
    "backtest": LazyCommand("backlane.cli.backtest", "Run models over history."),
    "portfolio": LazyCommand(
        "backlane.cli.portfolio_group", "Run strategies over many instruments."
    ),
    "cycle": LazyCommand("backlane.cli.cycle", "Decide once, as of a time."),
    "paper": LazyCommand("backlane.cli.paper", "Trade on paper, bar by bar."),
    "operation": LazyCommand("backlane.cli.operation", "Look at runs, follow and cancel them."),
    "model": LazyCommand("backlane.cli.model", "List, show and verify model bundles."),
    "data": LazyCommand("backlane.cli.data", "Import bars, check them, look at them."),
    "report": LazyCommand("backlane.cli.report", "Write one HTML page about a result."),
    "explain": LazyCommand("backlane.cli.explain", "Tell the story of one bar of a result."),
    "audit": LazyCommand("backlane.cli.audit", "Look for look-ahead and cold indicators."),
    "gate": LazyCommand("backlane.cli.gate", "Say whether a result is worse than a baseline."),
    "factors": LazyCommand("backlane.cli.factors", "Look at stored factors, and clear them."),
    "version": LazyCommand("backlane.cli.version", "Print the versions of everything that runs."),
}

# Typer has carried its own copy of click since 0.2x: this is the usage error of whichever it uses.
_UsageError = cast(type[Exception], typer.BadParameter.__base__)


class _Root(LazyGroup):
    lazy_commands: ClassVar[dict[str, LazyCommand]] = _COMMANDS


# Plain help: rich would double the time that it takes.
app = typer.Typer(cls=_Root, no_args_is_help=True, rich_markup_mode=None)


@app.callback()
def backlane() -> None:
    """Backtests of trained torch models, as three gRPC services and one engine.

    First steps: `backlane up` in one terminal; in another `backlane data sample`, then
    `backlane backtest run --model rsi_bb --symbol SYNTHETIC_EURUSD --timeframe 1h`.
    """


add_lazy_commands(app, _COMMANDS)


def run(arguments: list[str]) -> int:
    """Runs one command and returns its exit code; whatever goes wrong is said, never raised."""
    from backlane.cli import failure

    # A usage error comes before any option is understood; so this one is looked for by eye.
    as_json = "--json" in arguments
    try:
        outcome = typer.main.get_command(app).main(
            args=arguments, prog_name="backlane", standalone_mode=False
        )
    except _UsageError as error:
        return failure.report_usage(error, as_json=as_json)
    except BacklaneError as error:
        return failure.report_error(error, as_json=as_json)
    except ModuleNotFoundError as error:
        return failure.report_missing_module(error, as_json=as_json)
    except OSError as error:
        message = f"{error.filename}: {error.strerror}" if error.filename else str(error)
        return failure.report_plain("OS_ERROR", message, ExitCode.FAILED, as_json=as_json)
    except Exception as error:  # noqa: BLE001 - the process boundary
        return failure.report_unforeseen(error, as_json=as_json)
    return outcome if isinstance(outcome, int) else ExitCode.OK


def main() -> None:
    """The entry point of the console script."""
    sys.exit(run(sys.argv[1:]))


if __name__ == "__main__":
    main()
