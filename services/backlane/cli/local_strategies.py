"""The strategies of a run in this process: installed ones, bundles, and stored factors."""

from dataclasses import dataclass
from pathlib import Path

from backlane.backtest.model_strategy import ModelRegistry
from backlane.cli.places import home_of, models_dir_of
from backlane.cycle.strategy import Registry
from backlane.sources.factor_store import home_store
from backlane.sources.model_strategies import bundle_predictors
from backlane.sources.stored_strategies import with_stored_factors
from backlane.sources.strategy_packages import installed_strategies


@dataclass(frozen=True, slots=True)
class LocalPlace:
    """Where a run in this process finds files, bundles and factors.

    Paths of a configuration are relative to `folder`, bundles by name are those of the models
    folder. Factors come from the store of the home where there is a home already, unless
    `has_store` is False: none is made.
    """

    folder: Path
    home: Path | None = None
    models_dir: Path | None = None
    has_store: bool = True

    def strategies(self) -> Registry:
        """Returns what a configuration can name here; nothing is loaded before it is asked for."""
        place = home_of(self.home)
        strategies = installed_strategies()
        if self.has_store and place.is_dir():
            strategies = with_stored_factors(strategies, home_store(place))
        predictors = bundle_predictors(models_dir_of(self.models_dir, place), self.folder)
        return ModelRegistry(strategies, predictors)
