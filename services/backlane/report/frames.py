"""A result as DataFrames and figures, in three lines of a notebook.

from backlane.report.frames import load_result
result = load_result("out/my_run")
result.figure()
"""

from collections.abc import Callable, Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
import pyarrow as pa

from backlane.backtest.result import BacktestRun
from backlane.errors import ResultNotFoundError
from backlane.metrics.definitions import METRICS
from backlane.report.curves import drawdown, monthly_returns
from backlane.report.document import ResultDocument
from backlane.report.tables import read_json, read_table, typed_table
from backlane.sources.results import (
    bars_table,
    decisions_table,
    equity_table,
    features_table,
    request_document,
    result_document,
    trades_table,
)

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

_RUN_TABLES: Mapping[str, Callable[[BacktestRun], pa.Table]] = {
    "trades.csv": trades_table,
    "equity.csv": equity_table,
    "bars.parquet": bars_table,
    "decisions.parquet": decisions_table,
    "features.parquet": features_table,
}


class ResultFrames:
    """One finished run; each frame is made when it is first looked at, and kept.

    Times are UTC and those of the bars' opens; money is in the quote currency.
    """

    def __init__(
        self,
        document: ResultDocument,
        request: Mapping[str, Any],
        read: Callable[[str], pa.Table],
    ) -> None:
        self.document = document
        self.request = request
        self._read = read

    @classmethod
    def from_run(cls, run: BacktestRun) -> "ResultFrames":
        """Returns the frames of a run in memory: the same as those of its result directory."""
        document = ResultDocument.parse(result_document(run), source="the run")
        return cls(
            document, request_document(run), lambda name: typed_table(_RUN_TABLES[name](run), name)
        )

    @cached_property
    def equity(self) -> pd.DataFrame:
        """The account at each marked bar: equity, cash, position in signed units."""
        return self._by_time("equity.csv")

    @cached_property
    def trades(self) -> pd.DataFrame:
        """One row for each closed trade, oldest first."""
        frame: pd.DataFrame = self._read("trades.csv").to_pandas()
        return frame

    @cached_property
    def decisions(self) -> pd.DataFrame:
        """Scores, confidence, decision and reason at each simulated bar."""
        return self._by_time("decisions.parquet")

    @cached_property
    def features(self) -> pd.DataFrame:
        """What the model saw at each simulated bar."""
        return self._by_time("features.parquet")

    @cached_property
    def bars(self) -> pd.DataFrame | None:
        """Prices and volume of each simulated bar; None for a result without bars.parquet."""
        try:
            return self._by_time("bars.parquet")
        except ResultNotFoundError:
            return None

    @cached_property
    def metrics(self) -> pd.DataFrame:
        """Every metric by id: title, value, unit, formula, source, and why it has no value."""
        document = self.document
        known = {definition.id: definition for definition in METRICS}
        ids = [id_ for id_ in known if id_ in document.metrics]
        ids += [id_ for id_ in document.metrics if id_ not in known]
        rows = []
        for id_ in ids:
            definition = known.get(id_)
            rows.append(
                {
                    "id": id_,
                    "title": definition.title if definition else id_,
                    "value": document.metrics[id_],
                    "unit": definition.unit if definition else "",
                    "basis": definition.basis if definition else "",
                    "formula": definition.formula if definition else "",
                    "source": definition.source if definition else "",
                    "annualization": document.annualization.get(id_, ""),
                    "sample_count": document.sample_counts.get(id_, 0),
                    "undefined_reason": document.undefined_metrics.get(id_, ""),
                }
            )
        return pd.DataFrame(rows).astype({"value": float}).set_index("id")

    @cached_property
    def funnel(self) -> pd.DataFrame:
        """Every stage: how many entered and passed, and how many were dropped for each reason."""
        rows = [
            {
                "stage": entry.stage,
                "entered": entry.entered,
                "passed": entry.passed,
                **entry.dropped,
            }
            for entry in self.document.funnel
        ]
        return pd.DataFrame(rows).set_index("stage").fillna(0).astype(int)

    @cached_property
    def drawdown(self) -> "pd.Series[float]":
        """The fall from the highest equity so far at each marked bar, a fraction <= 0.

        The initial cash counts as a peak, unless the profile says otherwise.
        """
        starts_at_cash = self.document.switch("max_drawdown_money") != "final_peak"
        start = self.document.initial_cash if starts_at_cash else None
        values = drawdown(self.equity["equity"].to_numpy(), start)
        return pd.Series(values, index=self.equity.index, name="drawdown")

    @cached_property
    def monthly_returns(self) -> pd.DataFrame:
        """Returns by year and month (columns 1 to 12) and of the whole year (column "year")."""
        return monthly_returns(self.equity["equity"], self.document.initial_cash)

    def figure(self) -> "Figure":
        """Returns price with the trades marked, equity and drawdown over one time axis."""
        from backlane.report.figures import overview_figure

        return overview_figure(self)

    def monthly_figure(self) -> "Figure":
        """Returns the heat map of the monthly returns."""
        from backlane.report.figures import monthly_figure

        return monthly_figure(self)

    def _by_time(self, name: str) -> pd.DataFrame:
        frame: pd.DataFrame = self._read(name).to_pandas()
        return frame.set_index("time")


def load_result(directory: str | Path) -> ResultFrames:
    """Returns the frames of a result directory.

    Raises ResultNotFoundError when there is none, InvalidRequestError when a file is damaged; the
    tables are read, and their errors raised, when they are first looked at.
    """
    folder = Path(directory)
    document = ResultDocument.parse(
        read_json(folder, "result.json"), source=str(folder / "result.json")
    )
    return ResultFrames(
        document, read_json(folder, "request.json"), lambda name: read_table(folder, name)
    )
