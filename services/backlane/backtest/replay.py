"""Recorded bars at a chosen pace, through a session: what there was to see, when it was there."""

from collections.abc import Callable, Iterable, Iterator

from backlane.backtest.mode_config import ReplayConfig
from backlane.backtest.portfolio_session import PortfolioSession
from backlane.backtest.session_records import BarReport, BarRow
from backlane.clock import Clock

_NS_PER_S = 1e9


def due_s(pace: ReplayConfig, index: int, elapsed_ns: int) -> float:
    """Returns how many seconds after the first bar one is due, by its index and its distance.

    At 4 bars a second the one of index 6 is due after 1.5 s; at 3600 times real time, one that is
    a day after the first, after 24 s.
    """
    if pace.bars_per_second > 0:
        return index / pace.bars_per_second
    if pace.realtime_factor > 0:
        return elapsed_ns / _NS_PER_S / pace.realtime_factor
    return 0.0


def replayed(
    session: PortfolioSession,
    bars: Iterable[BarRow],
    pace: ReplayConfig,
    clock: Clock,
    sleep: Callable[[float], None],
) -> Iterator[BarReport]:
    """Yields the report of each bar, none before it is due.

    Each bar is due at a time of its own, so that a slow one delays none of those after it. Raises
    what `PortfolioSession.feed` raises.
    """
    started_s, first_ns = clock.monotonic_s(), None
    for index, bar in enumerate(bars):
        first_ns = bar.time_ns if first_ns is None else first_ns
        left_s = started_s + due_s(pace, index, bar.time_ns - first_ns) - clock.monotonic_s()
        if left_s > 0:
            sleep(left_s)
        yield session.feed(bar)
