"""One cycle as of a time, for a book that somebody else holds, in plain records."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from backlane.backtest.cycle_outcome import (
    CycleOutcome,
    OrderReading,
    ProposalReading,
    SignalReading,
    StageReading,
    TargetReading,
)
from backlane.backtest.portfolio_cycle import RunPlan
from backlane.clock import Clock
from backlane.cycle.context import BookFacts, Context, Surroundings, context_at, last_bars
from backlane.cycle.cycle_result import CycleResult
from backlane.cycle.run_cycle import run_cycle
from backlane.errors import FieldViolation, InvalidRequestError
from backlane.panel.events import Events
from backlane.panel.panel import Panel


@dataclass(frozen=True, slots=True)
class Holdings:
    """What is held before a cycle: signed units by symbol, and money not invested."""

    positions: Mapping[str, float]
    cash: float


def decide_once(
    plan: RunPlan,
    panel: Panel,
    events: Mapping[str, Events],
    as_of_ns: int,
    holdings: Holdings,
    clock: Clock,
) -> CycleOutcome:
    """Returns what one cycle decides on what was known at `as_of_ns`; it changes nothing.

    What a book would know of its past, such as the trades of the day, is not known here: limits
    that look at it count from zero. Raises InvalidRequestError, naming the field, for a position in
    an instrument that the panel does not have.
    """
    context = context_at(
        panel,
        events,
        as_of_ns,
        book=_facts(plan, panel.until(as_of_ns), holdings),
        around=Surroundings(clock=clock),
    )
    return outcome_of(context, run_cycle(context, plan.stages()))


def _facts(plan: RunPlan, known: Panel, holdings: Holdings) -> BookFacts:
    columns = {symbol: column for column, symbol in enumerate(known.symbols)}
    unknown = [symbol for symbol in holdings.positions if symbol not in columns]
    if unknown:
        said = "is no instrument of the panel"
        violations = tuple(FieldViolation(f"positions[{each[:80]}]", said) for each in unknown)
        raise InvalidRequestError(f"{unknown[0][:80]!r} {said}.", violations=violations)
    quantity = np.zeros(len(columns))
    for symbol, units in holdings.positions.items():
        quantity[columns[symbol]] = units
    close = _last_closes(known)
    worth = np.where(quantity == 0.0, 0.0, quantity * np.nan_to_num(close))
    equity = holdings.cash + float(worth.sum())
    config = plan.config
    return BookFacts(
        cash=holdings.cash,
        equity=equity,
        capital=equity if config.compounding else config.initial_cash,
        peak_equity=max(equity, config.initial_cash),
        quantity=quantity,
        pending_quantity=np.zeros(len(columns)),
        last_close=close,
    )


def _last_closes(known: Panel) -> NDArray[np.float64]:
    """Returns the last close known of each instrument, NaN where it has none."""
    if len(known) == 0:
        return np.full(len(known.symbols), np.nan)
    rows = last_bars(known)
    closes = known.close[np.maximum(rows, 0), np.arange(len(known.symbols))]
    return np.where(rows < 0, np.nan, closes)


def outcome_of(context: Context, result: CycleResult) -> CycleOutcome:
    """Returns what a cycle decided on a context, in plain records."""
    failure = result.failure
    return CycleOutcome(
        as_of_ns=context.as_of_ns,
        bar_time_ns=int(context.panel.time_ns[-1]) if len(context.panel) else None,
        equity=context.book.equity,
        cash=context.book.cash,
        stages=_stages(result),
        signals=tuple(_signals(result)),
        targets=tuple(_targets(context, result)),
        proposals=tuple(_proposals(result)),
        orders=tuple(
            OrderReading(each.symbol, each.quantity, _number(each.price))
            for each in result.orders or ()
        ),
        no_trade="" if result.no_trade is None else str(result.no_trade),
        detail=result.detail if failure is None else f"{failure.stage}: {failure.message}",
    )


def _stages(result: CycleResult) -> tuple[StageReading, ...]:
    failure = result.failure
    said = {} if failure is None else {failure.stage: f"{failure.code}: {failure.message}"}
    timings = dict(result.timings_s)
    if failure is not None:
        timings.setdefault(failure.stage, 0.0)
    return tuple(
        StageReading(str(stage), seconds, said.get(stage, "")) for stage, seconds in timings.items()
    )


def _signals(result: CycleResult) -> list[SignalReading]:
    found = []
    for each in result.signals or ():
        if each.direction is None or each.score is None:
            continue
        for column, symbol in enumerate(result.symbols):
            score = _number(float(each.score[column]))
            found.append(SignalReading(symbol, int(each.direction[column]), score))
    return found


def _targets(context: Context, result: CycleResult) -> list[TargetReading]:
    if result.proposals is None or result.proposals.weights is None:
        return []
    found = []
    for column, symbol in enumerate(result.symbols):
        weight = float(result.proposals.weights[column])
        if math.isnan(weight):
            continue
        close = float(context.panel.close[-1, column])
        units = 0.0 if weight == 0.0 else weight * context.book.capital / close
        found.append(TargetReading(symbol, weight, _number(units)))
    return found


def _proposals(result: CycleResult) -> list[ProposalReading]:
    """Returns every draft with what risk left of it, then what never became a draft."""
    reasons: dict[str, list[str]] = {}
    details: dict[str, list[str]] = {}
    for refusal in result.refusals:
        reasons.setdefault(refusal.symbol, []).extend(str(code) for code in refusal.codes)
        if refusal.detail:
            details.setdefault(refusal.symbol, []).append(refusal.detail)
    for cut in () if result.verdict is None else result.verdict.cuts:
        reasons.setdefault(cut.symbol, []).append(str(cut.code))
    found, drafted = [], set()
    if result.drafts is not None:
        approved = np.zeros(len(result.symbols))
        if result.verdict is not None:
            approved = result.verdict.quantity
        for column in np.flatnonzero(result.drafts.quantity).tolist():
            symbol = result.symbols[column]
            drafted.add(symbol)
            found.append(
                ProposalReading(
                    symbol,
                    float(result.drafts.quantity[column]),
                    float(approved[column]),
                    tuple(dict.fromkeys(reasons.get(symbol, ()))),
                    "; ".join(details.get(symbol, ())),
                )
            )
    found += [
        ProposalReading(each.symbol, 0.0, 0.0, tuple(map(str, each.codes)), each.detail)
        for each in result.refusals
        if each.symbol not in drafted
    ]
    left_out = () if result.proposals is None else result.proposals.refused
    return found + [
        ProposalReading(each.proposal.symbol, 0.0, 0.0, (str(each.reason),), each.strategy)
        for each in left_out
    ]


def _number(value: float) -> float | None:
    return value if math.isfinite(value) else None
