"""The trade table: its columns, and a cell for each number with what it is sorted by."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from backlane.report.formats import number, price_decimals, quantity, short, timestamp
from backlane.report.texts import EXIT_TEXTS

if TYPE_CHECKING:
    from backlane.report.frames import ResultFrames

TRADE_ROWS_MAX = 1000
"""Rows of the trade table; the first ones, the rest are in trades.csv."""


@dataclass(frozen=True, slots=True)
class Cell:
    """One cell of a sortable table: `key` orders it, as a number where it is one."""

    text: str
    key: str
    tone: str = ""
    title: str = ""


TRADE_COLUMNS: Mapping[str, str] = {
    "#": "number",
    "entry": "text",
    "exit": "text",
    "side": "text",
    "quantity": "number",
    "entry price": "number",
    "exit price": "number",
    "gross": "number",
    "commission": "number",
    "slippage": "number",
    "financing": "number",
    "net": "number",
    "MAE": "number",
    "MFE": "number",
    "closed by": "text",
}
"""The columns of the trade table, and how each is sorted."""


def trade_columns(result: "ResultFrames") -> dict[str, str]:
    """Returns TRADE_COLUMNS; the financing is left out where none was paid."""
    has_financing = _has_financing(result)
    return {n: kind for n, kind in TRADE_COLUMNS.items() if n != "financing" or has_financing}


def _has_financing(result: "ResultFrames") -> bool:
    trades = result.trades
    return "financing" in trades and bool((trades["financing"] != 0).any())


def trade_rows(result: "ResultFrames") -> list[list[Cell]]:
    """Returns the first TRADE_ROWS_MAX trades, in the order of `trade_columns`."""
    trades = result.trades.head(TRADE_ROWS_MAX)
    amount_names = ["gross_pnl", "commission", "slippage"]
    amount_names += ["financing"] if _has_financing(result) else []
    decimals = price_decimals(trades[["entry_price", "exit_price"]].to_numpy().ravel())
    rows = []
    for position, trade in enumerate(trades.to_dict("records"), start=1):
        exit_reason = str(trade["exit_reason"])
        tone = "won" if trade["net_pnl"] > 0 else "lost"
        rows.append(
            [
                Cell(f"{position:,}", str(position)),
                _time(trade["entry_time"]),
                _time(trade["exit_time"]),
                Cell(short(str(trade["side"])), short(str(trade["side"]))),
                Cell(quantity(trade["quantity"]), repr(trade["quantity"])),
                _amount(trade["entry_price"], decimals),
                _amount(trade["exit_price"], decimals),
                *(_amount(trade[name], 2) for name in amount_names),
                _amount(trade["net_pnl"], 2, tone),
                _amount(trade["mae"], 2),
                _amount(trade["mfe"], 2),
                Cell(short(exit_reason), short(exit_reason), title=EXIT_TEXTS.get(exit_reason, "")),
            ]
        )
    return rows


def _time(value: Any) -> Cell:
    return Cell(timestamp(value), timestamp(value))


def _amount(value: float, decimals: int, tone: str = "") -> Cell:
    return Cell(number(value, decimals), repr(float(value)), tone)
