"""The page: one HTML file that needs no network, and is the same for the same result.

Everything from a file is escaped by the template; a content policy in the page lets only the
page's own three scripts run, and lets nothing be fetched.
"""

import base64
import hashlib
import json
import os
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

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
from backlane.report.trade_table import TRADE_ROWS_MAX, trade_columns, trade_rows

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

    from backlane.report.frames import ResultFrames

PAGE_MARK = "<!doctype html>\n<!-- backlane.report.v1 -->"
"""How every report begins: only such a file is replaced."""


def render_report(result: "ResultFrames", stamps: Sequence[AuditStamp] = ()) -> str:
    """Returns the page; it carries the stamps of audits."""
    environment = Environment(
        loader=PackageLoader("backlane.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    scripts = [_plotly_js(), _asset("page.js")]
    return environment.get_template("page.html").render(
        mark=Markup(PAGE_MARK),  # noqa: S704 - a constant
        policy=_policy(scripts),
        style=Markup(_asset("page.css")),  # noqa: S704 - of this package
        scripts=[Markup(script) for script in scripts],  # noqa: S704 - plotly's and this package's
        figure=Markup(_figure_json(overview_figure(result))),  # noqa: S704 - escaped as JSON
        audits=[audit_section(stamp, result.document) for stamp in stamps],
        **_sections(result),
    )


def write_report(result: "ResultFrames", path: Path, stamps: Sequence[AuditStamp] = ()) -> None:
    """Writes the page: all of it, or nothing.

    An earlier report is replaced; any other file is refused with FileExistsError.
    """
    if path.exists() and not _is_report(path):
        raise FileExistsError(f"{path} exists and is no report: choose another --out.")
    page = render_report(result, stamps)
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        scratch.write_text(page, encoding="utf-8")
        scratch.replace(path)
    finally:
        scratch.unlink(missing_ok=True)


def _is_report(path: Path) -> bool:
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return file.read(len(PAGE_MARK)) == PAGE_MARK.encode()


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
        "months": content.months(result),
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


def _figure_json(figure: "Figure") -> str:
    """The figure as JSON that cannot end the script element around it."""
    text = json.dumps(json.loads(figure.to_json(engine="json")), separators=(",", ":"))
    for character in "<>&":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text


def _plotly_js() -> str:
    from plotly.offline import get_plotlyjs

    return str(get_plotlyjs())


def _asset(name: str) -> str:
    return files("backlane.report").joinpath("templates", name).read_text(encoding="utf-8")


def _policy(scripts: list[str]) -> str:
    """The Content-Security-Policy: no network at all, and no script but these."""
    digests = [hashlib.sha256(script.encode()).digest() for script in scripts]
    allowed = " ".join(f"'sha256-{base64.b64encode(each).decode()}'" for each in digests)
    return (
        f"default-src 'none'; script-src {allowed}; style-src 'unsafe-inline'; "
        "img-src data: blob:; base-uri 'none'; form-action 'none'"
    )
