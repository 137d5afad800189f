"""`backlane portfolio …`: run a strategy over many instruments, here or through the services."""

from pathlib import Path
from typing import Annotated, Any

import typer

from backlane.cli.options import (
    BacktestsAddress,
    Home,
    Json,
    ModelsDir,
    OperationName,
    OperationsAddress,
    operation_name,
)
from backlane.cli.out_folder import check_out
from backlane.cli.places import addresses_of
from backlane.cli.queue_options import (
    AttemptTimeout,
    Detach,
    MaxAttempts,
    Priority,
    QueueTimeout,
    RequestId,
)
from backlane.errors import FieldViolation, InvalidRequestError

app = typer.Typer(
    name="portfolio", help="Run strategies over many instruments.", no_args_is_help=True
)

ConfigArgument = Annotated[
    Path | None,
    typer.Argument(metavar="[CONFIG]", help="The configuration: a YAML or JSON file."),
]
ConfigOption = Annotated[
    Path | None, typer.Option("--config", help="The same as the argument CONFIG.")
]
Mode = Annotated[
    str | None, typer.Option("--mode", help="How the cycle is driven, over the file's word.")
]
Out = Annotated[
    Path | None,
    typer.Option("--out", help="Write the result files here: a new folder, or an old result."),
]
Local = Annotated[bool, typer.Option("--local", help="Run in this process, without any service.")]


@app.callback()
def portfolio() -> None:
    """Run strategies over many instruments."""


@app.command("run")
def run(
    config: ConfigArgument = None,
    config_option: ConfigOption = None,
    out: Out = None,
    mode: Mode = None,
    as_of: Annotated[
        str | None,
        typer.Option("--as-of", help="With mode end_of_day: the last time that counts, ISO 8601."),
    ] = None,
    local: Local = False,
    with_trades: Annotated[
        bool, typer.Option("--with-trades", help="With --local: result.json lists the trades, too.")
    ] = False,
    factor_store: Annotated[
        bool,
        typer.Option(help="With --local: factors come from the store of the home, where one is."),
    ] = True,
    models_dir: ModelsDir = None,
    detach: Detach = False,
    request_id: RequestId = None,
    priority: Priority = 0,
    max_attempts: MaxAttempts = None,
    queue_timeout_s: QueueTimeout = None,
    attempt_timeout_s: AttemptTimeout = None,
    as_json: Json = False,
    home: Home = None,
    operations_address: OperationsAddress = None,
    backtests_address: BacktestsAddress = None,
) -> None:
    """Run a strategy over the instruments of a panel file, and follow it to the end.

    Files named in the configuration are relative to its folder; through the services they are
    uploaded, unless they are known there. Ctrl-C detaches: the run goes on, and `backlane operation
    watch` takes it up again. With --local it stops the run.
    """
    content, folder = read_config(config, config_option, mode)
    if local and detach:
        raise typer.BadParameter("--detach needs the services; leave out --local.")
    if local:
        from backlane.cli.cycle import as_of_time
        from backlane.cli.local_strategies import LocalPlace
        from backlane.cli.portfolio_local import run_here

        as_of_ns = None if as_of is None else as_of_time(as_of)
        place = LocalPlace(folder, home=home, models_dir=models_dir, has_store=factor_store)
        run_here(content, place, out, as_of_ns=as_of_ns, with_trades=with_trades, as_json=as_json)
        return
    if with_trades:
        raise typer.BadParameter("--with-trades needs --local: trades.csv has them anyway.")
    if as_of is not None:
        raise typer.BadParameter("--as-of needs --local, or `backlane cycle run`.")
    from backlane.cli.portfolio_remote import start_and_follow
    from backlane.client.run_options import RunOptions

    check_out(out)
    code = start_and_follow(
        addresses_of(home, operations=operations_address, backtests=backtests_address),
        content,
        folder,
        out,
        request_id=request_id,
        queueing=RunOptions(priority, max_attempts, queue_timeout_s, attempt_timeout_s),
        detach=detach,
        as_json=as_json,
    )
    raise typer.Exit(code)


@app.command("result")
def result(
    name: OperationName,
    out: Out = None,
    as_json: Json = False,
    home: Home = None,
    backtests_address: BacktestsAddress = None,
) -> None:
    """Show what a finished run gave; with --out, fetch its files."""
    from backlane.cli.portfolio_remote import show_result
    from backlane.client.portfolios import PortfoliosClient

    check_out(out)
    with PortfoliosClient(addresses_of(home, backtests=backtests_address).backtests) as client:
        show_result(client, operation_name(name), out, as_json=as_json)


def read_config(
    argument: Path | None, option: Path | None, mode: str | None
) -> tuple[dict[str, Any], Path]:
    """Returns the content of the configuration, and the folder that its files are relative to.

    Raises InvalidRequestError for no file, two files, or one that cannot be read.
    """
    from backlane.backtest.portfolio_request import whole_numbers
    from backlane.cli.request_options import read_request_file

    if argument is not None and option is not None:
        _refuse("The configuration is given twice: leave out --config.")
    path = argument or option
    if path is None:
        raise typer.BadParameter("Give the configuration: backlane portfolio run CONFIG.")
    if not path.is_file():
        _refuse(f"There is no file {str(path)!r}: give the configuration.")
    content: dict[str, Any] = whole_numbers(read_request_file(path))
    if mode is not None:
        content["mode"] = mode
    return content, path.absolute().parent


def _refuse(message: str) -> None:
    raise InvalidRequestError(message, violations=(FieldViolation("config", message),))
