"""Where a command finds things: the home directory, the models, what a running `up` left there."""

import os
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from backlane.client.connection import Addresses

MODELS_VARIABLE = "BACKLANE_MODELS_MODELS_DIR"


def home_of(given: Path | None) -> Path:
    """Returns the home directory: the option's, else BACKLANE_HOME, else the default."""
    from backlane.sources.home import home_dir

    return given.expanduser().absolute() if given is not None else home_dir(os.environ)


def models_dir_of(given: Path | None, home: Path) -> Path:
    """Returns the folder of the bundles.

    It is the option's, else BACKLANE_MODELS_MODELS_DIR, else ./models when that is there, else
    `models` in the home directory.
    """
    named = given or os.environ.get(MODELS_VARIABLE)
    if named:
        return Path(named).expanduser().absolute()
    here = Path.cwd() / "models"
    return here if here.is_dir() else home / "models"


def addresses_of(
    home: Path | None,
    *,
    operations: str | None = None,
    models: str | None = None,
    backtests: str | None = None,
) -> "Addresses":
    """Returns where the services are: the options' word, else the environment's, else `up`'s."""
    from backlane.client.connection import Addresses

    environ = {**os.environ, "BACKLANE_HOME": str(home_of(home))}
    return Addresses.resolve(
        operations=operations, models=models, backtests=backtests, environ=environ
    )
