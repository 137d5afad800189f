"""`backlane backtest …`: run models over history, here or through the services."""

from pathlib import Path
from typing import Annotated

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
from backlane.cli.output import print_json, say
from backlane.cli.places import addresses_of, home_of, models_dir_of
from backlane.cli.queue_options import (
    AttemptTimeout,
    Detach,
    MaxAttempts,
    Priority,
    QueueTimeout,
    RequestId,
)
from backlane.cli.request_options import RequestOptions, build_request, takes_request
from backlane.cli.status import plural
from backlane.cli.verify import verify

app = typer.Typer(name="backtest", help="Run models over history.", no_args_is_help=True)

app.command("verify")(verify)

Out = Annotated[
    Path | None,
    typer.Option("--out", help="Write the result files here: a new folder, or an old result."),
]


@app.command("run")
@takes_request
def run(
    options: RequestOptions,
    out: Out = None,
    local: Annotated[
        bool, typer.Option("--local", help="Run in this process, without any service.")
    ] = False,
    detach: Detach = False,
    request_id: RequestId = None,
    priority: Priority = 0,
    max_attempts: MaxAttempts = None,
    queue_timeout_s: QueueTimeout = None,
    attempt_timeout_s: AttemptTimeout = None,
    as_json: Json = False,
    home: Home = None,
    models_dir: ModelsDir = None,
    operations_address: OperationsAddress = None,
    backtests_address: BacktestsAddress = None,
) -> None:
    """Run a model over the bars of one instrument, and follow it to the end.

    Ctrl-C detaches: the run goes on, and `backlane operation watch` takes it up again. With --local
    it stops the run.
    """
    request = build_request(options, is_local=local)
    place = home_of(home)
    check_out(out)
    if local and detach:
        raise typer.BadParameter("--detach needs the services; leave out --local.")
    if local:
        from backlane.cli.local_command import run_here

        models = models_dir_of(models_dir, place)
        run_here(request, out, home=place, models_dir=models, as_json=as_json)
        return
    from backlane.cli.remote_run import start_and_follow
    from backlane.client.run_options import RunOptions

    code = start_and_follow(
        addresses_of(home, operations=operations_address, backtests=backtests_address),
        request,
        out,
        request_id=request_id,
        queueing=RunOptions(priority, max_attempts, queue_timeout_s, attempt_timeout_s),
        detach=detach,
        as_json=as_json,
    )
    raise typer.Exit(code)


@app.command("validate")
@takes_request
def validate(
    options: RequestOptions,
    as_json: Json = False,
    home: Home = None,
    backtests_address: BacktestsAddress = None,
) -> None:
    """Check a request without running it, and say how big the run would be."""
    from backlane.client.backtests import BacktestsClient

    request = build_request(options, is_local=False)
    address = addresses_of(home, backtests=backtests_address).backtests
    with BacktestsClient(address) as client:
        validated = client.validate(request)
    if as_json:
        document = validated.request.model_dump(mode="json", exclude_defaults=True)
        print_json({"request": document, "bar_count": validated.bar_count})
        return
    settled = validated.request
    say(f"{settled.model.resource_name} on {settled.symbol} {settled.timeframe}: it can run.")
    say(f"It would read {plural(validated.bar_count, 'bar')}.")


@app.command("result")
def result(
    name: OperationName,
    out: Out = None,
    as_json: Json = False,
    home: Home = None,
    backtests_address: BacktestsAddress = None,
) -> None:
    """Show what a finished run gave; with --out, fetch its files."""
    from backlane.cli.remote_run import show_result
    from backlane.client.backtests import BacktestsClient

    check_out(out)
    with BacktestsClient(addresses_of(home, backtests=backtests_address).backtests) as client:
        show_result(client, operation_name(name), out, as_json=as_json)
