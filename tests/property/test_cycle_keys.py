"""SPEC C4, 9: every key of a configuration, and every parameter of a strategy, changes a run."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from backlane.backtest.portfolio_run import parse_portfolio_config
from backlane.panel.panel import Panel
from tests.property.cycle_worlds import (
    MODES,
    PARAMETERS,
    RECORDS,
    REGISTRY,
    World,
    the_world,
    world_of,
)

pytestmark = pytest.mark.slow
SIZED = {"lot_size": 1}
KEYS: list[tuple[str, Mapping[str, Any], Mapping[str, Any]]] = [
    ("initial_cash", {}, {"initial_cash": 50_000}),
    ("fill", {}, {"fill": "this_close"}),
    ("compounding", {}, {"compounding": False}),
    ("costs.commission_bps", {}, {"costs": {"commission_bps": 9}}),
    ("costs.half_spread_bps", {}, {"costs": {"half_spread_bps": 9}}),
    ("costs.impact_bps", {}, {"costs": {"impact_bps": 9}}),
    ("costs.commission_fixed", {}, {"costs": {"commission_fixed": 9}}),
    ("costs.commission_per_unit", {}, {"costs": {"commission_per_unit": 0.9}}),
    ("costs.commission_minimum", {}, {"costs": {"commission_minimum": 9}}),
    (
        "costs.spread",
        {},
        {"costs": {"spread": {"buckets": [{"volume": 1, "bps": 8}], "fallback_bps": 9}}},
    ),
    ("costs.impact", {}, {"costs": {"impact": {"k": 0.5}}}),
    (
        "costs.liquidity_window",
        {"costs": {"impact": {"k": 0.5}}},
        {"costs": {"impact": {"k": 0.5}, "liquidity_window": 3}},
    ),
    ("costs.borrow_rate", {}, {"costs": {"borrow_rate": 0.9}}),
    (
        "costs.financing_rate",
        {"execution": SIZED},
        {"execution": SIZED, "costs": {"financing_rate": 0.9}},
    ),
    ("universe.symbols", {}, {"universe": {"symbols": ["S0", "S1"]}}),
    ("universe.excluded", {}, {"universe": {"excluded": ["S0"]}}),
    ("universe.history_bars_min", {}, {"universe": {"history_bars_min": 30}}),
    ("universe.traded_value_min", {}, {"universe": {"traded_value_min": 3e5}}),
    (
        "universe.traded_value_bars",
        {"universe": {"traded_value_min": 3e5}},
        {"universe": {"traded_value_min": 3e5, "traded_value_bars": 2}},
    ),
    ("execution.expires_bars", {}, {"execution": {"expires_bars": 5}}),
    ("execution.participation_max", {}, {"execution": {"participation_max": 0.01}}),
    (
        "execution.participation_of",
        {"execution": {"participation_max": 0.01}},
        {"execution": {"participation_max": 0.01, "participation_of": "average"}},
    ),
    (
        "execution.min_fill_quantity",
        {"execution": {"participation_max": 0.01}},
        {"execution": {"participation_max": 0.01, "min_fill_quantity": 50}},
    ),
    (
        "execution.unknown_volume_fraction",
        {"execution": {"participation_max": 0.01}},
        {"execution": {"participation_max": 0.01, "unknown_volume_fraction": 0.1}},
    ),
    ("execution.lot_size", {}, {"execution": {"lot_size": 50}}),
    (
        "execution.sized_at",
        {"execution": SIZED},
        {"execution": {**SIZED, "sized_at": "open"}},
    ),
    ("execution.session", {}, {"execution": {"session": "nyse"}}),
    ("execution.bracket.stop_loss", {}, {"execution": {"bracket": {"stop_loss": 0.01}}}),
    ("execution.bracket.take_profit", {}, {"execution": {"bracket": {"take_profit": 0.01}}}),
    ("execution.bracket.trailing_stop", {}, {"execution": {"bracket": {"trailing_stop": 0.01}}}),
    (
        "execution.delistings",
        {},
        {
            "execution": {
                "delistings": [{"symbol": "S0", "time": "1970-01-20T00:00:00Z", "price": 9}]
            }
        },
    ),
    ("margin.leverage", {}, {"margin": {"leverage": 0.3}}),
]
ELSEWHERE = {
    "data": "names files",
    "mode": "is the table MODES",
    "strategy": "test_9_every_parameter",
    "strategies": "tests/property/test_cycle_paths.py",
    "risk": "tests/unit/cycle/test_risk_keys.py",
    "failed_cycles_max": "tests/unit/backtest/test_portfolio_cycle.py",
    "replay": "how fast, never what",
    "stress": "the tests of the mode",
    "meta_model": "tests/unit/cycle/test_meta_model_stage.py",
}


def outcome(world: World) -> tuple[bytes, ...]:
    run = MODES["backtest"](world)
    return tuple(np.asarray(getattr(run, each)).tobytes() for each in RECORDS)


def test_9_every_key_is_tried() -> None:
    record = parse_portfolio_config(world_of("trend_baseline", 1).content)
    keys: set[str] = set()
    for section in type(record).model_fields:
        inner = getattr(type(getattr(record, section)), "model_fields", None)
        if section in ELSEWHERE:
            continue
        if inner is None:
            keys.add(section)
            continue
        for key in inner:
            deeper = getattr(type(getattr(getattr(record, section), key)), "model_fields", {})
            keys |= {f"{section}.{key}.{each}" for each in deeper} or {f"{section}.{key}"}
    assert {key for key, _, _ in KEYS} == keys


@pytest.mark.parametrize(("key", "base", "changed"), KEYS, ids=[key for key, _, _ in KEYS])
def test_9_every_key_changes_a_run(
    key: str, base: Mapping[str, Any], changed: Mapping[str, Any]
) -> None:
    found = []
    for name in ("multifactor_long_short", "trend_baseline", "event_insider_shipping"):
        world = the_world(name, (17, 50, 0.1))
        if key == "execution.unknown_volume_fraction":
            world = replace(world, panel=replace(world.panel, volume=None))
        plain = {each: value for each, value in world.content.items() if each != "costs"}
        found.append(
            outcome(replace(world, content={**plain, **base}))
            != outcome(replace(world, content={**plain, **changed}))
        )
    assert any(found)


TRIGGERS = PARAMETERS["trigger_rules"]
CHANGES: dict[str, dict[str, Any]] = {
    "trend_baseline": {
        "fast": 3, "slow": 9, "volume_filter": "none", "volume_multiplier": 1.2,
        "top_n": 1, "equal_weight": True,
    },
    "event_insider_shipping": {
        "insider_days": 3, "insider_net_buy_threshold": 40, "insider_net_sell_threshold": -40,
        "shipping_congestion_low_threshold": 10, "shipping_congestion_high_threshold": 90,
        "insider_weight": 0.2, "shipping_weight": 0.1, "rule": "both", "sides": "long_only",
    },
    "multifactor_long_short": {
        "factors": [{"name": "rv_20", "weight": 1.0}], "winsorizing": "full_sample",
        "top_quantile": 0.8, "bottom_quantile": 0.8, "rebalance": "D",
        "rebalance_rule": "calendar_day",
        "gross_exposure": 2.0, "net_exposure": 0.5,
    },
    "trigger_rules": {
        "leader": "S1",
        "instruments": {"S0": TRIGGERS["instruments"]["S0"]},
        "triggers": {},
        "universe": {"excluded": ["S1"]},
        "proposals": {"score_min": 0.9},
        "exits": {"decides_at_entry": True},
    },
}  # fmt: skip


def rows_of_panel(panel: Panel, rows: np.ndarray[Any, np.dtype[np.intp]]) -> Panel:
    assert panel.volume is not None
    return Panel(
        panel.symbols, panel.time_ns[rows], panel.known_ns[rows], panel.open[rows],
        panel.high[rows], panel.low[rows], panel.close[rows], panel.volume[rows],
    )  # fmt: skip


EVERY_CHANGE = [(name, key) for name, changes in CHANGES.items() for key in changes]


def test_9_every_parameter_is_tried() -> None:
    for name in sorted(PARAMETERS):
        assert CHANGES[name].keys() == REGISTRY[name].parameters.model_fields.keys()


@pytest.mark.parametrize(("name", "key"), EVERY_CHANGE, ids=[f"{n}-{k}" for n, k in EVERY_CHANGE])
def test_9_every_parameter_changes_a_run(name: str, key: str) -> None:
    for seed in range(6):
        world = the_world(name, (seed, 50, 0.1))
        if key == "leader":  # its regime is told of 169 closes
            world = world_of(name, seed, 230)
        if key == "rebalance_rule":  # the same on a calendar without holidays
            is_monday = np.arange(len(world.panel)) % 7 == 4
            world = replace(world, panel=rows_of_panel(world.panel, np.flatnonzero(~is_monday)))
        given_parameters = {**PARAMETERS[name], key: CHANGES[name][key]}
        changed = {"name": name, "parameters": given_parameters}
        other = replace(world, content={**world.content, "strategy": changed})
        if outcome(world) != outcome(other):
            return
    pytest.fail(f"{key} changes nothing")
