"""The life of `backlane portfolio run --local`: run it here, in its mode, write it, show it."""

import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from backlane.backtest.end_of_day import run_until
from backlane.backtest.mode_config import ReplayConfig
from backlane.backtest.portfolio_config import PortfolioConfig, RunMode
from backlane.backtest.portfolio_cycle import compute
from backlane.backtest.portfolio_request import file_roles
from backlane.backtest.portfolio_result import PortfolioRun
from backlane.backtest.portfolio_run import parse_portfolio_config, plan_run, run_portfolio
from backlane.backtest.portfolio_session import PortfolioSession
from backlane.backtest.replay import replayed
from backlane.backtest.session_bars import rows_of, setup_of
from backlane.cli.local_strategies import LocalPlace
from backlane.cli.paper_display import show_report
from backlane.cli.portfolio_outcome import show_document, show_end_of_day
from backlane.clock import SystemClock
from backlane.cycle.strategy import Registry
from backlane.errors import FieldViolation, InvalidRequestError
from backlane.panel.events import Events
from backlane.panel.panel import Panel
from backlane.sources.end_of_day_files import end_of_day_document, write_end_of_day
from backlane.sources.portfolio_data import read_portfolio_data
from backlane.sources.portfolio_document import trades_document
from backlane.sources.portfolio_results import portfolio_document, write_portfolio_result


def run_here(
    content: dict[str, Any],
    place: LocalPlace,
    out: Path | None,
    *,
    as_of_ns: int | None = None,
    with_trades: bool = False,
    as_json: bool,
) -> None:
    """Runs a configuration in this process, writes the result to `out`, and says what it gave.

    With `with_trades` result.json lists the trades.
    """
    strategies = place.strategies()
    config = parse_portfolio_config(content, strategies)
    if as_of_ns is not None and config.mode is not RunMode.END_OF_DAY:
        message = f"--as-of is for mode end_of_day; the mode is {config.mode}."
        raise InvalidRequestError(message, violations=(FieldViolation("--as-of", message),))
    paths = {role: place.folder / name for role, name in file_roles(content).items()}
    panel, events = read_portfolio_data(paths)
    plain = config.model_dump(mode="json")
    if config.mode is RunMode.END_OF_DAY:
        run = run_until(config, panel, events, as_of_ns, strategies)
        if out is not None:
            write_end_of_day(run, plain, paths, out)
        show_end_of_day(end_of_day_document(run, plain, paths), out, as_json=as_json)
        return
    if config.mode is RunMode.PAPER:  # a store would keep factors of each bar anew
        strategies = replace(place, has_store=False).strategies()
    if config.mode in {RunMode.REPLAY, RunMode.PAPER}:
        run = _followed(config, content, panel, events, strategies, as_json=as_json)
    else:
        run = run_portfolio(config, panel, events, strategies)
    if out is not None:
        write_portfolio_result(run, plain, paths, out, with_trades=with_trades)
    document = portfolio_document(run, plain, paths)
    if with_trades:
        document["trades"] = trades_document(run)
    show_document(document, out, operation=None, as_json=as_json)


def _followed(
    config: PortfolioConfig,
    content: Mapping[str, Any],
    panel: Panel,
    events: Mapping[str, Events],
    strategies: Registry,
    *,
    as_json: bool,
) -> PortfolioRun:
    """Feeds a session bar by bar, and shows what it makes of each.

    A replay knows its bars, so its strategies are asked once; on paper they are asked at each bar.
    """
    stages, pace = None, ReplayConfig()
    if config.mode is RunMode.REPLAY:
        pace = config.replay
        stages = compute(plan_run(config, tuple(events), strategies), panel, events).stages
    session = PortfolioSession(setup_of(content, panel, events), strategies, stages)
    bars = rows_of(panel, events)
    for report in replayed(session, bars, pace, SystemClock(), time.sleep):
        show_report(report, as_json=as_json)
    return session.finish()
