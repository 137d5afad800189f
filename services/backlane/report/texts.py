"""What the words of a result mean, in a sentence each; a word that is not here stands alone."""

from collections.abc import Mapping

from backlane.decisions.decision import DecisionReason
from backlane.execution.order import ExitReason, OrderOutcome

STAGE_TEXTS: Mapping[str, str] = {
    "bars": "bars that were asked for",
    "features": "bars with every feature known and a score",
    "decisions": "decisions to trade after all filters",
    "orders": "orders that filled",
    "fills": "fills, the forced close at the end included",
}
"""What passed a stage of the funnel."""

_DECISIONS: Mapping[DecisionReason, str] = {
    DecisionReason.NOT_SIMULATED: "before the first simulated bar",
    DecisionReason.NO_FEATURES: "the model's window reaches before the first bar",
    DecisionReason.FEATURE_NAN: "a feature of the bar is not known",
    DecisionReason.SCORE_NAN: "the model answered NaN",
    DecisionReason.MODEL_HOLD: "the model says HOLD",
    DecisionReason.BELOW_CONFIDENCE: "less confident than the threshold",
    DecisionReason.MIN_SEPARATION: "too soon after the last fill",
    DecisionReason.ALREADY_LONG: "BUY while LONG",
    DecisionReason.ALREADY_SHORT: "SELL while SHORT",
    DecisionReason.SHORT_NOT_ALLOWED: "SELL while FLAT, and shorts are not allowed",
    DecisionReason.ACCEPTED: "the model's decision stands",
}
_OUTCOMES: Mapping[OrderOutcome, str] = {
    OrderOutcome.FILLED: "filled",
    OrderOutcome.DENIED_QUANTITY_ZERO: "the cash buys less than one lot, or too few units",
    OrderOutcome.DENIED_POSITION_OPEN: "BUY while LONG, or SELL while SHORT",
    OrderOutcome.DENIED_SHORTS_OFF: "SELL while FLAT in a profile without shorts",
    OrderOutcome.EXPIRED_LAST_BAR: "decided on the last bar: there is no next open",
}
REASON_TEXTS: Mapping[str, str] = {
    "WARM_UP": "before the first bar whose features are all known",
    **{reason.name: text for reason, text in _DECISIONS.items()},
    **{outcome.name: text for outcome, text in _OUTCOMES.items()},
}
"""Why a bar, a decision or an order went no further."""

_EXITS: Mapping[ExitReason, str] = {
    ExitReason.DECISION: "a decision closed it",
    ExitReason.END_OF_DATA: "closed at the last close, because the bars end",
    ExitReason.STOP_LOSS: "the price reached the stop-loss",
    ExitReason.TAKE_PROFIT: "the price reached the take-profit",
    ExitReason.TRAILING_STOP: "the price fell back from its best by the trailing stop",
    ExitReason.TIME_EXIT: "held for as many bars as it may be",
    ExitReason.MARGIN_CALL: "the loss ate the collateral down to the maintenance",
}
EXIT_TEXTS: Mapping[str, str] = {reason.name: text for reason, text in _EXITS.items()}
"""Why a trade was closed."""

FILL_TEXTS: Mapping[str, str] = {
    "next_open": "A decision at the close of a bar fills at the open of the next one. A decision "
    "on the last bar does not fill.",
    "this_close": "A decision at the close of a bar fills at that very close: the price that it "
    "was decided on.",
}
"""What the switch `fill` says."""

CONFIG_TEXTS: Mapping[str, str] = {
    "symbol": "what was traded",
    "timeframe": "length of a simulated bar",
    "first_bar_ns": "earliest open that was asked for",
    "last_bar_ns": "latest open that was asked for",
    "initial_cash": "cash before the first fill",
    "profile": "named set of switches",
    "commission_rate": "fraction of a fill's value, paid at entry and exit",
    "slippage_rate": "fraction by which each fill's price is worse than the bar's",
    "sizing.fraction": "fraction of the cash that an entry uses",
    "sizing.units": "units of an entry, all or nothing",
    "sizing.target_volatility": "yearly volatility that a position aims at, as a fraction",
    "sizing.volatility_period": "returns that the realized volatility is read from",
    "lot_size": "quantities are whole multiples of it",
    "exits.stop_loss": "distance from the entry price, as a fraction",
    "exits.take_profit": "distance from the entry price, as a fraction",
    "exits.trailing_stop": "distance from the best price since the entry, as a fraction",
    "exits.max_holding_bars": "bars after which a position is closed",
    "costs.spread_rate": "bid-ask spread as a fraction of the price; each side pays half",
    "costs.minimum_commission": "least commission of a fill, in money",
    "costs.borrow_rate": "a year, of a short's value",
    "costs.overnight_rate_long": "a year, charged by the night; below 0 is a credit",
    "costs.overnight_rate_short": "a year, charged by the night; below 0 is a credit",
    "margin.leverage": "value of a position over the collateral that it takes",
    "margin.maintenance": "fraction of the collateral at which a position is closed",
    "decisions.confidence_threshold": "least confidence of a decision that is followed",
    "decisions.position_awareness": "no BUY while LONG, no SELL while SHORT",
    "decisions.allow_short_from_flat": "whether SELL while FLAT opens a short",
    "decisions.min_signal_separation_hours": "hours that must have passed since the last fill",
    "decisions.edge": "return that a regression head must predict, as a fraction",
    "switches.fill": "when a decision fills",
    "switches.alignment": "when a bar of another timeframe becomes visible",
    "switches.nan_features": "what an unknown feature does",
    "switches.logits_sum_one": "logits that sum to 1 are taken for probabilities",
    "switches.trapezoid_edge": "a trapezoid with a = b is 1 at a",
    "switches.trade_commission": "which legs' costs a trade carries; the account pays both",
    "switches.short_equity_with_commission": "a short's equity holds its entry commission",
    "switches.holding_time": "where the holding time of a trade ends",
    "switches.forced_close_in_equity": "the close at the end of the data is in the equity curve",
    "switches.annualization": "what a year is",
    "switches.max_drawdown_money": "the money of the deepest drawdown",
    "switches.sortino_deviation": "what the Sortino ratio divides by",
    "switches.excursions": "the prices that MAE and MFE are read from",
    "switches.warmup_fillers": "indicators show fillers while they warm up",
    "switches.ignore_unknown_parameters": "unknown indicator parameters are dropped",
    "switches.decisions_from_bundle": "the bundle's decisions count where the request is silent",
    "switches.history_before_start": "bars before the start warm the indicators",
    "switches.shorts": "short positions exist",
    "switches.fixed_warmup_bars": "bars never simulated; 0: until the first complete features",
    "switches.drop_extra_features": "features that the model does not use are dropped",
    "switches.classes_as_decisions": "a regime or context head trades",
    "switches.reference_indicators": "indicators have the mistakes of the reference",
    "switches.end_date": "what a bare end date means",
    "switches.undefined_metrics": "what stands for a metric without a value",
}
"""What a key of the configuration says."""

DIGEST_TEXTS: Mapping[str, str] = {
    "result": "features, scores, decisions, equity, trades and fills, to the last bit",
    "orders": "every fill: bar, side, quantity, price, commission",
    "config": "everything under Assumptions",
    "model": "the files of the bundle",
}
"""What each digest covers."""
