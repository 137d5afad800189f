"""The bundles of a folder as the port to models of a portfolio run.

strategies = ModelRegistry(installed_strategies(), bundle_predictors(models_dir, folder))
run_portfolio(config, panel, events, strategies)
"""

from functools import lru_cache
from pathlib import Path

from backlane.backtest.model_strategy import Predictors
from backlane.backtest.request import ModelChoice
from backlane.inference.model_name import ModelName
from backlane.inference.predictor import Predictor
from backlane.sources.bundle import load_predictor, read_bundle
from backlane.sources.bundle_paths import resolve_bundle

PREDICTORS_MAX = 16
"""Bundles that are kept in memory at once."""


def bundle_predictors(models_dir: Path, folder: Path) -> Predictors:
    """Returns predictors of this process: names are of `models_dir`, paths relative to `folder`.

    Asking for one raises what `read_bundle` raises.
    """

    @lru_cache(maxsize=PREDICTORS_MAX)
    def load(path: str | None, resource_name: str) -> Predictor:
        if path is not None:
            return load_predictor(read_bundle(folder / path))
        name = ModelName.parse(resource_name, field="model")
        return load_predictor(read_bundle(resolve_bundle(models_dir, name), root=models_dir))

    def find(choice: ModelChoice) -> Predictor:
        return load(choice.path, choice.resource_name)

    return find
