"""The page of a portfolio as a browser shows it: drawn, readable, silent, without any network."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.chromium import Page, chromium_page, needs_chromium
from tests.e2e.cli_services import ROOT

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180), needs_chromium]

COMMAND_TIMEOUT_S = 90.0


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a user makes: the example is run, and its page written."""
    folder = tmp_path_factory.mktemp("portfolio")
    config, out = ROOT / "examples" / "portfolio" / "trend.yaml", folder / "result"
    for arguments in (
        ["portfolio", "run", "--local", "--config", config, "--out", out],
        ["report", out, "--out", folder / "page.html"],
    ):
        subprocess.run(
            [sys.executable, "-m", "backlane.cli.main", *map(str, arguments)],
            cwd=ROOT / "services",
            check=True,
            capture_output=True,
            timeout=COMMAND_TIMEOUT_S,
        )
    return folder / "page.html"


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


def test_equity_drawdown_exposure_and_turnover_are_drawn(page: Page):
    assert page.evaluate("document.querySelectorAll('#curves .subplot').length") == 4
    names = page.evaluate("document.getElementById('curves').data.map(trace => trace.name)")
    assert set(names) == {"equity", "drawdown", "wanted, gross", "net exposure", "turnover"}
    drawn = "document.querySelectorAll('#curves .scatterlayer path.js-line').length"
    assert page.evaluate(drawn) == 5


def test_instruments_costs_and_trades_can_be_read(page: Page):
    text = page.evaluate("document.body.innerText")
    for expected in ("trend_baseline", "Sharpe ratio", "half_spread", "decision", "sha256:"):
        assert expected in text, expected
    symbols = (
        "[...document.querySelectorAll('#symbol-table tbody tr')].map(r => r.cells[0].innerText)"
    )
    assert sorted(page.evaluate(symbols)) == ["ELM", "FIR", "OAK"]


def test_the_trades_are_sorted_by_a_click(page: Page):
    column = "[...document.querySelectorAll('#trade-table th')].find(th => th.innerText == 'net')"
    keys = (
        f"(() => {{ const at = {column}.cellIndex;"
        "return [...document.querySelectorAll('#trade-table tbody tr')]"
        ".map(row => Number(row.cells[at].dataset.key)) })()"
    )
    before = page.evaluate(keys)
    page.evaluate(f"{column}.querySelector('button').click()")
    assert page.evaluate(keys) == sorted(before) != before


@pytest.mark.parametrize("width", [1280, 390])
def test_nothing_sticks_out_of_a_desk_or_a_phone(page: Page, report: Path, width: int):
    page.resize(width, 900, is_phone=width < 640)
    page.open(report)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
