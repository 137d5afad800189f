"""The figure of a portfolio: equity, drawdown, exposure and turnover over one time axis."""

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from plotly import graph_objects as go
from plotly.subplots import make_subplots

from backlane.report.curves import extreme_indices
from backlane.report.figures import CURVE_POINTS_MAX, epoch_ms, style_figure, time_range
from backlane.report.palette import EQUITY, LOST, LOST_AREA, MUTED, PRICE, WON

if TYPE_CHECKING:
    from backlane.report.portfolio_frames import PortfolioFrames

_PANELS = ("Equity", "Drawdown", "Exposure", "Turnover")


def portfolio_figure(result: "PortfolioFrames") -> go.Figure:
    """Returns four panels: equity and cash, drawdown, net and wanted exposure, turnover."""
    figure = make_subplots(
        rows=4,
        cols=1,
        shared_xaxes=True,
        row_heights=[0.42, 0.18, 0.22, 0.18],
        vertical_spacing=0.03,
    )
    equity = result.equity["equity"]
    _line(figure, equity, 1, "equity", EQUITY, "%{y:,.2f}", width=1.4)
    cash = result.document.initial_cash
    figure.add_hline(y=cash, line={"color": MUTED, "width": 1, "dash": "dot"}, row=1, col=1)
    _line(figure, result.drawdown, 2, "drawdown", LOST, "%{y:.2%}", fill=LOST_AREA)
    if result.gross_target is not None:
        _line(figure, result.gross_target, 3, "wanted, gross", PRICE, "%{y:.1%}", legend=True)
    _line(figure, result.net_exposure, 3, "net exposure", WON, "%{y:.1%}", legend=True)
    _line(figure, result.turnover, 4, "turnover", EQUITY, "%{y:.1%}")
    style_figure(figure)
    for row, title in enumerate(_PANELS, start=1):
        figure.update_yaxes(title_text=title, row=row, col=1)
    figure.update_xaxes(type="date", range=time_range(equity.index))
    for row in (2, 3, 4):
        figure.update_yaxes(tickformat=".1~%", rangemode="tozero", row=row, col=1)
    legend = {"orientation": "h", "y": 1.0, "yanchor": "bottom", "traceorder": "normal"}
    figure.update_layout(height=860, hovermode="x", legend=legend)
    return figure


def _line(
    figure: go.Figure,
    values: "pd.Series[float]",
    row: int,
    name: str,
    color: str,
    shown: str,
    *,
    width: float = 1,
    fill: str | None = None,
    legend: bool = False,
) -> None:
    numbers = np.asarray(values, dtype=np.float64)
    kept = extreme_indices(numbers, CURVE_POINTS_MAX)
    line = go.Scatter(
        x=epoch_ms(values.index)[kept],
        y=numbers[kept],
        name=name,
        mode="lines",
        line={"color": color, "width": width},
        fill=None if fill is None else "tozeroy",
        fillcolor=fill,
        hovertemplate=f"{name} {shown}<extra></extra>",
        showlegend=legend,
    )
    figure.add_trace(line, row=row, col=1)
