"""The figures: price with the trades marked, equity, drawdown; the monthly returns.

A figure is the same for the same result: no ids, no times of day, no chance.
"""

from html import escape
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from plotly import graph_objects as go
from plotly.subplots import make_subplots

from backlane.report.curves import extreme_indices, range_stretches
from backlane.report.formats import money, percent, price_decimals, quantity
from backlane.report.palette import (
    EQUITY,
    FONT,
    INK,
    LOST,
    LOST_AREA,
    MUTED,
    PAPER,
    PRICE,
    PRICE_RANGE,
    RULE,
    WON,
)

if TYPE_CHECKING:
    from backlane.report.frames import ResultFrames

CURVE_POINTS_MAX = 4000
"""Points of a drawn curve; of more, the lowest and highest of each stretch are kept."""
TRADE_MARKS_MAX = 2000
"""Trades marked on the price; of more, those that won or lost most."""

MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_NO_HOVER = "skip"


def overview_figure(result: "ResultFrames") -> go.Figure:
    """Returns three panels over one time axis: price and trades, equity, drawdown."""
    figure = make_subplots(
        rows=3, cols=1, shared_xaxes=True, row_heights=[0.48, 0.32, 0.20], vertical_spacing=0.035
    )
    _add_price(figure, result)
    _add_trades(figure, marked_trades(result.trades))
    _add_equity(figure, result)
    _add_drawdown(figure, result)
    style_figure(figure)
    titles = ("Price", "Equity", "Drawdown")
    for row, title in enumerate(titles, start=1):
        figure.update_yaxes(title_text=title, row=row, col=1)
    figure.update_xaxes(type="date", range=time_range(result.equity.index))
    figure.update_yaxes(tickformat=".1~%", rangemode="tozero", row=3, col=1)
    figure.update_layout(
        height=760,
        hovermode="x",
        legend={
            "orientation": "h",
            "y": 1.0,
            "yanchor": "bottom",
            "traceorder": "normal",
        },
    )
    return figure


def monthly_figure(result: "ResultFrames") -> go.Figure:
    """Returns the heat map of the monthly returns, a row for each year."""
    table = result.monthly_returns
    months = table[list(range(1, 13))].to_numpy()
    shown = months[~np.isnan(months)]
    reach = float(np.max(np.abs(shown))) if len(shown) else 1.0
    texts = [["" if np.isnan(value) else percent(value) for value in row] for row in months]
    heat = go.Heatmap(
        z=months,
        x=list(MONTHS),
        y=[str(year) for year in table.index],
        text=texts,
        texttemplate="%{text}",
        hovertemplate="%{x} %{y}: %{text}<extra></extra>",
        colorscale=[[0, LOST], [0.5, PAPER], [1, WON]],
        zmin=-reach,
        zmax=reach,
        showscale=False,
        xgap=2,
        ygap=2,
    )
    figure = go.Figure(heat)
    style_figure(figure)
    figure.update_yaxes(autorange="reversed", type="category", showgrid=False, side="left")
    figure.update_xaxes(showgrid=False, showline=False, ticks="")
    figure.update_layout(height=110 + 34 * max(1, len(table)))
    return figure


def marked_trades(trades: pd.DataFrame) -> pd.DataFrame:
    """Returns the trades to mark: all, or the TRADE_MARKS_MAX that won or lost most, by time."""
    if len(trades) <= TRADE_MARKS_MAX:
        return trades
    size = trades["net_pnl"].abs().to_numpy()
    largest = np.argsort(-size, kind="stable")[:TRADE_MARKS_MAX]
    return trades.iloc[np.sort(largest)]


def _add_price(figure: go.Figure, result: "ResultFrames") -> None:
    bars = result.bars
    if bars is None:
        return
    times = epoch_ms(bars.index)
    starts, low, high = range_stretches(
        bars["low"].to_numpy(), bars["high"].to_numpy(), CURVE_POINTS_MAX
    )
    for values, fill in ((high, None), (low, "tonexty")):
        band = go.Scatter(
            x=times[starts],
            y=values,
            line={"width": 0},
            mode="lines",
            fill=fill,
            fillcolor=PRICE_RANGE,
            hoverinfo=_NO_HOVER,
            showlegend=False,
        )
        figure.add_trace(band, row=1, col=1)
    close = bars["close"].to_numpy()
    kept = extreme_indices(close, CURVE_POINTS_MAX)
    line = go.Scatter(
        x=times[kept],
        y=close[kept],
        name="close",
        mode="lines",
        line={"color": PRICE, "width": 1},
        hovertemplate=f"close %{{y:.{price_decimals(close)}f}}<extra></extra>",
    )
    figure.add_trace(line, row=1, col=1)


def _add_trades(figure: go.Figure, trades: pd.DataFrame) -> None:
    won = trades["net_pnl"].to_numpy() > 0
    for is_won, name, color in ((True, "won", WON), (False, "lost", LOST)):
        part = trades[won == is_won]
        if len(part):
            figure.add_trace(_paths(part, name, color), row=1, col=1)
    is_long = trades["side"].to_numpy() == "LONG"
    for side, name, symbol in ((True, "long", "triangle-up"), (False, "short", "triangle-down")):
        part = trades[is_long == side]
        if len(part):
            figure.add_trace(_entries(part, name, symbol), row=1, col=1)
    if len(trades):
        figure.add_trace(_exits(trades), row=1, col=1)


def _paths(trades: pd.DataFrame, name: str, color: str) -> go.Scatter:
    """From each entry to its exit, in one trace with gaps."""
    gap = np.full(len(trades), np.nan)
    times = (epoch_ms(trades["entry_time"]), epoch_ms(trades["exit_time"]), gap)
    prices = (trades["entry_price"].to_numpy(), trades["exit_price"].to_numpy(), gap)
    return go.Scatter(
        x=np.column_stack(times).ravel(),
        y=np.column_stack(prices).ravel(),
        name=name,
        mode="lines",
        line={"color": color, "width": 1.3},
        opacity=0.8,
        hoverinfo=_NO_HOVER,
    )


def _entries(trades: pd.DataFrame, name: str, symbol: str) -> go.Scatter:
    texts = [
        f"{escape(str(trade['side']))} {quantity(trade['quantity'])} at {trade['entry_price']:.8g}"
        for trade in trades.to_dict("records")
    ]
    return go.Scatter(
        x=epoch_ms(trades["entry_time"]),
        y=trades["entry_price"].to_numpy(),
        name=name,
        mode="markers",
        marker={
            "symbol": symbol,
            "size": 7,
            "color": _outcome_colors(trades),
            "line": {"width": 0.8, "color": PAPER},
        },
        text=texts,
        hovertemplate="%{text}<extra></extra>",
    )


def _exits(trades: pd.DataFrame) -> go.Scatter:
    texts = [
        f"exit at {trade['exit_price']:.8g}, net {money(trade['net_pnl'])}, "
        f"{escape(str(trade['exit_reason']))}"
        for trade in trades.to_dict("records")
    ]
    return go.Scatter(
        x=epoch_ms(trades["exit_time"]),
        y=trades["exit_price"].to_numpy(),
        name="exit",
        mode="markers",
        marker={
            "symbol": "circle-open",
            "size": 5,
            "color": _outcome_colors(trades),
            "line": {"width": 1.2},
        },
        text=texts,
        hovertemplate="%{text}<extra></extra>",
    )


def _outcome_colors(trades: pd.DataFrame) -> list[str]:
    return [WON if net > 0 else LOST for net in trades["net_pnl"]]


def _add_equity(figure: go.Figure, result: "ResultFrames") -> None:
    equity = result.equity["equity"].to_numpy()
    kept = extreme_indices(equity, CURVE_POINTS_MAX)
    line = go.Scatter(
        x=epoch_ms(result.equity.index)[kept],
        y=equity[kept],
        name="equity",
        mode="lines",
        line={"color": EQUITY, "width": 1.4},
        hovertemplate="equity %{y:,.2f}<extra></extra>",
        showlegend=False,
    )
    figure.add_trace(line, row=2, col=1)
    cash = result.document.initial_cash
    if cash is not None:
        figure.add_hline(y=cash, line={"color": MUTED, "width": 1, "dash": "dot"}, row=2, col=1)


def _add_drawdown(figure: go.Figure, result: "ResultFrames") -> None:
    values = np.asarray(result.drawdown, dtype=np.float64)
    kept = extreme_indices(values, CURVE_POINTS_MAX)
    area = go.Scatter(
        x=epoch_ms(result.equity.index)[kept],
        y=values[kept],
        name="drawdown",
        mode="lines",
        line={"color": LOST, "width": 1},
        fill="tozeroy",
        fillcolor=LOST_AREA,
        hovertemplate="drawdown %{y:.2%}<extra></extra>",
        showlegend=False,
    )
    figure.add_trace(area, row=3, col=1)


def epoch_ms(times: Any) -> NDArray[np.float64]:
    """Returns milliseconds since 1970, which plotly.js takes for dates: a quarter of its text."""
    nanoseconds = pd.DatetimeIndex(times).as_unit("ns").asi8
    milliseconds: NDArray[np.float64] = nanoseconds / 1e6
    return milliseconds


def time_range(times: Any) -> list[float] | None:
    """Returns the first and last bar, with a little room at both ends; None for fewer than two."""
    if len(times) < 2:
        return None
    first, last = epoch_ms(times)[[0, -1]]
    room = (last - first) / 100
    return [first - room, last + room]


def style_figure(figure: go.Figure) -> None:
    """Gives a figure the page's colours, fonts and margins."""
    axis = {
        "gridcolor": RULE,
        "linecolor": RULE,
        "zeroline": False,
        "tickfont": {"color": MUTED, "size": 11},
        "title_font": {"color": MUTED, "size": 11},
    }
    figure.update_xaxes(**axis, showline=True, showgrid=False, ticks="outside", tickcolor=RULE)
    figure.update_yaxes(**axis, automargin=True)
    figure.update_layout(
        template="none",
        autosize=True,
        font={"family": FONT, "size": 12, "color": INK},
        margin={"l": 8, "r": 8, "t": 34, "b": 28},
        paper_bgcolor=PAPER,
        plot_bgcolor=PAPER,
        hoverlabel={"bgcolor": PAPER, "bordercolor": RULE, "font": {"color": INK, "size": 12}},
    )
