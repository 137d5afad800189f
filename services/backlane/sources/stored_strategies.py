"""Strategies whose factors come from the factor store: what a run takes in the place of them.

    strategies = with_stored_factors(installed_strategies(), home_store(home))
    run_portfolio(config, panel, events, strategies)

Only factors of Backlane's own are stored: of a user's code nothing here knows the version.
"""

from collections.abc import Iterator, Mapping
from dataclasses import replace

from backlane.cycle.strategy import Features, Registry, Strategy, TargetStrategy
from backlane.cycle.strategy_parameters import MultifactorConfig
from backlane.panel.events import Events
from backlane.panel.panel import Panel
from backlane.signals.factor_key import core_factor_key
from backlane.signals.factors import FACTORS
from backlane.sources.engine_source import factor_code
from backlane.sources.factor_parts import Grid
from backlane.sources.factor_store import FactorStore

STORED_STRATEGY = "multifactor_long_short"
"""The strategy whose features are factors of FACTORS, and nothing else."""


def with_stored_factors(strategies: Registry, store: FactorStore) -> Registry:
    """Returns the same strategies; the factors of `multifactor_long_short` are asked of the store.

    What it decides is the same, to the bit.
    """
    return _WithStore(strategies, store)


class _WithStore(Mapping[str, Strategy]):
    """Looks a strategy up when it is asked for: the packages of others stay unimported."""

    def __init__(self, strategies: Registry, store: FactorStore) -> None:
        self._strategies = strategies
        self._store = store

    def __getitem__(self, name: str) -> Strategy:
        strategy = self._strategies[name]
        if name != STORED_STRATEGY or not isinstance(strategy, TargetStrategy):
            return strategy
        return replace(strategy, features=self._factors)

    def __iter__(self) -> Iterator[str]:
        return iter(self._strategies)

    def __len__(self) -> int:
        return len(self._strategies)

    def _factors(
        self, panel: Panel, _: Mapping[str, Events], parameters: MultifactorConfig
    ) -> Features:
        return {each.name: self._factor(each.name, panel) for each in parameters.bundle().factors}

    def _factor(self, name: str, panel: Panel) -> Grid:
        key = core_factor_key(name, panel.symbols, factor_code())
        return self._store.get_or_compute(key, panel, lambda bars: {name: FACTORS[name](bars)})[
            name
        ]
