"""What client and service of a paper session say to each other: plain records, light."""

from dataclasses import dataclass

from backlane.backtest.portfolio_summary import PortfolioSummary
from backlane.backtest.session_records import BarReport, BarRow, SessionSetup


@dataclass(frozen=True, slots=True)
class StartSession:
    """Opens a session; the same request_id again opens the same one."""

    request_id: str
    setup: SessionSetup


@dataclass(frozen=True, slots=True)
class ResumeSession:
    """Goes on with a session after the last report that the client has, 0 for none."""

    operation: str
    received_number: int


@dataclass(frozen=True, slots=True)
class NextBars:
    """Bars that follow one another."""

    bars: tuple[BarRow, ...]


@dataclass(frozen=True, slots=True)
class ReportsReceived:
    """The client has every report up to this number."""

    number: int


@dataclass(frozen=True, slots=True)
class FinishSession:
    """There will be no further bar."""


@dataclass(frozen=True, slots=True)
class SessionOpened:
    """The session is ready for the bar with this number: all before it are kept."""

    operation: str
    next_number: int


@dataclass(frozen=True, slots=True)
class SessionFinished:
    """The session has ended; its result is kept as that of a backtest."""

    summary: PortfolioSummary


SessionMessage = StartSession | ResumeSession | NextBars | ReportsReceived | FinishSession
SessionAnswer = SessionOpened | BarReport | SessionFinished
