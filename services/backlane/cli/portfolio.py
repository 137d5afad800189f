"""`backlane portfolio …`: run a strategy over many instruments."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from backlane.cli.options import Json
from backlane.cli.output import print_json, print_table, say
from backlane.errors import FieldViolation, InvalidRequestError

if TYPE_CHECKING:
    from backlane.backtest.portfolio_result import PortfolioRun

app = typer.Typer(
    name="portfolio", help="Run strategies over many instruments.", no_args_is_help=True
)

_SHOWN_METRICS = (
    "total_return",
    "annualized_return",
    "volatility",
    "sharpe_ratio",
    "max_drawdown",
    "turnover",
)


@app.callback()
def portfolio() -> None:
    """Run strategies over many instruments."""


@app.command("run")
def run(
    config: Annotated[
        Path, typer.Option("--config", help="The configuration: a YAML or JSON file.")
    ],
    out: Annotated[
        Path,
        typer.Option("--out", help="Write the result files here: a new folder, or an old result."),
    ],
    local: Annotated[
        bool, typer.Option("--local", help="Run in this process, without any service.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Run a strategy over the instruments of a panel file, and write what it gave.

    Files named in the configuration are relative to its folder.
    """
    from backlane.backtest.portfolio_run import parse_portfolio_config, run_portfolio
    from backlane.cli.request_options import read_request_file
    from backlane.sources.event_files import read_events
    from backlane.sources.panel_files import read_panel
    from backlane.sources.portfolio_results import write_portfolio_result

    if not local:
        message = "Portfolios run in this process alone: add --local."
        raise InvalidRequestError(message, violations=(FieldViolation("local", message),))
    _check_file(config)
    plan = parse_portfolio_config(read_request_file(config))
    folder = config.absolute().parent
    panel_path = folder / plan.data.panel
    event_paths = {source: folder / name for source, name in plan.data.events.items()}
    panel = read_panel(panel_path)
    events = {
        source: read_events(path, source, panel.symbols) for source, path in event_paths.items()
    }
    outcome = run_portfolio(plan, panel, events)
    inputs = {
        "panel": panel_path,
        **{f"events.{source}": path for source, path in event_paths.items()},
    }
    write_portfolio_result(outcome, plan.model_dump(mode="json"), inputs, out)
    _show(outcome, out, as_json=as_json)


def _check_file(config: Path) -> None:
    if not config.is_file():
        message = f"There is no file {str(config)!r}: give the configuration with --config."
        raise InvalidRequestError(message, violations=(FieldViolation("config", message),))


def _show(outcome: "PortfolioRun", out: Path, *, as_json: bool) -> None:
    import json

    document: dict[str, Any] = json.loads((out / "result.json").read_text(encoding="utf-8"))
    if as_json:
        print_json({**document, "out": str(out)})
        return
    say(
        f"{len(outcome.panel.symbols)} instruments, {document['bar_count']:,} bars, "
        f"{document['first_time']} to {document['last_time']}"
    )
    counts, metrics = document["counts"], document["metrics"]
    rows = [
        ("final equity", f"{outcome.final_equity:,.2f}"),
        ("costs", f"{outcome.total_cost:,.2f}"),
        ("orders / fills", f"{counts['orders']:,} / {counts['fills']:,}"),
        ("trades (open)", f"{counts['trades']:,} ({counts['open_trades']:,})"),
        *((name, "-" if (value := metrics[name]) is None else f"{value:.4f}")
          for name in _SHOWN_METRICS),
    ]  # fmt: skip
    print_table(("", "value"), rows, right=("value",))
    stale = document["held_without_a_bar"]
    if stale:
        say(f"note: held without a bar at the end, valued at its last close: {', '.join(stale)}")
    say(f"result  {out}")
