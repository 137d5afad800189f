"""The audit that asks how much history the strategies of a portfolio need.

For seeded start dates, features, signals and targets are computed from bars that begin there, and
compared with those of all bars, from so many bars after the start on as the caller says are there
before anybody acts. A value that then differs by more than float32 shows at its column's size was
not warm. Events are left whole: they are facts with dates of their own.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from backlane.audit.compare import differing
from backlane.audit.portfolio_findings import CAUSE_LENGTH_MAX, in_order, kept
from backlane.audit.portfolio_future import panel_since
from backlane.audit.portfolio_recording import (
    Column,
    PortfolioDifference,
    Recording,
    record_strategies,
    signal_grids,
    unequal_cells,
)
from backlane.audit.portfolio_stamp import (
    RUN,
    SIGNALS,
    TARGETS,
    PortfolioFinding,
    PortfolioStamp,
    verdict_on,
)
from backlane.audit.stamp import AuditKind
from backlane.audit.warmup import COMPARED_BARS, DEFAULT_START_COUNT, START_COUNT_MAX
from backlane.backtest.digest import digest_config
from backlane.backtest.portfolio_cycle import RunPlan
from backlane.cycle.strategy import TradeStrategy
from backlane.errors import NotEnoughBarsError
from backlane.panel.events import Events
from backlane.panel.panel import Panel

DEFAULT_HISTORY_BARS = 252
"""Bars before the first one compared: a year of days. Half of the panel, where that is less."""
SIGNAL_ROWS_MAX = 256
"""Bars after each start whose signals to trade are compared; each is made in Python."""
_RESOLUTION = float(np.finfo(np.float32).eps)
_START = "late start"


def audit_portfolio_warmup(
    plan: RunPlan,
    panel: Panel,
    events: Mapping[str, Events],
    *,
    start_count: int = DEFAULT_START_COUNT,
    history_bars: int | None = None,
    seed: int = 0,
    dataset_digests: Mapping[str, str] | None = None,
    versions: Mapping[str, str] | None = None,
    on_progress: Callable[[int, int], None] | None = None,
) -> PortfolioStamp:
    """Tries `start_count` seeded start dates, with `history_bars` before what is compared.

    Raises what the strategies raise on all bars, and NotEnoughBarsError where `history_bars` leaves
    nothing to compare.
    """
    history = min(DEFAULT_HISTORY_BARS, len(panel) // 2) if history_bars is None else history_bars
    starts = _chosen_starts(len(panel), history, start_count, seed)
    whole = record_strategies(plan, panel, events)
    audit = _Starts(plan, whole, events, history)
    for done, start in enumerate(starts, start=1):
        audit.start_at(start)
        if on_progress is not None:
            on_progress(done, len(starts))
    every = in_order(audit.findings.values())
    findings, notes = kept(every)
    proposes = any(isinstance(each.strategy, TradeStrategy) for each in plan.strategies)
    return PortfolioStamp(
        kind=AuditKind.WARMUP,
        verdict=verdict_on(every, frozenset({RUN, TARGETS, *([SIGNALS] if proposes else [])})),
        seed=seed,
        bar_count=len(panel),
        instrument_count=len(panel.symbols),
        replay_count=len(starts),
        checked_ns=tuple(int(panel.time_ns[start]) for start in starts),
        columns=whole.columns(),
        findings=findings,
        notes=(f"{history} bars stand before the first one that is compared.", *notes),
        strategies=tuple(each.label for each in plan.strategies),
        config_digest=digest_config(plan.config.model_dump(mode="json")),
        dataset_digests=dict(dataset_digests or {}),
        versions=dict(versions or {}),
    )


class _Starts:
    """The start dates of one audit, and what they found."""

    def __init__(
        self, plan: RunPlan, whole: Recording, events: Mapping[str, Events], history: int
    ) -> None:
        self._plan, self._whole, self._events, self._history = plan, whole, events, history
        self._resolution = {key: _resolution(values) for key, values in whole.grids.items()}
        self.findings: dict[tuple[str, str, str], PortfolioFinding] = {}

    def start_at(self, start: int) -> None:
        """Compares bars that begin at a row with all bars, a while long."""
        panel = self._whole.panel
        try:
            late = record_strategies(self._plan, panel_since(panel, start), self._events)
        except Exception as error:  # noqa: BLE001 - a strategy may raise anything
            name, when_ns = type(error).__name__, int(panel.time_ns[start])
            cause = f"the strategies fail on bars that begin there: {error}"[:CAUSE_LENGTH_MAX]
            self._note(PortfolioDifference(RUN, name, "", when_ns, None), start, cause)
            return
        for each in self._compare(late, start):
            self._note(each, start, self._cause(each, start))

    def _compare(self, late: Recording, start: int) -> Iterator[PortfolioDifference]:
        panel, first = self._whole.panel, start + self._history
        stop = min(first + COMPARED_BARS, len(panel))
        for key, values in self._whole.grids.items():
            pair = (values[first:stop], late.grids[key][first - start : stop - start])
            cells = _unsettled(pair, self._resolution[key])
            yield from unequal_cells(panel, *key, pair, cells, first)
        stop = min(first + SIGNAL_ROWS_MAX, stop)
        for label, table in self._whole.tables.items():
            if table.rows is None:
                continue
            ours = signal_grids(table, panel, range(first, stop))
            theirs = signal_grids(late.tables[label], panel, range(first - start, stop - start))
            for name in dict.fromkeys((*ours, *theirs)):
                none = np.full((stop - first, len(panel.symbols)), np.nan)
                pair = (ours.get(name, none), theirs.get(name, none))
                cells = _unsettled(pair, _resolution(pair[0]))
                yield from unequal_cells(panel, SIGNALS, f"{label}.{name}", pair, cells, first)

    def _cause(self, difference: PortfolioDifference, start: int) -> str:
        stop = min(start + self._history + COMPARED_BARS, len(self._whole.panel))
        if difference.last_row >= stop - 1:
            return "it does not settle: it depends on how far back the bars go"
        return "it needs more bars before the first one than there were"

    def _note(self, difference: PortfolioDifference, start: int, cause: str) -> None:
        key = (difference.stage, difference.column, difference.instrument)
        before = self.findings.get(key)
        needed = max(difference.last_row + 1 - start, self._history)
        if before is None:
            self.findings[key] = PortfolioFinding(
                *key, difference.first_ns, difference.size, {_START: 1}, cause,
                self._history, needed,
            )  # fmt: skip
            return
        sizes = [size for size in (before.size, difference.size) if size is not None]
        worse = needed > (before.bars_needed or 0)
        self.findings[key] = replace(
            before,
            first_ns=min(before.first_ns, difference.first_ns),
            size=max(sizes, default=None),
            replays={_START: before.replays[_START] + 1},
            cause=cause if worse else before.cause,
            bars_needed=max(needed, before.bars_needed or 0),
        )


def _chosen_starts(bars: int, history: int, count: int, seed: int) -> list[int]:
    """Returns seeded rows, in order, each with its history and a bar to compare after it."""
    choice = bars - history - 1
    if choice < 1:
        raise NotEnoughBarsError(
            f"The panel has {bars} bars: with {history} before what is compared, nothing is left. "
            "Ask for less history, or give more bars.",
            metadata={"bar_count": str(bars)},
        )
    chosen = np.random.default_rng(seed).permutation(choice)[: min(count, START_COUNT_MAX)]
    return sorted(1 + int(row) for row in chosen)


def _resolution(values: Column) -> float:
    """Returns the difference that float32 shows at the size of a column's largest value."""
    if values.dtype.kind != "f":
        return 0.0
    known = np.abs(values[np.isfinite(values)])
    return float(known.max(initial=0.0)) * _RESOLUTION


def _unsettled(pair: tuple[Column, Column], resolution: float) -> NDArray[np.bool_]:
    """Returns where two grids differ by more than a resolution, or one has no value."""
    left, right = pair
    if left.dtype.kind != "f":
        return differing(left, right)
    with np.errstate(invalid="ignore"):
        is_far = np.abs(left.astype(np.float64) - right.astype(np.float64)) > resolution
    return np.asarray(is_far | (np.isnan(left) != np.isnan(right)))
