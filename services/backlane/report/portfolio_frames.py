"""The result of a portfolio run, as frames for a page or a notebook."""

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

import pandas as pd
import pyarrow as pa
from pydantic import BaseModel, ConfigDict, ValidationError

from backlane.errors import FieldViolation, InvalidRequestError
from backlane.report.curves import drawdown, monthly_returns
from backlane.report.document import VIOLATIONS_SHOWN_MAX
from backlane.report.tables import TIME, read_json, read_table

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

_NUMBER, _TEXT = pa.float64(), pa.string()
PORTFOLIO_COLUMNS: Mapping[str, Mapping[str, pa.DataType]] = {
    "equity.csv": {"time": TIME, "equity": _NUMBER, "cash": _NUMBER},
    "signals.csv": {"time": TIME, "symbol": _TEXT, "direction": _TEXT},
    "targets.csv": {"time": TIME, "symbol": _TEXT, "weight": _NUMBER},
    "fills.csv": {
        "time": TIME,
        "symbol": _TEXT,
        "side": _TEXT,
        **dict.fromkeys(
            ("quantity", "price", "commission", "half_spread", "impact", "cost"), _NUMBER
        ),
    },
    "trades.csv": {
        "symbol": _TEXT,
        "side": _TEXT,
        "entry_time": TIME,
        "exit_time": TIME,
        "is_open": pa.bool_(),
        **dict.fromkeys(
            ("quantity", "entry_price", "exit_price", "gross_pnl", "cost", "net_pnl"), _NUMBER
        ),
    },
}
"""The columns that each file must have; further ones are read as they are."""
COST_PARTS = ("commission", "half_spread", "impact")
CARRIED_PARTS = ("borrow", "interest")


class PortfolioDocument(BaseModel):
    """The content of result.json; keys that a later version adds are kept in `model_extra`."""

    model_config = ConfigDict(extra="allow", frozen=True, allow_inf_nan=False)

    format: Literal["backlane.portfolio_result.v1"]
    config: dict[str, Any]
    inputs: dict[str, str]
    symbols: tuple[str, ...]
    bar_count: int
    first_time: str | None
    last_time: str | None
    initial_cash: float
    final_equity: float
    total_cost: float
    traded_notional: float
    costs: dict[str, float] = {}
    periods_per_year: float
    metrics: dict[str, float | None]
    regression_keys: dict[str, float | None] = {}
    undefined_metrics: dict[str, str] = {}
    counts: dict[str, int]
    held_without_a_bar: tuple[str, ...] = ()

    @classmethod
    def parse(cls, content: Mapping[str, Any], *, source: str) -> Self:
        """Checks a document; raises InvalidRequestError that names `source` and every bad key."""
        try:
            return cls.model_validate(content)
        except ValidationError as error:
            found = tuple(
                FieldViolation(".".join(map(str, each["loc"])), each["msg"])
                for each in error.errors()[:VIOLATIONS_SHOWN_MAX]
            )
            raise InvalidRequestError(
                f"{source} is no result of a portfolio: {found[0].field}: "
                f"{found[0].description}. Run it again.",
                metadata={"file": source},
                violations=found,
            ) from error


class PortfolioFrames:
    """One finished run; each frame is read when it is first looked at, and kept.

    Times are UTC, those of the bars' closes; money is in the currency of the prices.
    """

    def __init__(self, directory: Path, document: PortfolioDocument) -> None:
        self.directory = directory
        self.document = document

    @cached_property
    def equity(self) -> pd.DataFrame:
        """Equity and cash at each close, by time."""
        return self._read("equity.csv").set_index("time")

    @cached_property
    def trades(self) -> pd.DataFrame:
        """One row for each trade from flat to flat; open ones last."""
        return self._read("trades.csv")

    @cached_property
    def fills(self) -> pd.DataFrame:
        """One row for each fill, with its costs and `notional`, quantity times price."""
        fills = self._read("fills.csv")
        return fills.assign(notional=fills["quantity"] * fills["price"])

    @cached_property
    def drawdown(self) -> "pd.Series[float]":
        """The fall from the highest equity so far at each close, a fraction <= 0."""
        values = drawdown(self.equity["equity"].to_numpy(), self.document.initial_cash)
        return pd.Series(values, index=self.equity.index, name="drawdown")

    @cached_property
    def monthly_returns(self) -> pd.DataFrame:
        """Returns by year and month (columns 1 to 12) and of the whole year (column "year")."""
        return monthly_returns(self.equity["equity"], self.document.initial_cash)

    @cached_property
    def net_exposure(self) -> "pd.Series[float]":
        """The value of all positions, shorts negative, over the equity; NaN where that is gone."""
        equity = self.equity["equity"]
        return ((equity - self.equity["cash"]) / equity).where(equity > 0)

    @cached_property
    def gross_target(self) -> "pd.Series[float] | None":
        """The sum of |weight| that was wanted at each close; None for a run without targets.

        What was not decided about at a close keeps the weight that was decided last.
        """
        decided = self._read("signals.csv")[["time", "symbol"]]
        if decided.empty:
            return None
        wanted = self._read("targets.csv")[["time", "symbol", "weight"]]
        each = decided.merge(wanted, on=["time", "symbol"], how="left").fillna({"weight": 0.0})
        table = each.pivot_table(index="time", columns="symbol", values="weight", aggfunc="last")
        gross = table.reindex(self.equity.index).ffill().abs().sum(axis=1)
        return gross.rename("gross_target")

    @cached_property
    def turnover(self) -> "pd.Series[float]":
        """The notional of all fills of each bar over the equity at its close; 0 without a fill."""
        traded = self.fills.groupby("time")["notional"].sum()
        equity = self.equity["equity"]
        return (traded.reindex(self.equity.index).fillna(0.0) / equity).where(equity > 0)

    @cached_property
    def contributions(self) -> pd.DataFrame:
        """What each instrument that was traded gave, by symbol, the best first.

        Trades (open ones too), won (the share of closed trades with a gain, NaN without any),
        gross_pnl, cost, net_pnl, and share: net_pnl over that of all.
        """
        trades = self.trades
        groups = trades.groupby("symbol")
        table = groups[["gross_pnl", "cost", "net_pnl"]].sum()
        table.insert(0, "trades", groups.size())
        closed = trades[~trades["is_open"]]
        won = (closed["net_pnl"] > 0).groupby(closed["symbol"]).mean()
        table.insert(1, "won", won.reindex(table.index))
        total = float(table["net_pnl"].sum())
        table["share"] = table["net_pnl"] / total if total else float("nan")
        return table.sort_values("net_pnl", ascending=False, kind="stable")

    @cached_property
    def costs(self) -> pd.DataFrame:
        """What the run cost by component: money, and basis points of all that was traded.

        Fees for borrowing and interest are as result.json says, and left out where there are none.
        """
        fills, notional = self.fills, float(self.fills["notional"].sum())
        money = {name: float(fills[name].sum()) for name in COST_PARTS}
        carried = {name: float(self.document.costs.get(name) or 0.0) for name in CARRIED_PARTS}
        money |= {name: amount for name, amount in carried.items() if amount}
        money["total"] = sum(money.values())
        table = pd.DataFrame({"money": money})
        table["bps"] = table["money"] / notional * 1e4 if notional else float("nan")
        return table

    def figure(self) -> "Figure":
        """Returns equity, drawdown, exposure and turnover over one time axis."""
        from backlane.report.portfolio_figures import portfolio_figure

        return portfolio_figure(self)

    def _read(self, name: str) -> pd.DataFrame:
        frame: pd.DataFrame = read_table(self.directory, name, PORTFOLIO_COLUMNS).to_pandas()
        return frame


def is_portfolio(directory: Path) -> bool:
    """Says whether a result directory is that of a portfolio; raises as `load_portfolio` does."""
    name = read_json(directory, "result.json").get("format")
    return isinstance(name, str) and name.startswith("backlane.portfolio_result.")


def load_portfolio(directory: str | Path) -> PortfolioFrames:
    """Returns the frames of a result directory.

    Raises ResultNotFoundError when there is none, InvalidRequestError when a file is damaged; the
    tables are read, and their errors raised, when they are first looked at.
    """
    folder = Path(directory)
    document = PortfolioDocument.parse(
        read_json(folder, "result.json"), source=str(folder / "result.json")
    )
    return PortfolioFrames(folder, document)
