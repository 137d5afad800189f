"""The checks on single proposals: strategy caps, timing, slots, sizes, adds (SPEC A7, 3a to 6)."""

from collections.abc import Callable, Sequence

from backlane.risk.codes import Denial, RiskCode
from backlane.risk.exposure_caps import ROUNDING, Allocation
from backlane.risk.facts import PortfolioFacts
from backlane.risk.halts import SECOND_NS
from backlane.risk.limits import RiskLimits
from backlane.risk.proposal import TradeProposal, canonical_symbol
from backlane.risk.trade_limits import symbol_wait

DAY_NS = 86_400 * SECOND_NS
OCCUPYING_SHARE = 0.25
"""A position of less than this share of the minimum trade takes no slot."""

Checked = tuple[list[TradeProposal], list[Denial]]
Codes = Callable[[TradeProposal], tuple[RiskCode, ...]]


def within_strategy_caps(proposals: Sequence[TradeProposal]) -> Checked:
    """Drops all entries of a strategy that proposes more than it may have at risk in one cycle."""
    proposed: dict[str, float] = {}
    for proposal in proposals:
        proposed[proposal.strategy] = proposed.get(proposal.strategy, 0.0) + proposal.size

    def is_over(proposal: TradeProposal) -> bool:
        cap = proposal.strategy_at_risk_max
        return cap is not None and proposed[proposal.strategy] > cap + ROUNDING

    return _split(
        proposals,
        lambda proposal: (RiskCode.STRATEGY_CAP,) if is_over(proposal) else (),
        names_strategy=True,
    )


def on_open_products(proposals: Sequence[TradeProposal], facts: PortfolioFacts) -> Checked:
    """Drops entries of products that the venue restricts."""
    closed = facts.venue.restricted_symbols
    return _split(
        proposals,
        lambda proposal: (
            (RiskCode.EXCHANGE_PRODUCT_STATUS,)
            if canonical_symbol(proposal.symbol) in closed
            else ()
        ),
    )


def after_waiting(
    proposals: Sequence[TradeProposal], facts: PortfolioFacts, limits: RiskLimits, now_ns: int
) -> Checked:
    """Drops entries of symbols that rest or were traded too recently."""

    def codes(proposal: TradeProposal) -> tuple[RiskCode, ...]:
        code = symbol_wait(proposal.symbol, facts.times, limits, now_ns)
        return () if code is None else (RiskCode.TRADE_LIMITS_TIMING, code)

    return _split(proposals, codes)


def within_slots(
    proposals: Sequence[TradeProposal], facts: PortfolioFacts, limits: RiskLimits
) -> Checked:
    """Drops entries for which no position slot is free, the least confident new ones first.

    A position or pending buy takes a slot when it is worth max(dust, a quarter of the minimum
    trade). Adds to what is held or being bought need no slot when `allows_adds_when_full`.
    """
    least = max(limits.dust_notional, OCCUPYING_SHARE * limits.trade_notional_min, 1e-6)
    pending = facts.pending_buys if limits.counts_pending_positions else {}
    occupied = {
        symbol
        for book in (facts.positions, pending)
        for symbol, value in book.items()
        if value + 1e-9 >= least
    }
    slots = max(limits.open_positions_max - len(occupied), 0)
    if limits.new_positions_per_cycle_max is not None:
        slots = min(slots, limits.new_positions_per_cycle_max)
    known = facts.positions.keys() | (pending.keys() & occupied)
    names = [canonical_symbol(proposal.symbol) for proposal in proposals]
    adds = [place for place, name in enumerate(names) if name in known]
    if limits.allows_adds_when_full:
        passed = set(adds)
    else:
        passed = set(adds[:slots])
        slots -= len(passed)
    fresh = [place for place in range(len(names)) if place not in adds]
    if limits.prefers_confidence:
        fresh.sort(key=lambda place: -proposals[place].confidence)
    opened: set[str] = set()
    for place in fresh:
        if len(opened) < slots and names[place] not in opened:
            opened.add(names[place])
            passed.add(place)
    return (
        [proposals[place] for place in sorted(passed)],
        [
            Denial(
                proposals[place].symbol,
                (RiskCode.ADDS_BLOCKED if place in adds else RiskCode.MAX_OPEN_POSITIONS,),
            )
            for place in range(len(names))
            if place not in passed
        ],
    )


def add_codes(
    allocation: Allocation, facts: PortfolioFacts, limits: RiskLimits, now_ns: int
) -> tuple[RiskCode, ...]:
    """Returns why an entry of a size that the caps leave is denied; none when it is approved."""
    name = canonical_symbol(allocation.proposal.symbol)
    is_held = facts.positions.get(name, 0.0) > 0.0
    is_pending = facts.pending_buys.get(name, 0.0) > 0.0
    codes = []
    if allocation.proposal.size < limits.position_size_min - ROUNDING:
        codes.append(RiskCode.POSITION_SIZE_TOO_SMALL)
    if limits.allows_pyramiding:
        fills = facts.times.buy_fills_ns_by_symbol.get(name, ()) if is_held else ()
        if fills and now_ns - fills[-1] < limits.pyramid_cooldown_s * SECOND_NS:
            codes.append(RiskCode.PYRAMID_COOLDOWN)
        elif fills_today(fills, now_ns) >= limits.adds_per_day_max and is_held:
            codes.append(RiskCode.PYRAMID_DAILY_LIMIT)
        return tuple(codes)
    if is_held and (is_pending or not limits.allows_adds_when_full):
        codes.append(RiskCode.ALREADY_HELD)
    if is_pending:
        codes.append(RiskCode.PENDING_BUY_EXISTS)
    return tuple(codes)


def fills_today(fills_ns: Sequence[int], now_ns: int) -> int:
    """Returns how many of the fills happened on the same UTC day as `now_ns`."""
    return sum(fill_ns // DAY_NS == now_ns // DAY_NS for fill_ns in fills_ns)


def _split(
    proposals: Sequence[TradeProposal],
    codes_of: Codes,
    *,
    names_strategy: bool = False,
) -> Checked:
    passed, denied = [], []
    for proposal in proposals:
        codes = codes_of(proposal)
        if codes:
            detail = proposal.strategy if names_strategy else ""
            denied.append(Denial(proposal.symbol, codes, detail))
        else:
            passed.append(proposal)
    return passed, denied
