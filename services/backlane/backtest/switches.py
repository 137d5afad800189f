"""Every place where the simulation can go one of two ways, and the profiles that fix them all.

A profile is nothing but a named set of these switches. `default` is what we hold to be right;
`ktrdr-head` and `ktrdr-m3` give what two versions of the reference engine give, mistakes included,
so that users can move over with their numbers unchanged (docs/equivalence.md).
"""

from dataclasses import dataclass, fields, replace
from enum import Enum

from backlane.features.rules import Alignment, FeatureRules
from backlane.metrics.rules import (
    Annualization,
    MaxDrawdownMoney,
    MetricRules,
    SortinoDeviation,
    UndefinedMetrics,
)


class FillTime(Enum):
    """When a decision at the close of a bar fills."""

    NEXT_OPEN = "next_open"
    THIS_CLOSE = "this_close"


class NanFeatures(Enum):
    """What a NaN among the features of a simulated bar does."""

    HOLD = "hold"
    ABORT = "abort"


class TradeCommission(Enum):
    """Which legs' commission (and slippage cost) a trade carries."""

    BOTH_LEGS = "both_legs"
    EXIT_LEG = "exit_leg"


class HoldingTime(Enum):
    """Where the holding time of a trade ends."""

    EXIT = "exit"
    LAST_MARK = "last_mark"


class Excursions(Enum):
    """The prices that the excursions of a trade are read from."""

    EXTREMES = "extremes"
    CLOSES = "closes"


class EndDate(Enum):
    """What a bare end date means."""

    WHOLE_DAY = "whole_day"
    MIDNIGHT = "midnight"


@dataclass(frozen=True, slots=True)
class Switches:
    """One value for each switch; the defaults are what we hold to be right.

    `classes_as_decisions` reads the classes of any head as BUY, HOLD, SELL and HOLD, as the
    reference does with a regime model. `fixed_warmup_bars` > 0 starts the simulation at that bar; 0
    starts it at the first bar whose features are all known.
    """

    fill: FillTime = FillTime.NEXT_OPEN
    alignment: Alignment = Alignment.KNOWN_AT_CLOSE
    nan_features: NanFeatures = NanFeatures.HOLD
    logits_sum_one: bool = False
    trapezoid_edge: bool = True
    trade_commission: TradeCommission = TradeCommission.BOTH_LEGS
    short_equity_with_commission: bool = False
    holding_time: HoldingTime = HoldingTime.EXIT
    forced_close_in_equity: bool = True
    annualization: Annualization = Annualization.BAR_CALENDAR
    max_drawdown_money: MaxDrawdownMoney = MaxDrawdownMoney.AT_TROUGH
    sortino_deviation: SortinoDeviation = SortinoDeviation.DOWNSIDE
    excursions: Excursions = Excursions.EXTREMES
    warmup_fillers: bool = False
    ignore_unknown_parameters: bool = False
    decisions_from_bundle: bool = True
    history_before_start: bool = True
    shorts: bool = True
    fixed_warmup_bars: int = 0
    end_date: EndDate = EndDate.WHOLE_DAY
    undefined_metrics: UndefinedMetrics = UndefinedMetrics.ABSENT
    drop_extra_features: bool = False
    classes_as_decisions: bool = False
    reference_indicators: bool = False

    @property
    def feature_rules(self) -> FeatureRules:
        """The switches that concern the features."""
        return FeatureRules(
            alignment=self.alignment,
            trapezoid_edge=self.trapezoid_edge,
            warmup_fillers=self.warmup_fillers,
            ignore_unknown_parameters=self.ignore_unknown_parameters,
            drop_extra_features=self.drop_extra_features,
            reference_indicators=self.reference_indicators,
        )

    @property
    def metric_rules(self) -> MetricRules:
        """The switches that concern the metrics."""
        return MetricRules(
            annualization=self.annualization,
            max_drawdown_money=self.max_drawdown_money,
            sortino_deviation=self.sortino_deviation,
            undefined_metrics=self.undefined_metrics,
        )


_KTRDR_HEAD = Switches(
    alignment=Alignment.STAMP_FORWARD_FILL,
    logits_sum_one=True,
    trapezoid_edge=False,
    trade_commission=TradeCommission.EXIT_LEG,
    short_equity_with_commission=True,
    holding_time=HoldingTime.LAST_MARK,
    forced_close_in_equity=False,
    annualization=Annualization.BARS_252,
    max_drawdown_money=MaxDrawdownMoney.FINAL_PEAK,
    sortino_deviation=SortinoDeviation.STD_OF_NEGATIVES,
    excursions=Excursions.CLOSES,
    warmup_fillers=True,
    ignore_unknown_parameters=True,
    history_before_start=False,
    fixed_warmup_bars=50,
    end_date=EndDate.MIDNIGHT,
    undefined_metrics=UndefinedMetrics.FILLERS,
    drop_extra_features=True,
    classes_as_decisions=True,
    reference_indicators=True,
)

PROFILES: dict[str, Switches] = {
    "default": Switches(),
    "ktrdr-head": _KTRDR_HEAD,
    "ktrdr-m3": replace(
        _KTRDR_HEAD,
        fill=FillTime.THIS_CLOSE,
        alignment=Alignment.EXACT_STAMP,
        nan_features=NanFeatures.ABORT,
        decisions_from_bundle=False,
        shorts=False,
    ),
}

SWITCH_NAMES = tuple(field.name for field in fields(Switches))
