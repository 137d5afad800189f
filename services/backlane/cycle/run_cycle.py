"""One trading cycle: universe, features, signals, proposals, sizing, risk, orders."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from backlane.cycle.context import Context
from backlane.cycle.cycle_result import (
    CycleFailure,
    CycleOrders,
    CycleRefusal,
    CycleResult,
    CycleStage,
    Drafts,
    FailureCode,
    NoTradeReason,
    ProposalBook,
    Refusal,
    RiskVerdict,
    StrategySignals,
)
from backlane.cycle.stages import Stages
from backlane.errors import FutureDataError
from backlane.risk.pretrade import PretradeCode

_OutputT = TypeVar("_OutputT")
Row = NDArray[np.float64]


class _StageFailedError(Exception):
    """Ends the cycle; the failure is noted already."""


@dataclass(slots=True)
class _Record:
    """What is known of a cycle so far."""

    context: Context
    outputs: dict[str, Any] = field(default_factory=dict)
    timings_s: dict[CycleStage, float] = field(default_factory=dict)
    failure: CycleFailure | None = None

    def run(self, stage: CycleStage, compute: Callable[[], _OutputT]) -> _OutputT:
        """Runs a stage, times it and keeps what it gives; raises _StageFailedError if it fails."""
        clock = self.context.around.clock
        started_s = clock.monotonic_s()
        try:
            output = compute()
        except Exception as error:  # a strategy may raise anything
            is_future = isinstance(error, FutureDataError)
            code = FailureCode.FUTURE_DATA if is_future else FailureCode.STAGE_RAISED
            message = f"{type(error).__name__}: {error}"
            self.failure = CycleFailure(stage, code, message, error)
            raise _StageFailedError from error
        finally:
            self.timings_s[stage] = clock.monotonic_s() - started_s
        return output

    def keep(self, stage: CycleStage, name: str, output: object, mistake: str) -> None:
        """Keeps the output of a stage, or fails it for a mistake in its output."""
        if mistake:
            self.failure = CycleFailure(stage, FailureCode.BAD_OUTPUT, mistake)
            raise _StageFailedError
        self.outputs[name] = output

    def result(self, reason: NoTradeReason | None = None, detail: str = "") -> CycleResult:
        """Returns the result of what was kept; without orders where there are none yet."""
        count = len(self.context.symbols)
        if self.failure is None:
            self.outputs.setdefault("orders", CycleOrders(np.zeros(count)))
        return CycleResult(
            self.context.as_of_ns,
            self.context.symbols,
            no_trade=reason,
            detail=detail,
            failure=self.failure,
            timings_s=self.timings_s,
            **self.outputs,
        )


def run_cycle(context: Context, stages: Stages) -> CycleResult:
    """Returns what the stages make of a context; it changes nothing, and never raises for a stage.

    A stage that fails ends the cycle: what was computed before it stays in the result. Where that
    stage is risk, every entry is refused with `risk_control_failed` and exits pass. The same
    context and stages give the same result, but for the timings.
    """
    record = _Record(context)
    try:
        return _cycle(record, stages)
    except _StageFailedError:
        failure = record.failure
        said = "" if failure is None else f"{failure.stage}: {failure.message}"
        return record.result(NoTradeReason.FAILED, said)


def _cycle(record: _Record, stages: Stages) -> CycleResult:
    context, count = record.context, len(record.context.symbols)
    if len(context.panel) == 0:
        record.failure = CycleFailure(
            CycleStage.UNIVERSE, FailureCode.NO_BARS, "no bar was known at the time of the cycle"
        )
        raise _StageFailedError
    universe = record.run(CycleStage.UNIVERSE, lambda: stages.universe(context))
    mistake = _shape_mistake("is_member", universe.is_member, count)
    record.keep(CycleStage.UNIVERSE, "universe", universe, mistake)
    if not universe.is_member.any() and not _holds_anything(context):
        return record.result(NoTradeReason.EMPTY_UNIVERSE)
    features = record.run(CycleStage.FEATURES, lambda: stages.features(context, universe))
    record.keep(CycleStage.FEATURES, "features", features, "")
    signals = record.run(
        CycleStage.SIGNALS, lambda: tuple(stages.signals(context, universe, features))
    )
    record.keep(CycleStage.SIGNALS, "signals", signals, _signal_mistake(signals, count))
    proposals = record.run(
        CycleStage.PROPOSALS, lambda: stages.proposals(context, universe, signals)
    )
    weights = proposals.weights
    mistake = "" if weights is None else _row_mistake("weights", weights, count, may_be_nan=True)
    record.keep(CycleStage.PROPOSALS, "proposals", proposals, mistake)
    if proposals.is_empty:
        return record.result(_nothing_proposed(signals, proposals))
    drafts = record.run(CycleStage.SIZING, lambda: stages.sizing(context, universe, proposals))
    mistake = _row_mistake("quantity", drafts.quantity, count)
    record.keep(CycleStage.SIZING, "drafts", drafts, mistake)
    if not drafts.quantity.any():
        first = drafts.refusals[0].codes[0] if drafts.refusals else ""
        return record.result(NoTradeReason.NOTHING_TO_CHANGE, str(first))
    verdict = _judged(record, stages, drafts, universe)
    orders = record.run(CycleStage.ORDERS, lambda: stages.orders(context, drafts, verdict))
    record.keep(
        CycleStage.ORDERS, "orders", orders, _row_mistake("quantity", orders.quantity, count)
    )
    if record.failure is not None:
        said = f"{record.failure.stage}: {record.failure.message}"
        return record.result(NoTradeReason.FAILED, said)
    return record.result(*_nothing_approved(context, verdict))


def _judged(record: _Record, stages: Stages, drafts: Drafts, universe: Any) -> RiskVerdict:
    """Returns the verdict of risk; where risk fails, that of fear: exits alone."""
    context = record.context
    try:
        verdict = record.run(CycleStage.RISK, lambda: stages.risk(context, universe, drafts))
        mistake = _row_mistake("quantity", verdict.quantity, len(context.symbols))
        mistake = mistake or _enlarged(context.symbols, drafts.quantity, verdict)
        record.keep(CycleStage.RISK, "verdict", verdict, mistake)
    except _StageFailedError:
        verdict = exits_alone(context, drafts)
        record.outputs["verdict"] = verdict
    return verdict


def exits_alone(context: Context, drafts: Drafts) -> RiskVerdict:
    """Returns the verdict when a control failed: what reduces a position passes, all else not."""
    reducing = reducing_part(context.book.quantity, drafts.quantity)
    refused = np.flatnonzero(drafts.quantity != reducing)
    code = CycleRefusal.CONTROL_FAILED
    refusals = tuple(Refusal(context.symbols[each], (code,)) for each in refused)
    return RiskVerdict(reducing, refusals, stop=code)


def reducing_part(held: Row, quantity: Row) -> Row:
    """Returns the part of orders (symbols,) that reduces what is held, to zero at most.

    Of an order of -150 on 100 held, -100 reduces; of one of -30 all of it; of one of +10 nothing.
    """
    is_opposite = np.sign(quantity) == -np.sign(held)
    return np.where(
        is_opposite, np.sign(quantity) * np.minimum(np.abs(quantity), np.abs(held)), 0.0
    )


def _holds_anything(context: Context) -> bool:
    return bool(context.book.quantity.any())


def _nothing_proposed(
    signals: tuple[StrategySignals, ...], proposals: ProposalBook
) -> NoTradeReason:
    if proposals.weights is not None:
        return NoTradeReason.NO_DECISION
    has_candidates = any(each.triggers for each in signals)
    return NoTradeReason.NO_PROPOSALS if has_candidates else NoTradeReason.NO_CANDIDATES


def _nothing_approved(context: Context, verdict: RiskVerdict) -> tuple[NoTradeReason | None, str]:
    """Returns why nothing is left after risk; None and no words where something is."""
    if verdict.quantity.any():
        return None, ""
    code = verdict.stop or next((each.codes[0] for each in verdict.refusals), "")
    if code is PretradeCode.QUALITY_BLOCK:
        return NoTradeReason.QUALITY_BLOCKED, context.around.quality.reason
    return NoTradeReason.RISK_BLOCKED, str(code)


def _signal_mistake(signals: tuple[StrategySignals, ...], count: int) -> str:
    for each in signals:
        for name in ("direction", "score", "weights", "standing"):
            values = getattr(each, name)
            mistake = "" if values is None else _shape_mistake(name, values, count)
            if mistake:
                return f"{each.strategy}: {mistake}"
    return ""


def _row_mistake(name: str, values: Row, count: int, *, may_be_nan: bool = False) -> str:
    mistake = _shape_mistake(name, values, count)
    if mistake:
        return mistake
    is_usable = ~np.isinf(values) if may_be_nan else np.isfinite(values)
    return "" if is_usable.all() else f"{name} has values that are not finite"


def _shape_mistake(name: str, values: Any, count: int) -> str:
    shape = np.shape(values)
    return "" if shape == (count,) else f"{name} has shape {shape}, not {(count,)}"


def _enlarged(symbols: tuple[str, ...], drafted: Row, verdict: RiskVerdict) -> str:
    """Says for which instrument risk made an order larger, or turned it around.

    One that was raised to the minimum notional says so.
    """
    left = verdict.quantity
    raised = {each.proposal.symbol for each in verdict.allocations if each.is_raised}
    may_grow = np.array([symbol in raised for symbol in symbols])
    wrong = ((np.abs(left) > np.abs(drafted)) & ~may_grow) | (left * drafted < 0.0)
    return f"the order for {symbols[int(wrong.argmax())]} was enlarged" if wrong.any() else ""
