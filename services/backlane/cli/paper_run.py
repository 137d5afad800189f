"""The life of `backlane paper`: where its bars come from, and the session that they go into."""

import json
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from backlane.backtest.session_lines import bar_from_line, setup_from_line
from backlane.backtest.session_records import BarRow, SessionSetup
from backlane.cli.output import say_aside
from backlane.cli.paper_display import show_report
from backlane.errors import FieldViolation, InvalidRequestError

if TYPE_CHECKING:
    from backlane.cycle.strategy import Registry

LINE_CHARACTERS_MAX = 4 << 20
"""A longer line is none: it would not fit a message."""


@dataclass(frozen=True, slots=True)
class Feed:
    """What a session is about, and its bars from a number on; live ones come when they come."""

    setup: SessionSetup
    bars: Callable[[int], Iterator[BarRow]]
    is_live: bool = False


@dataclass(frozen=True, slots=True)
class Wish:
    """Which session to open: a new one, or one to go on with; and whether it is to be left."""

    resume: str | None
    received: int
    request_id: str | None
    is_left: bool


def open_feed(content: Mapping[str, Any], folder: Path, panel: Path | None) -> Feed:
    """Returns the bars of a panel file with the events of the configuration, or those that come."""
    if panel is not None:
        return _file_feed(content, folder, panel)
    lines = _lines()
    first = next(lines, None)
    if first is None:
        message = "There is no line on standard input, and no --panel: give one of them."
        raise InvalidRequestError(message, violations=(FieldViolation("--panel", message),))
    setup = setup_from_line(first, content)

    def bars(next_number: int) -> Iterator[BarRow]:
        for number, line in enumerate(lines, next_number):
            yield bar_from_line(line, number, setup)

    return Feed(setup, bars, is_live=True)


def _file_feed(content: Mapping[str, Any], folder: Path, panel_path: Path) -> Feed:
    from backlane.backtest.portfolio_request import PANEL_ROLE, file_roles
    from backlane.backtest.session_bars import rows_of, setup_of
    from backlane.sources.portfolio_data import read_portfolio_data

    paths = {role: folder / name for role, name in file_roles(content).items()}
    panel, events = read_portfolio_data({**paths, PANEL_ROLE: panel_path})
    return Feed(setup_of(content, panel, events), lambda number: rows_of(panel, events, number - 1))


def _lines() -> Iterator[Any]:
    """Yields the lines of standard input, each a document; empty ones are passed over."""
    for line in sys.stdin:
        if not line.strip():
            continue
        if len(line) > LINE_CHARACTERS_MAX:
            raise InvalidRequestError(f"A line has {len(line)} characters: at most 4 MiB.")
        try:
            yield json.loads(line)
        except ValueError as error:
            raise InvalidRequestError(f"A line is no JSON ({error}): {line[:80]!r}") from error


def follow_here(feed: Feed, strategies: "Registry", out: Path | None, *, as_json: bool) -> None:
    """Trades in this process; a session is gone with it."""
    from backlane.backtest.portfolio_session import PortfolioSession
    from backlane.cli.portfolio_outcome import show_document
    from backlane.sources.portfolio_results import portfolio_document, write_portfolio_result

    session = PortfolioSession(feed.setup, strategies)
    for bar in feed.bars(1):
        show_report(session.feed(bar), as_json=as_json)
    run = session.finish()
    plain = session.plan.config.model_dump(mode="json")
    if out is not None:
        write_portfolio_result(run, plain, {}, out)
    show_document(portfolio_document(run, plain, {}), out, operation=None, as_json=as_json)


def follow_there(feed: Feed, address: str, out: Path | None, wish: Wish, *, as_json: bool) -> None:
    """Trades through the services, over their restarts; shows the result once it is finished."""
    from backlane.cli.portfolio_remote import show_result
    from backlane.client.paper_sessions import PaperSession
    from backlane.client.portfolios import PortfoliosClient

    if wish.resume is not None:
        session = PaperSession.resume(wish.resume, address, received=wish.received)
    else:
        session = PaperSession.start(feed.setup, address, request_id=wish.request_id)
    with session:
        name = session.operation
        say_aside(f"session  {name}")
        try:
            _follow(session, feed, as_json=as_json)
            if wish.is_left:
                say_aside(f"left after bar {session.received}; --resume {name} goes on")
                return
            session.finish()
        except KeyboardInterrupt:
            say_aside(f"left after bar {session.received}; --resume {name} goes on")
            raise
    with PortfoliosClient(address) as client:
        show_result(client, name, out, as_json=as_json)


def _follow(session: Any, feed: Feed, *, as_json: bool) -> None:
    """Shows every report."""
    for report in session.follow(()):
        show_report(report, as_json=as_json)
    bars = feed.bars(session.next_number)
    if not feed.is_live:
        for report in session.follow(bars):
            show_report(report, as_json=as_json)
        return
    for bar in bars:  # each is traded on before the next one is waited for
        show_report(session.feed(bar), as_json=as_json)
