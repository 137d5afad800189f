"""The page of a portfolio: its figures by hand, every word of the result, no text that acts."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from backlane.backtest.portfolio_metrics import portfolio_metrics
from backlane.backtest.portfolio_trade_metrics import REGRESSION_KEYS, TradeEnd
from backlane.cli import main
from backlane.errors import InvalidRequestError, ResultNotFoundError
from backlane.report.page_parts import PAGE_MARK
from backlane.report.portfolio_frames import PortfolioFrames, is_portfolio, load_portfolio
from backlane.report.portfolio_page import SYMBOL_ROWS_MAX, render_portfolio_report
from backlane.report.portfolio_texts import END_TEXTS, METRIC_TEXTS
from tests.unit.report.test_page import HOSTILE, Reader

# Two instruments over three bars: A is bought at bar 1 and sold at bar 2, B is held.
EQUITY = "time,equity,cash\n2024-01-01T00:00:00Z,1000,1000\n2024-01-02T00:00:00Z,990,490\n"
EQUITY += "2024-02-01T00:00:00Z,1100,850\n"
SIGNALS = """time,symbol,direction,score
2024-01-01T00:00:00Z,A,LONG,1
2024-01-01T00:00:00Z,B,SHORT,1
2024-01-02T00:00:00Z,A,FLAT,0
"""
TARGETS = """time,symbol,weight,quantity
2024-01-01T00:00:00Z,A,0.5,5
2024-01-01T00:00:00Z,B,-0.25,2.5
"""
FILLS = """order,time,symbol,side,quantity,price,commission,half_spread,impact,cost,cash_after
1,2024-01-02T00:00:00Z,A,BUY,5,99,1,2,3,6,490
2,2024-02-01T00:00:00Z,A,SELL,5,120,1,2,3,6,850
"""
TRADE_NAMES = "symbol,side,entry_time,exit_time,is_open,quantity,entry_price,exit_price"
TRADES = f"""{TRADE_NAMES},gross_pnl,cost,net_pnl,reason
A,LONG,2024-01-02T00:00:00Z,2024-02-01T00:00:00Z,false,5,99,120,105,12,93,decision
B,SHORT,2024-01-02T00:00:00Z,2024-02-01T00:00:00Z,true,2,10,9,2,0,2,open
A,LONG,2024-02-01T00:00:00Z,2024-02-01T00:00:00Z,false,1,10,8,-2,0,-2,stop_loss
"""
DOCUMENT = {
    "format": "backlane.portfolio_result.v1",
    "config": {"strategy": {"name": "trend_baseline"}},
    "inputs": {"panel": "sha256:1"},
    "symbols": ["A", "B"],
    "bar_count": 3,
    "first_time": "2024-01-01T00:00:00Z",
    "last_time": "2024-02-01T00:00:00Z",
    "initial_cash": 1000.0,
    "final_equity": 1100.0,
    "total_cost": 12.0,
    "traded_notional": 1095.0,
    "periods_per_year": 252.0,
    "metrics": {"total_return": 0.1, "annualized_return": None, "max_drawdown": 0.01},
    "regression_keys": {"win_rate": 0.5, "profit_factor": 46.5},
    "undefined_metrics": {"annualized_return": "there are 3 points of equity"},
    "counts": {"trades": 2, "winning_trades": 1, "losing_trades": 1},
    "held_without_a_bar": [],
}


def written(folder: Path, **changes: object) -> Path:
    files = {
        "equity.csv": EQUITY,
        "signals.csv": SIGNALS,
        "targets.csv": TARGETS,
        "fills.csv": FILLS,
        "trades.csv": TRADES,
        "result.json": json.dumps(DOCUMENT),
    }
    folder.mkdir()
    for name, text in {**files, **changes}.items():
        (folder / name).write_text(str(text))
    return folder


@pytest.fixture
def result(tmp_path: Path) -> PortfolioFrames:
    return load_portfolio(written(tmp_path / "result"))


def test_drawdown_exposure_and_turnover_by_hand(result):
    assert result.drawdown.tolist() == pytest.approx([0.0, -0.01, 0.0])
    assert result.net_exposure.tolist() == pytest.approx([0.0, 500 / 990, 250 / 1100])
    # Bar 1: A 0.5 and B 0.25; at bar 2 A is flat, and B keeps what was decided last.
    assert result.gross_target is not None
    assert result.gross_target.tolist() == pytest.approx([0.75, 0.25, 0.25])
    assert result.turnover.tolist() == pytest.approx([0.0, 5 * 99 / 990, 5 * 120 / 1100])


def test_contributions_add_up_to_what_the_trades_gave(result):
    table = result.contributions
    assert table.index.tolist() == ["A", "B"]
    assert table["net_pnl"].tolist() == [91.0, 2.0]
    assert table["trades"].tolist() == [2, 1]
    assert table.loc["A", "won"] == 0.5
    assert np.isnan(table.loc["B", "won"])  # none of its trades was closed
    assert table["share"].tolist() == pytest.approx([91 / 93, 2 / 93])


def test_costs_by_component(result):
    costs = result.costs
    assert costs["money"].to_dict() == {
        "commission": 2.0, "half_spread": 4.0, "impact": 6.0, "total": 12.0
    }  # fmt: skip
    assert costs.loc["total", "bps"] == pytest.approx(12 / (5 * 99 + 5 * 120) * 1e4)


def test_what_is_carried_is_named(tmp_path):
    document = {**DOCUMENT, "costs": {"commission": 2.0, "borrow": 3.0, "interest": 0.0}}
    result = load_portfolio(written(tmp_path / "r", **{"result.json": json.dumps(document)}))
    assert result.costs["money"].to_dict() == {
        "commission": 2.0, "half_spread": 4.0, "impact": 6.0, "borrow": 3.0, "total": 15.0
    }  # fmt: skip


def test_the_page_says_all_of_it_twice_the_same(result):
    page = render_portfolio_report(result)
    assert page.startswith(PAGE_MARK)
    assert render_portfolio_report(load_portfolio(result.directory)) == page
    text = Reader(page).text
    for expected in (
        "trend_baseline",
        "10.00%",
        "there are 3 points of equity",
        "97.85%",  # A's share of the net
        "stop_loss",
        "sha256:1",
        "109.59",  # bps of all costs
    ):
        assert expected in text, expected


def test_no_text_of_a_file_acts(tmp_path):
    hostile = HOSTILE.replace('"', "'")
    trades = TRADES.replace("\nA,", f'\n"{hostile}",')
    config = {"strategy": {"name": HOSTILE}, "data": {"panel": HOSTILE}}
    document = {**DOCUMENT, "config": config, "held_without_a_bar": [HOSTILE], HOSTILE: HOSTILE}
    files = {"trades.csv": trades, "result.json": json.dumps(document)}
    page = render_portfolio_report(load_portfolio(written(tmp_path / "r", **files)))
    reader = Reader(page)
    assert "img" not in reader.tags
    assert not [name for name, _ in reader.attributes if name.startswith("on")]
    assert len(reader.scripts) == 3
    assert "{{ 7*7 }}" in reader.text
    assert "49" not in reader.text.split("Configuration and files")[1]


def test_a_run_that_traded_nothing_has_a_page(tmp_path):
    files = {
        name: text.partition("\n")[0] + "\n"
        for name, text in {
            "signals.csv": SIGNALS, "targets.csv": TARGETS, "fills.csv": FILLS, "trades.csv": TRADES
        }.items()
    }  # fmt: skip
    result = load_portfolio(written(tmp_path / "r", **files))
    assert result.gross_target is None
    assert "Nothing was traded." in Reader(render_portfolio_report(result)).text


def test_more_instruments_than_rows_are_said_so(tmp_path):
    row = TRADES.splitlines()[1]
    rows = [row.replace("A,", f"S{place},", 1) for place in range(SYMBOL_ROWS_MAX + 5)]
    trades = "\n".join([TRADES.splitlines()[0], *rows]) + "\n"
    page = render_portfolio_report(
        load_portfolio(written(tmp_path / "r", **{"trades.csv": trades}))
    )
    assert "The best 1,000 of 1,005 instruments" in Reader(page).text


def test_every_metric_and_every_end_has_its_words():
    metrics = portfolio_metrics(np.array([1.0, 2.0]), 252.0)
    assert {*metrics, *REGRESSION_KEYS} <= set(METRIC_TEXTS)
    assert set(END_TEXTS) == {end.value for end in TradeEnd}


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("result.json", "{"),
        ("result.json", json.dumps({**DOCUMENT, "format": "backlane.portfolio_result.v9"})),
        ("result.json", json.dumps({**DOCUMENT, "metrics": None})),
        ("equity.csv", "time,equity\n"),
        ("fills.csv", FILLS.replace("99", "much")),
    ],
)
def test_a_damaged_file_is_named(tmp_path, name, text):
    folder = written(tmp_path / "r", **{name: text})
    with pytest.raises(InvalidRequestError, match=name):
        render_portfolio_report(load_portfolio(folder))


def test_a_folder_that_is_no_result_is_said_so(tmp_path):
    with pytest.raises(ResultNotFoundError):
        is_portfolio(tmp_path)


def test_the_command_knows_which_kind_of_result_it_is(tmp_path, capsys):
    folder = written(tmp_path / "result")
    assert main.run(["report", str(folder), "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    page = Path(said["report"]).read_text(encoding="utf-8")
    assert said["report"] == str(tmp_path / "result.html")
    assert "Portfolio report" in Reader(page).text
    assert main.run(["report", str(folder), "--stamp", str(folder / "result.json")]) == 2
    assert "--stamp" in capsys.readouterr().err


def test_frames_are_frames(result):
    assert isinstance(result.monthly_returns, pd.DataFrame)
    months = result.monthly_returns.loc[2024]
    assert months[1] == pytest.approx(-0.01)
    assert months[2] == pytest.approx(1100 / 990 - 1)
    assert len(result.figure().data) == 5
