"""A checkpoint of a portfolio run: its book, its curves, and what its cycles remember, as bytes.

Targets are not kept: they are computed again from the same files, in less time than reading them
back would take. How the bytes lie is told in `checkpoint_file`.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
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

PORTFOLIO_FORMAT = "backlane.portfolio_checkpoint.v1"
"""Kind and version of the bytes. A change of the layout makes it the next version."""
CURVES = ("base", "equity", "cash")
"""One number for each bar: money that weights are shares of, equity and cash at the close."""
_MEMORY = "memory"


@dataclass(frozen=True, slots=True, eq=False)
class PortfolioCheckpoint:
    """A point of a run over `bar_count` bars of `symbol_count` instruments, before `next_bar`.

    `book` is the state of the book (`PortfolioBook.state`); `curves` has float64 of shape
    (next_bar,) for each of CURVES; `memory` is plain data that JSON can hold, of what cycles
    remember beside the book.
    """

    bar_count: int
    symbol_count: int
    next_bar: int
    book: Mapping[str, NDArray[Any]]
    curves: Mapping[str, NDArray[np.float64]]
    memory: Mapping[str, Any] = field(default_factory=dict)

    @property
    def simulated_bars(self) -> int:
        """Returns how many bars are simulated."""
        return self.next_bar

    @property
    def extent(self) -> tuple[int, int]:
        """Returns how far it is."""
        return self.next_bar, 0

    @property
    def reach(self) -> str:
        """Returns how far it is, in words."""
        return f"with {self.next_bar:,} of {self.bar_count:,} bars simulated"

    def check_fits(self, bar_count: int, symbol_count: int) -> None:
        """Raises CheckpointForeignError when a run has other bars."""
        for what, found, expected in (
            ("number of bars", self.bar_count, bar_count),
            ("number of instruments", self.symbol_count, symbol_count),
        ):
            if found != expected:
                raise foreign(what, found, expected)


def encode(checkpoint: PortfolioCheckpoint, binding: Binding) -> Iterator[Buffer]:
    """Yields the bytes in parts; nothing large is copied."""
    about = {
        "bar_count": checkpoint.bar_count,
        "symbol_count": checkpoint.symbol_count,
        "next_bar": checkpoint.next_bar,
    }
    memory = json.dumps(checkpoint.memory, sort_keys=True).encode()
    arrays: dict[str, NDArray[Any]] = {_MEMORY: np.frombuffer(memory, np.uint8)}
    arrays |= {f"curves.{name}": checkpoint.curves[name] for name in CURVES}
    arrays |= {f"book.{name}": values for name, values in checkpoint.book.items()}
    plain = {name: np.ascontiguousarray(values.view(np.ndarray)) for name, values in arrays.items()}
    return encode_arrays(PORTFOLIO_FORMAT, binding, about, plain)


def decode(content: bytes, binding: Binding) -> PortfolioCheckpoint:
    """Returns the checkpoint that the bytes hold; its arrays are views of them, read-only.

    Raises:
        CheckpointCorruptError: the bytes are damaged, cut off, or contradict themselves.
        CheckpointForeignError: they belong to another format, request, file or version of what
            computes; the message says what differs.

    """
    header, arrays = decode_arrays(content, PORTFOLIO_FORMAT, binding, record_dtype_of)
    bar_count, symbol_count, next_bar = (
        _whole(header, name) for name in ("bar_count", "symbol_count", "next_bar")
    )
    try:
        curves = {name: arrays[f"curves.{name}"] for name in CURVES}
        memory = json.loads(arrays[_MEMORY].tobytes())
    except (KeyError, ValueError) as error:
        raise corrupt("its curves are missing, or what its cycles remember is no JSON") from error
    if any(values.shape != (next_bar,) for values in curves.values()):
        raise corrupt("its curves are not one number for each bar")
    book = {
        name.removeprefix("book."): values
        for name, values in arrays.items()
        if name.startswith("book.")
    }
    return PortfolioCheckpoint(bar_count, symbol_count, next_bar, book, curves, memory)


PORTFOLIO_CHECKPOINTS = CheckpointFormat(PORTFOLIO_FORMAT, encode, decode)
"""The checkpoints of runs over many instruments."""


def _whole(header: Mapping[str, Any], name: str) -> int:
    found = header.get(name)
    if not isinstance(found, int) or found < 0:
        raise corrupt(f"its {name} is {found!r}")
    return found


def record_dtype_of(_name: str, layout: Any) -> np.dtype[Any]:
    """Returns the dtype of a layout: a record where it lists fields; ValueError for anything else.

    The versions that a checkpoint is bound to include the digest of these sources, so a layout that
    is not today's never comes here.
    """
    if isinstance(layout, str):
        dtype = np.dtype(layout)
    else:
        fields = [(name, base, tuple(shape)) for name, base, shape in layout]
        dtype = np.dtype((np.record, fields))
    if dtype.hasobject or layout_of(dtype) != layout:
        raise ValueError("no plain layout")
    return dtype
