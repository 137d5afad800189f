"""`backlane paper`: trade on paper, on bars of a file or on those that come in."""

from pathlib import Path
from typing import Annotated

import typer

from backlane.cli.options import BacktestsAddress, Home, Json
from backlane.cli.portfolio import ConfigArgument, ConfigOption, Local, Out, read_config

app = typer.Typer(name="paper")


@app.command("paper")
def paper(
    config: ConfigArgument = None,
    config_option: ConfigOption = None,
    panel: Annotated[
        Path | None,
        typer.Option(help="Take the bars of this panel file; without it, of standard input."),
    ] = None,
    out: Out = None,
    resume: Annotated[
        str | None, typer.Option(metavar="OPERATION", help="Go on with this session.")
    ] = None,
    received: Annotated[
        int, typer.Option(min=0, help="With --resume: number of the last report that is here.")
    ] = 0,
    leave: Annotated[
        bool, typer.Option("--leave", help="Do not finish it at the last bar: it can go on.")
    ] = False,
    request_id: Annotated[
        str | None,
        typer.Option(help="A UUID, the same on every retry: nothing is started twice."),
    ] = None,
    local: Local = False,
    as_json: Json = False,
    home: Home = None,
    backtests_address: BacktestsAddress = None,
) -> None:
    """Trade on paper: bars in; decisions, orders, fills and positions out, bar by bar.

    Bars come from a panel file, or as lines of JSON on standard input (docs/paper.md). A session
    outlives the connection, this command and the services: take it up again with --resume.
    """
    content, folder = read_config(config, config_option, None)
    if local and (resume or leave):
        raise typer.BadParameter("--resume and --leave need the services; leave out --local.")
    from backlane.cli import paper_run

    feed = paper_run.open_feed(content, folder, panel)
    if local:
        from backlane.cli.local_strategies import LocalPlace

        # A store would keep the factors of each bar anew.
        strategies = LocalPlace(folder, home, has_store=False).strategies()
        paper_run.follow_here(feed, strategies, out, as_json=as_json)
        return
    from backlane.cli.out_folder import check_out
    from backlane.cli.places import addresses_of

    check_out(out)
    paper_run.follow_there(
        feed,
        addresses_of(home, backtests=backtests_address).backtests,
        out,
        paper_run.Wish(resume, received, request_id, leave),
        as_json=as_json,
    )
