"""The page about a run over one instrument; it is the same for the same result."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from backlane.audit.stamp import AuditStamp
from backlane.report import content
from backlane.report.audits import audit_section
from backlane.report.figures import (
    CURVE_POINTS_MAX,
    MONTHS,
    TRADE_MARKS_MAX,
    overview_figure,
)
from backlane.report.formats import short, timestamp
from backlane.report.page_parts import PAGE_MARK, check_replaceable, render_page, write_page
from backlane.report.trade_table import TRADE_ROWS_MAX, trade_columns, trade_rows

if TYPE_CHECKING:
    from backlane.report.frames import ResultFrames

__all__ = ["PAGE_MARK", "render_report", "write_report"]


def render_report(result: "ResultFrames", stamps: Sequence[AuditStamp] = ()) -> str:
    """Returns the page; it carries the stamps of audits."""
    return render_page(
        "page.html",
        overview_figure(result),
        audits=[audit_section(stamp, result.document) for stamp in stamps],
        **_sections(result),
    )


def write_report(result: "ResultFrames", path: Path, stamps: Sequence[AuditStamp] = ()) -> None:
    """Writes the page: all of it, or nothing.

    An earlier report is replaced; any other file is refused with FileExistsError.
    """
    check_replaceable(path)
    write_page(path, render_report(result, stamps))


def _sections(result: "ResultFrames") -> dict[str, Any]:
    document = result.document
    trade_count = len(result.trades)
    bars = result.bars
    return {
        "document": document,
        "first_bar": timestamp(document.first_bar),
        "last_bar": timestamp(document.last_bar),
        "tiles": content.tiles(result),
        "no_trades_because": short(document.no_trades_because),
        "has_prices": bars is not None,
        "is_thinned": max(len(result.equity), 0 if bars is None else len(bars)) > CURVE_POINTS_MAX,
        "curve_points_max": CURVE_POINTS_MAX,
        "trade_count": trade_count,
        "trade_marks_max": TRADE_MARKS_MAX,
        "month_names": MONTHS,
        "months": content.months(result.monthly_returns),
        "stages": content.stages(document.funnel),
        "metric_groups": content.metric_groups(result),
        "trade_columns": trade_columns(result),
        "trade_rows": trade_rows(result),
        "trade_rows_max": TRADE_ROWS_MAX,
        "fill_sentence": content.fill_sentence(result),
        "assumptions": content.assumptions(document.config),
        "identity": content.identity(result),
        "request": content.request_text(result.request),
    }
