"""The audit that asks whether anything depends on how much history was loaded.

For seeded start dates, the features and the model's word are computed twice: from the bars that a
run with this start loads, and from all bars that there are. A column that then differs by more
than float32 shows at the column's size was not warm; a decision that differs is a reason not to
trust runs with a start date.

Decisions are compared before the filters that know the position: the model's BUY or SELL where the
confidence reaches the threshold. If these are equal, so is everything that follows from them.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import numpy as np
from numpy.typing import NDArray

from backlane.audit.compare import differing, largest_difference
from backlane.audit.replay import RecordingPredictor, ReplayPredictor
from backlane.audit.stamp import (
    DECISIONS,
    FEATURES,
    STAGES,
    AuditFinding,
    AuditKind,
    AuditStamp,
    verdict_of,
)
from backlane.backtest.digest import digest_config
from backlane.backtest.observer import SilentObserver
from backlane.backtest.prepare import Prepared, prepare
from backlane.backtest.request import BacktestRequest
from backlane.backtest.rules import effective_config
from backlane.cycle.loop import new_slot
from backlane.errors import NanFeaturesError, NotEnoughBarsError
from backlane.features.names import strategy_features
from backlane.inference.predictor import Predictor
from backlane.market.bars import BarSeries

DEFAULT_START_COUNT = 20
START_COUNT_MAX = 1000
"""Start dates that one audit tries."""
COMPARED_BARS = 2000
"""Bars that are compared after each start; over a week of 5-minute bars, which ktrdr asks for."""
LEAST_BARS_AFTER = 100
"""Bars that there must be after a start date, where the data has so many."""
MODEL_DECISION = "decision of the model"

_RESOLUTION = float(np.finfo(np.float32).eps)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def audit_warmup(
    request: BacktestRequest,
    predictor: Predictor,
    bars: Mapping[str, BarSeries],
    *,
    start_count: int = DEFAULT_START_COUNT,
    seed: int = 0,
    dataset_digests: Mapping[str, str],
    versions: Mapping[str, str] | None = None,
    on_progress: Callable[[int, int], None] | None = None,
) -> AuditStamp:
    """Tries `start_count` seeded start dates between the request's start and end.

    Arguments are those of `run_backtest`; `on_progress` is told how many start dates of how many
    are done. Raises what `run_backtest` raises.
    """
    recording = RecordingPredictor(predictor)
    all_history = request.model_copy(update={"start": None})
    whole = prepare(all_history, recording, bars, SilentObserver(), new_slot())
    audit = _Warmup(request, recording, predictor, bars, whole)
    rows = _chosen_rows(request, whole, start_count, np.random.default_rng(seed))
    for done, row in enumerate(rows, start=1):
        audit.start_at(row)
        if on_progress is not None:
            on_progress(done, len(rows))
    findings = audit.findings()
    times = whole.window.base.open_time_ns
    config = effective_config(request, whole.decisions, whole.switches)
    config["timeframe"] = whole.window.base.timeframe.label
    return AuditStamp(
        kind=AuditKind.WARMUP,
        verdict=verdict_of(findings),
        seed=seed,
        bar_count=len(times),
        replay_count=audit.replay_count,
        checked_ns=tuple(int(times[row]) for row in rows),
        columns={FEATURES: whole.features.names, DECISIONS: (MODEL_DECISION,)},
        findings=findings,
        notes=audit.notes(),
        symbol=request.symbol,
        profile=request.profile,
        model=whole.model.name,
        model_digest=whole.model.digest,
        dataset_digests=dict(dataset_digests),
        config_digest=digest_config(config),
        versions=dict(versions or {}),
    )


@dataclass(frozen=True, slots=True)
class _Unsettled:
    """One column of one replay that is not what all history gives."""

    stage: str
    column: str
    first_ns: int
    size: float | None
    bars_loaded: int
    bars_needed: int


class _Warmup:
    """The start dates of one audit, and what they found."""

    def __init__(
        self,
        request: BacktestRequest,
        known: RecordingPredictor,
        predictor: Predictor,
        bars: Mapping[str, BarSeries],
        whole: Prepared,
    ) -> None:
        self._request, self._known, self._predictor = request, known, predictor
        self._bars, self._whole = bars, whole
        self._timeframes = {
            each.name: each.timeframe for each in strategy_features(whole.model.strategy)
        }
        self._resolution = _column_resolution(whole.features.values)
        self._found: dict[tuple[str, str], list[_Unsettled]] = {}
        self._impossible: list[str] = []
        self.replay_count = 0

    def start_at(self, row: int) -> None:
        """Compares a run that starts at a base bar with all history, a while long."""
        times = self._whole.window.base.open_time_ns
        last = min(row + COMPARED_BARS, len(times)) - 1
        request = self._request.model_copy(
            update={"start": _moment(times[row]), "end": _moment(times[last])}
        )
        replaying = ReplayPredictor(
            self._predictor, self._known, place=lambda count: last + 1 - count
        )
        try:
            replay = prepare(request, replaying, self._bars, SilentObserver(), new_slot())
        except (NotEnoughBarsError, NanFeaturesError) as error:
            self._impossible.append(error.message)
            return
        self.replay_count += 1
        for each in self._compare(replay):
            self._found.setdefault((each.stage, each.column), []).append(each)

    def findings(self) -> tuple[AuditFinding, ...]:
        """Returns what differed, by stage, then by how much history it lacks."""
        found = [_merged(each, self._cause(each[0])) for each in self._found.values()]
        return tuple(
            sorted(found, key=lambda each: (STAGES.index(each.stage), -(each.bars_needed or 0)))
        )

    def notes(self) -> tuple[str, ...]:
        """Returns what could not be checked."""
        if not self._impossible:
            return ()
        count, first = len(self._impossible), self._impossible[0]
        tried = count + self.replay_count
        return (f"{count} of {tried} start dates leave too little to run: {first}",)

    def _compare(self, replay: Prepared) -> Iterator[_Unsettled]:
        times = replay.window.base.open_time_ns
        place = int(np.searchsorted(self._whole.window.base.open_time_ns, times[0]))
        rows = slice(place, place + len(times))
        ours, theirs = self._whole.features.values[rows], replay.features.values
        changed = _is_changed(ours, theirs, self._resolution)
        for column in np.flatnonzero(changed[replay.first_index :].any(axis=0)):
            name = replay.features.names[column]
            yield _unsettled(
                replay,
                (FEATURES, name, self._timeframes[name]),
                changed[:, column],
                (ours[:, column], theirs[:, column]),
            )
        before, after = _model_decision(self._whole)[rows], _model_decision(replay)
        differs = differing(before, after)
        if differs[replay.first_index :].any():
            base = replay.window.base.timeframe.label
            yield _unsettled(replay, (DECISIONS, MODEL_DECISION, base), differs, (before, after))

    def _cause(self, unsettled: _Unsettled) -> str:
        if unsettled.stage == DECISIONS:
            return "follows from features that are not warm"
        label = self._timeframes[unsettled.column]
        loaded, needed = unsettled.bars_loaded, unsettled.bars_needed
        if self._whole.switches.history_before_start:
            return f"the {loaded} bars of {label} that are loaded are fewer than it needs"
        if needed <= loaded:
            return f"it depends on where the bars of {label} begin"
        return f"no history before the start is loaded: its indicator on {label} begins cold"


def _unsettled(
    replay: Prepared,
    subject: tuple[str, str, str],
    changed: NDArray[np.bool_],
    values: tuple[NDArray[np.generic], NDArray[np.generic]],
) -> _Unsettled:
    """Measures a column; `subject` is its stage, name and timeframe."""
    stage, name, label = subject
    first, base = replay.first_index, replay.window.base
    rows = first + np.flatnonzero(changed[first:])
    series = replay.window.bars[label]

    def closed_at(row: int) -> int:
        return int(np.searchsorted(series.close_time_ns, base.close_time_ns[row], "right"))

    return _Unsettled(
        stage,
        name,
        int(base.open_time_ns[rows[0]]),
        largest_difference(values[0][rows], values[1][rows]),
        closed_at(first),
        closed_at(int(rows[-1])) + 1,
    )


def _merged(found: list[_Unsettled], cause: str) -> AuditFinding:
    first = min(found, key=lambda each: each.first_ns)
    return AuditFinding(
        first.stage,
        first.column,
        first.first_ns,
        max((each.size for each in found if each.size is not None), default=None),
        len(found),
        cause,
        bars_loaded=min(each.bars_loaded for each in found),
        bars_needed=max(each.bars_needed for each in found),
    )


def _chosen_rows(
    request: BacktestRequest, whole: Prepared, start_count: int, random: np.random.Generator
) -> list[int]:
    """Returns seeded base bars, in order, with complete features before and some bars after."""
    times = whole.window.base.open_time_ns
    asked_ns = request.first_bar_ns()
    asked = 0 if asked_ns is None else int(np.searchsorted(times, asked_ns))
    begin = min(max(whole.first_index, asked), len(times) - 1)
    after = min(LEAST_BARS_AFTER, (len(times) - begin) // 2)
    rows = begin + random.permutation(max(1, len(times) - after - begin))
    return sorted(int(row) for row in rows[: min(start_count, START_COUNT_MAX)])


def _column_resolution(values: NDArray[np.float32]) -> NDArray[np.float64]:
    """Returns the last float32 digit at the size of each column."""
    sizes = np.where(np.isfinite(values), np.abs(values), 0.0).max(axis=0, initial=0.0)
    return np.asarray(sizes * _RESOLUTION, np.float64)


def _is_changed(
    ours: NDArray[np.float32], theirs: NDArray[np.float32], resolution: NDArray[np.float64]
) -> NDArray[np.bool_]:
    distance = np.abs(ours.astype(np.float64) - theirs.astype(np.float64))
    return np.asarray((distance > resolution) | (np.isnan(ours) != np.isnan(theirs)))


def _model_decision(prepared: Prepared) -> NDArray[np.int8]:
    """Returns BUY or SELL where the confidence reaches the threshold, HOLD elsewhere."""
    is_sure = prepared.scores.confidence >= prepared.decisions.confidence_threshold
    return np.where(is_sure, prepared.scores.raw_decision, 0).astype(np.int8)


def _moment(time_ns: np.int64) -> datetime:
    return _EPOCH + timedelta(microseconds=int(time_ns) // 1000)
