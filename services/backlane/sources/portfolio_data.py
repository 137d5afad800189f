"""The files of a portfolio run, by what each is in it: `panel`, `events.insider`."""

from collections.abc import Mapping
from pathlib import Path

from backlane.backtest.portfolio_request import EVENTS_ROLE, PANEL_ROLE
from backlane.panel.events import Events
from backlane.panel.panel import Panel
from backlane.sources.event_files import read_events
from backlane.sources.panel_files import read_panel


def read_portfolio_data(paths: Mapping[str, Path]) -> tuple[Panel, dict[str, Events]]:
    """Returns the panel, and the events by source; raises what reading either raises."""
    panel = read_panel(paths[PANEL_ROLE])
    sources = {role.removeprefix(f"{EVENTS_ROLE}."): path for role, path in paths.items()}
    events = {
        source: read_events(path, source, panel.symbols)
        for source, path in sources.items()
        if source != PANEL_ROLE
    }
    return panel, events
