"""What the risk engine must know of the portfolio and its surroundings."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from backlane.risk.proposal import canonical_symbol

MINUTE_NS = 60 * 1_000_000_000


@dataclass(frozen=True, slots=True)
class VenueFacts:
    """How the connection to the venue is, for a run against a live one; the default is healthy."""

    is_reachable: bool = True
    api_error_count: int = 0
    last_success_ns: int | None = None
    last_rate_limit_ns: int | None = None
    restricted_symbols: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class TradeTimes:
    """When trades happened and until when nothing may be traded, by the ledger; UTC nanoseconds.

    There is one time of the last trade for each symbol (SPEC C1 "two keys").
    """

    last_trade_ns: int | None = None
    last_trade_ns_by_symbol: Mapping[str, int] = field(default_factory=dict)
    cooldown_until_ns_by_symbol: Mapping[str, int] = field(default_factory=dict)
    buy_fills_ns_by_symbol: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    last_loss_ns: int | None = None


@dataclass(frozen=True, slots=True)
class PortfolioFacts:
    """The portfolio as risk sees it at one time; make it with `portfolio_facts`.

    Values are money, at the last known price. Returns are signed fractions, `drawdown` is never
    positive. `managed` are the symbols whose positions strategies opened; `themes` gives each
    symbol's. `volatility` is annualized, a fraction, and `eligible_count` the size of the universe:
    None where unknown.
    """

    equity: float
    positions: Mapping[str, float]
    pending_buys: Mapping[str, float]
    managed: frozenset[str]
    themes: Mapping[str, str]
    times: TradeTimes
    venue: VenueFacts
    daily_return: float
    weekly_return: float
    drawdown: float
    trades_today: int
    trades_this_hour: int
    consecutive_losses: int
    is_halted: bool
    volatility: float | None
    eligible_count: int | None

    def exposure(self, symbol: str) -> float:
        """Returns what is held and being bought of a symbol, money."""
        return self.positions.get(symbol, 0.0) + self.pending_buys.get(symbol, 0.0)

    def theme_exposure(self, theme: str) -> float:
        """Returns what is held and being bought of a theme, money."""
        symbols = self.positions.keys() | self.pending_buys.keys()
        return sum(self.exposure(symbol) for symbol in symbols if self.themes.get(symbol) == theme)

    def at_risk(self, *, counts_external: bool, external_buffer: float) -> float:
        """Returns the money at risk: managed positions, pending buys, and others if they count."""
        managed = sum(value for key, value in self.positions.items() if key in self.managed)
        pending = sum(self.pending_buys.values())
        if not counts_external:
            return managed + pending
        external = sum(self.positions.values()) - managed
        return managed + pending + max(external - external_buffer * self.equity, 0.0)


def _canonical_sums(values: Mapping[str, float]) -> dict[str, float]:
    sums: dict[str, float] = {}
    for symbol, value in values.items():
        sums[canonical_symbol(symbol)] = sums.get(canonical_symbol(symbol), 0.0) + value
    return sums


def _canonical_latest(times: Mapping[str, int]) -> dict[str, int]:
    latest: dict[str, int] = {}
    for symbol, time_ns in times.items():
        name = canonical_symbol(symbol)
        latest[name] = max(time_ns, latest.get(name, time_ns))
    return latest


def _canonical_times(times: TradeTimes) -> TradeTimes:
    fills: dict[str, tuple[int, ...]] = {}
    for symbol, at in times.buy_fills_ns_by_symbol.items():
        name = canonical_symbol(symbol)
        fills[name] = tuple(sorted((*fills.get(name, ()), *at)))
    return TradeTimes(
        times.last_trade_ns,
        _canonical_latest(times.last_trade_ns_by_symbol),
        _canonical_latest(times.cooldown_until_ns_by_symbol),
        fills,
        times.last_loss_ns,
    )


def portfolio_facts(
    equity: float,
    *,
    positions: Mapping[str, float] | None = None,
    pending_buys: Mapping[str, float] | None = None,
    managed: Iterable[str] = (),
    themes: Mapping[str, str] | None = None,
    times: TradeTimes | None = None,
    venue: VenueFacts | None = None,
    daily_return: float = 0.0,
    weekly_return: float = 0.0,
    drawdown: float = 0.0,
    trades_today: int = 0,
    trades_this_hour: int = 0,
    consecutive_losses: int = 0,
    is_halted: bool = False,
    volatility: float | None = None,
    eligible_count: int | None = None,
) -> PortfolioFacts:
    """Returns the facts with canonical symbols everywhere; two names of one symbol are summed."""
    themes = {canonical_symbol(symbol): theme for symbol, theme in (themes or {}).items()}
    venue = venue or VenueFacts()
    return PortfolioFacts(
        equity=equity,
        positions=_canonical_sums(positions or {}),
        pending_buys=_canonical_sums(pending_buys or {}),
        managed=frozenset(map(canonical_symbol, managed)),
        themes=themes,
        times=_canonical_times(times or TradeTimes()),
        venue=VenueFacts(
            venue.is_reachable,
            venue.api_error_count,
            venue.last_success_ns,
            venue.last_rate_limit_ns,
            frozenset(map(canonical_symbol, venue.restricted_symbols)),
        ),
        daily_return=daily_return,
        weekly_return=weekly_return,
        drawdown=drawdown,
        trades_today=trades_today,
        trades_this_hour=trades_this_hour,
        consecutive_losses=consecutive_losses,
        is_halted=is_halted,
        volatility=volatility,
        eligible_count=eligible_count,
    )
