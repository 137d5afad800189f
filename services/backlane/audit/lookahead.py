"""The audit that asks whether anything at a bar depends on what came after it.

The run is repeated as if the world ended at a bar t, in two ways. In a prefix replay, every
timeframe is cut to the bars that had closed when t closed. In a shuffled replay, the bars that had
not closed keep their times and swap their prices. Everything at t and before must be the same to
the bit: features, scores, decisions, orders, the account.

Both are needed. Where an alignment cuts all timeframes to their common window, a prefix may end
before t and show nothing at t; where prices of later bars happen not to matter, only their absence
does.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from backlane.audit.causes import Causes
from backlane.audit.compare import (
    Difference,
    column_names,
    compare_runs,
    reached_ns,
)
from backlane.audit.replay import RecordingPredictor, ReplayPredictor
from backlane.audit.stamp import STAGES, AuditFinding, AuditKind, AuditStamp, verdict_of
from backlane.backtest.engine import run_backtest
from backlane.backtest.request import BacktestRequest
from backlane.backtest.result import BacktestRun
from backlane.errors import NanFeaturesError, NotEnoughBarsError
from backlane.inference.predictor import Predictor
from backlane.market.bars import BarSeries

DEFAULT_BAR_COUNT = 20
BAR_COUNT_MAX = 1000
"""Bars that one audit cuts at."""


def audit_lookahead(
    request: BacktestRequest,
    predictor: Predictor,
    bars: Mapping[str, BarSeries],
    *,
    bar_count: int = DEFAULT_BAR_COUNT,
    seed: int = 0,
    dataset_digests: Mapping[str, str],
    versions: Mapping[str, str] | None = None,
    on_progress: Callable[[int, int], None] | None = None,
) -> AuditStamp:
    """Cuts at the first simulated bar and at `bar_count` - 1 seeded ones, and compares.

    Arguments are those of `run_backtest`; `on_progress` is told how many bars of how many are done.
    Raises what `run_backtest` raises, and NotEnoughBarsError for a run of fewer than two bars.
    """
    recording = RecordingPredictor(predictor)
    whole = run_backtest(
        request, recording, bars, dataset_digests=dataset_digests, versions=versions
    )
    causes = Causes(whole.model, request.resolved_switches(), bars, whole.bars.timeframe.label)
    audit = _Lookahead(request, predictor, bars, recording, whole, causes)
    random = np.random.default_rng(seed)
    rows = chosen_rows(len(whole.bars), bar_count, random)
    for done, row in enumerate(rows, start=1):
        audit.replay_at(row, random)
        if on_progress is not None:
            on_progress(done, len(rows))
    findings = audit.findings()
    return AuditStamp(
        kind=AuditKind.LOOKAHEAD,
        verdict=verdict_of(findings),
        seed=seed,
        bar_count=len(whole.bars),
        replay_count=audit.replay_count,
        checked_ns=tuple(int(whole.bars.open_time_ns[row]) for row in rows),
        columns=column_names(whole),
        findings=findings,
        notes=audit.notes(),
        symbol=request.symbol,
        profile=request.profile,
        model=whole.model.name,
        model_digest=whole.model.digest,
        dataset_digests=dict(dataset_digests),
        config_digest=whole.provenance.config_digest,
        versions=dict(versions or {}),
    )


def known_at(bars: Mapping[str, BarSeries], time_ns: int) -> dict[str, BarSeries]:
    """Returns the bars of each timeframe that had closed by `time_ns`, as views."""
    return {label: series.rows(0, _closed_count(series, time_ns)) for label, series in bars.items()}


def shuffled_after(
    bars: Mapping[str, BarSeries], time_ns: int, random: np.random.Generator
) -> dict[str, BarSeries]:
    """Returns the bars with those that had not closed by `time_ns` in another order.

    Times stay; each later bar gets the prices and the volume of another later bar.
    """
    return {
        label: _shuffled(series, _closed_count(series, time_ns), random)
        for label, series in bars.items()
    }


@dataclass(slots=True)
class _Lookahead:
    """The replays of one audit, and what they found."""

    request: BacktestRequest
    predictor: Predictor
    bars: Mapping[str, BarSeries]
    known: RecordingPredictor
    whole: BacktestRun
    causes: Causes
    replay_count: int = 0
    _found: dict[tuple[str, str], AuditFinding] = field(default_factory=dict, init=False)
    _impossible: list[str] = field(default_factory=list, init=False)
    _short: int = field(default=0, init=False)

    def replay_at(self, row: int, random: np.random.Generator) -> None:
        """Replays both ways at a simulated bar, and notes every column that differs."""
        until_ns = int(self.whole.bars.open_time_ns[row])
        close_ns = int(self.whole.bars.close_time_ns[row])
        edge = len(self.known.features) - len(self.whole.bars) + row
        prefix = self._run(known_at(self.bars, close_ns), edge)
        if prefix is not None:
            self._short += reached_ns(prefix) < until_ns
            self._note(compare_runs(self.whole, prefix, until_ns=until_ns, is_prefix=True))
        shuffled = self._run(shuffled_after(self.bars, close_ns, random), edge)
        if shuffled is not None:
            self._note(compare_runs(self.whole, shuffled, until_ns=until_ns, is_prefix=False))

    def findings(self) -> tuple[AuditFinding, ...]:
        """Returns what differed, by stage, then by bar."""
        found = self._found.values()
        return tuple(sorted(found, key=lambda each: (STAGES.index(each.stage), each.first_ns)))

    def notes(self) -> tuple[str, ...]:
        """Returns what could not be checked."""
        said = []
        if self._impossible:
            said.append(
                f"{len(self._impossible)} of {self._tried} replays could not be run on so few "
                f"bars: {self._impossible[0]}"
            )
        if self._short:
            said.append(
                f"{self._short} of {self._tried} replays end before their bar, because the "
                "alignment cuts all timeframes to the window that they share; the shuffled ones "
                "reach it."
            )
        return tuple(said)

    @property
    def _tried(self) -> int:
        return self.replay_count + len(self._impossible)

    def _run(self, bars: Mapping[str, BarSeries], edge: int) -> BacktestRun | None:
        replaying = ReplayPredictor(self.predictor, self.known, place=lambda _: 0, edge=edge)
        try:
            replay = run_backtest(self.request, replaying, bars, dataset_digests={})
        except (NotEnoughBarsError, NanFeaturesError) as error:
            self._impossible.append(error.message)
            return None
        self.replay_count += 1
        return replay

    def _note(self, differences: list[Difference]) -> None:
        for each in differences:
            key = (each.stage, each.column)
            before = self._found.get(key)
            if before is None:
                cause = self.causes.explain(each, differences)
                self._found[key] = AuditFinding(*key, each.first_ns, each.size, 1, cause)
                continue
            sizes = [size for size in (before.size, each.size) if size is not None]
            merged = replace(
                before, size=max(sizes, default=None), replay_count=before.replay_count + 1
            )
            if each.first_ns < before.first_ns:
                cause = self.causes.explain(each, differences)
                merged = replace(merged, first_ns=each.first_ns, cause=cause)
            self._found[key] = merged


def chosen_rows(simulated: int, bar_count: int, random: np.random.Generator) -> list[int]:
    """Returns the first bar and seeded others, in order; the last bar has no future."""
    if simulated < 2:
        raise NotEnoughBarsError(
            f"The run has {simulated} bar: an audit needs one with a future. Ask for a longer "
            "period.",
            metadata={"bar_count": str(simulated)},
        )
    count = min(bar_count, BAR_COUNT_MAX, simulated - 1) - 1
    others = 1 + random.permutation(simulated - 2)[:count]
    return [0, *sorted(int(row) for row in others)]


def _closed_count(series: BarSeries, time_ns: int) -> int:
    return int(np.searchsorted(series.close_time_ns, time_ns, "right"))


def _shuffled(series: BarSeries, closed: int, random: np.random.Generator) -> BarSeries:
    later = len(series) - closed
    if later < 2:
        return series
    # One cycle through all of them: no bar keeps its own prices.
    cycle = random.permutation(later)
    taken: NDArray[np.intp] = np.arange(len(series))
    taken[closed + cycle] = closed + np.roll(cycle, 1)
    columns = [getattr(series, name)[taken] for name in ("open", "high", "low", "close", "volume")]
    return BarSeries(series.symbol, series.timeframe, series.open_time_ns, *columns)
