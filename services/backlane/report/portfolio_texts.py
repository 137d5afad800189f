"""What the words of a portfolio's result mean; a word that is not here stands alone."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from backlane.backtest.portfolio_trade_metrics import TradeEnd


@dataclass(frozen=True, slots=True)
class MetricText:
    """A metric's title, its unit, and its formula as in docs/portfolio-result.md."""

    title: str
    unit: str
    formula: str


METRIC_TEXTS: Mapping[str, MetricText] = MappingProxyType(
    {
        "total_return": MetricText("Total return", "fraction", "last / first - 1"),
        "annualized_return": MetricText(
            "Annualized return", "fraction", "(last / first)^(N / returns) - 1"
        ),
        "volatility": MetricText("Volatility", "fraction", "std(r) * sqrt(N)"),
        "sharpe_ratio": MetricText("Sharpe ratio", "ratio", "mean(r) / std(r) * sqrt(N)"),
        "sortino_ratio": MetricText("Sortino ratio", "ratio", "mean(r) / std(r < 0) * sqrt(N)"),
        "calmar_ratio": MetricText("Calmar ratio", "ratio", "annualized_return / max_drawdown"),
        "max_drawdown": MetricText("Deepest drawdown", "fraction", "max((peak - E) / peak)"),
        "max_drawdown_money": MetricText("Deepest drawdown, money", "money", "max(peak - E)"),
        "current_drawdown": MetricText("Drawdown at the end", "fraction", "(peak - E) / peak"),
        "value_at_risk_95": MetricText("Value at risk, 95%", "fraction", "5% quantile of r"),
        "turnover": MetricText("Turnover", "ratio", "traded / mean(E) / years"),
        "mean_return": MetricText("Mean return", "fraction", "mean(r)"),
        "total_trades": MetricText("Closed trades", "count", "trades from flat to flat"),
        "win_rate": MetricText("Win rate", "fraction", "trades with net > 0 / closed trades"),
        "profit_factor": MetricText("Profit factor", "ratio", "money won / money lost"),
    }
)
COST_TEXTS: Mapping[str, str] = MappingProxyType(
    {
        "commission": "paid to the broker",
        "half_spread": "from the middle to the side that was traded",
        "impact": "by which the order itself moved the price",
        "borrow": "for what was sold short, by the night",
        "interest": "on cash that was borrowed",
        "total": "charged once, on top of the prices",
    }
)
"""What each component of the costs is."""
END_TEXTS: Mapping[str, str] = MappingProxyType(
    {
        TradeEnd.DECISION.value: "a decision closed it",
        TradeEnd.REVERSAL.value: "the order that closed it opened the other side",
        TradeEnd.STOP_LOSS.value: "the price reached the stop-loss",
        TradeEnd.TAKE_PROFIT.value: "the price reached the take-profit",
        TradeEnd.TRAILING_STOP.value: "the price fell back from its best by the trailing stop",
        TradeEnd.DELISTING.value: "the instrument is no longer traded",
        TradeEnd.OPEN.value: "still open, valued at its last close",
    }
)
"""Why a trade ended."""
