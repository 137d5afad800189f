"""The page about a portfolio: curves, contributions, costs; the same for the same result."""

import json
import math
from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from backlane.report import content
from backlane.report.content import Fact, MetricRow, Tile
from backlane.report.figures import CURVE_POINTS_MAX, MONTHS
from backlane.report.formats import (
    ABSENT,
    cut,
    in_unit,
    money,
    number,
    percent,
    price_decimals,
    quantity,
    short,
    timestamp,
)
from backlane.report.page_parts import check_replaceable, render_page, write_page
from backlane.report.portfolio_figures import portfolio_figure
from backlane.report.portfolio_frames import PortfolioDocument, PortfolioFrames
from backlane.report.portfolio_texts import COST_TEXTS, END_TEXTS, METRIC_TEXTS
from backlane.report.trade_table import TRADE_ROWS_MAX, Cell

SYMBOL_ROWS_MAX = 1000
"""Rows of the table of instruments: those that gave most, and the rest in trades.csv."""
CONFIG_CHARS_MAX = 20_000
"""Characters of the configuration that the page shows."""
TRADE_COLUMNS: Mapping[str, str] = {
    "symbol": "text",
    "side": "text",
    "entry": "text",
    "exit": "text",
    "quantity": "number",
    "entry price": "number",
    "exit price": "number",
    "gross": "number",
    "cost": "number",
    "net": "number",
    "ended by": "text",
}
"""The columns of the trade table, and how each is sorted."""


def render_portfolio_report(result: PortfolioFrames) -> str:
    """Returns the page of a portfolio."""
    document = result.document
    contributions = result.contributions
    return render_page(
        "portfolio.html",
        portfolio_figure(result),
        title=short(_strategy(document)),
        document=document,
        first_time=timestamp(document.first_time) if document.first_time else ABSENT,
        last_time=timestamp(document.last_time) if document.last_time else ABSENT,
        tiles=_tiles(document),
        stale=", ".join(map(short, document.held_without_a_bar)),
        has_targets=result.gross_target is not None,
        is_thinned=len(result.equity) > CURVE_POINTS_MAX,
        curve_points_max=CURVE_POINTS_MAX,
        month_names=MONTHS,
        months=content.months(result.monthly_returns),
        metric_rows=_metric_rows(document),
        symbol_rows=_symbol_rows(contributions.head(SYMBOL_ROWS_MAX)),
        symbol_count=len(contributions),
        symbol_rows_max=SYMBOL_ROWS_MAX,
        cost_rows=_cost_rows(result.costs),
        trade_columns=TRADE_COLUMNS,
        trade_rows=_trade_rows(result.trades.head(TRADE_ROWS_MAX)),
        trade_count=len(result.trades),
        trade_rows_max=TRADE_ROWS_MAX,
        facts=_facts(document),
        config=cut(json.dumps(document.config, indent=2), CONFIG_CHARS_MAX),
    )


def write_portfolio_report(result: PortfolioFrames, path: Path) -> None:
    """Writes the page: all of it, or nothing.

    An earlier report is replaced; any other file is refused with FileExistsError.
    """
    check_replaceable(path)
    write_page(path, render_portfolio_report(result))


def _strategy(document: PortfolioDocument) -> str:
    config = document.config
    several = config.get("strategies") or [config.get("strategy")]
    names = [str(each.get("name", "")) for each in several if isinstance(each, Mapping)]
    return ", ".join(name for name in names if name) or "Portfolio"


def _tiles(document: PortfolioDocument) -> list[Tile]:
    """Returns the headline numbers; an undefined one with its reason."""
    values = {**document.metrics, **document.regression_keys}
    counts = document.counts
    wins = f"{counts.get('winning_trades', 0):,} won, {counts.get('losing_trades', 0):,} lost"
    notes = {
        "total_return": f"{money(document.final_equity)} from {money(document.initial_cash)}",
        "annualized_return": "compounded",
        "sharpe_ratio": f"Sortino {_shown('sortino_ratio', values)}",
        "max_drawdown": f"{_shown('max_drawdown_money', values)} from the peak",
        "win_rate": wins,
        "profit_factor": "money won over money lost",
        "turnover": "a year",
    }
    tiles = []
    for name, note in notes.items():
        value = values.get(name)
        tone = "" if not value or not name.endswith("return") else "won" if value > 0 else "lost"
        said = document.undefined_metrics.get(name, "") if value is None else note
        title = METRIC_TEXTS[name].title
        tiles.append(Tile(title, _shown(name, values), short(said), tone))
    costs = document.total_cost
    bps = costs / document.traded_notional * 1e4 if document.traded_notional else math.nan
    tiles.append(Tile("Costs of fills", money(costs), f"{number(bps, 2)} bps of what was traded"))
    return tiles


def _shown(name: str, values: Mapping[str, float | None]) -> str:
    text = METRIC_TEXTS.get(name)
    return in_unit(values.get(name), "" if text is None else text.unit)


def _metric_rows(document: PortfolioDocument) -> list[MetricRow]:
    values = {**document.metrics, **document.regression_keys}
    rows = []
    for name, value in values.items():
        text = METRIC_TEXTS.get(name)
        reason = document.undefined_metrics.get(name, "no reason is given")
        rows.append(
            MetricRow(
                short(name),
                short(name) if text is None else text.title,
                _shown(name, values),
                "" if value is None else repr(float(value)),
                "" if text is None else text.formula,
                short(f"undefined: {reason}") if value is None else "",
                "",
            )
        )
    return rows


def _symbol_rows(table: pd.DataFrame) -> list[list[Cell]]:
    return [
        [
            Cell(short(str(symbol)), short(str(symbol))),
            Cell(f"{row['trades']:,.0f}", repr(float(row["trades"]))),
            Cell(percent(row["won"]), repr(float(row["won"]))),
            *(_amount(row[name]) for name in ("gross_pnl", "cost")),
            _amount(row["net_pnl"], "won" if row["net_pnl"] > 0 else "lost"),
            Cell(percent(row["share"]), repr(float(row["share"]))),
        ]
        for symbol, row in table.iterrows()
    ]


def _cost_rows(table: pd.DataFrame) -> list[tuple[str, str, str, str]]:
    return [
        (str(name), money(row["money"]), number(row["bps"], 2), COST_TEXTS[str(name)])
        for name, row in table.iterrows()
    ]


def _trade_rows(trades: pd.DataFrame) -> list[list[Cell]]:
    prices = trades[["entry_price", "exit_price"]].to_numpy().ravel()
    decimals = price_decimals(prices)
    rows = []
    for trade in trades.to_dict("records"):
        reason = str(trade.get("reason") or ("open" if trade["is_open"] else ""))
        rows.append(
            [
                Cell(short(trade["symbol"]), short(trade["symbol"])),
                Cell(short(trade["side"]), short(trade["side"])),
                *(
                    Cell(timestamp(trade[name]), timestamp(trade[name]))
                    for name in ("entry_time", "exit_time")
                ),
                Cell(quantity(trade["quantity"]), repr(trade["quantity"])),
                *(
                    Cell(number(trade[name], decimals), repr(trade[name]))
                    for name in ("entry_price", "exit_price")
                ),
                *(_amount(trade[name]) for name in ("gross_pnl", "cost")),
                _amount(trade["net_pnl"], "won" if trade["net_pnl"] > 0 else "lost"),
                Cell(short(reason), short(reason), title=END_TEXTS.get(reason, "")),
            ]
        )
    return rows


def _amount(value: float, tone: str = "") -> Cell:
    return Cell(money(value), repr(float(value)), tone)


def _facts(document: PortfolioDocument) -> dict[str, list[Fact]]:
    groups = {
        "Counts": [Fact(short(name), f"{count:,}") for name, count in document.counts.items()],
        "Digests of the files": [
            Fact(short(role), short(digest)) for role, digest in document.inputs.items()
        ],
        "Also in result.json": [
            Fact(short(name), cut(json.dumps(value, sort_keys=True), 200))
            for name, value in (document.model_extra or {}).items()
            if name != "trades"
        ],
    }
    return {title: found for title, found in groups.items() if found}
