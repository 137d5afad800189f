"""Every stage of a cycle that Backlane has keeps the promises of its port."""

from typing import Any

import numpy as np
import pytest

from backlane.cycle.config_record import ConfigRecord
from backlane.cycle.order_stages import CapitalSizing, MarketOrders
from backlane.cycle.risk_config import RiskConfig, risk_plan
from backlane.cycle.risk_stage import LimitedRisk
from backlane.cycle.strategies import BUILT_IN
from backlane.cycle.strategy import TargetStrategy
from backlane.cycle.strategy_stages import (
    CombinedProposals,
    ComputedFeatures,
    ComputedSignals,
    PlannedStrategy,
    StrategyFeatures,
    StrategySignalRows,
    features_of,
    tables_of,
)
from backlane.cycle.universe_stage import ComputedUniverse, PanelUniverse, UniverseConfig, members
from backlane.testing.contracts.cycle_stages import (
    FeatureContract,
    OrderContract,
    ProposalContract,
    RiskContract,
    SignalContract,
    SizingContract,
    UniverseContract,
    contract_panel,
)


def planned(name: str, weight: float = 1.0, **parameters: Any) -> PlannedStrategy:
    strategy = BUILT_IN[name]
    assert isinstance(strategy, TargetStrategy)
    record: ConfigRecord = strategy.parameters.model_validate(parameters)
    return PlannedStrategy(name, strategy, record, weight)


FACTORS = [{"name": "rv_20", "weight": 0.5}, {"name": "trend_strength_20", "weight": 0.5}]
TREND = planned("trend_baseline", 0.6, fast=2, slow=5)
MULTIFACTOR = planned("multifactor_long_short", 0.4, factors=FACTORS, rebalance="D")
PLANS = {
    "trend": (TREND,),
    "multifactor": (MULTIFACTOR,),
    "both": (TREND, MULTIFACTOR),
}
UNIVERSES = {
    "all": {},
    "listed": {"symbols": ["s0", "S2"], "excluded": ["s2"]},
    "liquid": {"history_bars_min": 5, "traded_value_min": 10.0},
}
every_plan = pytest.fixture(params=PLANS.values(), ids=PLANS)
every_universe = pytest.fixture(params=UNIVERSES.values(), ids=UNIVERSES)


class TestPanelUniverse(UniverseContract):
    @every_universe
    def stage(self, request: pytest.FixtureRequest) -> PanelUniverse:
        return PanelUniverse(UniverseConfig.model_validate(request.param))


class TestComputedUniverse(UniverseContract):
    @every_universe
    def stage(self, request: pytest.FixtureRequest) -> ComputedUniverse:
        config = UniverseConfig.model_validate(request.param)
        return ComputedUniverse(config, members(contract_panel(), config))


class TestStrategyFeatures(FeatureContract):
    @every_plan
    def stage(self, request: pytest.FixtureRequest) -> StrategyFeatures:
        return StrategyFeatures(request.param)


class TestComputedFeatures(FeatureContract):
    @every_plan
    def stage(self, request: pytest.FixtureRequest) -> ComputedFeatures:
        return ComputedFeatures(features_of(request.param, contract_panel(), {}))


class TestStrategySignalRows(SignalContract):
    @every_plan
    def plan(self, request: pytest.FixtureRequest) -> Any:
        return request.param

    @pytest.fixture
    def features(self, plan: Any) -> StrategyFeatures:
        return StrategyFeatures(plan)

    @pytest.fixture
    def stage(self, plan: Any) -> Any:
        return StrategySignalRows(plan)


class TestComputedSignals(TestStrategySignalRows):
    @pytest.fixture
    def stage(self, plan: Any) -> Any:
        panel = contract_panel()
        return ComputedSignals(plan, tables_of(plan, panel, {}, features_of(plan, panel, {})))


class TestCombinedProposals(ProposalContract):
    @every_plan
    def plan(self, request: pytest.FixtureRequest) -> Any:
        return request.param

    @pytest.fixture
    def features(self, plan: Any) -> StrategyFeatures:
        return StrategyFeatures(plan)

    @pytest.fixture
    def signals(self, plan: Any) -> StrategySignalRows:
        return StrategySignalRows(plan)

    @pytest.fixture
    def stage(self, plan: Any) -> CombinedProposals:
        return CombinedProposals(plan)


class TestCapitalSizing(SizingContract):
    @pytest.fixture(params=[0.0, 0.5])
    def stage(self, request: pytest.FixtureRequest) -> CapitalSizing:
        return CapitalSizing(request.param)


RISKS: dict[str, dict[str, Any]] = {
    "none": {},
    "stops": {"stops": {"realized_volatility_max": 1e-9}, "leader": "S0"},
    "orders": {"orders": {"weight_per_symbol_max": 0.01, "turnover_max": 0.02}},
    "gross": {"orders": {"gross_notional_max": 1.0}},
}


class TestLimitedRisk(RiskContract):
    @pytest.fixture(params=RISKS.values(), ids=RISKS)
    def stage(self, request: pytest.FixtureRequest) -> LimitedRisk:
        return LimitedRisk(risk_plan(RiskConfig.model_validate(request.param)))


class TestMarketOrders(OrderContract):
    @pytest.fixture
    def stage(self) -> MarketOrders:
        return MarketOrders()


def test_the_weights_of_the_contract_are_decided() -> None:
    panel = contract_panel()
    for plan in PLANS.values():
        tables = tables_of(plan, panel, {}, features_of(plan, panel, {}))
        for table in tables:
            assert table.targets is not None
            assert np.abs(np.nan_to_num(table.targets.weights)).any()
