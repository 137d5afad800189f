"""One paper session with its files: what was taken and reported outlives the process.

A bar is on the disk before it is traded on. What comes out of it depends on the bars alone, so
whatever a broken process had not written yet is made again out of them, to the same bytes.
"""

import hashlib
from collections.abc import Generator, Mapping
from pathlib import Path

import structlog

from backlane.backtest.checkpoint_file import Binding
from backlane.backtest.portfolio_request import PortfolioRequest
from backlane.backtest.portfolio_session import PortfolioSession
from backlane.backtest.portfolio_summary import PortfolioSummary
from backlane.backtest.session_records import BarReport, BarRow, SessionSetup
from backlane.backtest.session_state import decode_session, encode_session
from backlane.errors import (
    CheckpointCorruptError,
    CheckpointForeignError,
    FieldViolation,
    InvalidRequestError,
    NondeterministicReplayError,
)
from backlane.operations.operation import Operation
from backlane.sources.portfolio_results import PORTFOLIO_RESULT_FILES, write_portfolio_result
from backlane.sources.portfolio_summaries import summarize_portfolio
from backlane.sources.session_files import SessionFiles
from backlane.sources.strategy_packages import installed_strategies
from backlane.wire.paper_sessions import (
    bar_from_bytes,
    bar_to_bytes,
    report_from_bytes,
    report_to_bytes,
    setup_from_payload,
)
from backtest_service.run_directory import list_files
from backtest_service.versions import read_versions

STATE_EVERY_BARS = 200
"""Bars after which the state is kept: a session that is opened again goes over no more of them."""

_log = structlog.get_logger(__name__)


class PaperBook:
    """A session and its files; its methods read and write them, and are called one at a time."""

    def __init__(self, home: Path, operation: Operation) -> None:
        """Opens what is kept of the session of an operation, or begins it.

        Raises InvalidRequestError where the operation is no session, NondeterministicReplayError
        where the kept bars give something else than was reported, and CycleFailedError.
        """
        self._setup = setup_from_payload(operation.spec)
        self._files = SessionFiles(home, operation.name.removeprefix("operations/"))
        digest = hashlib.sha256(operation.spec.value).hexdigest()
        self._binding = Binding(digest, "", versions=read_versions({}))
        self._summary: PortfolioSummary | None = None
        self._session = self._restored()
        for index in range(self._session.bar_count, len(self._files.bars)):
            self._trade(bar_from_bytes(self._files.bars.read(index)))

    def _restored(self) -> PortfolioSession:
        """Returns the session after the bar of its newest state, or before the first."""
        registry = installed_strategies()
        session = PortfolioSession(self._setup, registry)
        content = self._files.read_state()
        if content is None:
            return session
        try:
            session.restore(decode_session(content, self._binding))
        except (CheckpointCorruptError, CheckpointForeignError) as error:
            _log.warning("state of a session not used; going over its bars", reason=error.message)
            return PortfolioSession(self._setup, registry)
        if session.bar_count > min(len(self._files.bars), len(self._files.reports)):
            return PortfolioSession(self._setup, registry)
        return session

    @property
    def bar_count(self) -> int:
        """How many bars are kept, and reported."""
        return self._session.bar_count

    def feed(self, bar: BarRow) -> BarReport | None:
        """Takes a bar and returns its report; None for one that is kept already.

        Raises InvalidRequestError for a bar that cannot follow, or is another than the one kept,
        and CycleFailedError where too many cycles failed.
        """
        content = bar_to_bytes(bar)
        if 0 < bar.number <= self.bar_count:
            if self._files.bars.read(bar.number - 1) != content:
                message = (
                    f"Bar {bar.number} is kept already, with other content: what was traded on "
                    "cannot be corrected."
                )
                violation = FieldViolation("", message)
                raise InvalidRequestError(message, violations=(violation,))
            return None
        self._session.check(bar)
        self._files.bars.append(content, is_synced=True)
        report = self._trade(bar)
        if self.bar_count % STATE_EVERY_BARS == 0:
            self.keep_state()
        return report

    def _trade(self, bar: BarRow) -> BarReport:
        report = self._session.feed(bar)
        content, index = report_to_bytes(report), bar.number - 1
        if index == len(self._files.reports):
            self._files.reports.append(content, is_synced=False)
        elif self._files.reports.read(index) != content:
            raise NondeterministicReplayError(
                f"Bar {bar.number} gives something else than was reported of it: another version, "
                "or a strategy that depends on more than its bars.",
                metadata={"bar": str(bar.number)},
            )
        return report

    def report(self, number: int) -> BarReport:
        """Returns a report that was made, by its number from 1."""
        return report_from_bytes(self._files.reports.read(number - 1))

    def keep_state(self) -> None:
        """Keeps the state of now, so that opening the session again takes no time."""
        self._files.write_state(encode_session(self._session.state(), self._binding))

    def finish(self, directory: Path) -> PortfolioSummary:
        """Ends the session, writes its result directory, and returns the summary.

        Raises InvalidRequestError before the first bar.
        """
        if self._summary is not None:
            return self._summary
        if self.bar_count == 0:
            message = "There was no bar yet: send one, or cancel the session."
            raise InvalidRequestError(message, violations=(FieldViolation("finish", message),))
        self.keep_state()
        run = self._session.finish()
        document = self._session.plan.config.model_dump(mode="json")
        write_portfolio_result(run, document, {}, directory)
        files = list_files(directory, PORTFOLIO_RESULT_FILES)
        request = PortfolioRequest(_plain(self._setup))
        versions = self._binding.versions
        self._summary = summarize_portfolio(directory, run, request, files, {}, versions)
        return self._summary

    def end(self) -> None:
        """Notes that the session is over."""
        self._files.end()

    def close(self) -> None:
        """Closes the files of the session."""
        self._files.close()


def _plain(setup: SessionSetup) -> Mapping[str, object]:
    return {name: value for name, value in setup.config.items() if name != "data"}


def kept_reports(home: Path, operation_id: str, first: int) -> Generator[BarReport, None, None]:
    """Yields the reports of a session that has ended, from number `first` on."""
    files = SessionFiles(home, operation_id)
    try:
        for index in range(first - 1, len(files.reports)):
            yield report_from_bytes(files.reports.read(index))
    finally:
        files.close()
