"""What stored factors are recognised by, and which bars they must be computed from.

A factor is worth storing when the same question gives the same values: the same group of factors,
with the same parameters, by the same code, for the same instruments, over the same bars. The first
four are the FactorKey; the bars are recognised by `PanelDigests`, block by block, so that a panel
which has grown is known for what it was before.
"""

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from backlane.panel.panel import Panel
from backlane.signals.factors import FACTORS, SESSIONS_PER_MONTH, SESSIONS_PER_YEAR, Z_PERIOD

GROUP_PATTERN = r"[a-z0-9][a-z0-9_.-]{0,63}"
"""A group names a folder: small letters, digits, and a few signs."""
_NANOSECONDS_PER_SECOND = 10**9

FACTOR_HISTORY_BARS: Mapping[str, int] = MappingProxyType(
    {
        **{f"returns_{months}m": months * SESSIONS_PER_MONTH for months in (1, 3, 6, 12)},
        "momentum_12m_excl_1m": SESSIONS_PER_YEAR,
        # The mean reads n closes; the true range of the oldest of 20 bars, the close before it.
        **{f"trend_strength_{period}": max(period - 1, 20) for period in (20, 50, 200)},
        **{f"reversal_{bars}d": Z_PERIOD - 1 + bars for bars in (1, 2, 3)},
        # n log returns read n + 1 closes.
        **{f"rv_{period}": period for period in (20, 60)},
        "volume_zscore": Z_PERIOD - 1,
        "spread_proxy": 0,
    }
)
"""How many earlier bars of an instrument each of FACTORS reads for the value at a bar."""


@dataclass(frozen=True, slots=True)
class FactorKey:
    """Which factors: their group, its parameters, the code, the instruments.

    `parameters` is canonical JSON, `code` a digest of whatever computes them. `history_bars` says
    how many earlier bars of an instrument a value reads: so many must stand before the bars that
    are appended. None reads all of them, as an expanding mean does. A value of an instrument
    without a bar is NaN.
    """

    group: str
    parameters: str
    code: str
    symbols: tuple[str, ...]
    history_bars: int | None

    @classmethod
    def of(
        cls,
        group: str,
        parameters: Mapping[str, Any],
        *,
        code: str,
        symbols: Sequence[str],
        history_bars: int | None,
    ) -> "FactorKey":
        """Returns the key; raises ValueError for a group that is no folder's name, and the like."""
        if re.fullmatch(GROUP_PATTERN, group) is None:
            raise ValueError(f"{group[:80]!r} is no group of factors: write {GROUP_PATTERN}")
        if history_bars is not None and history_bars < 0:
            raise ValueError(f"history_bars {history_bars}: 0 or more, or None for all")
        text = json.dumps(dict(parameters), sort_keys=True, separators=(",", ":"), allow_nan=False)
        return cls(group, text, code, tuple(symbols), history_bars)

    @property
    def digest(self) -> str:
        """64 hex digits over all of it."""
        parts = [self.group, self.parameters, self.code, self.history_bars, list(self.symbols)]
        return hashlib.sha256(json.dumps(parts, separators=(",", ":")).encode()).hexdigest()


def core_factor_key(name: str, symbols: Sequence[str], code: str) -> FactorKey:
    """Returns the key of one of FACTORS; raises ValueError for any other name."""
    if name not in FACTORS:
        raise ValueError(f"{name[:80]!r} is no factor; they are {', '.join(FACTORS)}")
    return FactorKey.of(
        f"core.{name}", {}, code=code, symbols=symbols, history_bars=FACTOR_HISTORY_BARS[name]
    )


class PanelDigests:
    """Digests of the first rows of a panel, each computed at most once.

    Every block of rows, one for each calendar year of the stamps, has a digest that covers itself
    and all blocks before it. So two panels that begin with the same bars have the same digests as
    far as they do, and to ask about n rows hashes the last year of them alone.
    """

    def __init__(self, panel: Panel) -> None:
        self.panel = panel
        self.starts = year_starts(panel.time_ns)
        self._of_rows: dict[int, str] = {0: hashlib.sha256(b"").hexdigest()}

    def of_first(self, row_count: int) -> str:
        """Returns 64 hex digits over the first `row_count` rows: times, prices, volumes."""
        if row_count not in self._of_rows:
            before = int(self.starts[np.searchsorted(self.starts, row_count) - 1])
            self._of_rows[row_count] = _block_digest(
                self.of_first(before), self.panel, before, row_count
            )
        return self._of_rows[row_count]


def year_starts(time_ns: NDArray[np.int64]) -> NDArray[np.int64]:
    """Returns the index of the first row of each calendar year (UTC), growing; none of no rows."""
    if len(time_ns) == 0:
        return np.empty(0, np.int64)
    years = (time_ns // _NANOSECONDS_PER_SECOND).astype("datetime64[s]").astype("datetime64[Y]")
    changes = np.flatnonzero(years[1:] != years[:-1]) + 1
    return np.concatenate(([0], changes)).astype(np.int64)


def _block_digest(before: str, panel: Panel, start: int, stop: int) -> str:
    digest = hashlib.sha256(f"{before}:{start}:{stop}:{len(panel.symbols)};".encode())
    for name in ("time_ns", "known_ns", "open", "high", "low", "close", "volume"):
        values = getattr(panel, name)
        digest.update(f"{name}:{'' if values is None else values.dtype.str};".encode())
        if values is not None:
            block = np.ascontiguousarray(values[start:stop])
            digest.update(block.reshape(-1).view(np.uint8).data)
    return digest.hexdigest()


def panel_rows(panel: Panel, start: int, stop: int) -> Panel:
    """Returns some rows of a panel, as views."""
    rows = slice(start, stop)
    volume = None if panel.volume is None else panel.volume[rows]
    return Panel(
        panel.symbols,
        panel.time_ns[rows],
        panel.known_ns[rows],
        panel.open[rows],
        panel.high[rows],
        panel.low[rows],
        panel.close[rows],
        volume,
    )


def first_row_needed(panel: Panel, row: int, history_bars: int | None) -> int:
    """Returns the row from which on a panel gives the values at `row` and later.

    Each instrument that has a bar there needs `history_bars` of its own bars before it, and an
    instrument with gaps finds them further back: with bars at rows 0, 1, 4 and 5, two bars before
    row 5 begin at row 1. One that has too few needs all of its bars.
    """
    if history_bars is None:
        return 0
    has_bar = np.isfinite(panel.close)
    trading = has_bar[row:].any(axis=0)
    # Counted from `row` backwards: the place of an instrument's history_bars-th bar.
    counts = np.cumsum(has_bar[:row][::-1][:, trading], axis=0)
    needed = row
    for count in counts.T:
        distance = int(np.searchsorted(count, history_bars)) + 1 if history_bars else 0
        needed = min(needed, max(row - distance, 0))
    return needed
