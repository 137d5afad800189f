"""`backlane cycle run`: decides once, as of a time, and prints the orders to send next."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from backlane.cli.options import BacktestsAddress, Home, Json
from backlane.cli.places import addresses_of
from backlane.cli.portfolio import ConfigArgument, ConfigOption, Local, read_config
from backlane.errors import FieldViolation, InvalidRequestError

if TYPE_CHECKING:
    from backlane.backtest.cycle_outcome import CycleOutcome

app = typer.Typer(name="cycle", help="Decide once, as of a time.", no_args_is_help=True)

_DAY_NS = 86_400_000_000_000
_QUANTITY_NAMES = ("quantity", "units", "position")


@app.callback()
def cycle() -> None:
    """Decide once, as of a time."""


@app.command("run")
def run(
    as_of: Annotated[
        str,
        typer.Option("--as-of", help="ISO 8601, UTC; of a bare date the end. Later is not used."),
    ],
    config: ConfigArgument = None,
    config_option: ConfigOption = None,
    positions: Annotated[
        Path | None,
        typer.Option(help="What is held: CSV of symbol and quantity, or YAML or JSON."),
    ] = None,
    cash: Annotated[
        float | None, typer.Option(help="Money not invested (default: the initial cash).")
    ] = None,
    local: Local = False,
    as_json: Json = False,
    home: Home = None,
    backtests_address: BacktestsAddress = None,
) -> None:
    """Decide once on what was known at a time: orders, and for everything refused the reasons.

    Nothing is sent anywhere. Without --positions nothing is held. Ends with 1 when a stage failed.
    """
    content, folder = read_config(config, config_option, None)
    held = {} if positions is None else read_positions(positions)
    as_of_ns = as_of_time(as_of)
    if local:
        outcome = _decide_here(content, folder, as_of_ns, held, cash, home)
    else:
        from backlane.backtest.cycle_outcome import CycleRequest
        from backlane.cli.portfolio_remote import as_local_error
        from backlane.client.portfolios import PortfoliosClient

        address = addresses_of(home, backtests=backtests_address).backtests
        with PortfoliosClient(address) as client:
            try:
                request = CycleRequest(client.upload(content, folder), as_of_ns, held, cash)
                outcome = client.run_cycle(request)
            except InvalidRequestError as error:
                raise as_local_error(error) from error
    raise typer.Exit(_show(outcome, as_json=as_json))


def as_of_time(text: str) -> int:
    """Returns a time in UTC nanoseconds; of a bare date the last one of the day.

    Raises InvalidRequestError for what is no ISO 8601 time.
    """
    from datetime import UTC, datetime

    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        message = f"{text!r} is no time: write 2024-01-31, or 2024-01-31T21:00:00Z."
        raise InvalidRequestError(
            message, violations=(FieldViolation("--as-of", message),)
        ) from None
    moment = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment
    since = moment - datetime(1970, 1, 1, tzinfo=UTC)
    time_ns = (since.days * 86_400 + since.seconds) * 10**9 + since.microseconds * 1_000
    is_bare_date = len(text) <= len("2024-01-31")
    return time_ns + _DAY_NS - 1 if is_bare_date else time_ns


def read_positions(path: Path) -> dict[str, float]:
    """Returns signed units by symbol.

    The file is a CSV with the columns symbol and quantity, or YAML or JSON: `SYMBOL: units` lines,
    alone or below `positions`. Raises InvalidRequestError naming every symbol at fault.
    """
    if not path.is_file():
        _refuse(f"There is no file {str(path)!r}.")
    listed = _csv_positions(path) if path.suffix.lower() == ".csv" else _plain_positions(path)
    found, wrong = {}, []
    for symbol, units in listed:
        try:
            found[symbol] = float(units)
        except (TypeError, ValueError):
            wrong.append(f"{symbol}: {units!r} is no number of units")
    if len(found) < len(listed) - len(wrong):
        wrong.append("an instrument stands there twice")
    if wrong:
        _refuse(f"{path}: {'; '.join(wrong)}.")
    return found


def _csv_positions(path: Path) -> list[tuple[str, Any]]:
    import csv

    with path.open(encoding="utf-8-sig", newline="") as file:
        rows = [
            {str(name).strip().lower(): value for name, value in row.items()}
            for row in csv.DictReader(file)
        ]
    column = next((name for name in _QUANTITY_NAMES if rows and name in rows[0]), None)
    if rows and (column is None or "symbol" not in rows[0]):
        _refuse(f"{path} has no columns symbol and quantity.")
    return [(row["symbol"], row[column or ""]) for row in rows]


def _plain_positions(path: Path) -> list[tuple[str, Any]]:
    from backlane.cli.request_options import read_request_file

    content = read_request_file(path)
    positions = content.get("positions", content)
    if not isinstance(positions, Mapping):
        _refuse(f"{path} holds no `SYMBOL: units` lines.")
    return [(str(symbol), units) for symbol, units in positions.items()]


def _refuse(message: str) -> None:
    raise InvalidRequestError(message, violations=(FieldViolation("positions", message),))


def _decide_here(
    content: dict[str, Any],
    folder: Path,
    as_of_ns: int,
    positions: Mapping[str, float],
    cash: float | None,
    home: Path | None,
) -> "CycleOutcome":
    from backlane.backtest.portfolio_decision import Holdings, decide_once
    from backlane.backtest.portfolio_request import file_roles
    from backlane.backtest.portfolio_run import parse_portfolio_config, plan_run
    from backlane.cli.local_strategies import LocalPlace
    from backlane.clock import SystemClock
    from backlane.sources.portfolio_data import read_portfolio_data

    strategies = LocalPlace(folder, home).strategies()
    config = parse_portfolio_config(content, strategies)
    paths = {role: folder / name for role, name in file_roles(content).items()}
    panel, events = read_portfolio_data(paths)
    plan = plan_run(config, tuple(events), strategies)
    holdings = Holdings(positions, config.initial_cash if cash is None else cash)
    return decide_once(plan, panel, events, as_of_ns, holdings, SystemClock())


def _show(outcome: "CycleOutcome", *, as_json: bool) -> int:
    from backlane.cli.cycle_display import has_failed, print_outcome, print_outcome_json

    (print_outcome_json if as_json else print_outcome)(outcome)
    from backlane.cli.exit_codes import ExitCode

    return ExitCode.FAILED if has_failed(outcome) else ExitCode.OK
