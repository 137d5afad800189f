"""What a cycle may know: everything that was known at its time, and nothing else."""

import itertools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from backlane.clock import Clock, ManualClock
from backlane.errors import FutureDataError
from backlane.market.spacing import stamp_text
from backlane.panel.events import Events
from backlane.panel.panel import Panel
from backlane.risk.facts import TradeTimes, VenueFacts


@dataclass(frozen=True, slots=True)
class HeldTrade:
    """A trade that is open: since when (UTC, nanoseconds), and the mean price of its entries."""

    entry_ns: int
    entry_price: float


@dataclass(frozen=True, slots=True, eq=False)
class BookFacts:
    """The book at a time, as its ledger tells it; arrays have shape (symbols,).

    `quantity` and `pending_quantity` are signed units, `last_close` is NaN before the first bar of
    an instrument. Money is in the currency of the book; `capital` is what weights are shares of.
    `open_trades` are those that the run itself entered. Returns are signed fractions, `drawdown` is
    never positive. `external` are instruments that were not bought by a strategy.
    """

    cash: float
    equity: float
    capital: float
    peak_equity: float
    quantity: NDArray[np.float64]
    pending_quantity: NDArray[np.float64]
    last_close: NDArray[np.float64]
    times: TradeTimes = field(default_factory=TradeTimes)
    open_trades: Mapping[str, HeldTrade] = field(default_factory=dict)
    daily_return: float = 0.0
    weekly_return: float = 0.0
    trades_today: int = 0
    trades_this_hour: int = 0
    consecutive_losses: int = 0
    external: frozenset[str] = frozenset()

    @property
    def drawdown(self) -> float:
        """The fall of the equity from its peak, a fraction, never positive."""
        if self.peak_equity <= 0.0:
            return 0.0
        return min(self.equity / self.peak_equity - 1.0, 0.0)

    @classmethod
    def of_cash(cls, symbol_count: int, cash: float) -> "BookFacts":
        """Returns the facts of a book that holds nothing but cash."""
        zeros = np.zeros(symbol_count)
        unknown = np.full(symbol_count, np.nan)
        return cls(cash, cash, cash, cash, zeros, zeros, unknown)


@dataclass(frozen=True, slots=True)
class QualityVerdict:
    """Whether the data of a cycle may be traded on, and why not."""

    is_blocked: bool = False
    reason: str = ""


def counted_ids(first: int = 1) -> Callable[[], int]:
    """Returns a function that counts up, for the identifiers of a run."""
    counter: Iterator[int] = itertools.count(first)
    return lambda: next(counter)


@dataclass(frozen=True, slots=True, eq=False)
class Surroundings:
    """What a cycle is given beside its data: time, identifiers, chance, and how things stand.

    `clock` times the stages. `ids` numbers the orders, `random` is seeded by the run. `is_halted`
    is the kill switch; `volatility` is that of the market, annualized, a fraction, None if unknown.
    """

    clock: Clock = field(default_factory=ManualClock)
    ids: Callable[[], int] = field(default_factory=counted_ids)
    random: np.random.Generator = field(default_factory=lambda: np.random.default_rng(0))
    quality: QualityVerdict = field(default_factory=QualityVerdict)
    venue: VenueFacts = field(default_factory=VenueFacts)
    is_halted: bool = False
    volatility: float | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Context:
    """What a cycle may know at `as_of_ns`; make it with `context_at`.

    `panel` ends with the last bar whose close is known then, `events` hold what was disclosed until
    then, inclusive; what came later is in neither. All views are read only.
    """

    as_of_ns: int
    panel: Panel
    events: Mapping[str, Events]
    book: BookFacts
    around: Surroundings

    def __post_init__(self) -> None:
        late = [
            f"{what} {stamp_text(known_ns)}"
            for what, known_ns in _newest(self.panel, self.events)
            if known_ns > self.as_of_ns
        ]
        if late:
            raise FutureDataError(
                f"A context as of {stamp_text(self.as_of_ns)} was given what became known later: "
                f"{', '.join(late)}. Cut it with context_at.",
                metadata={"as_of": stamp_text(self.as_of_ns)},
            )

    @property
    def symbols(self) -> tuple[str, ...]:
        """The instruments, in the order of every array."""
        return self.panel.symbols

    @property
    def has_bar(self) -> NDArray[np.bool_]:
        """Which instruments have a bar at the last time of the panel, shape (symbols,)."""
        if len(self.panel) == 0:
            return np.zeros(len(self.symbols), dtype=bool)
        return np.asarray(np.isfinite(self.panel.close[-1]))

    def until(self, as_of_ns: int) -> "Context":
        """Returns what was known at an earlier time; the book stays what it is.

        Raises FutureDataError for a later time: what became known after `as_of_ns` is not here.
        """
        if as_of_ns > self.as_of_ns:
            raise FutureDataError(
                f"The context ends at {stamp_text(self.as_of_ns)}; it was asked for "
                f"{stamp_text(as_of_ns)}. Make a context of that time.",
                metadata={"as_of": stamp_text(self.as_of_ns), "asked": stamp_text(as_of_ns)},
            )
        return replace(
            self,
            as_of_ns=as_of_ns,
            panel=_read_only(self.panel.until(as_of_ns)),
            events=_known(self.events, as_of_ns),
        )


def context_at(
    panel: Panel,
    events: Mapping[str, Events],
    as_of_ns: int,
    *,
    book: BookFacts,
    around: Surroundings | None = None,
) -> Context:
    """Returns the context of a time, cut out of data that may go on after it.

    Each call cuts anew, by binary search: asking for an earlier time after a later one leaks
    nothing (SPEC C2, Q17).
    """
    cut = _read_only(panel.until(as_of_ns))
    return Context(as_of_ns, cut, _known(events, as_of_ns), book, around or Surroundings())


def last_bars(panel: Panel) -> NDArray[np.int64]:
    """Returns the row of the last bar of each instrument, shape (symbols,); -1 where it has none.

    Its close is known, but may be old: an instrument is only traded on a bar of the last time.
    """
    has_bar = np.isfinite(panel.close)
    rows = np.where(has_bar, np.arange(len(panel))[:, None], -1)
    return np.asarray(rows.max(axis=0, initial=-1))


def _known(events: Mapping[str, Events], as_of_ns: int) -> dict[str, Events]:
    return {source: each.until(as_of_ns) for source, each in events.items()}


def _newest(panel: Panel, events: Mapping[str, Events]) -> Iterator[tuple[str, int]]:
    if len(panel):
        yield "a bar of", int(panel.known_ns[-1])
    for source, each in events.items():
        if len(each.known_ns):
            yield f"{source} events of", int(each.known_ns[-1])


def _read_only(panel: Panel) -> Panel:
    """Makes the arrays of a cut panel read only: a strategy cannot change what others will read."""
    grids = (panel.time_ns, panel.known_ns, panel.open, panel.high, panel.low, panel.close)
    for values in grids:
        values.flags.writeable = False
    if panel.volume is not None:
        panel.volume.flags.writeable = False
    return panel
