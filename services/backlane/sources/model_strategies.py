"""Strategies with `model` among them: bundles of a folder, or models behind a service.

    strategies = with_models(installed_strategies(), bundle_predictors(models_dir, folder))
    run_portfolio(config, panel, events, strategies)
"""

from collections.abc import Iterator, Mapping
from functools import lru_cache
from pathlib import Path

from backlane.backtest.model_strategy import MODEL_STRATEGY, Predictors, model_strategy
from backlane.backtest.request import ModelChoice
from backlane.cycle.strategy import Registry, Strategy
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


def with_models(strategies: Registry, predictors: Predictors) -> Registry:
    """Returns the same strategies and `model`."""
    return _WithModels(strategies, predictors)


class _WithModels(Mapping[str, Strategy]):
    """Looks a strategy up when it is asked for: the packages of others stay unimported."""

    def __init__(self, strategies: Registry, predictors: Predictors) -> None:
        self._strategies = strategies
        self._model = model_strategy(predictors)

    def __getitem__(self, name: str) -> Strategy:
        return self._model if name == MODEL_STRATEGY else self._strategies[name]

    def __contains__(self, name: object) -> bool:
        return name == MODEL_STRATEGY or name in self._strategies

    def __iter__(self) -> Iterator[str]:
        return iter(dict.fromkeys((*self._strategies, MODEL_STRATEGY)))

    def __len__(self) -> int:
        return sum(1 for _ in self)
