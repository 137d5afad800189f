"""The bundles that a portfolio asks, through model_service."""

from backlane.backtest.model_strategy import ModelRegistry
from backlane.backtest.portfolio_cycle import RunPlan
from backlane.backtest.portfolio_run import chosen_models
from backlane.backtest.request import ModelChoice
from backlane.cycle.config_record import not_valid
from backlane.errors import FieldViolation
from backlane.inference.predictor import Predictor
from backlane.sources.strategy_packages import installed_strategies
from backtest_service.warm import WarmModels


def served_strategies(models: WarmModels | None = None) -> ModelRegistry:
    """Returns every strategy that a configuration can name, `model` among them.

    Without `models` a configuration can be checked, and not be run.
    """

    def find(choice: ModelChoice) -> Predictor:
        if models is None:
            raise ValueError(f"{choice.resource_name} is asked where requests are only checked")
        return models.get(choice.resource_name, "")

    return ModelRegistry(installed_strategies(), find)


def check_served(plan: RunPlan) -> None:
    """Raises InvalidRequestError for every bundle that is named by a folder."""
    violations = tuple(
        FieldViolation(f"{field}.path", "is for --local: give the name of a served model")
        for field, choice in chosen_models(plan).items()
        if choice.path is not None
    )
    if violations:
        raise not_valid(violations)


def model_digests(plan: RunPlan, models: WarmModels) -> str:
    """Returns the digests of the bundles that a plan asks; empty without any.

    A checkpoint of other bundles is not gone on from. Raises what `WarmModels.get` raises.
    """
    names = (choice.resource_name for choice in chosen_models(plan).values())
    return ",".join(models.get(name, "").info.digest for name in names)
