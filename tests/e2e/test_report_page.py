"""The report as a browser shows it: drawn, readable, silent, and without any network."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.chromium import Page, chromium_page, needs_chromium
from tests.e2e.cli_services import ROOT

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180), needs_chromium]

EXAMPLE_TIMEOUT_S = 90.0


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the example writes: a real model over synthetic bars."""
    path = tmp_path_factory.mktemp("report") / "report.html"
    subprocess.run(
        [sys.executable, ROOT / "examples" / "report" / "tear_sheet.py", path],
        check=True,
        capture_output=True,
        timeout=EXAMPLE_TIMEOUT_S,
    )
    return path


@pytest.fixture(scope="module")
def page(report: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    with chromium_page(tmp_path_factory.mktemp("profile")) as page:
        page.resize(1280, 900)
        page.open(report)
        yield page


def test_it_asks_for_nothing_but_itself(page: Page, report: Path):
    asked = [url for url in page.requests if not url.startswith("data:")]
    assert asked == [report.as_uri()]


def test_the_console_is_silent(page: Page):
    assert page.complaints == []


def test_price_trades_equity_and_drawdown_are_drawn(page: Page):
    assert page.evaluate("document.querySelectorAll('#curves .subplot').length") == 3
    names = page.evaluate("document.getElementById('curves').data.map(trace => trace.name)")
    assert {"won", "lost", "long", "exit", "equity", "drawdown"} <= set(names)
    drawn = "document.querySelectorAll('#curves .scatterlayer path.js-line').length"
    assert page.evaluate(drawn) >= 5
    points = page.evaluate("document.querySelectorAll('#curves .points path').length")
    trades = page.evaluate("document.querySelectorAll('#trade-table tbody tr').length")
    assert points == 2 * trades > 0


def test_it_can_be_read(page: Page):
    text = page.evaluate("document.body.innerText")
    for expected in (
        "SYNTHETIC_EURUSD 1h",
        "Sharpe ratio",
        "Monthly returns, %",
        "BELOW_CONFIDENCE",
        "mean(r) / std(r) * sqrt(n)",
        "A decision at the close of a bar fills at the open of the next one.",
        "sha256:",
    ):
        assert expected in text, expected


def test_the_trades_are_sorted_by_a_click_and_again_the_other_way(page: Page):
    column = "[...document.querySelectorAll('#trade-table th')].find(th => th.innerText == 'net')"
    keys = (
        f"(() => {{ const at = ({column} || document.querySelector('[aria-sort]')).cellIndex;"
        "return [...document.querySelectorAll('#trade-table tbody tr')]"
        ".map(row => Number(row.cells[at].dataset.key)) })()"
    )
    before = page.evaluate(keys)
    page.evaluate(f"{column}.querySelector('button').click()")
    rising = page.evaluate(keys)
    assert rising == sorted(before) != before
    page.evaluate("document.querySelector('[aria-sort] button').click()")
    assert page.evaluate(keys) == rising[::-1]


@pytest.mark.parametrize("width", [1280, 390])
def test_nothing_sticks_out_of_a_desk_or_a_phone(page: Page, report: Path, width: int):
    page.resize(width, 900, is_phone=width < 640)
    page.open(report)
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_without_javascript_all_but_the_curves_is_there(
    report: Path, tmp_path_factory: pytest.TempPathFactory
):
    with chromium_page(tmp_path_factory.mktemp("plain")) as page:
        page.call("Emulation.setScriptExecutionDisabled", value=True)
        page.open(report)
        page.call("Emulation.setScriptExecutionDisabled", value=False)
        text = page.evaluate("document.body.innerText")
        rows = page.evaluate("document.querySelectorAll('#trade-table tbody tr').length")
    assert "The curves need JavaScript" in text
    assert "Sharpe ratio" in text
    assert rows > 100
