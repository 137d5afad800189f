"""The reference's backtest, composed of our functions (SPEC A9), with its mistakes as switches.

What the reference does and we do not, each by its paragraph of SPEC C1:

- "divergence": its provider takes the first match without guards: `ScanChoice.FIRST_MATCH`.
- SPEC A3 [Q]: in a crash the core instruments stay listed with nothing allocated: `_members`.
- "caps vs regime": it cuts to the base cap, then refuses by the cap of the regime: `_judge`.
- "no state": of several trades in a symbol risk sees the newest alone, no times of trades and no
  managed positions: `_facts`.
- "look-ahead 2", "capital": fills at the close of the decision, cash is never reserved, and what is
  held is worth what was paid: `_enter`, `_facts`.
"""

import csv
from dataclasses import dataclass, field, replace
from datetime import datetime

import numpy as np

from backlane.cycle.proposals import ConvincedProposal, ProposalRules, TradableInstrument, propose
from backlane.cycle.trigger_exits import ExitRules, OpenTrade, TriggerExit, exit_of
from backlane.execution.target_orders import OrderSide
from backlane.execution.tier_costs import Liquidity, TierCosts, TierSlippage
from backlane.panel.panel import Panel
from backlane.risk.engine import RiskAssessment, assess
from backlane.risk.exposure_caps import ROUNDING, position_cap
from backlane.risk.facts import PortfolioFacts, TradeTimes, portfolio_facts
from backlane.risk.limits import RiskLimits
from backlane.signals.price_regime import REGIMES, PriceRegime, price_regimes
from backlane.signals.trigger_grid import trigger_grid
from backlane.signals.triggers import ScanChoice, TriggerSignal
from backlane.signals.universe import Quote, Tier, UniverseRules, build_universe
from tests.golden.cycle.t247 import CYCLE, read, trigger_rules

NO_MULTIPLIERS = dict.fromkeys(PriceRegime, 1.0)
LIMITS = RiskLimits(
    total_at_risk_max=0.25,
    position_size_max=0.03,
    position_size_min=0.0025,
    theme_size_max={"LAYER1": 0.10, "LAYER2": 0.06, "MEME": 0.04, "DEFI": 0.05},
    open_positions_max=8,
    new_positions_per_cycle_max=1,
    trade_notional_min=1.0,
    trades_per_day_max=120,
    eligible_min=0,
)
"""The limits of the reference's policy file (SPEC A7, A10)."""


@dataclass(frozen=True, slots=True)
class HeldTrade:
    """An open trade, with what was paid."""

    trade: OpenTrade
    size: float


@dataclass(frozen=True, slots=True)
class ClosedTrade:
    """A trade that is over; money, times in nanoseconds."""

    held: HeldTrade
    exit_ns: int
    exit_price: float
    pnl: float
    net_return: float
    reason: TriggerExit


@dataclass(frozen=True, slots=True)
class Cycle:
    """What one cycle gave; sizes of proposals are those after the caps, as the reference shows."""

    regime: PriceRegime
    reason: str
    signals: tuple[TriggerSignal, ...]
    proposals: list[tuple[str, float, float]]
    approved: list[str]
    open_count: int  # after the exits of the cycle, before its entries


@dataclass(slots=True)
class Run:
    """The state of a run."""

    capital: float = 10_000.0
    held: list[HeldTrade] = field(default_factory=list)
    closed: list[ClosedTrade] = field(default_factory=list)
    loss_streak: int = 0
    last_loss_ns: int | None = None


def candles() -> Panel:
    """Returns the bars of the reference's run as a panel."""
    with (CYCLE / "t247" / "bt_candles.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    symbols = tuple(dict.fromkeys(row["symbol"] for row in rows))
    stamps = sorted({row["timestamp"] for row in rows})
    grids = np.full((5, len(stamps), len(symbols)), np.nan)
    places = {stamp: place for place, stamp in enumerate(stamps)}
    for row in rows:
        column = symbols.index(row["symbol"])
        for which, name in enumerate(("open", "high", "low", "close", "volume")):
            grids[which, places[row["timestamp"]], column] = float(row[name])
    time_ns = np.array([ns_of(stamp) for stamp in stamps], np.int64)
    return Panel(symbols, time_ns, time_ns, *grids)


def ns_of(text: str) -> int:
    """Returns a time in nanoseconds."""
    return round(datetime.fromisoformat(text).timestamp()) * 1_000_000_000


def recorded_cycles(run: str) -> list[dict[str, str]]:
    """Returns the cycles of a recorded run."""
    with (CYCLE / "t247" / f"bt_cycles_{run}.csv").open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def recorded_trades(run: str) -> list[dict[str, str]]:
    """Returns the trades of a recorded run."""
    with (CYCLE / "t247" / f"bt_trades_{run}.csv").open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def _instruments() -> tuple[dict[PriceRegime, list[str]], dict[str, TradableInstrument]]:
    """Returns the members in each regime, in the order of the universe, and what they are like."""
    recorded = read("universe.json")
    core = [row[0] for row in recorded["snapshots"]["chop"]["tier1"]]
    quotes = {
        symbol: Quote(each["spread_bps"], each["volume_24h"], each["depth_usd"])
        for symbol, each in recorded["quotes"].items()
    }
    tiers = {symbol: Tier.CORE if symbol in core else Tier.ROTATIONAL for symbol in quotes}
    rules = UniverseRules(forced=frozenset(core))
    members = {}
    for regime in PriceRegime:
        universe = build_universe(tiers, quotes, regime, rules)
        members[regime] = [member.symbol for member in universe.members] or core  # A3 [Q]
    known = {
        symbol: TradableInstrument(symbol, tier, quotes[symbol].spread_bps, quotes[symbol].depth)
        for symbol, tier in tiers.items()
    }
    return members, known


def _facts(run: Run, themes: dict[str, str]) -> PortfolioFacts:
    newest = {held.trade.symbol: held.size for held in run.held}
    return portfolio_facts(
        run.capital,
        positions=newest,
        themes=themes,
        times=TradeTimes(last_loss_ns=run.last_loss_ns),
        consecutive_losses=run.loss_streak,
    )


def _judge(
    made: list[ConvincedProposal], facts: PortfolioFacts, regime: PriceRegime, now_ns: int
) -> tuple[list[tuple[str, float, float]], dict[str, float], str]:
    """Returns the proposals as shown, the approved sizes, and the reason when there are none."""
    base = replace(LIMITS, regime_multipliers=NO_MULTIPLIERS)
    found: RiskAssessment = assess([one.proposal for one in made], facts, base, regime, now_ns)
    sized = {each.proposal.symbol: each.proposal.size for each in found.approved}
    asked = [one.proposal for one in made]
    shown = [(each.symbol, sized.get(each.symbol, each.size), each.confidence) for each in asked]
    cap = position_cap(facts, LIMITS, regime) * (1.0 + ROUNDING)
    approved = {
        symbol: size
        for symbol, size in sized.items()
        if facts.exposure(symbol) + size * facts.equity <= cap
    }
    if approved:
        return shown, approved, ""
    code = found.halt or "position_limits"
    return shown, approved, f"risk_blocked:{code}"


def _leave(run: Run, panel: Panel, row: int, known: dict[str, TradableInstrument]) -> None:
    """Closes the trades whose exits are reached, at this close, taker fees on both sides."""
    now_ns = int(panel.time_ns[row])
    kept = []
    for held in run.held:
        trade = held.trade
        column = panel.symbols.index(trade.symbol)
        seen = slice(max(0, row - 23), row + 1)
        close, volume = panel.close[seen, column], panel.volume[seen, column]
        reason = exit_of(trade, close, volume, now_ns, ExitRules())
        if reason is None:
            kept.append(held)
            continue
        quantity = held.size / trade.entry_price
        tier = known[trade.symbol].tier
        price = TierSlippage().fill_price(float(close[-1]), OrderSide.SELL, tier)
        pnl = TierCosts().round_trip(
            trade.entry_price, price, quantity, Liquidity.TAKER, Liquidity.TAKER
        )
        run.closed.append(ClosedTrade(held, now_ns, price, pnl.net_pnl, pnl.net_return, reason))
        run.capital += pnl.net_pnl
        run.loss_streak = run.loss_streak + 1 if pnl.net_pnl < 0.0 else 0
        if pnl.net_pnl < 0.0:
            run.last_loss_ns = now_ns
    run.held = kept


def _enter(
    run: Run,
    one: ConvincedProposal,
    size: float,
    panel: Panel,
    row: int,
    known: dict[str, TradableInstrument],
) -> None:
    """Opens a trade at this close; its size is money, and cash is not reserved for it."""
    proposal = one.proposal
    close = float(panel.close[row, panel.symbols.index(proposal.symbol)])
    notional = size * run.capital
    tier = known[proposal.symbol].tier
    price = TierSlippage().fill_price(close, OrderSide.BUY, tier, notional=notional)
    trade = OpenTrade(
        proposal.symbol,
        int(panel.time_ns[row]),
        price,
        price * (1.0 - proposal.stop_loss),
        price * (1.0 + proposal.take_profit),
        proposal.hold_hours_max,
    )
    run.held.append(HeldTrade(trade, notional))


def play(panel: Panel, first_row: int, count: int) -> tuple[list[Cycle], Run]:
    """Returns the cycles of a run, and how it ended."""
    usual = trigger_rules(read("triggers.json")["config"])
    chop = usual.of(PriceRegime.CHOP)
    # The provider knows the ratio of chop alone (SPEC C1 "divergence": no regime-aware volume).
    rules = replace(usual, choice=ScanChoice.FIRST_MATCH, thresholds={PriceRegime.CHOP: chop})
    readings = price_regimes(panel.close[:, panel.symbols.index("BTC-USD")])
    grid = trigger_grid(panel, readings.code, rules)
    members, known = _instruments()
    clusters = read("risk.json")["clusters"]
    run, cycles = Run(), []
    for row in range(first_row, first_row + count):
        regime = REGIMES[readings.code[row]]
        now_ns = int(panel.time_ns[row])
        _leave(run, panel, row, known)
        is_member = np.array([symbol in members[regime] for symbol in panel.symbols])
        open_count = len(run.held)
        signals = grid.scan(row, 0, is_member).signals
        made = propose(signals, known, regime, ProposalRules(notional_min=1.0), run.capital)
        shown, approved, reason = [], {}, "no_candidates_from_triggers"
        if signals:
            reason = "no_proposals_from_strategies"
        if made:
            shown, approved, reason = _judge(made, _facts(run, clusters), regime, now_ns)
        for one in made:
            if one.proposal.symbol in approved:
                _enter(run, one, approved[one.proposal.symbol], panel, row, known)
        cycles.append(Cycle(regime, reason, signals, shown, list(approved), open_count))
    return cycles, run
