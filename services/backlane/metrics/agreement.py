"""Which metrics other libraries compute, too; docs/metrics.md shows it.

The libraries are ffn and quantstats, in the versions of the extra `dev`. Every metric is either in
COMPARED, and tests/unit/metrics/test_oracles.py holds it to each function named here, or in
NOT_COMPARED, with the reason.
"""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Agreement:
    """The functions that give the same number, and what has to be converted for that, if anything.

    `functions` are named `library.function`.
    """

    functions: tuple[str, ...]
    conversion: str = ""


_DIVISOR = "they divide by n - 1: times sqrt((n - 1) / n)"
_INVERSE_DIVISOR = "they divide by n - 1: times sqrt(n / (n - 1))"
_NO_TIES = "they leave out trades that break even: compared where there are none"

COMPARED: Mapping[str, Agreement] = {
    "total_return": Agreement(("ffn.calc_total_return",), "times the initial cash"),
    "total_return_pct": Agreement(("ffn.calc_total_return", "quantstats.comp")),
    "final_equity": Agreement(("ffn.to_price_index",), "begun at the initial cash"),
    "annualized_return": Agreement(("ffn.calc_cagr", "quantstats.cagr")),
    "volatility": Agreement(("quantstats.volatility",), _DIVISOR),
    "sharpe_ratio": Agreement(("ffn.calc_sharpe", "quantstats.sharpe"), _INVERSE_DIVISOR),
    "sortino_ratio": Agreement(("ffn.calc_sortino_ratio", "quantstats.sortino")),
    "max_drawdown": Agreement(
        ("ffn.calc_max_drawdown",),
        "they know fractions alone: of exp(E / initial_cash), whose fractions are differences of E",
    ),
    "max_drawdown_pct": Agreement(
        ("ffn.calc_max_drawdown", "quantstats.max_drawdown"), "with the sign turned"
    ),
    "calmar_ratio": Agreement(("ffn.calc_calmar_ratio", "quantstats.calmar")),
    "longest_drawdown_days": Agreement(
        ("ffn.drawdown_details",),
        "it counts from the first close below the peak: begun at the peak",
    ),
    "win_rate": Agreement(("quantstats.win_rate",), _NO_TIES),
    "profit_factor": Agreement(("quantstats.profit_factor",)),
    "expectancy": Agreement(("quantstats.avg_return",), _NO_TIES),
    "avg_win": Agreement(("quantstats.avg_win",)),
    "avg_loss": Agreement(("quantstats.avg_loss",)),
    "largest_win": Agreement(("quantstats.best",)),
    "largest_loss": Agreement(("quantstats.worst",)),
}

_NO_POSITIONS = "they see returns, not positions"
_NO_COUNT = "neither counts trades"
_NO_FILLS = "they see returns, not fills"
_NO_TIMES = "they do not know when a trade began"

NOT_COMPARED: Mapping[str, str] = {
    "recovery_factor": "quantstats divides the sum of the returns by a fraction, not by money",
    "exposure_time": f"{_NO_POSITIONS}: quantstats counts returns other than 0, and rounds up",
    "total_trades": _NO_COUNT,
    "winning_trades": _NO_COUNT,
    "losing_trades": _NO_COUNT,
    "avg_holding_period": _NO_TIMES,
    "avg_win_holding_period": _NO_TIMES,
    "avg_loss_holding_period": _NO_TIMES,
    "total_commission": _NO_FILLS,
    "total_slippage": _NO_FILLS,
    "total_financing": _NO_FILLS,
    "total_costs": _NO_FILLS,
    "turnover": _NO_FILLS,
}
