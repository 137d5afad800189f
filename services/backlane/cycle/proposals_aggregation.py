"""Makes one list of the proposals of several strategies (SPEC A6, registry)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from backlane.risk.proposal import TradeProposal


class ProposalRefusal(StrEnum):
    """Why a proposal of a strategy was left out."""

    NO_SYMBOL = "no_symbol"
    SIZE_NOT_POSITIVE = "size_not_positive"
    CONFIDENCE_OUT_OF_RANGE = "confidence_out_of_range"
    OVER_TRADES_PER_CYCLE = "over_trades_per_cycle"
    LESS_CONFIDENT = "less_confident_than_another_strategy"


@dataclass(frozen=True, slots=True)
class StrategyProposals:
    """What one strategy proposes, and its budget: trades per cycle and share of equity at risk."""

    name: str
    proposals: tuple[TradeProposal, ...]
    trades_per_cycle_max: int | None = None
    at_risk_max: float | None = None


@dataclass(frozen=True, slots=True)
class RefusedProposal:
    """A proposal that was left out, and why."""

    strategy: str
    proposal: TradeProposal
    reason: ProposalRefusal


@dataclass(frozen=True, slots=True)
class AggregatedProposals:
    """One proposal for each symbol at most, in the order of the strategies, and the others."""

    proposals: tuple[TradeProposal, ...]
    refused: tuple[RefusedProposal, ...]


def _refusal(proposal: TradeProposal) -> ProposalRefusal | None:
    if not proposal.symbol:
        return ProposalRefusal.NO_SYMBOL
    if not proposal.size > 0.0:
        return ProposalRefusal.SIZE_NOT_POSITIVE
    if not 0.0 <= proposal.confidence <= 1.0:
        return ProposalRefusal.CONFIDENCE_OUT_OF_RANGE
    return None


def aggregate_proposals(strategies: Sequence[StrategyProposals]) -> AggregatedProposals:
    """Returns the best proposal for each symbol, marked with its strategy and that one's budget.

    Of a strategy the first `trades_per_cycle_max` valid ones count. The highest confidence for a
    symbol is kept, the first of equal ones; opposite sides are not netted. A symbol keeps the place
    of its first proposal.
    """
    best: dict[str, TradeProposal] = {}
    refused: list[RefusedProposal] = []
    for strategy in strategies:
        count = 0
        for proposal in strategy.proposals:
            reason = _refusal(proposal)
            if reason is None and count == strategy.trades_per_cycle_max:
                reason = ProposalRefusal.OVER_TRADES_PER_CYCLE
            if reason is not None:
                refused.append(RefusedProposal(strategy.name, proposal, reason))
                continue
            count += 1
            marked = replace(
                proposal,
                strategy=strategy.name,
                strategy_at_risk_max=strategy.at_risk_max,
                tags=(*proposal.tags, strategy.name),
            )
            refused += _keep_better(best, marked)
    return AggregatedProposals(tuple(best.values()), tuple(refused))


def _keep_better(
    best: dict[str, TradeProposal], proposal: TradeProposal
) -> Sequence[RefusedProposal]:
    known: Mapping[str, TradeProposal] = best
    rival = known.get(proposal.symbol)
    loser = proposal
    if rival is None or proposal.confidence > rival.confidence:
        best[proposal.symbol] = proposal
        if rival is None:
            return ()
        loser = rival
    return (RefusedProposal(loser.strategy, loser, ProposalRefusal.LESS_CONFIDENT),)
