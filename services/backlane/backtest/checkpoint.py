"""A checkpoint: everything that a run needs to go on from a bar to the same bits, as bytes.

Kept are the raw scores, the state of the loop, and what the loop has written up to there. Features
are not: they take more room than all of it, and less time than reading them back would. How the
bytes lie is told in `checkpoint_file`.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from backlane.backtest.checkpoint_file import (
    Binding,
    Buffer,
    CheckpointFormat,
    corrupt,
    decode_arrays,
    encode_arrays,
    foreign,
    layout_of,
)
from backlane.cycle.state import STATE_DTYPE
from backlane.errors import CheckpointForeignError
from backlane.portfolio.trade import FILL_DTYPE, TRADE_DTYPE

__all__ = ["Binding"]

FORMAT = "backlane.checkpoint.v1"
"""Kind and version of the bytes. A change of the layout makes it the next version."""
CURVES = ("decision", "reason", "equity", "cash", "position")
"""What the loop writes at each bar, in `cycle.loop.Outputs`."""
_DTYPES = {
    "scores": np.dtype("<f4"),
    "state": STATE_DTYPE,
    "decision": np.dtype("i1"),
    "reason": np.dtype("i1"),
    "equity": np.dtype("<f8"),
    "cash": np.dtype("<f8"),
    "position": np.dtype("<f8"),
    "trades": TRADE_DTYPE,
    "fills": FILL_DTYPE,
}


@dataclass(frozen=True, slots=True, eq=False)
class Progress:
    """How far the loop is.

    `state` is a STATE_DTYPE record of length 1. The curves have one value for each bar from
    `first_index` up to `next_index` (exclusive); `trades` and `fills` are those made so far.
    """

    first_index: int
    state: NDArray[np.void]
    curves: Mapping[str, NDArray[Any]]
    trades: NDArray[np.void]
    fills: NDArray[np.void]

    @property
    def next_index(self) -> int:
        """Returns the bar to simulate next."""
        return int(self.state["next_index"][0])


@dataclass(frozen=True, slots=True, eq=False)
class Checkpoint:
    """A point of a run over `bar_count` bars of the base timeframe, warm-up included.

    `scores` is what the model answered, float32 of shape (rows, outputs), for the first rows;
    `progress` is None while there are fewer rows than bars.
    """

    bar_count: int
    scores: NDArray[np.float32]
    progress: Progress | None = None

    @property
    def simulated_bars(self) -> int:
        """Returns how many bars are simulated."""
        progress = self.progress
        return 0 if progress is None else progress.next_index - progress.first_index

    @property
    def extent(self) -> tuple[int, int]:
        """Returns how many bars are scored, and how many simulated."""
        return len(self.scores), self.simulated_bars

    @property
    def reach(self) -> str:
        """Returns how far it is, in words."""
        if self.progress is None:
            return f"with {len(self.scores):,} of {self.bar_count:,} bars scored"
        return f"with {self.simulated_bars:,} bars simulated"


def encode(checkpoint: Checkpoint, binding: Binding) -> Iterator[Buffer]:
    """Yields the bytes in parts, most of them views of the arrays: nothing large is copied."""
    about = {
        "bar_count": checkpoint.bar_count,
        "first_index": checkpoint.progress.first_index if checkpoint.progress else 0,
    }
    return encode_arrays(FORMAT, binding, about, _arrays(checkpoint))


def decode(content: bytes, binding: Binding) -> Checkpoint:
    """Returns the checkpoint that the bytes hold; its arrays are views of them, read-only.

    Raises:
        CheckpointCorruptError: the bytes are damaged, cut off, or contradict themselves.
        CheckpointForeignError: they belong to another format, layout, request, model or dataset,
            or to another version of what computes; the message says what differs.

    """
    return _checked(*decode_arrays(content, FORMAT, binding, _dtype_of))


BACKTEST_CHECKPOINTS = CheckpointFormat(FORMAT, encode, decode)
"""The checkpoints of runs over one instrument."""


def _dtype_of(name: str, layout: Any) -> np.dtype[Any]:
    dtype = _DTYPES[name]
    if layout != layout_of(dtype):
        raise foreign(f"layout of {name}", layout, layout_of(dtype))
    return dtype


def _arrays(checkpoint: Checkpoint) -> dict[str, NDArray[Any]]:
    arrays: dict[str, NDArray[Any]] = {"scores": checkpoint.scores}
    if checkpoint.progress is not None:
        progress = checkpoint.progress
        arrays |= {"state": progress.state, **{name: progress.curves[name] for name in CURVES}}
        arrays |= {"trades": progress.trades, "fills": progress.fills}
    return {name: _little(array, _DTYPES[name]) for name, array in arrays.items()}


def _little(array: NDArray[Any], dtype: np.dtype[Any]) -> NDArray[Any]:
    return np.ascontiguousarray(array.view(np.ndarray).astype(dtype, copy=False))


def _checked(header: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> Checkpoint:
    """Returns the checkpoint after a look at whether its parts fit each other."""
    bar_count, first_index = header.get("bar_count"), header.get("first_index")
    if not isinstance(bar_count, int) or not isinstance(first_index, int):
        raise corrupt("it does not say how many bars it is about")
    scores = arrays.get("scores")
    if scores is None or scores.ndim != 2 or len(scores) > bar_count:
        raise corrupt("its scores are not one row for each bar")
    if "state" not in arrays:
        return Checkpoint(bar_count, scores)
    if set(arrays) != set(_DTYPES) or arrays["state"].shape != (1,) or len(scores) != bar_count:
        raise corrupt("it has a state, but not all that belongs to one")
    progress = Progress(
        first_index,
        arrays["state"],
        {name: arrays[name] for name in CURVES},
        arrays["trades"],
        arrays["fills"],
    )
    done = progress.next_index - first_index
    counts = (int(progress.state["trade_count"][0]), int(progress.state["fill_count"][0]))
    if (
        not 0 <= first_index <= progress.next_index <= bar_count
        or any(arrays[name].shape != (done,) for name in CURVES)
        or (progress.trades.shape, progress.fills.shape) != ((counts[0],), (counts[1],))
    ):
        raise corrupt("its counts and its arrays contradict each other")
    return Checkpoint(bar_count, scores, progress)


def foreign_shape(what: str, found: int, expected: int) -> CheckpointForeignError:
    """Returns the error for a checkpoint that does not fit the bars of the run at hand."""
    return foreign(what, found, expected)
