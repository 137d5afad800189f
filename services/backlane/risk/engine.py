"""The risk engine: ordered checks over the proposals of one cycle (SPEC A7).

Corrections of the reference, each tested in tests/golden/cycle/test_t247_risk.py by the paragraph
of SPEC C1 that asks for it:

- "sells": exits pass every check but the halt.
- "caps vs regime": sizes are cut to the cap of the regime, not refused by it.
- "batch veto": what is left of the total at risk is given out by priority.
- "two keys": there is one time of the last trade of a symbol.
- "symbols": names are canonical wherever they are compared.
- Q1: only approved proposals are returned, with their sizes; inputs are never changed.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from backlane.risk.codes import Denial, RiskCode
from backlane.risk.exposure_caps import ROUNDING, Allocation, allocate, total_room
from backlane.risk.facts import PortfolioFacts
from backlane.risk.halts import circuit_breaker, loss_stop, timing_stops
from backlane.risk.limits import RiskLimits
from backlane.risk.position_checks import (
    Checked,
    add_codes,
    after_waiting,
    on_open_products,
    within_slots,
    within_strategy_caps,
)
from backlane.risk.proposal import TradeProposal
from backlane.signals.price_regime import PriceRegime


@dataclass(frozen=True, slots=True)
class RiskAssessment:
    """What risk says of the proposals of a cycle.

    `approved` keeps the order of the proposals. `denials` says for every other proposal why.
    `halt` is the check that stopped all entries at once, `primary` the reason that nothing was
    approved though something was proposed; None otherwise.
    """

    approved: tuple[Allocation, ...]
    denials: tuple[Denial, ...]
    halt: RiskCode | None = None
    primary: RiskCode | None = None

    @property
    def is_approved(self) -> bool:
        """Whether the cycle may go on: something was approved, or nothing was proposed."""
        return self.primary is None

    @property
    def codes_by_symbol(self) -> Mapping[str, tuple[RiskCode, ...]]:
        """The codes of all denials of a symbol, in the order of the checks."""
        codes: dict[str, tuple[RiskCode, ...]] = {}
        for denial in self.denials:
            codes[denial.symbol] = codes.get(denial.symbol, ()) + denial.codes
        return codes


def assess(
    proposals: Sequence[TradeProposal],
    facts: PortfolioFacts,
    limits: RiskLimits,
    regime: PriceRegime,
    now_ns: int,
) -> RiskAssessment:
    """Returns which proposals may trade, and at what size, at a time (UTC, nanoseconds)."""
    entries = [proposal for proposal in proposals if not proposal.is_exit]
    exits = [proposal for proposal in proposals if proposal.is_exit]
    cleared, denials, halt, primary = _entries(entries, facts, limits, regime, now_ns)
    if facts.is_halted:
        denials = [*denials, *_all_denied(exits, RiskCode.HALT)]
        primary = primary or (RiskCode.HALT if exits else None)
        exits = []
    remaining = list(cleared)
    approved = []
    for proposal in proposals:
        if proposal.is_exit:
            if exits:
                approved.append(Allocation(proposal))
        elif remaining and remaining[0][0] is proposal:
            approved.append(remaining.pop(0)[1])
    return RiskAssessment(tuple(approved), tuple(denials), halt, primary if not approved else None)


_Cleared = list[tuple[TradeProposal, Allocation]]


def _entries(
    entries: Sequence[TradeProposal],
    facts: PortfolioFacts,
    limits: RiskLimits,
    regime: PriceRegime,
    now_ns: int,
) -> tuple[_Cleared, list[Denial], RiskCode | None, RiskCode | None]:
    """Returns the entries that pass with their sizes, the denials, the halt and the reason."""
    if not entries:
        return [], [], None, None
    denials: list[Denial] = []
    left = list(entries)
    steps: tuple[tuple[RiskCode, Callable[[], RiskCode | None], _Filter], ...] = (
        (
            RiskCode.EXCHANGE_PRODUCT_STATUS,
            lambda: circuit_breaker(facts, limits, regime, now_ns),
            lambda some: on_open_products(some, facts),
        ),
        (RiskCode.STRATEGY_CAPS, lambda: loss_stop(facts, limits), within_strategy_caps),
        (
            RiskCode.TRADE_LIMITS_TIMING,
            lambda: _exhausted(facts, limits) or next(timing_stops(facts, limits, now_ns), None),
            lambda some: after_waiting(some, facts, limits, now_ns),
        ),
        (
            RiskCode.MAX_OPEN_POSITIONS,
            lambda: None,
            lambda some: within_slots(some, facts, limits),
        ),
    )
    for code, halted_by, passing in steps:
        halt = halted_by()
        if halt is not None:
            return [], [*denials, *_all_denied(left, halt)], halt, halt
        left, denied = passing(left)
        denials += denied
        if not left:
            return [], denials, None, code
    return _sized(left, denials, facts, limits, regime, now_ns)


_Filter = Callable[[Sequence[TradeProposal]], Checked]


def _sized(
    entries: Sequence[TradeProposal],
    denials: list[Denial],
    facts: PortfolioFacts,
    limits: RiskLimits,
    regime: PriceRegime,
    now_ns: int,
) -> tuple[_Cleared, list[Denial], RiskCode | None, RiskCode | None]:
    """Cuts the entries to the caps and checks the sizes that are left."""
    outcomes = allocate(entries, facts, limits, regime)
    cleared: _Cleared = []
    denied = [outcome for outcome in outcomes if isinstance(outcome, Denial)]
    primary = RiskCode.EXPOSURE_CAPS
    is_first = True
    for entry, outcome in zip(entries, outcomes, strict=True):
        if isinstance(outcome, Denial):
            continue
        codes = add_codes(outcome, facts, limits, now_ns)
        if codes:
            denied.append(Denial(entry.symbol, codes))
            primary, is_first = (codes[0] if is_first else primary), False
        else:
            cleared.append((entry, outcome))
    return cleared, [*denials, *denied], None, None if cleared else primary


def _exhausted(facts: PortfolioFacts, limits: RiskLimits) -> RiskCode | None:
    """Returns a code when nothing at all may be put at risk any more."""
    if facts.equity > 0.0 and total_room(facts, limits) <= ROUNDING * facts.equity:
        return RiskCode.MAX_TOTAL_AT_RISK
    return None


def _all_denied(proposals: Sequence[TradeProposal], code: RiskCode) -> list[Denial]:
    return [Denial(proposal.symbol, (code,)) for proposal in proposals]
