"""What every page has: one HTML file, its scripts and styles inside, and a policy without network.

Everything from a file is escaped by the template; a content policy in the page lets only the
page's own scripts run, and lets nothing be fetched.
"""

import base64
import hashlib
import json
import os
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

PAGE_MARK = "<!doctype html>\n<!-- backlane.report.v1 -->"
"""How every report begins: only such a file is replaced."""


def render_page(template: str, figure: "Figure", **values: Any) -> str:
    """Returns a page of one template, with a figure that page.js draws."""
    environment = Environment(
        loader=PackageLoader("backlane.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    scripts = [_plotly_js(), _asset("page.js")]
    return environment.get_template(template).render(
        mark=Markup(PAGE_MARK),  # noqa: S704 - a constant
        policy=_policy(scripts),
        style=Markup(_asset("page.css")),  # noqa: S704 - of this package
        scripts=[Markup(script) for script in scripts],  # noqa: S704 - plotly's and this package's
        figure=Markup(_figure_json(figure)),  # noqa: S704 - escaped as JSON
        **values,
    )


def check_replaceable(path: Path) -> None:
    """Raises FileExistsError for a file in the page's place that is no report."""
    if path.exists() and not _is_report(path):
        raise FileExistsError(f"{path} exists and is no report: choose another --out.")


def write_page(path: Path, page: str) -> None:
    """Writes a page: all of it, or nothing."""
    check_replaceable(path)
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
