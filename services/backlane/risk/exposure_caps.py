"""Cuts new positions to what the caps leave, best first (SPEC A7, 5b).

Corrections (SPEC C1): the cap of a position is scaled by the regime before anything is cut to it
("caps vs regime"), and what is left of the total is given out by priority ("batch veto").
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from backlane.risk.codes import Denial, RiskCode
from backlane.risk.facts import PortfolioFacts
from backlane.risk.limits import RiskLimits
from backlane.risk.proposal import TradeProposal, canonical_symbol
from backlane.signals.price_regime import PriceRegime

ROUNDING = 1e-9
"""Share of equity: what is left of a cap below it is the rounding of a sum, not room."""


@dataclass(frozen=True, slots=True)
class Allocation:
    """A proposal with the size that it may have; `notional` is that size in money, None for exits.

    `is_cut` says that a cap made it smaller, `is_raised` that it was raised to the minimum.
    """

    proposal: TradeProposal
    notional: float | None = None
    is_cut: bool = False
    is_raised: bool = False


@dataclass(slots=True)
class _Room:
    """What is left of the caps while they are given out, money."""

    total: float
    themes: dict[str, float]
    symbols: dict[str, float] = field(default_factory=dict)


def position_cap(facts: PortfolioFacts, limits: RiskLimits, regime: PriceRegime) -> float:
    """Returns the money that one position may take in a regime."""
    multiplier = limits.regime_multipliers.get(regime, 1.0)
    return limits.position_size_max * multiplier * facts.equity


def total_room(facts: PortfolioFacts, limits: RiskLimits) -> float:
    """Returns the money that may still be put at risk; below 0 when there is too much already."""
    at_risk = facts.at_risk(
        counts_external=limits.counts_external_positions, external_buffer=limits.external_buffer
    )
    return limits.total_at_risk_max * facts.equity - at_risk


def allocate(
    proposals: Sequence[TradeProposal],
    facts: PortfolioFacts,
    limits: RiskLimits,
    regime: PriceRegime,
) -> list[Allocation | Denial]:
    """Returns for each entry, in the order given, the size that the caps leave it, or its denial.

    The highest confidence is served first, equal ones in the order given. A request below the
    minimum notional is raised to it when `raises_to_minimum`; what the caps leave of a request must
    reach the minimum too.
    """
    room = _Room(
        total_room(facts, limits),
        {
            theme: share * facts.equity - facts.theme_exposure(theme)
            for theme, share in limits.theme_size_max.items()
        },
    )
    cap = position_cap(facts, limits, regime)
    ranked = sorted(range(len(proposals)), key=lambda place: -proposals[place].confidence)
    outcomes = {place: _serve(proposals[place], facts, limits, room, cap) for place in ranked}
    return [outcomes[place] for place in range(len(proposals))]


def _serve(
    proposal: TradeProposal, facts: PortfolioFacts, limits: RiskLimits, room: _Room, cap: float
) -> Allocation | Denial:
    if facts.equity <= 0.0:
        return Denial(proposal.symbol, (RiskCode.NO_EQUITY,))
    asked = proposal.size * facts.equity
    if asked <= 0.0:
        return Denial(proposal.symbol, (RiskCode.NON_POSITIVE_REQUEST,))
    name = canonical_symbol(proposal.symbol)
    theme = facts.themes.get(name, "")
    wanted = max(asked, limits.trade_notional_min) if limits.raises_to_minimum else asked
    left = min(
        room.symbols.setdefault(name, cap - facts.exposure(name)),
        room.themes.get(theme, room.total),
        room.total,
    )
    if left <= ROUNDING * facts.equity:
        return Denial(proposal.symbol, (RiskCode.NO_CAPACITY,))
    is_cut = left < wanted - ROUNDING * facts.equity
    given = left if is_cut else wanted
    if is_cut and given < limits.trade_notional_min:
        return Denial(proposal.symbol, (RiskCode.BELOW_MIN_AFTER_CAPS,))
    room.symbols[name] -= given
    room.total -= given
    if theme in room.themes:
        room.themes[theme] -= given
    size = proposal.size if given == asked else given / facts.equity
    return Allocation(replace(proposal, size=size), given, is_cut, is_raised=wanted > asked)
