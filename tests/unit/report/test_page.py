"""The page: everything is on it, it is the same for a result, and no file's text can act in it."""

import base64
import hashlib
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pyarrow as pa
import pytest

from backlane.backtest.result import BacktestRun
from backlane.decisions.decision import DecisionReason
from backlane.execution.order import ExitReason, OrderOutcome
from backlane.metrics.definitions import METRICS
from backlane.report.document import ResultDocument
from backlane.report.figures import CURVE_POINTS_MAX
from backlane.report.formats import TEXT_CHARS_MAX
from backlane.report.frames import ResultFrames, load_result
from backlane.report.page import PAGE_MARK, render_report, write_report
from backlane.report.texts import CONFIG_TEXTS, EXIT_TEXTS, REASON_TEXTS
from backlane.report.trade_table import TRADE_ROWS_MAX
from backlane.sources.results import request_document, result_document, trades_table
from tests.unit.report.conftest import run_sample

HOSTILE = "</script><img src=x onerror=alert(1)>'\"&{{ 7*7 }}"


class Reader(HTMLParser):
    """Collects the texts of a page by element, and every script and attribute."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.texts: list[str] = []
        self.scripts: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.tags: list[str] = []
        self._raw = ""
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs
        self._raw = tag if tag in ("script", "style") else ""
        if tag == "script":
            self.scripts.append("")

    def handle_endtag(self, tag):
        self._raw = ""

    def handle_data(self, data):
        if self._raw == "script":
            self.scripts[-1] += data
        elif not self._raw:
            self.texts.append(data)

    @property
    def text(self) -> str:
        return re.sub(r"\s+", " ", " ".join(self.texts))


@pytest.fixture(scope="module")
def page(written: Path) -> str:
    return render_report(load_result(written))


def test_the_same_result_gives_the_same_bytes_from_memory_too(run: BacktestRun, page: str):
    assert render_report(ResultFrames.from_run(run)) == page


def test_it_says_every_metric_reason_assumption_digest_and_version(run: BacktestRun, page: str):
    text = Reader(page).text
    for metric in run.metrics:
        assert metric.id in text
        assert (metric.undefined_reason or "") in text
    for definition in METRICS:
        assert definition.formula in text
        assert definition.source in text
    for stage in run.funnel:
        for reason, count in stage.drops.items():
            assert f"{count:,} {reason}" in text
    for key, value in run.config.items():
        for name in value if isinstance(value, dict) else [key]:
            assert name in text
    provenance = run.provenance
    digests = (
        provenance.result_digest,
        provenance.order_digest,
        provenance.config_digest,
        provenance.model_digest,
        *provenance.dataset_digests.values(),
    )
    for digest in digests:
        assert digest in text
    assert "backlane 0.2.0" in text
    assert "A decision at the close of a bar fills at the open of the next one." in text


def test_metrics_carry_their_exact_values(run: BacktestRun, page: str):
    assert ("value", repr(run.metric("sharpe_ratio"))) in Reader(page).attributes


def test_every_trade_is_a_row_that_is_there_without_javascript(run: BacktestRun, page: str):
    body = page.partition('id="trade-table"')[2].partition("<tbody>")[2].partition("</tbody>")[0]
    assert body.count("<tr>") == len(run.trades) <= TRADE_ROWS_MAX


def test_it_asks_for_nothing_from_any_network(page: str):
    reader = Reader(page)
    assert {"link", "iframe", "img", "object", "embed"} & set(reader.tags) == {"link"}
    assert [value for name, value in reader.attributes if name == "src"] == []
    links = [value for name, value in reader.attributes if name == "href"]
    assert all(link.startswith(("#", "data:,")) for link in links)


def test_only_the_scripts_of_the_page_may_run(page: str):
    reader = Reader(page)
    policy = next(value for name, value in reader.attributes if value and "script-src" in value)
    data, *scripts = reader.scripts
    json.loads(data)
    digests = [hashlib.sha256(each.encode()).digest() for each in scripts]
    expected = " ".join(f"'sha256-{base64.b64encode(each).decode()}'" for each in digests)
    assert f"default-src 'none'; script-src {expected};" in policy
    assert not [name for name, _ in reader.attributes if name.startswith("on")]


def test_texts_from_files_cannot_act(run: BacktestRun):
    document = result_document(run)
    document["model"]["name"] = document["no_trades_because"] = HOSTILE
    document["versions"] = {HOSTILE: HOSTILE}
    document["datasets"] = {HOSTILE: HOSTILE}
    document["config"] = {"symbol": HOSTILE, HOSTILE: {HOSTILE: HOSTILE}}
    document["funnel"][0]["stage"] = HOSTILE
    document["funnel"][0]["dropped"] = {HOSTILE: 1}
    document["metrics"][HOSTILE] = None
    document["undefined_metrics"] = dict.fromkeys(document["metrics"], HOSTILE)
    document["metrics"]["sharpe_ratio"] = None
    document[HOSTILE] = {HOSTILE: HOSTILE}
    trades = trades_table(run)
    for column in ("side", "exit_reason"):
        index = trades.column_names.index(column)
        trades = trades.set_column(index, column, pa.array([HOSTILE] * len(trades)))
    real = ResultFrames.from_run(run)
    tables = {"trades.csv": trades}
    hostile = ResultFrames(
        ResultDocument.parse(document, source="x"),
        {"symbol": HOSTILE},
        lambda name: tables[name] if name in tables else real._read(name),
    )
    page = render_report(hostile)
    reader = Reader(page)
    assert "img" not in reader.tags
    assert len(reader.scripts) == 3
    assert HOSTILE in reader.text
    assert "49" not in reader.text.partition("onerror")[2][:40]
    assert "<img" not in json.dumps(json.loads(reader.scripts[0]))


def test_a_long_text_is_cut(run: BacktestRun):
    document = result_document(run)
    document["no_trades_because"] = "x" * (TEXT_CHARS_MAX + 500)
    real = ResultFrames.from_run(run)
    parsed = ResultDocument.parse(document, source="x")
    page = render_report(ResultFrames(parsed, request_document(run), real._read))
    assert "x" * (TEXT_CHARS_MAX - 1) + "…" in page


def test_limits_are_named_where_they_bite(run: BacktestRun):
    long = run_sample(CURVE_POINTS_MAX + 1000)
    real = ResultFrames.from_run(long)
    trades = trades_table(long)
    many = pa.concat_tables([trades] * (2100 // len(trades) + 1))
    tables = {"trades.csv": many}
    result = ResultFrames(
        real.document,
        real.request,
        lambda name: tables[name] if name in tables else real._read(name),
    )
    result.trades["entry_time"] = result.trades["entry_time"].astype("datetime64[ns, UTC]")
    result.trades["exit_time"] = result.trades["exit_time"].astype("datetime64[ns, UTC]")
    page = render_report(result)
    assert f"The first 1,000 of {len(many):,} trades (TRADE_ROWS_MAX)" in page
    assert "at most 4,000 points (CURVE_POINTS_MAX)" in page
    assert f"Of {len(many):,} trades, the 2,000 that won or lost most" in page
    figure = json.loads(Reader(page).scripts[0])
    for trace in figure["data"]:
        if trace.get("name") in ("equity", "drawdown"):
            size = len(base64.b64decode(trace["y"]["bdata"])) // 8
            assert 1000 < size <= CURVE_POINTS_MAX


def test_no_limit_is_named_that_does_not_bite(page: str):
    text = Reader(page).text
    for name in ("CURVE_POINTS_MAX", "TRADE_MARKS_MAX", "TRADE_ROWS_MAX"):
        assert name not in text


def test_a_run_without_trades_says_why():
    idle = run_sample(decisions={"confidence_threshold": 1.0, "filters": {}})
    assert len(idle.trades) == 0
    text = Reader(render_report(ResultFrames.from_run(idle))).text
    assert "No trades: none of" in text
    assert "No trade was closed." in text
    assert "undefined: there are no trades" in text


def test_what_differs_from_the_default_profile_is_marked(page: str):
    assert 'class="unusual"' not in page
    reference = run_sample(profile="ktrdr-head")
    marked = render_report(ResultFrames.from_run(reference))
    assert '<tr class="unusual"><th scope="row"><code>annualization</code></th>' in marked
    assert '<tr class="unusual"><th scope="row"><code>fill</code></th>' not in marked


def test_every_word_of_a_result_has_a_sentence(run: BacktestRun):
    words = [*DecisionReason, *OrderOutcome]
    assert {word.name for word in words} - set(REASON_TEXTS) == set()
    assert {word.name for word in ExitReason} - set(EXIT_TEXTS) == set()
    nested = {
        f"{key}.{name}" for key, value in run.config.items() if isinstance(value, dict)
        for name in value
    }  # fmt: skip
    plain = {key for key, value in run.config.items() if not isinstance(value, dict)}
    assert (nested | plain) - set(CONFIG_TEXTS) == set()


def test_a_report_replaces_a_report_and_nothing_else(run: BacktestRun, tmp_path: Path):
    result, path = ResultFrames.from_run(run), tmp_path / "deep" / "report.html"
    write_report(result, path)
    first = path.read_bytes()
    assert first.startswith(PAGE_MARK.encode())
    write_report(result, path)
    assert path.read_bytes() == first
    path.write_text("my notes")
    with pytest.raises(FileExistsError, match="is no report"):
        write_report(result, path)
    assert path.read_text() == "my notes"
    assert [each.name for each in path.parent.iterdir()] == ["report.html"]
