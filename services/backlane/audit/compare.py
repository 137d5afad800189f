"""Two runs over the same bars, column by column and bit by bit, up to a bar."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from backlane.audit.stamp import ACCOUNT, BARS, DECISIONS, FEATURES, ORDERS, SCORES
from backlane.backtest.result import BacktestRun
from backlane.execution.order import ExitReason

Column = NDArray[Any]

ACCOUNT_COLUMNS = ("equity", "cash", "position")
FIRST_BAR = "first simulated bar"
_PLACE = "bar_index"  # of a fill: counted from each run's own first bar


@dataclass(frozen=True, slots=True)
class Difference:
    """One column that differs: first where, and at most by how much (None: no number)."""

    stage: str
    column: str
    first_ns: int
    size: float | None


def differing(left: Column, right: Column) -> NDArray[np.bool_]:
    """Returns where two columns of one dtype differ in any bit; NaN equals NaN."""
    if left.dtype.kind != "f":
        return np.asarray(left != right)
    word = np.uint32 if left.dtype.itemsize == 4 else np.uint64
    bits = np.ascontiguousarray(left).view(word) != np.ascontiguousarray(right).view(word)
    return np.asarray(bits & ~(np.isnan(left) & np.isnan(right)))


def largest_difference(left: Column, right: Column) -> float | None:
    """Returns max |left - right| over what is a number in both, None when nothing is.

    Columns of single bytes are codes, whose distance says nothing.
    """
    if left.dtype.kind not in "fiu" or left.dtype.itemsize == 1:
        return None
    distance = np.abs(left.astype(np.float64) - right.astype(np.float64))
    known = distance[np.isfinite(distance)]
    return float(known.max()) if len(known) else None


def columns_of(run: BacktestRun) -> Iterator[tuple[str, str, Column]]:
    """Gives stage, name and values of every column with a value for each bar."""
    for index, name in enumerate(run.features.names):
        yield FEATURES, name, run.features.values[:, index]
    for index, name in enumerate(run.scores.names):
        yield SCORES, name, run.scores.values[:, index]
    yield SCORES, "confidence", run.scores.confidence
    yield SCORES, "raw_decision", run.scores.raw_decision
    yield DECISIONS, "decision", run.decision
    yield DECISIONS, "reason", run.reason
    for name in ACCOUNT_COLUMNS:
        yield ACCOUNT, name, getattr(run, name)


def column_names(run: BacktestRun) -> dict[str, tuple[str, ...]]:
    """Returns, by stage, the names of everything that is compared."""
    names: dict[str, list[str]] = {}
    for stage, name, _ in columns_of(run):
        names.setdefault(stage, []).append(name)
    names[ORDERS] = _order_fields(run.fills)
    return {stage: tuple(each) for stage, each in names.items()}


def compare_runs(
    whole: BacktestRun, replay: BacktestRun, *, until_ns: int, is_prefix: bool
) -> list[Difference]:
    """Returns every column that differs at a bar up to `until_ns`, the open time of a bar.

    Bars that the replay does not reach are not compared: see `reached_ns`. The last bar of a
    prefix has what the end of the data forces, a closing fill and its equity: these are left out.
    """
    found = []
    starts = [int(run.bars.open_time_ns[0]) for run in (whole, replay)]
    if starts[0] != starts[1]:
        found.append(Difference(BARS, FIRST_BAR, min(starts), None))
    times, mine, theirs = _same_bars(whole, replay, until_ns)
    ours, others = columns_of(whole), columns_of(replay)
    for (stage, name, left), (_, _, right) in zip(ours, others, strict=True):
        count = len(times)
        if stage == ACCOUNT and is_prefix and count and theirs[-1] == len(replay.bars) - 1:
            count -= 1
        before, after = left[mine[:count]], right[theirs[:count]]
        rows = np.flatnonzero(differing(before, after))
        if len(rows):
            size = largest_difference(before[rows], after[rows])
            found.append(Difference(stage, name, int(times[rows[0]]), size))
    last_ns = int(times[-1]) if len(times) else -1
    found.extend(_compare_fills(whole, replay, last_ns))
    return found


def reached_ns(replay: BacktestRun) -> int:
    """Returns the open time of the last bar that the replay simulated."""
    return int(replay.bars.open_time_ns[-1])


def _same_bars(
    whole: BacktestRun, replay: BacktestRun, until_ns: int
) -> tuple[NDArray[np.int64], NDArray[np.intp], NDArray[np.intp]]:
    """Returns the times that both have, and the rows of these in each."""
    ours, others = whole.bars.open_time_ns, replay.bars.open_time_ns
    return np.intersect1d(
        ours[: np.searchsorted(ours, until_ns, "right")],
        others[: np.searchsorted(others, until_ns, "right")],
        assume_unique=True,
        return_indices=True,
    )


def _compare_fills(whole: BacktestRun, replay: BacktestRun, last_ns: int) -> Iterator[Difference]:
    """Gives the fields in which the first fill that differs does; later ones follow from it."""
    ours, others = (_chosen_fills(run, last_ns) for run in (whole, replay))
    shared = min(len(ours), len(others))
    fields = _order_fields(ours)
    unequal = {name: differing(ours[name][:shared], others[name][:shared]) for name in fields}
    rows = np.flatnonzero(np.logical_or.reduce([np.zeros(shared, np.bool_), *unequal.values()]))
    if len(rows):
        row = int(rows[0])
        first_ns = int(min(ours["time_ns"][row], others["time_ns"][row]))
        for name in fields:
            if unequal[name][row]:
                size = largest_difference(ours[name][row : row + 1], others[name][row : row + 1])
                yield Difference(ORDERS, name, first_ns, size)
    elif len(ours) != len(others):
        longer = ours if len(ours) > shared else others
        yield Difference(ORDERS, "fill", int(longer["time_ns"][shared]), None)


def _chosen_fills(run: BacktestRun, last_ns: int) -> NDArray[np.void]:
    """Returns the fills up to a time, without the one that the end of the data forces."""
    fills = run.fills.view(np.ndarray)
    is_chosen = (fills["exit_reason"] != ExitReason.END_OF_DATA) & (fills["time_ns"] <= last_ns)
    return cast(NDArray[np.void], fills[is_chosen])


def _order_fields(fills: NDArray[np.void]) -> list[str]:
    return [name for name in fills.dtype.names or () if name != _PLACE]
