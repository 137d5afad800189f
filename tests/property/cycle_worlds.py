"""Small worlds for the invariants: bars, events and a configuration for every strategy and mode."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from hypothesis import strategies as st

from backlane.backtest.end_of_day import run_until
from backlane.backtest.mode_config import ReplayConfig
from backlane.backtest.portfolio_cycle import RunPlan, compute, drive_cycles, run_plan
from backlane.backtest.portfolio_drive import PortfolioDrive
from backlane.backtest.portfolio_result import PortfolioRun
from backlane.backtest.portfolio_run import parse_portfolio_config, plan_run, run_portfolio
from backlane.backtest.portfolio_session import PortfolioSession
from backlane.backtest.replay import replayed
from backlane.backtest.session_bars import rows_of, setup_of
from backlane.clock import ManualClock
from backlane.cycle.strategies import BUILT_IN
from backlane.cycle.strategy import Registry, TargetStrategy
from backlane.cycle.trigger_rules import TRIGGER_RULES
from backlane.panel.events import Events
from backlane.panel.panel import Panel
from tests.property.portfolio_panels import DAY_NS, panel_of
from tests.property.test_portfolio_laws import events_of

HOUR_NS = DAY_NS // 24
REGISTRY: Registry = {"trigger_rules": TRIGGER_RULES, **BUILT_IN}
TRIGGER_SYMBOLS = ("S0", "S1", "S2")
PARAMETERS: dict[str, dict[str, Any]] = {
    "trend_baseline": {"fast": 2, "slow": 5, "volume_filter": "expanding_mean"},
    "event_insider_shipping": {
        "insider_net_buy_threshold": 1,
        "insider_net_sell_threshold": -1,
        "rule": "weighted",
    },
    "multifactor_long_short": {
        "factors": [
            {"name": "trend_strength_20", "weight": 0.6},
            {"name": "rv_20", "weight": 0.4, "direction": "negative"},
        ],
        "rebalance": "W",
        "top_quantile": 0.4,
        "bottom_quantile": 0.4,
    },
    "trigger_rules": {
        "leader": "S0",
        "instruments": {
            symbol: {"tier": 1, "spread_bps": 5.0, "depth": 1e6, "volume_24h": 1e9}
            for symbol in TRIGGER_SYMBOLS
        },
        "triggers": {"has_atr_filter": False},
    },
}
LOOSE = {"trade_spacing_s": 0, "symbol_spacing_s": 0, "trades_per_day_max": 1000}


@dataclass(frozen=True, slots=True, eq=False)
class World:
    """A configuration that runs on a panel and events."""

    content: Mapping[str, Any]
    panel: Panel
    events: Mapping[str, Events]

    def plan(self, registry: Registry = REGISTRY, **changes: Any) -> RunPlan:
        content = {**self.content, **changes}
        return plan_run(parse_portfolio_config(content, registry), tuple(self.events), registry)

    def until(self, row: int) -> "World":
        as_of_ns = int(self.panel.known_ns[row])
        known = {source: each.until(as_of_ns) for source, each in self.events.items()}
        return replace(self, panel=self.panel.until(as_of_ns), events=known)


def jumpy(seed: int, bars: int) -> Panel:
    """Hourly bars that are calm, and jump by some percent now and then."""
    random = np.random.default_rng(seed)
    shape = (bars, len(TRIGGER_SYMBOLS))
    moves = random.normal(0, 0.001, shape)
    moves[random.random(shape) < 0.08] += random.choice([0.035, 0.06, -0.08])
    close = 100.0 * np.exp(np.cumsum(moves, axis=0))
    opened = np.vstack([close[:1], close[:-1]])
    time_ns = (np.arange(bars, dtype=np.int64) + 1) * HOUR_NS
    volume = random.uniform(1e5, 4e5, shape)
    high, low = np.maximum(opened, close) * 1.002, np.minimum(opened, close) * 0.998
    return Panel(TRIGGER_SYMBOLS, time_ns, time_ns, opened, high, low, close, volume)


def world_of(name: str, seed: int, bars: int = 45, gap_share: float = 0.1) -> World:
    """Returns a world in which the strategy trades; each costs something."""
    content: dict[str, Any] = {
        "strategy": {"name": name, "parameters": PARAMETERS[name]},
        "data": {"panel": "panel.csv", "events": {"insider": "i.csv", "shipping": "s.csv"}},
        "initial_cash": 100_000,
        "costs": {"commission_bps": 1.0, "half_spread_bps": 2.5, "impact_bps": 5.0},
    }
    if name == "trigger_rules":
        panel = jumpy(seed, bars)
        return World({**content, "risk": {"trades": LOOSE}}, panel, {})
    panel = panel_of(seed, bars, 4, gap_share)
    return World(content, panel, events_of(seed, panel))


def the_world(name: str, drawn: tuple[int, int, float]) -> World:
    seed, bars, gap_share = drawn
    return world_of(name, seed, 70 if name == "trigger_rules" else bars, gap_share)


RECORDS = ("orders", "fills", "trades", "equity", "cash", "base", "quantity", "last_close")
worlds = st.tuples(st.integers(0, 10_000), st.integers(28, 40), st.sampled_from((0.0, 0.12)))


# --- modes ----------------------------------------------------------------------------------------


def backtest(world: World, registry: Registry = REGISTRY) -> PortfolioRun:
    return run_plan(world.plan(registry), world.panel, world.events)


def cycles(world: World, registry: Registry = REGISTRY) -> PortfolioRun:
    """A cycle at each bar, which computes everything from what its context holds."""
    plan = world.plan(registry)
    targets = compute(plan, world.panel, world.events).targets  # for the files of a result
    return drive_cycles(plan, world.panel, world.events, plan.stages(), targets)


def worker(world: World, registry: Registry = REGISTRY) -> PortfolioRun:
    """What a worker does: in slices, and from its checkpoint in another process on the way."""
    plan = world.plan(registry)
    drive = PortfolioDrive(plan, world.panel, world.events)
    drive.advance(len(world.panel) // 2, lambda: False)
    resumed = PortfolioDrive(plan, world.panel, world.events)
    resumed.restore(drive.checkpoint())
    resumed.advance(len(world.panel), lambda: False)
    return resumed.finish()


def session(world: World, registry: Registry = REGISTRY) -> PortfolioRun:
    """A paper session that is fed bar by bar, and put away and taken up again on the way."""
    content = {name: each for name, each in world.content.items() if name != "data"}
    setup = setup_of({**content, "data": world.content["data"]}, world.panel, world.events)
    live = PortfolioSession(setup, registry)
    for bar in rows_of(world.panel, world.events):
        if bar.number == len(world.panel) // 2:
            state = live.state()
            live = PortfolioSession(setup, registry)
            live.restore(state)
        live.feed(bar)
    return live.finish()


def replay(world: World, registry: Registry = REGISTRY) -> PortfolioRun:
    """Recorded bars at a pace, on a clock that is moved by whoever sleeps."""
    computed = compute(world.plan(registry), world.panel, world.events)
    clock = ManualClock()
    setup = setup_of(world.content, world.panel, world.events)
    live = PortfolioSession(setup, registry, computed.stages)
    bars = rows_of(world.panel, world.events)
    pace = ReplayConfig(bars_per_second=100.0)
    for _ in replayed(live, bars, pace, clock, clock.advance):
        pass
    return live.finish()


STRESS: dict[str, Any] = {
    "seed": 3,
    "shock": {"probability": 0.05, "size": 0.06},
    "missing": {"probability": 0.03, "bars": 2},
    "spread_multiplier": 2.0,
}


def stress(world: World, registry: Registry = REGISTRY) -> PortfolioRun:
    """Shocks and missing bars, drawn by a seed and the time of each bar."""
    content = {**world.content, "mode": "stress", "stress": STRESS}
    config = parse_portfolio_config(content, registry)
    return run_portfolio(config, world.panel, world.events, registry)


def end_of_day(world: World, registry: Registry = REGISTRY) -> PortfolioRun:
    config = parse_portfolio_config({**world.content, "mode": "end_of_day"}, registry)
    return run_until(config, world.panel, world.events, registry=registry)


MODES: dict[str, Callable[..., PortfolioRun]] = {
    "backtest": backtest,
    "cycles": cycles,
    "worker": worker,
    "session": session,
    "replay": replay,
    "end_of_day": end_of_day,
    "stress": stress,
}
"""Every way to drive a configuration over bars; another one is a line here."""
SAME_BARS = tuple(name for name in MODES if name != "stress")
"""Those that see the bars as they are: all of them give the bits of the backtest."""


def is_target(name: str) -> bool:
    return isinstance(REGISTRY[name], TargetStrategy)
